package daemon_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// TestChangeTakesTheSameWorkAmongManyClones changes clones over the API of a
// daemon with 10 and of one with 10,000, and compares what all rooms together
// allocate for it: unlike time, that is the same on every machine.
func TestChangeTakesTheSameWorkAmongManyClones(t *testing.T) {
	const changes = 300
	work := func(size int) (allocations, octets float64) {
		dir := filepath.Join(t.TempDir(), "data")
		haveClones(t, dir, size)
		d, stop := start(t, configure(t, dir))
		defer stop()
		c, err := client.New(client.Config{URL: d.Addresses().API.URL, TokenFile: daemon.AdminTokenFile(dir)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		change := func(i int) {
			reg := registry.Registration{Instance: "a", Services: map[string]registry.ServiceRegistration{
				"www": {Endpoints: []string{fmt.Sprintf("10.0.0.%d:80", 1+i%250)}},
			}}
			id := registry.ID("c" + strconv.Itoa(i*7919%size))
			if _, isNew, err := c.Register(t.Context(), id, reg, false); err != nil || isNew {
				t.Fatalf("change %s among %d: new %v, %v", id, size, isNew, err)
			}
		}
		for i := range 50 {
			change(i)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range changes {
			change(50 + i)
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / changes, float64(after.TotalAlloc-before.TotalAlloc) / changes
	}
	few, fewOctets := work(10)
	many, manyOctets := work(10_000)
	t.Logf("a change takes %.0f allocations of %.0f octets among 10 clones, %.0f of %.0f among 10,000", few, fewOctets, many, manyOctets)
	if many > 1.1*few || manyOctets > 1.2*fewOctets {
		t.Error("a change takes more work where there are more clones")
	}
}

// haveClones writes so many living clones into the registry of a data directory.
func haveClones(t *testing.T, dir string, n int) {
	t.Helper()
	if _, err := daemon.MakeData(dir); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "registry.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	b := new(registry.Batch)
	for i := range n {
		seq := uint64(i + 1)
		c := &registry.Clone{
			ID: registry.ID("c" + strconv.Itoa(i)), Incarnation: 1, Revision: seq, Instance: "a", State: registry.Ready, Desired: registry.WantReady,
			Services: map[string]*registry.Service{"www": {Protocol: registry.HTTP, Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}}},
			TTL:      120, Created: now, Changed: now,
		}
		b.Clones = append(b.Clones, c)
		b.Events = append(b.Events, registry.Event{Seq: seq, Time: now, Type: registry.EventCloneRegistered, Clone: c.ID, Incarnation: 1, State: c.State})
		if len(b.Clones) == 500 || i == n-1 {
			if err := store.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b = new(registry.Batch)
		}
	}
}
