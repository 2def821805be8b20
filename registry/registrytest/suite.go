package registrytest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// An Opener opens an empty Store for one test, which closes it when it ends,
// and returns a function that closes it and opens again what it kept.
type Opener func(t *testing.T) (s registry.Store, reopen func() registry.Store)

// TestStore runs the suite that says what a registry.Store is.
func TestStore(t *testing.T, open Opener) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open Opener)
	}{
		{"a new store is empty", testEmpty},
		{"every field is kept", testFields},
		{"a record replaces the one of its key", testReplace},
		{"of one key in one batch the last counts", testLastCounts},
		{"tokens can be removed", testTokens},
		{"the next ID is kept", testNextID},
		{"what is kept is a copy", testCopy},
		{"the newest tombstones are loaded", testTombstones},
		{"a clone is found however long it is gone", testLongGone},
		{"events are read in pages", testEventPages},
		{"events without a place leave nothing of their batch", testRefusedBatch},
		{"a cancelled commit is whole or absent", testCancelled},
		{"renewals and uses are recorded", testTouch},
		{"touching what is not there does nothing", testTouchNothing},
		{"a life that ends takes its renewal along", testRenewalEnds},
		{"a load sees whole batches", testLoadDuringCommits},
		{"any writes leave what a map would hold", testModel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

// A kept is a store under test with the number of its newest event.
type kept struct {
	t *testing.T
	registry.Store
	seq uint64
}

// start opens a store and loads it once, as a registry does.
func start(t *testing.T, open Opener) (k *kept, reopen func()) {
	t.Helper()
	s, again := open(t)
	k = &kept{t: t, Store: s}
	return k, func() {
		t.Helper()
		k.Store = again()
	}
}

// put commits b with an event for each of its records.
func (k *kept) put(b registry.Batch) {
	k.t.Helper()
	if err := k.tryPut(k.t.Context(), b); err != nil {
		k.t.Fatalf("commit of event %d: %v", k.seq+1, err)
	}
}

func (k *kept) tryPut(ctx context.Context, b registry.Batch) error {
	records := len(b.Clones) + len(b.Templates) + len(b.Channels) + len(b.Tokens) + len(b.NoTokens)
	for i := range max(records, 1) {
		b.Events = append(b.Events, registry.Event{Seq: k.seq + uint64(i) + 1, Time: noon, Type: "test"})
	}
	if err := k.Commit(ctx, &b); err != nil {
		return err
	}
	k.seq += uint64(len(b.Events))
	return nil
}

// load returns everything that is kept, sorted by key.
func (k *kept) load(tombstones int) *registry.Contents {
	k.t.Helper()
	c, err := k.Load(k.t.Context(), tombstones)
	if err != nil {
		k.t.Fatalf("load: %v", err)
	}
	sortContents(c)
	return c
}

// ids returns the IDs of the clones that are loaded, sorted.
func (k *kept) ids(tombstones int) []registry.ID {
	k.t.Helper()
	var ids []registry.ID
	for _, c := range k.load(tombstones).Clones {
		ids = append(ids, c.ID)
	}
	return ids
}

func testEmpty(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	for _, when := range []string{"new", "opened again"} {
		if diff := diffContents(&registry.Contents{}, k.load(10)); diff != "" {
			t.Errorf("%s: contents (-want +got):\n%s", when, diff)
		}
		if events, err := k.Events(t.Context(), 0, 10); err != nil || len(events) != 0 {
			t.Errorf("%s: Events(0) = %v, %v; want none", when, events, err)
		}
		reopen()
	}
}

func testFields(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	want := fullContents()
	k.put(registry.Batch{
		NextID: want.NextID, Clones: want.Clones, Templates: want.Templates,
		Channels: want.Channels, Tokens: want.Tokens,
	})
	want.Revision = k.seq
	for _, when := range []string{"at once", "opened again"} {
		if diff := diffContents(want, k.load(10)); diff != "" {
			t.Errorf("%s: contents (-want +got):\n%s", when, diff)
		}
		reopen()
	}
}

func testReplace(t *testing.T, open Opener) {
	k, _ := start(t, open)
	want := fullContents()
	k.put(registry.Batch{Clones: want.Clones, Templates: want.Templates, Channels: want.Channels, Tokens: want.Tokens})
	clone := &registry.Clone{ID: want.Clones[0].ID, State: registry.Starting}
	template := &registry.Template{Name: want.Templates[0].Name, Version: want.Templates[0].Version, State: registry.Revoked}
	channel := &registry.Channel{Template: want.Channels[0].Template, Name: want.Channels[0].Name, Version: "2"}
	token := &registry.Token{ID: want.Tokens[0].ID, Role: registry.RoleViewer}
	want.Clones[0], want.Templates[0], want.Channels[0], want.Tokens[0] = clone, template, channel, token
	k.put(registry.Batch{
		Clones: []*registry.Clone{clone}, Templates: []*registry.Template{template},
		Channels: []*registry.Channel{channel}, Tokens: []*registry.Token{token},
	})
	want.Revision, want.NextID = k.seq, 0
	if diff := diffContents(want, k.load(10)); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
}

func testLastCounts(t *testing.T, open Opener) {
	k, _ := start(t, open)
	k.put(registry.Batch{Clones: []*registry.Clone{
		{ID: "7", Revision: 1, State: registry.Starting},
		{ID: "7", Revision: 2, State: registry.Gone},
		{ID: "7", Revision: 3, State: registry.Ready},
	}})
	c := k.load(10).Clones
	if len(c) != 1 || c[0].Revision != 3 || c[0].State != registry.Ready {
		t.Errorf("loaded %+v; want clone 7 of revision 3 alone", c)
	}
}

func testTokens(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	k.put(registry.Batch{Tokens: []*registry.Token{{ID: "a"}, {ID: "b"}}})
	k.put(registry.Batch{NoTokens: []string{"a", "unknown"}})
	k.put(registry.Batch{Tokens: []*registry.Token{{ID: "c"}}, NoTokens: []string{"c"}})
	for _, when := range []string{"at once", "opened again"} {
		if got := k.load(10).Tokens; len(got) != 1 || got[0].ID != "b" {
			t.Errorf("%s: tokens %v; want b alone", when, got)
		}
		reopen()
	}
}

func testNextID(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	for _, next := range []uint64{1000, 1002, 1<<63 + 7} {
		k.put(registry.Batch{NextID: next})
		k.put(registry.Batch{}) // zero leaves it
		reopen()
		if got := k.load(0).NextID; got != next {
			t.Errorf("NextID = %d, want %d", got, next)
		}
	}
}

func testCopy(t *testing.T, open Opener) {
	k, _ := start(t, open)
	labels := map[string]string{"team": "shop"}
	k.put(registry.Batch{Clones: []*registry.Clone{{ID: "7", Labels: labels}}})
	labels["team"] = "changed behind a commit"
	k.load(0).Clones[0].Labels["team"] = "changed behind a load"
	if got := k.load(0).Clones[0].Labels["team"]; got != "shop" {
		t.Errorf("label is %q, want shop", got)
	}
}

func testTombstones(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	k.put(registry.Batch{Clones: []*registry.Clone{
		{ID: "alive", Revision: 1, State: registry.Ready},
		{ID: "failed", Revision: 2, State: registry.Failed},
		{ID: "c", Revision: 3, State: registry.Gone},
		{ID: "a", Revision: 4, State: registry.Lost},
		{ID: "b", Revision: 5, State: registry.Gone},
		{ID: "again", Revision: 6, State: registry.Gone},
	}})
	k.put(registry.Batch{Clones: []*registry.Clone{{ID: "again", Revision: 7, State: registry.Starting}}})
	for range 2 {
		for tombstones, want := range [][]registry.ID{
			{"again", "alive", "failed"},
			{"again", "alive", "b", "failed"},
			{"a", "again", "alive", "b", "failed"},
			{"a", "again", "alive", "b", "c", "failed"},
			{"a", "again", "alive", "b", "c", "failed"},
		} {
			if got := k.ids(tombstones); !slices.Equal(got, want) {
				t.Errorf("Load with %d tombstones has %v, want %v", tombstones, got, want)
			}
		}
		reopen()
	}
}

func testLongGone(t *testing.T, open Opener) {
	k, _ := start(t, open)
	k.put(registry.Batch{Clones: []*registry.Clone{
		{ID: "old", Revision: 1, State: registry.Gone, Reason: "done with"},
		{ID: "new", Revision: 2, State: registry.Gone},
	}})
	if got := k.ids(1); !slices.Equal(got, []registry.ID{"new"}) {
		t.Fatalf("Load with one tombstone has %v, want new", got)
	}
	c, err := k.Clone(t.Context(), "old")
	if err != nil || c.ID != "old" || c.Reason != "done with" {
		t.Errorf("Clone(old) = %+v, %v", c, err)
	}
	if c, err := k.Clone(t.Context(), "never"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("Clone(never) = %+v, %v; want ErrNotFound", c, err)
	}
}
