package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
)

func TestNearest(t *testing.T) {
	names := []string{"1234", "www-1234", "api-1234", "1235", "www-1235", "pr-87", "www-pr-87"}
	for name, want := range map[string]string{
		"www-1236":  "www-1234 www-1235",
		"ww-pr-87":  "www-pr-87 pr-87",
		"pr-78":     "pr-87",
		"x":         "",
		"wholly-xy": "",
	} {
		if got := strings.Join(nearest(name, names), " "); got != want {
			t.Errorf("nearest(%q) = %q; want %q", name, got, want)
		}
	}
}

// TestDirectoryIsBounded asks for names in front of more clones than a page
// could show.
func TestDirectoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var routes fixedRoutes
		for i := range scannedClones + 500 {
			state := registry.Ready
			if i%2 == 1 {
				state = registry.Gone
			}
			routes = append(routes, &registry.Clone{
				ID: registry.ID(fmt.Sprintf("%05d", i)), State: state, Created: time.Unix(int64(i), 0),
				Services: map[string]*registry.Service{"www": {}, "api": {}},
			})
		}
		d := &directory{routes: &routes}
		clones, names := d.newest()
		if len(clones) != listedClones || len(names) != comparedNames {
			t.Fatalf("got %d clones and %d names; want %d and %d", len(clones), len(names), listedClones, comparedNames)
		}
		if newest := fmt.Sprintf("%05d", scannedClones-2); string(clones[0].ID) != newest {
			t.Errorf("the newest is %s; want %s", clones[0].ID, newest)
		}
		if slices.ContainsFunc(clones, func(c *registry.Clone) bool { return c.State == registry.Gone }) {
			t.Error("a clone that is gone is listed")
		}
		routes = routes[:2]
		if again, _ := d.newest(); len(again) != listedClones {
			t.Error("made anew within a second")
		}
		time.Sleep(directoryAge)
		if again, _ := d.newest(); len(again) != 1 {
			t.Errorf("after a second: %d clones; want 1", len(again))
		}
	})
}

func BenchmarkNearest(b *testing.B) {
	names := make([]string, comparedNames)
	for i := range names {
		names[i] = fmt.Sprintf("www-%d", 1000+i)
	}
	b.ReportAllocs()
	for b.Loop() {
		nearest("www-1234x", names)
	}
}
