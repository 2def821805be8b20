package registry

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A View is what readers see of the registry: every record, in memory, as of
// one revision. Reading it blocks on nothing but other readers of the same
// shard, allocates nothing, and costs the same with ten clones as with a
// hundred thousand; so does applying a change.
//
// One clone is one value: its routes and its names appear, change and go in
// the same step.
type View struct {
	zones   *Zones
	clones  table[*Clone]
	labels  table[*Clone] // public label → the clone that owns it
	members atomic.Uint64 // counts clones that came or went
	ids     atomic.Pointer[sortedIDs]

	mu        sync.RWMutex // guards the following
	templates map[string]*Template
	channels  map[string]*Channel
	tokens    map[string]*Token

	changes *changes
}

func newView(zones *Zones) *View {
	return &View{
		zones:     zones,
		clones:    newTable[*Clone](),
		labels:    newTable[*Clone](),
		templates: map[string]*Template{},
		channels:  map[string]*Channel{},
		tokens:    map[string]*Token{},
		changes:   newChanges(),
	}
}

// Zones returns the zones that public names stand under.
func (v *View) Zones() *Zones { return v.zones }

// Revision returns the revision of the newest change in the view.
func (v *View) Revision() uint64 { return v.changes.newest.Load() }

// Clone returns the clone with this ID, in whatever state it is. The record of
// a clone long gone is no longer held.
func (v *View) Clone(id ID) (*Clone, bool) { return v.clones.get(string(id)) }

// Clones returns every clone in the order of its ID, starting behind after.
// Clones that come or go meanwhile may be missed.
func (v *View) Clones(after ID) iter.Seq[*Clone] {
	return func(yield func(*Clone) bool) {
		ids := v.sorted()
		i, found := slices.BinarySearch(ids, after)
		if found {
			i++
		}
		for _, id := range ids[i:] {
			if c, ok := v.clones.get(string(id)); ok && !yield(c) {
				return
			}
		}
	}
}

// sortedIDs is the IDs of all clones after so many had come or gone.
type sortedIDs struct {
	members uint64
	ids     []ID
}

// sorted returns the IDs of all clones, sorted anew only if clones came or
// went since the last call.
func (v *View) sorted() []ID {
	members := v.members.Load()
	if s := v.ids.Load(); s != nil && s.members == members {
		return s.ids
	}
	var ids []ID
	v.clones.each(func(key string, _ *Clone) { ids = append(ids, ID(key)) })
	slices.Sort(ids)
	v.ids.Store(&sortedIDs{members, ids})
	return ids
}

// Len returns the number of clones held, those that are over included.
func (v *View) Len() int { return v.clones.len() }

// Template returns one version of a template.
func (v *View) Template(name, version string) (*Template, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t, ok := v.templates[name+"@"+version]
	return t, ok
}

// Templates returns every version of every template, oldest first within a name.
func (v *View) Templates() []*Template {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]*Template, 0, len(v.templates))
	for _, t := range v.templates {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Template) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.Version, b.Version)
	})
	return out
}

// Channel returns one channel of a template.
func (v *View) Channel(template, name string) (*Channel, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c, ok := v.channels[template+"@"+name]
	return c, ok
}

// ChannelsOf returns the channels of a template in order of trust.
func (v *View) ChannelsOf(template string) []*Channel {
	var out []*Channel
	for _, name := range Channels {
		if c, ok := v.Channel(template, name); ok {
			out = append(out, c)
		}
	}
	return out
}

// Token returns what is known of a token by its ID.
func (v *View) Token(id string) (*Token, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t, ok := v.tokens[id]
	return t, ok
}

// Tokens returns every token, oldest first.
func (v *View) Tokens() []*Token {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]*Token, 0, len(v.tokens))
	for _, t := range v.tokens {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Token) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Changes waits for changes after a revision and returns them in order. It
// returns the context's error when ctx ends, and ErrLagged if changes after
// that revision are no longer kept: the reader then reads the view again and
// goes on from the revision it had before it began to read.
func (v *View) Changes(ctx context.Context, after uint64) ([]Change, error) {
	return v.changes.wait(ctx, after)
}

// apply makes one change visible. Only the registry's writer calls it.
func (v *View) apply(ch Change) {
	switch {
	case ch.Clone != nil:
		v.applyClone(ch.Clone)
	case ch.Template != nil:
		v.mu.Lock()
		v.templates[ch.Template.Ref()] = ch.Template
		v.mu.Unlock()
	case ch.Channel != nil:
		v.mu.Lock()
		v.channels[ch.Channel.Template+"@"+ch.Channel.Name] = ch.Channel
		v.mu.Unlock()
	case ch.Token != nil:
		v.mu.Lock()
		v.tokens[ch.Token.ID] = ch.Token
		v.mu.Unlock()
	case ch.NoToken != "":
		v.mu.Lock()
		delete(v.tokens, ch.NoToken)
		v.mu.Unlock()
	}
	v.changes.add(ch)
}

// applyClone swaps the clone's value first and its labels after. A label finds
// a value that has it, the old one or the new one, until it is gone.
func (v *View) applyClone(c *Clone) {
	old, existed := v.clones.get(string(c.ID))
	v.clones.put(string(c.ID), c)
	if !existed {
		v.members.Add(1)
	}
	now := c.PublicLabels()
	for _, label := range now {
		if owner, owned := v.labels.get(label); !owned || owner.ID == c.ID || !c.State.Over() {
			v.labels.put(label, c)
		}
	}
	if !existed {
		return
	}
	for _, label := range old.PublicLabels() {
		if owner, owned := v.labels.get(label); owned && owner.ID == c.ID && !slices.Contains(now, label) {
			v.labels.remove(label)
		}
	}
}

// forget drops a clone that has been gone for long from memory.
func (v *View) forget(id ID) {
	c, ok := v.clones.get(string(id))
	if !ok {
		return
	}
	for _, label := range c.PublicLabels() {
		if owner, owned := v.labels.get(label); owned && owner.ID == id {
			v.labels.remove(label)
		}
	}
	v.clones.remove(string(id))
	v.members.Add(1)
}
