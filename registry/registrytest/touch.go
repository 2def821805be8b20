package registrytest

import (
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
)

func testTouch(t *testing.T, open Opener) {
	k, reopen := start(t, open)
	k.put(registry.Batch{
		Clones: []*registry.Clone{{ID: "7", State: registry.Ready}, {ID: "8", State: registry.Suspended}, {ID: "9"}},
		Tokens: []*registry.Token{{ID: "a"}, {ID: "b"}},
	})
	want := k.load(0)
	for _, at := range []time.Time{noon, noon.Add(time.Hour), noon.Add(time.Minute)} { // clocks can jump back
		touch(k, registry.Touches{
			Renewed:  map[registry.ID]time.Time{"7": at, "8": at.Add(time.Second)},
			LastUsed: map[string]time.Time{"a": at},
		})
		want.Renewed = map[registry.ID]time.Time{"7": at, "8": at.Add(time.Second)}
		want.Tokens[0].LastUsed = at
		for _, when := range []string{"at once", "opened again"} {
			if diff := diffContents(want, k.load(0)); diff != "" {
				t.Errorf("%s: contents (-want +got):\n%s", when, diff)
			}
			reopen()
		}
	}
	if k.load(0).Revision != k.seq {
		t.Error("Touch has moved the revision")
	}
}

func testTouchNothing(t *testing.T, open Opener) {
	k, _ := start(t, open)
	k.put(registry.Batch{
		Clones: []*registry.Clone{{ID: "gone", State: registry.Gone}, {ID: "lost", State: registry.Lost}},
		Tokens: []*registry.Token{{ID: "a"}},
	})
	want := k.load(10)
	touch(k, registry.Touches{})
	touch(k, registry.Touches{
		Renewed:  map[registry.ID]time.Time{"gone": noon, "lost": noon, "never": noon},
		LastUsed: map[string]time.Time{"never": noon},
	})
	if diff := diffContents(want, k.load(10)); diff != "" {
		t.Errorf("contents (-want +got):\n%s", diff)
	}
}

func testRenewalEnds(t *testing.T, open Opener) {
	k, _ := start(t, open)
	for _, state := range []registry.State{registry.Ready, registry.Lost, registry.Ready} {
		k.put(registry.Batch{Clones: []*registry.Clone{{ID: "7", State: state}}})
		if got := k.load(1).Renewed; len(got) != 0 {
			t.Errorf("clone 7 has become %s and counts as renewed: %v", state, got)
		}
		touch(k, registry.Touches{Renewed: map[registry.ID]time.Time{"7": noon}})
	}
}

func touch(k *kept, touches registry.Touches) {
	k.t.Helper()
	if err := k.Touch(k.t.Context(), touches); err != nil {
		k.t.Fatalf("touch: %v", err)
	}
}
