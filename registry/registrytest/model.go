package registrytest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/clonegate/clonegate/registry"
)

// testModel writes random batches and touches, opening the store again in
// between, and compares what is loaded with maps that were written alike.
func testModel(t *testing.T, open Opener) {
	rapid.Check(t, func(r *rapid.T) {
		k, reopen := start(t, open)
		m := newModel()
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"commit", "commit", "touch", "reopen"}), 1, 8)
		for _, step := range steps.Draw(r, "steps") {
			switch step {
			case "commit":
				b := drawBatch(r, k.seq)
				k.put(b)
				m.commit(b)
			case "touch":
				touches := drawTouches(r)
				touch(k, touches)
				m.touch(touches)
			case "reopen":
				reopen()
			}
			tombstones := rapid.IntRange(0, 6).Draw(r, "tombstones")
			want := m.contents(tombstones)
			want.Revision = k.seq
			if diff := diffContents(want, k.load(tombstones)); diff != "" {
				r.Fatalf("Load(%d) (-want +got):\n%s", tombstones, diff)
			}
		}
	})
}

// Few keys, so that records meet.
var (
	someIDs    = rapid.SampledFrom([]registry.ID{"1", "2", "3", "4", "5", "6", "7", "8"})
	someNames  = rapid.SampledFrom([]string{"a", "b", "c"})
	someStates = rapid.SampledFrom(registry.States)
	someTimes  = rapid.Custom(func(r *rapid.T) time.Time {
		return noon.Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(r, "ms")) * time.Millisecond)
	})
)

func drawBatch(r *rapid.T, seq uint64) registry.Batch {
	b := registry.Batch{NextID: rapid.Uint64Range(0, 3).Draw(r, "next ID")}
	revision := func() uint64 { seq++; return seq }
	for range rapid.IntRange(0, 4).Draw(r, "clones") {
		b.Clones = append(b.Clones, &registry.Clone{
			ID: someIDs.Draw(r, "id"), State: someStates.Draw(r, "state"), Revision: revision(),
			Owner: rapid.String().Draw(r, "owner"), Created: someTimes.Draw(r, "created"),
		})
	}
	for range rapid.IntRange(0, 2).Draw(r, "templates") {
		b.Templates = append(b.Templates, &registry.Template{
			Name: someNames.Draw(r, "template"), Version: someNames.Draw(r, "version"), Revision: revision(),
		})
	}
	for range rapid.IntRange(0, 2).Draw(r, "channels") {
		b.Channels = append(b.Channels, &registry.Channel{
			Template: someNames.Draw(r, "template"), Name: someNames.Draw(r, "channel"), Revision: revision(),
		})
	}
	for range rapid.IntRange(0, 2).Draw(r, "tokens") {
		b.Tokens = append(b.Tokens, &registry.Token{
			ID: someNames.Draw(r, "token"), Name: rapid.String().Draw(r, "name"), LastUsed: someTimes.Draw(r, "used"),
		})
	}
	b.NoTokens = rapid.SliceOfN(someNames, 0, 1).Draw(r, "no tokens")
	return b
}

func drawTouches(r *rapid.T) registry.Touches {
	return registry.Touches{
		Renewed:  rapid.MapOfN(someIDs, someTimes, 0, 4).Draw(r, "renewed"),
		LastUsed: rapid.MapOfN(someNames, someTimes, 0, 2).Draw(r, "used"),
	}
}

// A model is what a store should hold.
type model struct {
	nextID    uint64
	clones    map[registry.ID]*registry.Clone
	templates map[string]*registry.Template
	channels  map[string]*registry.Channel
	tokens    map[string]*registry.Token
	renewed   map[registry.ID]time.Time
}

func newModel() *model {
	return &model{
		clones:    map[registry.ID]*registry.Clone{},
		templates: map[string]*registry.Template{},
		channels:  map[string]*registry.Channel{},
		tokens:    map[string]*registry.Token{},
		renewed:   map[registry.ID]time.Time{},
	}
}

func (m *model) commit(b registry.Batch) {
	if b.NextID != 0 {
		m.nextID = b.NextID
	}
	for _, c := range b.Clones {
		m.clones[c.ID] = c
		if c.State.Over() {
			delete(m.renewed, c.ID)
		}
	}
	for _, t := range b.Templates {
		m.templates[t.Ref()] = t
	}
	for _, c := range b.Channels {
		m.channels[fmt.Sprint(c.Template, "@", c.Name)] = c
	}
	for _, t := range b.Tokens {
		m.tokens[t.ID] = t
	}
	for _, id := range b.NoTokens {
		delete(m.tokens, id)
	}
}

func (m *model) touch(t registry.Touches) {
	for id, at := range t.Renewed {
		if c, ok := m.clones[id]; ok && !c.State.Over() {
			m.renewed[id] = at
		}
	}
	for id, at := range t.LastUsed {
		if token, ok := m.tokens[id]; ok {
			used := *token
			used.LastUsed = at
			m.tokens[id] = &used
		}
	}
}

func (m *model) contents(tombstones int) *registry.Contents {
	clones := slices.Collect(maps.Values(m.clones))
	slices.SortFunc(clones, func(a, b *registry.Clone) int { return int(b.Revision) - int(a.Revision) })
	over := 0
	clones = slices.DeleteFunc(clones, func(c *registry.Clone) bool {
		if c.State.Over() {
			over++
		}
		return c.State.Over() && over > tombstones
	})
	c := &registry.Contents{
		NextID: m.nextID, Clones: clones, Renewed: m.renewed,
		Templates: slices.Collect(maps.Values(m.templates)),
		Channels:  slices.Collect(maps.Values(m.channels)),
		Tokens:    slices.Collect(maps.Values(m.tokens)),
	}
	sortContents(c)
	return c
}
