package registry_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, registrytest.NewStore(), nil)
		ctx := t.Context()
		if _, err := r.Register(ctx, registry.System, "1", shop("one"), false); err != nil {
			t.Fatal(err)
		}
		for range 20 { // renewals keep it alive well past one lease
			time.Sleep(20 * time.Second)
			if _, err := r.Renew(ctx, registry.System, "1", "one"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(119 * time.Second)
		if c, _ := r.View().Clone("1"); c.State != registry.Ready {
			t.Fatalf("1 s before the lease ends: %s, want ready", c.State)
		}
		time.Sleep(32 * time.Second)
		c, _ := r.View().Clone("1")
		if c.State != registry.Lost || c.Ended.IsZero() || c.Services == nil {
			t.Fatalf("after the lease: %s, ended %s; want lost, with its record kept", c.State, c.Ended)
		}
		if _, err := r.Renew(ctx, registry.System, "1", "one"); !errors.Is(err, registry.ErrEnded) {
			t.Errorf("late renewal: %v, want ErrEnded", err)
		}
		g, err := r.Register(ctx, registry.System, "1", shop("one"), false)
		if err != nil || g.New || g.Clone.State != registry.Ready || g.Clone.Incarnation != 1 {
			t.Errorf("the lost instance registers anew: %+v, %v; want the same life, ready", g, err)
		}
	})
}

func TestStoreOutageEndsNoLease(t *testing.T) {
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
		ctx := t.Context()
		if _, err := r.Register(ctx, registry.System, "1", shop("one"), false); err != nil {
			t.Fatal(err)
		}
		down.Store(true)
		if _, err := r.Register(ctx, registry.System, "2", shop("two"), false); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("register while the store fails: %v, want ErrUnavailable", err)
		}
		if r.Healthy() == nil {
			t.Error("Healthy says nothing about a store that fails")
		}
		if _, ok := r.View().Clone("2"); ok {
			t.Error("a registration that was not written is visible")
		}
		time.Sleep(10 * time.Minute)
		if r.Healthy() == nil {
			t.Error("Healthy forgets that the store fails")
		}
		if c, _ := r.View().Clone("1"); c.State != registry.Ready {
			t.Fatalf("during the outage: %s, want ready", c.State)
		}
		down.Store(false)
		time.Sleep(31 * time.Second) // the sweeper notices
		if r.Healthy() != nil {
			t.Errorf("after the outage: %v", r.Healthy())
		}
		time.Sleep(80 * time.Second)
		if c, _ := r.View().Clone("1"); c.State != registry.Ready {
			t.Errorf("within the grace: %s, want ready", c.State)
		}
		time.Sleep(90 * time.Second)
		if c, _ := r.View().Clone("1"); c.State != registry.Lost {
			t.Errorf("after the grace: %s, want lost", c.State)
		}
	})
}

func TestRestartGivesGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := registrytest.NewStore()
		ctx, stop := context.WithCancel(t.Context())
		zones, _ := registry.NewZones("z.example")
		first, err := registry.Open(ctx, registry.Config{Store: store, Zones: zones})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- first.Run(ctx) }()
		if _, err := first.Register(ctx, registry.System, "1", shop("one"), false); err != nil {
			t.Fatal(err)
		}
		stop()
		<-ended
		if _, err := first.Register(t.Context(), registry.System, "2", shop("two"), false); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("write after Run: %v, want ErrUnavailable", err)
		}
		time.Sleep(time.Hour)

		second := open(t, store, nil)
		l, ok := second.Lease("1")
		if !ok || l.Confirmed || l.Left != 120*time.Second {
			t.Errorf("lease after a restart: %+v, %v; want a full, unconfirmed one", l, ok)
		}
		if _, err := second.Renew(t.Context(), registry.System, "1", "one"); err != nil {
			t.Errorf("renew after a restart: %v", err)
		}
	})
}
