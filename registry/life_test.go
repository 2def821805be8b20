package registry_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestOneLifeOfAClone(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()

	g, err := r.Register(ctx, registry.System, "1234", shop("one"), false)
	if err != nil {
		t.Fatal(err)
	}
	if !g.New || g.Clone.Incarnation != 1 || g.TTL != 120 || g.RenewEvery != 20 {
		t.Errorf("first registration: new %v, incarnation %d, ttl %d, renew every %d; want true, 1, 120, 20", g.New, g.Clone.Incarnation, g.TTL, g.RenewEvery)
	}
	if got, want := g.URLs["www"], "https://www-1234.test_envs.internal.example.com"; got != want {
		t.Errorf("URL of www = %q, want %q", got, want)
	}
	before := r.View().Revision()

	again, err := r.Register(ctx, registry.System, "1234", shop("one"), false)
	if err != nil || again.New || r.View().Revision() != before {
		t.Errorf("repeated registration: new %v, revision %d → %d, err %v; want the same life and no change", again.New, before, r.View().Revision(), err)
	}
	if _, err := r.Renew(ctx, registry.System, "1234", "one"); err != nil {
		t.Errorf("renew: %v", err)
	}
	if c, err := r.Unregister(ctx, registry.System, "1234", "one"); err != nil || c.State != registry.Gone {
		t.Errorf("unregister: %v, %v; want gone", c, err)
	}
	if _, err := r.Unregister(ctx, registry.System, "1234", "one"); err != nil {
		t.Errorf("second unregister: %v; ending what has ended succeeds", err)
	}
	if _, err := r.Renew(ctx, registry.System, "1234", "one"); !errors.Is(err, registry.ErrEnded) {
		t.Errorf("renew after the end: %v, want ErrEnded", err)
	}
	if _, err := r.Register(ctx, registry.System, "1234", shop("one"), false); !errors.Is(err, registry.ErrEnded) {
		t.Errorf("the ended instance registers again: %v, want ErrEnded", err)
	}
	second, err := r.Register(ctx, registry.System, "1234", shop("two"), false)
	if err != nil || second.Clone.Incarnation != 2 || !second.New {
		t.Fatalf("second life: %+v, %v; want incarnation 2", second, err)
	}
	if age := time.Since(second.Clone.Created); age < -time.Second || age > time.Minute {
		t.Errorf("the second life was created %s ago, want now", age)
	}
	for _, late := range []string{"one", "never"} {
		if _, err := r.Renew(ctx, registry.System, "1234", late); !errors.Is(err, registry.ErrFenced) {
			t.Errorf("renew by %s: %v, want ErrFenced", late, err)
		}
		if _, err := r.Unregister(ctx, registry.System, "1234", late); !errors.Is(err, registry.ErrFenced) {
			t.Errorf("unregister by %s: %v, want ErrFenced", late, err)
		}
	}
	if _, err := r.Register(ctx, registry.System, "1234", shop("one"), true); !errors.Is(err, registry.ErrFenced) {
		t.Errorf("late registration of the first life: %v, want ErrFenced even with takeover", err)
	}
}

func TestWhoeverHoldsAnID(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()
	if _, err := r.Register(ctx, registry.System, "7", shop("one"), false); err != nil {
		t.Fatal(err)
	}
	_, err := r.Register(ctx, registry.System, "7", shop("two"), false)
	if !errors.Is(err, registry.ErrHeld) || !strings.Contains(err.Error(), "last heard of 0s ago") {
		t.Errorf("second instance: %v, want ErrHeld with the holder's age", err)
	}
	narrow, _, err := r.CreateToken(ctx, registry.System, registry.TokenRequest{Name: "seven", Role: registry.RoleClone, IDs: []string{"7"}})
	if err != nil {
		t.Fatal(err)
	}
	by := registry.Actor{Token: narrow}
	if _, err := r.Register(ctx, by, "7", shop("two"), true); !errors.Is(err, registry.ErrForbidden) {
		t.Errorf("takeover without the right: %v, want ErrForbidden", err)
	}
	if _, err := r.Register(ctx, by, "8", shop("x"), false); !errors.Is(err, registry.ErrForbidden) {
		t.Errorf("token for 7 registers 8: %v, want ErrForbidden", err)
	}
	if _, err := r.Renew(ctx, by, "8", "x"); !errors.Is(err, registry.ErrForbidden) {
		t.Errorf("token for 7 renews 8: %v, want ErrForbidden", err)
	}
	if _, err := r.Unregister(ctx, by, "7", ""); !errors.Is(err, registry.ErrForbidden) {
		t.Errorf("clone token ends a life without naming the instance: %v, want ErrForbidden", err)
	}
	g, err := r.Register(ctx, registry.System, "7", shop("two"), true)
	if err != nil || g.Clone.Incarnation != 2 {
		t.Errorf("takeover: %+v, %v; want incarnation 2", g, err)
	}
}

