package registry_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

func TestNamesBelongToOneClone(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()
	withAlias := func(instance, alias string) registry.Registration {
		reg := shop(instance)
		reg.Aliases = []string{alias}
		return reg
	}
	register := func(id registry.ID, reg registry.Registration) error {
		_, err := r.Register(ctx, registry.System, id, reg, false)
		return err
	}
	if err := register("1", withAlias("a", "pr-87")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		id   registry.ID
		reg  registry.Registration
	}{
		{"the same alias", "2", withAlias("b", "pr-87")},
		{"an alias that is another's service label", "2", withAlias("b", "www-1")},
		{"an alias that is another's service label, by the alias of it", "2", withAlias("b", "www-pr-87")},
	}
	for _, tt := range tests {
		if err := register(tt.id, tt.reg); !errors.Is(err, registry.ErrLabelTaken) || !strings.Contains(err.Error(), "clone 1 of ada") {
			t.Errorf("%s: %v, want ErrLabelTaken naming clone 1 of ada", tt.name, err)
		}
	}
	if err := register("87x", withAlias("c", "shop")); err != nil {
		t.Fatal(err)
	}
	if err := register("4", withAlias("d", "87x")); !errors.Is(err, registry.ErrLabelTaken) {
		t.Errorf("an alias that is another's ID: %v, want ErrLabelTaken", err)
	}
	if err := register("shop", shop("d")); !errors.Is(err, registry.ErrLabelTaken) {
		t.Errorf("an ID that is another's alias: %v, want ErrLabelTaken", err)
	}
	if _, err := r.Unregister(ctx, registry.System, "1", "a"); err != nil {
		t.Fatal(err)
	}
	if got, ok := r.View().Lookup("www-pr-87"); !ok || got.Clone.ID != "1" || got.Clone.State != registry.Gone {
		t.Errorf("alias of a clone that is gone: %+v, %v; want the tombstone of clone 1", got, ok)
	}
	if err := register("2", withAlias("b", "pr-87")); err != nil {
		t.Errorf("alias of a clone that is gone: %v; it may be claimed", err)
	}
	if got, _ := r.View().Lookup("www-pr-87"); got.Clone == nil || got.Clone.ID != "2" || got.Service != "www" {
		t.Errorf("www-pr-87 leads to %+v, want clone 2, www", got)
	}
	if err := register("3", withAlias("e", "www-1")); !errors.Is(err, registry.ErrLabelTaken) {
		t.Errorf("a name of an ID that is gone: %v; it is kept for ever", err)
	}
}

func TestLookup(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	reg := shop("one")
	reg.Aliases = []string{"pr-87"}
	if _, err := r.Register(t.Context(), registry.System, "1234", reg, false); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ sub, service string }{
		{"www-1234", "www"},
		{"api-1234", "api"},
		{"1234", "www"},
		{"www-pr-87", "www"},
		{"pr-87", "www"},
		{"www.1234", "www"},
		{"api.pr-87", "api"},
		{"nope-1234", ""},
		{"nope.1234", ""},
	}
	for _, tt := range tests {
		if got, ok := r.View().Lookup(tt.sub); !ok || got.Clone.ID != "1234" || got.Service != tt.service {
			t.Errorf("Lookup(%q) = %+v, %v; want clone 1234, service %q", tt.sub, got, ok, tt.service)
		}
	}
	for sub, want := range map[string]int{"www-1234--1": 1, "1234--2": 2, "pr-87--256": 256, "www-pr-87--3": 3} {
		if got, ok := r.View().Lookup(sub); !ok || got.Clone.ID != "1234" || got.Service != "www" || got.Member != want {
			t.Errorf("Lookup(%q) = %+v, %v; want member %d of www of clone 1234", sub, got, ok, want)
		}
	}
	if _, err := r.Register(t.Context(), registry.System, "1", shop("two"), false); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.View().Lookup("www-1234--1"); got.Clone == nil || got.Clone.ID != "1234" {
		t.Errorf("with a clone of ID 1, www-1234--1 is %+v; want clone 1234's", got)
	}
	for _, sub := range []string{"www-1234--0", "www-1234--01", "www-1234--257", "www-1234--x", "www-1234--", "--1", "www-12345--1", "www-1234--2--2", "www.1234--1"} {
		if got, ok := r.View().Lookup(sub); ok && got.Service != "" {
			t.Errorf("Lookup(%q) = %+v, want no service", sub, got)
		}
	}
	for _, tt := range []registry.Target{
		{Service: "www", Base: "1234"},
		{Service: "www", Base: "pr-87"},
		{Service: "www", Base: "1234", Nested: true},
		{Service: "api", Base: "pr-87", Nested: true},
		{Service: "www", Base: "1234", Below: "tenant"},
		{Service: "api", Base: "pr-87", Below: "a.b-1.c"},
		{Service: "www", Base: "1234", Below: "tenant", Nested: true},
		{Service: "www", Base: "pr-87", Below: "a.b.c", Nested: true},
	} {
		sub := tt.Service + "-" + tt.Base
		if tt.Nested {
			sub = tt.Service + "." + tt.Base
		}
		if tt.Below != "" {
			sub = tt.Below + "." + sub
		}
		got, ok := r.View().Lookup(sub)
		if tt.Clone = got.Clone; !ok || got.Clone.ID != "1234" || got != tt {
			t.Errorf("Lookup(%q) = %+v, %v; want %+v", sub, got, ok, tt)
		}
	}
	for _, sub := range []string{
		"", "www", "www-01234", "www-12345", "1234.www", "www-", "-1234", ".", ".1234",
		"a.b.c.d.www-1234", "a.b.c.d.www.1234", "a.nope.1234", "a.nope-1234", "a.1234.www-1234x", ".www-1234", "a..www-1234",
		"_a.www-1234", "-a.www-1234", "a-.www.1234", "a%.www.1234", ".www.1234", strings.Repeat("a", 64) + ".www-1234",
	} {
		if got, ok := r.View().Lookup(sub); ok {
			t.Errorf("Lookup(%q) = %+v, want nothing", sub, got)
		}
	}
	allocs := testing.AllocsPerRun(100, func() {
		r.View().Lookup("www-1234")
		r.View().Lookup("www.1234")
		r.View().Lookup("tenant.www.1234")
	})
	if allocs != 0 {
		t.Errorf("Lookup allocates %v times, want 0", allocs)
	}
}
