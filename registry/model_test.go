package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// TestNamesStayConsistent plays random lives of a few clones that quarrel over
// a few names. At every moment a living clone owns all its labels, no two
// living clones share one, and a registry opened anew on the same store says
// the same.
func TestNamesStayConsistent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := registrytest.NewStore()
		zones, _ := registry.NewZones("z.example")
		cfg := registry.Config{Store: store, Zones: zones, Tombstones: 3}
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		r, err := registry.Open(ctx, cfg)
		if err != nil {
			rt.Fatal(err)
		}
		go r.Run(ctx)

		ids := rapid.SampledFrom([]registry.ID{"1", "2", "3", "a", "b"})
		aliases := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "a", "b", "www-2", "api-x"}), 0, 3, rapid.ID)
		services := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"www", "api", "api-x"}), 0, 3, rapid.ID)
		instances := rapid.SampledFrom([]string{"i", "j", "k"})
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			id, instance := ids.Draw(rt, "id"), instances.Draw(rt, "instance")
			if rapid.IntRange(0, 3).Draw(rt, "op") == 0 {
				_, err = r.Unregister(ctx, registry.System, id, instance)
			} else {
				reg := registry.Registration{Instance: instance, Aliases: aliases.Draw(rt, "aliases"), Services: map[string]registry.ServiceRegistration{}}
				for _, s := range services.Draw(rt, "services") {
					reg.Services[s] = registry.ServiceRegistration{}
				}
				_, err = r.Register(ctx, registry.System, id, reg, rapid.Bool().Draw(rt, "takeover"))
			}
			for _, unexpected := range []error{registry.ErrUnavailable, registry.ErrInvalid, registry.ErrForbidden} {
				if errors.Is(err, unexpected) {
					rt.Fatal(err)
				}
			}
			checkNames(rt, r.View())
		}
		again, err := registry.Open(ctx, cfg)
		if err != nil {
			rt.Fatal(err)
		}
		checkNames(rt, again.View())
		if again.View().Revision() != r.View().Revision() {
			rt.Fatalf("revision %d after opening anew, want %d", again.View().Revision(), r.View().Revision())
		}
		for c := range r.View().Clones("") {
			if d, ok := again.View().Clone(c.ID); !ok || d.Revision != c.Revision || d.State != c.State {
				rt.Fatalf("clone %s is %+v after opening anew, want %+v", c.ID, d, c)
			}
		}
	})
}

func checkNames(t *rapid.T, v *registry.View) {
	owners := map[string]registry.ID{}
	for c := range v.Clones("") {
		if c.State.Over() {
			continue
		}
		for _, label := range c.PublicLabels() {
			if other, taken := owners[label]; taken {
				t.Fatalf("%q belongs to %s and to %s", label, other, c.ID)
			}
			owners[label] = c.ID
			if got, ok := v.Lookup(label); !ok || got.Clone.ID != c.ID {
				t.Fatalf("Lookup(%q) = %+v, %v; want clone %s", label, got, ok, c.ID)
			}
		}
	}
}

// TestManyWriters has many clones live at the same time; each must find what
// it was acknowledged.
func TestManyWriters(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			id := registry.ID(fmt.Sprintf("c%d", i))
			for life := range 10 {
				instance := fmt.Sprint(life)
				g, err := r.Register(t.Context(), registry.System, id, shop(instance), false)
				if err != nil || g.Clone.Incarnation != uint64(life+1) {
					t.Errorf("clone %s, life %d: %+v, %v", id, life, g, err)
					return
				}
				if got, ok := r.View().Lookup("www-" + string(id)); !ok || got.Clone.Instance != instance {
					t.Errorf("clone %s, life %d: acknowledged and not visible", id, life)
				}
				if _, err := r.Unregister(t.Context(), registry.System, id, instance); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := r.View().Revision(); got != 1000 {
		t.Errorf("revision %d after 1000 changes", got)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "1234", "www", "PR-87", "a-b", "-a", "a-", "ü", "x.y", "x..y", "test_envs", "db.", "\x00", "１２３４"} {
		f.Add(s)
	}
	zones, _ := registry.NewZones("test_envs.localhost", "test-envs.localhost")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := registry.ParseID(s); err == nil {
			if string(id) != s {
				t.Errorf("ParseID(%q) = %q: it repairs", s, id)
			}
			if _, err := registry.ParseLabel(s); err != nil {
				t.Errorf("ID %q is no label: %v", s, err)
			}
		}
		if h, err := registry.ParseHost(s); err == nil {
			again, err := registry.ParseHost(string(h))
			if err != nil || again != h {
				t.Errorf("ParseHost(%q) = %q, and again %q, %v", s, h, again, err)
			}
		}
		if sub, zone, ok := zones.Split(s); ok && sub != "" && sub+"."+string(zone) != s {
			t.Errorf("Split(%q) = %q, %q", s, sub, zone)
		}
		if r, err := registry.ParseIDRange(s); err == nil {
			again, err := registry.ParseIDRange(r.String())
			if err != nil || again != r || !r.Contains(r.First) || !r.Contains(r.Last) {
				t.Errorf("ParseIDRange(%q) = %v, again %v, %v", s, r, again, err)
			}
		}
	})
}

func TestIDRanges(t *testing.T) {
	tests := []struct {
		rng string
		in  []registry.ID
		out []registry.ID
	}{
		{"7", []registry.ID{"7"}, []registry.ID{"8", "07", "77"}},
		{"pr87", []registry.ID{"pr87"}, []registry.ID{"pr8", "pr877"}},
		{"1000-1999", []registry.ID{"1000", "1500", "1999"}, []registry.ID{"999", "2000", "01500", "15000", "15", "abc"}},
	}
	for _, tt := range tests {
		r, err := registry.ParseIDRange(tt.rng)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(tt.in, func(id registry.ID) bool { return !r.Contains(id) }); i >= 0 {
			t.Errorf("%s does not contain %s", tt.rng, tt.in[i])
		}
		if i := slices.IndexFunc(tt.out, r.Contains); i >= 0 {
			t.Errorf("%s contains %s", tt.rng, tt.out[i])
		}
	}
	for _, bad := range []string{"", "-", "1-", "9-1", "a-z", "01-05", "1-2-3", "１-２"} {
		if r, err := registry.ParseIDRange(bad); err == nil {
			t.Errorf("ParseIDRange(%q) = %v, want an error", bad, r)
		}
	}
}
