package registry_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// latency asks for requests that wait 200 ms.
func latency(life registry.Seconds) registry.FaultRequest {
	return registry.FaultRequest{FaultSpec: registry.FaultSpec{Kind: registry.FaultLatency, Delay: 200, Jitter: 50, Percent: 30, Service: "api"}, For: life}
}

func addFault(t *testing.T, r *registry.Registry, id registry.ID, req registry.FaultRequest) *registry.Fault {
	t.Helper()
	f, err := r.AddFault(t.Context(), registry.System, id, req)
	if err != nil {
		t.Fatalf("AddFault(%s, %+v): %v", id, req, err)
	}
	return f
}

func register(t *testing.T, r *registry.Registry, id registry.ID, instance string) {
	t.Helper()
	if _, err := r.Register(t.Context(), registry.System, id, shop(instance), false); err != nil {
		t.Fatal(err)
	}
}

// faultsOf returns the numbers of the faults on a clone's record.
func faultsOf(r *registry.Registry, id registry.ID) []uint64 {
	c, _ := r.View().Clone(id)
	var ids []uint64
	for _, f := range c.Faults {
		ids = append(ids, f.ID)
	}
	return ids
}

// faultEvents returns what the audit log has of faults, as "type message".
func faultEvents(t *testing.T, r *registry.Registry) []string {
	t.Helper()
	events, err := r.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		if what, ok := strings.CutPrefix(e.Type, "clone.fault."); ok {
			out = append(out, what+" by "+e.By+": "+e.Message)
		}
	}
	return out
}

func TestFaultEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, registrytest.NewStore(), nil)
		register(t, r, "1", "one")
		first := addFault(t, r, "1", latency(600))
		second := addFault(t, r, "1", registry.FaultRequest{FaultSpec: registry.FaultSpec{Kind: registry.FaultReset}, For: 60})
		renew := func(d time.Duration) {
			for range d / (20 * time.Second) {
				time.Sleep(20 * time.Second)
				if _, err := r.Renew(t.Context(), registry.System, "1", "one"); err != nil {
					t.Fatal(err)
				}
			}
		}
		renew(40 * time.Second)
		time.Sleep(19 * time.Second)
		if got := faultsOf(r, "1"); !slices.Equal(got, []uint64{first.ID, second.ID}) {
			t.Errorf("a second before the end: faults %v, want both", got)
		}
		time.Sleep(time.Second + 10*time.Millisecond)
		if got := faultsOf(r, "1"); !slices.Equal(got, []uint64{first.ID}) {
			t.Errorf("10 ms after the end: faults %v, want %d alone", got, first.ID)
		}
		renew(540 * time.Second)
		if got := faultsOf(r, "1"); got != nil {
			t.Errorf("after 10 minutes: faults %v, want none", got)
		}
		want := []string{
			"added by clonegate: fault 2 for 10m0s: latency 200ms ± 50ms, 30 % of requests to api",
			"added by clonegate: fault 3 for 1m0s: reset, requests to every service",
			"expired by clonegate: fault 3: reset, requests to every service",
			"expired by clonegate: fault 2: latency 200ms ± 50ms, 30 % of requests to api",
		}
		if got := faultEvents(t, r); !slices.Equal(got, want) {
			t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestFaultOutlivesRestartsAndRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := registrytest.NewStore()
		ctx, stop := context.WithCancel(t.Context())
		zones, err := registry.NewZones(registrytest.Zone)
		if err != nil {
			t.Fatal(err)
		}
		r, err := registry.Open(ctx, registry.Config{Store: store, Zones: zones})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		register(t, r, "1", "one")
		kept := addFault(t, r, "1", latency(120))
		addFault(t, r, "1", latency(20))
		stop()
		<-ended

		time.Sleep(30 * time.Second) // one ends while nobody is there
		r = open(t, store, nil)
		synctest.Wait()
		if got := faultsOf(r, "1"); !slices.Equal(got, []uint64{kept.ID}) {
			t.Errorf("after a restart: faults %v, want %d alone", got, kept.ID)
		}
		changed := shop("one")
		changed.Owner = "bob"
		if _, err := r.Register(t.Context(), registry.System, "1", changed, false); err != nil {
			t.Fatal(err)
		}
		if got := faultsOf(r, "1"); !slices.Equal(got, []uint64{kept.ID}) {
			t.Errorf("after another registration: faults %v, want %d", got, kept.ID)
		}
		time.Sleep(91 * time.Second)
		if got := faultsOf(r, "1"); got != nil {
			t.Errorf("after its end: faults %v, want none", got)
		}

		addFault(t, r, "1", latency(600))
		if _, err := r.Register(t.Context(), registry.System, "1", shop("two"), true); err != nil {
			t.Fatal(err)
		}
		if got := faultsOf(r, "1"); got != nil {
			t.Errorf("in another life: faults %v, want none", got)
		}
		addFault(t, r, "1", latency(600))
		if _, err := r.Unregister(t.Context(), registry.System, "1", "two"); err != nil {
			t.Fatal(err)
		}
		if got := faultsOf(r, "1"); got != nil {
			t.Errorf("of a clone that is gone: faults %v, want none", got)
		}
		if _, err := r.AddFault(t.Context(), registry.System, "1", latency(600)); !errors.Is(err, registry.ErrEnded) {
			t.Errorf("a fault for a clone that is gone: %v, want ErrEnded", err)
		}
	})
}

func TestFaultEndsAfterAnOutageOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		store := registrytest.NewStore()
		store.Fail = func(string) error {
			if down.Load() {
				return registry.ErrUnavailable
			}
			return nil
		}
		r := open(t, store, nil)
		register(t, r, "1", "one")
		addFault(t, r, "1", latency(10))
		synctest.Wait()
		down.Store(true)
		time.Sleep(60 * time.Second)
		c, _ := r.View().Clone("1")
		if len(c.Faults) != 1 || len(c.FaultsAt(time.Now())) != 0 {
			t.Errorf("during the outage: %d on record, %d at work; want 1 and 0", len(c.Faults), len(c.FaultsAt(time.Now())))
		}
		synctest.Wait()
		down.Store(false)
		time.Sleep(61 * time.Second) // one sweep finds the store working, the next ends the fault
		if got := faultsOf(r, "1"); got != nil {
			t.Errorf("after the outage: faults %v, want none", got)
		}
	})
}

func TestFaultIsRemoved(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	register(t, r, "1", "one")
	var ids []uint64
	for range 16 {
		ids = append(ids, addFault(t, r, "1", latency(600)).ID)
	}
	if _, err := r.AddFault(t.Context(), registry.System, "1", latency(600)); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "has 16 faults already") {
		t.Errorf("the 17th fault: %v", err)
	}
	ended, err := r.RemoveFault(t.Context(), registry.System, "1", ids[3])
	if err != nil || len(ended) != 1 || ended[0].ID != ids[3] || slices.Contains(faultsOf(r, "1"), ids[3]) {
		t.Errorf("RemoveFault(%d) = %v, %v; %v are left", ids[3], ended, err, faultsOf(r, "1"))
	}
	if _, err := r.RemoveFault(t.Context(), registry.System, "1", ids[3]); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("removed twice: %v, want ErrNotFound", err)
	}
	if ended, err := r.RemoveFault(t.Context(), registry.System, "1", 0); err != nil || len(ended) != 15 || faultsOf(r, "1") != nil {
		t.Errorf("all removed: %d ended, %v; %v are left", len(ended), err, faultsOf(r, "1"))
	}
	if ended, err := r.RemoveFault(t.Context(), registry.System, "1", 0); err != nil || len(ended) != 0 {
		t.Errorf("none left to remove: %v, %v; want none and no error", ended, err)
	}
	if got := faultEvents(t, r); len(got) != 32 {
		t.Errorf("%d events, want 16 of beginnings and 16 of ends", len(got))
	}
	if _, err := r.RemoveFault(t.Context(), registry.System, "77", 0); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("of no clone: %v, want ErrNotFound", err)
	}
}

// TestWhoMayFault: the owner and admins.
func TestWhoMayFault(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	register(t, r, "1", "one") // of ada
	for _, row := range []struct {
		role registry.Role
		name string
		may  bool
	}{
		{registry.RoleEngineer, "ada", true},
		{registry.RoleEngineer, "bob", false},
		{registry.RoleAdmin, "root", true},
		{registry.RoleViewer, "ada", false},
		{registry.RolePublisher, "ada", false},
		{registry.RoleClone, "ada", false},
	} {
		by := registry.Actor{Token: &registry.Token{ID: "t", Name: row.name, Role: row.role}}
		f, err := r.AddFault(t.Context(), by, "1", latency(600))
		if may := err == nil; may != row.may || err != nil && !errors.Is(err, registry.ErrForbidden) {
			t.Errorf("%s %s adds a fault: %v", row.role, row.name, err)
		}
		if err == nil && f.By != row.name {
			t.Errorf("fault by %q, want %q", f.By, row.name)
		}
		if _, err := r.RemoveFault(t.Context(), by, "1", 0); (err == nil) != row.may {
			t.Errorf("%s %s removes faults: %v", row.role, row.name, err)
		}
	}
}

