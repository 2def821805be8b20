package registrytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/clonegate/clonegate/registry"
)

func testEventPages(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	var want []registry.Event
	for seq := uint64(1); seq <= 25; {
		b := registry.Batch{}
		for range 1 + seq%4 {
			b.Events = append(b.Events, registry.Event{
				Seq: seq, Time: noon, Type: registry.EventCloneState, Clone: "1234", Incarnation: 2,
				State: registry.Ready, Template: "shop@1", DeployTag: "v1", Token: "k7",
				By: "ci (k7)", From: "10.0.0.1", Message: fmt.Sprintf("event <%d>", seq),
			})
			seq++
		}
		want = append(want, b.Events...)
		if err := k.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	for _, limit := range []int{1, 7, 25, 1000} {
		var got []registry.Event
		for {
			page, err := k.Events(t.Context(), uint64(len(got)), limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("Events(limit %d) returned %d", limit, len(page))
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("read in pages of %d, events differ (-want +got):\n%s", limit, diff)
		}
	}
	for _, ask := range []struct {
		after uint64
		limit int
	}{{0, 0}, {uint64(len(want)), 10}, {1 << 40, 10}, {1<<64 - 1, 10}} {
		if got, err := k.Events(t.Context(), ask.after, ask.limit); err != nil || len(got) != 0 {
			t.Errorf("Events(%d, %d) = %v, %v; want none", ask.after, ask.limit, got, err)
		}
	}
}

func testRefusedBatch(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	before := fullContents()
	k.put(registry.Batch{NextID: before.NextID, Clones: before.Clones, Tokens: before.Tokens})
	want := k.load(10)
	for _, events := range [][]registry.Event{
		{{Seq: k.seq}},                       // once more
		{{Seq: k.seq + 2}},                   // a gap before it
		{{Seq: k.seq + 1}, {Seq: k.seq + 3}}, // a gap within it
		{{Seq: k.seq + 1}, {Seq: k.seq + 1}},
	} {
		err := k.Commit(t.Context(), &registry.Batch{
			NextID: 9999, Events: events,
			Clones:    []*registry.Clone{{ID: "1234", State: registry.Gone}, {ID: "new"}},
			Templates: []*registry.Template{{Name: "new", Version: "1"}},
			Channels:  []*registry.Channel{{Template: "new", Name: "stable"}},
			Tokens:    []*registry.Token{{ID: "new"}}, NoTokens: []string{"k7"},
		})
		if !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("commit of events %v on %d: %v, want ErrUnavailable", events, k.seq, err)
		}
		if diff := diffContents(want, k.load(10)); diff != "" {
			t.Errorf("a refused batch left (-want +got):\n%s", diff)
		}
	}
	reopen()
	if diff := diffContents(want, k.load(10)); diff != "" {
		t.Errorf("opened again, refused batches left (-want +got):\n%s", diff)
	}
	k.put(registry.Batch{Clones: []*registry.Clone{{ID: "next"}}}) // the store goes on
}

func testCancelled(t *testing.T, open Opener) {
	k, _ := start(t, open)
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		wait := time.AfterFunc(time.Duration(i)*50*time.Microsecond, cancel)
		id := registry.ID(fmt.Sprint(i))
		before := k.seq
		err := k.tryPut(ctx, registry.Batch{Clones: []*registry.Clone{{ID: id}, {ID: id + "x"}}})
		wait.Stop()
		cancel()
		if err != nil && !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("cancelled commit: %v, want ErrUnavailable", err)
		}
		c := k.load(0)
		if c.Revision != k.seq {
			t.Fatalf("commit on revision %d returned %v; the store is at %d, want %d", before, err, c.Revision, k.seq)
		}
		for _, id := range []registry.ID{id, id + "x"} {
			if _, missing := k.Clone(t.Context(), id); (missing == nil) != (err == nil) {
				t.Errorf("commit returned %v, but looking up its clone %s returned %v", err, id, missing)
			}
		}
	}
}

// testLoadDuringCommits has every batch write the same number into all clones
// and checks that no reader sees two.
func testLoadDuringCommits(t *testing.T, open Opener) {
	k, _ := start(t, open)
	const clones, batches = 50, 60
	commit := func() {
		var b registry.Batch
		for i := range clones {
			b.Clones = append(b.Clones, &registry.Clone{ID: registry.ID(fmt.Sprint(i)), Revision: k.seq + clones})
		}
		k.put(b)
	}
	commit()
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for loads := 0; ; loads++ {
				select {
				case <-done:
					if loads == 0 {
						t.Error("a reader got no turn while batches were committed")
					}
					return
				default:
				}
				c, err := k.Load(t.Context(), 0)
				if err != nil {
					t.Errorf("load during commits: %v", err)
					return
				}
				for _, clone := range c.Clones {
					if clone.Revision != c.Revision {
						t.Errorf("load of revision %d has clone %s of revision %d", c.Revision, clone.ID, clone.Revision)
						return
					}
				}
				if len(c.Clones) != clones {
					t.Errorf("load has %d clones, want %d", len(c.Clones), clones)
					return
				}
			}
		})
	}
	for range batches {
		commit()
	}
	close(done)
	readers.Wait()
}
