package registry_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestChangesHaveNoGaps(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()
	seen := make(chan registry.ID, 2000)
	go func() {
		var at uint64
		for range 1000 {
			changes, err := r.View().Changes(ctx, at)
			if err != nil {
				close(seen)
				return
			}
			for _, ch := range changes {
				if ch.Revision != at+1 || ch.Event.Seq != ch.Revision {
					t.Errorf("revision %d follows %d", ch.Revision, at)
				}
				at = ch.Revision
				seen <- ch.Clone.ID
			}
		}
	}()
	for i := range 500 {
		id := registry.ID("n" + string(rune('a'+i/26%26)) + string(rune('a'+i%26)))
		if _, err := r.Register(ctx, registry.System, id, shop("x"), false); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != id {
			t.Fatalf("change %d is of %s, want %s", i, got, id)
		}
	}
	if _, err := r.View().Changes(ctx, 10_000); !errors.Is(err, registry.ErrLagged) {
		t.Errorf("changes after a revision that never was: %v, want ErrLagged", err)
	}
	events, err := r.Events(ctx, 490, 100)
	if err != nil || len(events) != 10 || events[0].Seq != 491 || events[0].By != "clonegate" {
		t.Errorf("events after 490: %d, %v; want 10, the first 491, by clonegate", len(events), err)
	}
}

// TestRevisionsCanBeWaitedFrom reads the revision as fast as it changes: from
// each that is seen, changes can be waited for.
func TestRevisionsCanBeWaitedFrom(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for ctx.Err() == nil {
				at := r.View().Revision()
				if _, err := r.View().Changes(ctx, at); err != nil && ctx.Err() == nil {
					t.Errorf("changes after revision %d: %v", at, err)
					return
				}
			}
		})
	}
	for i := range 2000 {
		reg := shop("x")
		reg.Owner = strconv.Itoa(i)
		if _, err := r.Register(t.Context(), registry.System, "7", reg, false); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	readers.Wait()
}

// A repeated registration changes nothing, but its answer must not come before
// the write it repeats is durable, nor outlive its failure.
func TestRepeatsWaitForTheWriteTheyRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const syncs = time.Second
		var down atomic.Bool
		store := registrytest.NewStore()
		store.Fail = func(method string) error {
			if method != "Commit" {
				return nil
			}
			time.Sleep(syncs)
			if down.Load() {
				return registry.ErrUnavailable
			}
			return nil
		}
		r := open(t, store, nil)
		ctx := t.Context()
		// round lets the writer be busy while instance registers clone id
		// twice and another instance asks for it, so that one batch holds all three.
		round := func(busy, id registry.ID) (first, repeat, other error) {
			var clients sync.WaitGroup
			client := func(id registry.ID, instance string, err *error) {
				clients.Go(func() { _, *err = r.Register(ctx, registry.System, id, shop(instance), false) })
				synctest.Wait()
			}
			var ignored error
			client(busy, "busy", &ignored)
			client(id, "one", &first)
			client(id, "one", &repeat)
			client(id, "two", &other)
			clients.Wait()
			return first, repeat, other
		}
		first, repeat, other := round("1", "2")
		if first != nil || repeat != nil || !errors.Is(other, registry.ErrHeld) {
			t.Errorf("with a store that works: %v, repeated: %v, another instance: %v; want nil, nil, ErrHeld", first, repeat, other)
		}
		down.Store(true)
		first, repeat, other = round("3", "4")
		for _, err := range []error{first, repeat, other} {
			if !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("with a store that fails: got %v, want ErrUnavailable", err)
			}
		}
	})
}