func TestFaultRequests(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	register(t, r, "1", "one")
	for _, row := range []struct {
		spec registry.FaultSpec
		life registry.Seconds
		want string // the fault as a line, or the field that is refused
	}{
		{registry.FaultSpec{Kind: "latency", Delay: 200}, 0, "latency 200ms, requests to every service"},
		{registry.FaultSpec{Kind: "abort", Status: 503, Path: "/api/", Percent: 5}, 60, "abort 503, 5 % of requests to every service under /api/"},
		{registry.FaultSpec{Kind: "bandwidth", Rate: 65536, Service: "www"}, 60, "bandwidth 65536 octets/s, requests to www"},
		{registry.FaultSpec{Kind: "bandwidth", Rate: 65536, Direction: "up"}, 86400, "bandwidth 65536 octets/s up, requests to every service"},
		{registry.FaultSpec{Kind: "dns-servfail", Name: "DB."}, 60, "dns-servfail, questions for db"},
		{registry.FaultSpec{Kind: "dns-nxdomain", Name: "*.Corp.Example.com"}, 60, "dns-nxdomain, questions for *.corp.example.com"},
		{registry.FaultSpec{Kind: "dns-drop", Percent: 50}, 60, "dns-drop, 50 % of questions for *"},
		{registry.FaultSpec{Kind: "dns-delay", Delay: 10000, Jitter: 10000}, 60, "dns-delay 10s ± 10s, questions for *"},

		{registry.FaultSpec{Kind: "melt"}, 60, "kind"},
		{registry.FaultSpec{}, 60, "kind"},
		{registry.FaultSpec{Kind: "reset"}, 86401, "for"},
		{registry.FaultSpec{Kind: "reset", Percent: 101}, 60, "percent"},
		{registry.FaultSpec{Kind: "reset", Percent: -1}, 60, "percent"},
		{registry.FaultSpec{Kind: "latency"}, 60, "delay_ms"},
		{registry.FaultSpec{Kind: "latency", Delay: 60001}, 60, "delay_ms"},
		{registry.FaultSpec{Kind: "latency", Delay: 5, Jitter: 6}, 60, "jitter_ms"},
		{registry.FaultSpec{Kind: "dns-delay", Delay: 10001}, 60, "delay_ms"},
		{registry.FaultSpec{Kind: "reset", Delay: 5}, 60, "delay_ms"},
		{registry.FaultSpec{Kind: "abort"}, 60, "status"},
		{registry.FaultSpec{Kind: "abort", Status: 200}, 60, "status"},
		{registry.FaultSpec{Kind: "latency", Delay: 5, Status: 503}, 60, "status"},
		{registry.FaultSpec{Kind: "bandwidth", Rate: 1023}, 60, "rate"},
		{registry.FaultSpec{Kind: "bandwidth", Rate: 1<<30 + 1}, 60, "rate"},
		{registry.FaultSpec{Kind: "bandwidth", Rate: 1024, Direction: "left"}, 60, "direction"},
		{registry.FaultSpec{Kind: "reset", Service: "wwww"}, 60, "service"},
		{registry.FaultSpec{Kind: "reset", Service: "W"}, 60, "service"},
		{registry.FaultSpec{Kind: "reset", Path: "api"}, 60, "path"},
		{registry.FaultSpec{Kind: "reset", Path: "/a?b"}, 60, "path"},
		{registry.FaultSpec{Kind: "reset", Name: "db"}, 60, "name"},
		{registry.FaultSpec{Kind: "dns-drop", Name: "a..b"}, 60, "name"},
		{registry.FaultSpec{Kind: "dns-drop", Service: "www"}, 60, "service"},
	} {
		f, err := r.AddFault(t.Context(), registry.System, "1", registry.FaultRequest{FaultSpec: row.spec, For: row.life})
		if err != nil {
			if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), row.want+": ") {
				t.Errorf("%+v for %d: %v; want %q", row.spec, row.life, err, row.want)
			}
			continue
		}
		life := row.life.Duration()
		if life == 0 {
			life = 10 * time.Minute
		}
		if f.String() != row.want || f.Until.Sub(f.Created) != life {
			t.Errorf("%+v for %d: got %q for %s; want %q", row.spec, row.life, f, f.Until.Sub(f.Created), row.want)
		}
	}
}