func TestProvidedClone(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()
	if _, _, err := r.PublishTemplate(ctx, registry.System, "shop", "1", registry.Publication{Digest: "sha256:" + strings.Repeat("0", 64)}); err != nil {
		t.Fatal(err)
	}
	ada, _, err := r.CreateToken(ctx, registry.System, registry.TokenRequest{Name: "ada", Role: registry.RoleEngineer})
	if err != nil {
		t.Fatal(err)
	}
	bob, _, err := r.CreateToken(ctx, registry.System, registry.TokenRequest{Name: "bob", Role: registry.RoleEngineer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(ctx, registry.Actor{Token: ada}, registry.CreateRequest{Template: "shop@2"}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("unknown version: %v, want ErrInvalid", err)
	}
	for field, req := range map[string]registry.CreateRequest{
		"owner":       {Template: "shop", Owner: "eve"},
		"params.size": {Template: "shop", Params: map[string]string{"size": strings.Repeat("x", 257)}},
		"labels.size": {Template: "shop", Labels: map[string]string{"size": strings.Repeat("x", 257)}},
	} {
		_, err := r.Create(ctx, registry.Actor{Token: ada}, req)
		if faults, ok := errors.AsType[registry.FieldErrors](err); !ok || len(faults) != 1 || faults[0].Field != field {
			t.Errorf("create %+v: got %v, want one fault at %s", req, err, field)
		}
	}
	c, err := r.Create(ctx, registry.Actor{Token: ada}, registry.CreateRequest{Template: "shop", Owner: "ada", Aliases: []string{"demo"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.ID != "1000" || c.State != registry.Registered || c.Template != "shop@1" || c.Owner != "ada" {
		t.Errorf("created %+v; want 1000, registered, shop@1, of ada", c)
	}
	if err := r.SetState(ctx, registry.System, c.ID, 0, registry.Starting, "db starts"); err != nil {
		t.Fatal(err)
	}
	reg := shop("boot")
	reg.Owner = "eve"
	if _, err := r.Register(ctx, registry.System, c.ID, reg, false); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a startup script gives its clone away: %v, want ErrInvalid", err)
	}
	reg.Owner = ""
	g, err := r.Register(ctx, registry.System, c.ID, reg, false)
	if err != nil || g.Clone.State != registry.Ready || g.Clone.Incarnation != 1 || g.Clone.Owner != "ada" || g.Clone.Template != "shop@1" || !slices.Equal(g.Clone.Aliases, []string{"demo"}) {
		t.Fatalf("registered %+v, %v; want ready, incarnation 1, what it was created with", g, err)
	}
	if err := r.SetState(ctx, registry.System, c.ID, 0, registry.Failed, "late"); !errors.Is(err, registry.ErrFenced) {
		t.Errorf("state of an earlier life: %v, want ErrFenced", err)
	}
	if _, err := r.Unregister(ctx, registry.Actor{Token: bob}, c.ID, ""); !errors.Is(err, registry.ErrForbidden) {
		t.Errorf("bob ends ada's clone: %v, want ErrForbidden", err)
	}
	now, err := r.Unregister(ctx, registry.Actor{Token: ada}, c.ID, "")
	if err != nil || now.State != registry.Stopping || now.Desired != registry.WantGone {
		t.Fatalf("ended: %+v, %v; want stopping until its provider has stopped it", now, err)
	}
	if _, err := r.Register(ctx, registry.System, c.ID, reg, false); !errors.Is(err, registry.ErrEnded) {
		t.Errorf("a stopping clone registers: %v, want ErrEnded", err)
	}
	if err := r.SetState(ctx, registry.System, c.ID, 1, registry.Gone, ""); err != nil {
		t.Fatal(err)
	}
	if now, _ := r.View().Clone(c.ID); now.State != registry.Gone || now.EndedBy != "ada" || now.Hosts != nil || now.Services["www"].Endpoints != nil {
		t.Errorf("gone: %+v; want a tombstone that names ada", now)
	}
	next, err := r.Create(ctx, registry.System, registry.CreateRequest{Template: "shop"})
	if err != nil || next.ID != "1001" {
		t.Errorf("next ID = %v, %v; want 1001, never 1000 again", next, err)
	}
}

func TestTombstonesAreBounded(t *testing.T) {
	r := open(t, registrytest.NewStore(), func(cfg *registry.Config) { cfg.Tombstones = 10 })
	ctx := t.Context()
	for i := range 50 {
		id := registry.ID("c" + string(rune('a'+i/26)) + string(rune('a'+i%26)))
		if _, err := r.Register(ctx, registry.System, id, shop("x"), false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Unregister(ctx, registry.System, id, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.View().Len(); n != 10 {
		t.Errorf("%d clones in memory, want 10", n)
	}
	g, err := r.Register(ctx, registry.System, "caa", shop("y"), false)
	if err != nil || g.Clone.Incarnation != 2 {
		t.Errorf("a clone that is long gone lives again: %+v, %v; want incarnation 2", g, err)
	}
	if _, err := r.Register(ctx, registry.System, "cab", shop("x"), false); !errors.Is(err, registry.ErrEnded) {
		t.Errorf("a late message of a clone that is long gone: %v, want ErrEnded", err)
	}
}

// TestSince holds that a state begins when it is entered, whatever else of the
// clone changes later.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, registrytest.NewStore(), nil)
		ctx := t.Context()
		began := time.Now()
		if _, err := r.Register(ctx, registry.System, "7", shop("one"), false); err != nil {
			t.Fatal(err)
		}
		want := func(what string, since time.Time) {
			t.Helper()
			if c, _ := r.View().Clone("7"); !c.Since.Equal(since) {
				t.Errorf("after %s it is %s since %s, want %s", what, c.State, c.Since, since)
			}
		}
		time.Sleep(time.Minute)
		reg := shop("one")
		reg.Owner = "bob"
		if _, err := r.Register(ctx, registry.System, "7", reg, false); err != nil {
			t.Fatal(err)
		}
		if c, _ := r.View().Clone("7"); !c.Changed.Equal(time.Now()) {
			t.Errorf("another owner: changed at %s, want %s", c.Changed, time.Now())
		}
		want("another owner", began)
		if err := r.SetState(ctx, registry.System, "7", 1, registry.Degraded, "db is down"); err != nil {
			t.Fatal(err)
		}
		want("its database's end", time.Now())
		time.Sleep(time.Minute)
		if _, err := r.Register(ctx, registry.System, "7", shop("two"), true); err != nil {
			t.Fatal(err)
		}
		want("a new life", time.Now())
	})
}
