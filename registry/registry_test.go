package registry_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// open runs a registry over store until the test ends.
func open(t *testing.T, store registry.Store, change func(*registry.Config)) *registry.Registry {
	t.Helper()
	zones, err := registry.NewZones("test_envs.internal.example.com", "test-envs.internal.example.com")
	if err != nil {
		t.Fatal(err)
	}
	cfg := registry.Config{Store: store, Zones: zones, Providers: []string{"process"}}
	if change != nil {
		change(&cfg)
	}
	r, err := registry.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

func shop(instance string) registry.Registration {
	return registry.Registration{
		Instance: instance,
		Owner:    "ada",
		Services: map[string]registry.ServiceRegistration{
			"www": {Endpoints: []string{"10.0.4.10:8080"}, Default: true, Health: &registry.HealthRegistration{Path: "/healthz"}},
			"api": {Endpoints: []string{"10.0.4.20:8080", "10.0.4.21:8080"}},
		},
		Hosts: map[string][]string{"db": {"10.80.0.30"}},
	}
}

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
		{"an alias that is another's ID", "2", withAlias("b", "1")},
	}
	for _, tt := range tests {
		if err := register(tt.id, tt.reg); !errors.Is(err, registry.ErrLabelTaken) || !strings.Contains(err.Error(), "clone 1 of ada") {
			t.Errorf("%s: %v, want ErrLabelTaken naming clone 1 of ada", tt.name, err)
		}
	}
	if err := register("87x", withAlias("c", "shop")); err != nil {
		t.Fatal(err)
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

func TestFaultsAreNamed(t *testing.T) {
	own := netip.MustParseAddrPort("0.0.0.0:8443")
	r := open(t, registrytest.NewStore(), func(cfg *registry.Config) {
		cfg.Networks = registry.NewNetworks([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")})
		cfg.Networks.SetOwn([]netip.AddrPort{own})
	})
	endpoint := func(ep string) func(*registry.Registration) {
		return func(reg *registry.Registration) {
			reg.Services = map[string]registry.ServiceRegistration{"www": {Endpoints: []string{ep}}}
		}
	}
	production := func(name, service string) func(*registry.Registration) {
		return func(reg *registry.Registration) { reg.Production = map[string]string{name: service} }
	}
	tests := []struct {
		name, field, rule string
		change            func(*registry.Registration)
	}{
		{"metadata", "services.www.endpoints[0]", "endpoint-link-local", endpoint("169.254.169.254:80")},
		{"metadata as IPv6", "services.www.endpoints[0]", "endpoint-spelling", endpoint("[::ffff:169.254.169.254]:80")},
		{"metadata as a number", "services.www.endpoints[0]", "endpoint-spelling", endpoint("2852039166:80")},
		{"metadata in hex", "services.www.endpoints[0]", "endpoint-spelling", endpoint("0xA9FEA9FE:80")},
		{"own listener", "services.www.endpoints[0]", "endpoint-own-listener", endpoint("127.0.0.1:8443")},
		{"outside", "services.www.endpoints[0]", "endpoint-network", endpoint("192.0.2.1:80")},
		{"unspecified", "services.www.endpoints[0]", "endpoint-unspecified", endpoint("0.0.0.0:80")},
		{"multicast", "services.www.endpoints[0]", "endpoint-multicast", endpoint("224.0.0.1:80")},
		{"host name", "services.www.endpoints[0]", "endpoint-spelling", endpoint("db.example.com:80")},
		{"no port", "services.www.endpoints[0]", "endpoint-port", endpoint("10.0.0.1:0")},
		{"no instance", "instance", "instance", func(reg *registry.Registration) { reg.Instance = "" }},
		{"capital in an alias", "aliases[0]", "label", func(reg *registry.Registration) { reg.Aliases = []string{"PR-87"} }},
		{"a member of a pool as alias", "aliases[0]", "label-reserved", func(reg *registry.Registration) { reg.Aliases = []string{"pr--1"} }},
		{"the zone's name server as alias", "aliases[0]", "label-reserved", func(reg *registry.Registration) { reg.Aliases = []string{"ns"} }},
		{"metadata as a DNS server", "forward[0].servers[0]", "endpoint-link-local", func(reg *registry.Registration) {
			reg.Forward = []registry.ForwardRegistration{{Zone: "corp", Servers: []string{"169.254.169.254"}}}
		}},
		{"64 octets", "services", "label-length", func(reg *registry.Registration) { reg.Aliases = []string{strings.Repeat("a", 60)} }},
		{"two defaults", "services", "default", func(reg *registry.Registration) {
			reg.Services = map[string]registry.ServiceRegistration{"a": {Default: true}, "b": {Default: true}}
		}},
		{"unknown template", "template", "template-unknown", func(reg *registry.Registration) { reg.Template = "shop@1" }},
		{"a longer lease", "lease.ttl", "lease-ttl", func(reg *registry.Registration) { reg.Lease.TTL = 121 }},
		{"a state it cannot have", "state", "state", func(reg *registry.Registration) { reg.State = registry.Gone }},
		{"a protocol nobody speaks", "services.www.protocol", "protocol", func(reg *registry.Registration) {
			reg.Services = map[string]registry.ServiceRegistration{"www": {Protocol: "gopher"}}
		}},
		{"a host in two spellings", "", "host-twice", func(reg *registry.Registration) { reg.Hosts = map[string][]string{"db": nil, "DB": nil} }},
		{"production in the zone", "production.www.test_envs", "production-zone", production("www."+registrytest.Zone, "www")},
		{"production in two spellings", "production.www.example.com", "production-twice", func(reg *registry.Registration) {
			reg.Production = map[string]string{"www.example.com": "www", "WWW.example.com.": "www"}
		}},
		{"production without a service", "production.www.example.com", "production-service", production("www.example.com", "nope")},
		{"production with a port", "production.www.example.com:80", "host", production("www.example.com:80", "www")},
		{"production by URL", "production.https", "host", production("https://www.example.com", "www")},
		{"production by address", "production.192.0.2.1", "host", production("192.0.2.1", "www")},
		{"production by one label", "production.www", "host", production("www", "www")},
		{"every name of production", "production.*", "host", production("*", "www")},
		{"a star inside", "production.www.*.example.com", "host", production("www.*.example.com", "www")},
		{"65 names of production", "production", "production", func(reg *registry.Registration) {
			reg.Production = map[string]string{}
			for i := range 65 {
				reg.Production[fmt.Sprintf("a%d.example.com", i)] = "www"
			}
		}},
		{"a cookie with a value", "strip_cookies[1]", "cookie", func(reg *registry.Registration) { reg.StripCookies = []string{"SESSION", "a=b"} }},
		{"a cookie twice", "strip_cookies[1]", "cookie-twice", func(reg *registry.Registration) { reg.StripCookies = []string{"a", "a"} }},
		{"a host with a port", "hosts.db", "host-address", func(reg *registry.Registration) { reg.Hosts = map[string][]string{"db": {"10.0.0.1:5"}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := shop("x")
			tt.change(&reg)
			_, err := r.Register(t.Context(), registry.System, "1", reg, false)
			faults, ok := errors.AsType[registry.FieldErrors](err)
			if !ok || !errors.Is(err, registry.ErrInvalid) {
				t.Fatalf("got %v, want FieldErrors", err)
			}
			i := slices.IndexFunc(faults, func(f *registry.FieldError) bool { return f.Rule == tt.rule })
			if i < 0 || tt.field != "" && !strings.HasPrefix(faults[i].Field, tt.field) {
				t.Errorf("got %v, want a fault of rule %s at %s", err, tt.rule, tt.field)
			}
		})
	}
	if _, ok := r.View().Clone("1"); ok {
		t.Error("a refused registration left a record")
	}
}

// A listener on every address is refused under each address the machine has.
func TestOwnListenerOnEveryAddress(t *testing.T) {
	networks := registry.NewNetworks([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
	for _, every := range []string{"0.0.0.0:8443", "[::]:8443"} {
		networks.SetOwn([]netip.AddrPort{netip.MustParseAddrPort(every)})
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil || prefix.Addr().IsLinkLocalUnicast() {
				continue
			}
			ep := netip.AddrPortFrom(prefix.Addr(), 8443)
			if fault, ok := errors.AsType[*registry.FieldError](networks.Check(ep)); !ok || fault.Rule != "endpoint-own-listener" {
				t.Errorf("listening on %s: %s: got %v, want the rule endpoint-own-listener", every, ep, networks.Check(ep))
			}
			if err := networks.Check(netip.AddrPortFrom(prefix.Addr(), 8444)); err != nil {
				t.Errorf("listening on %s: another port of %s: %v", every, prefix.Addr(), err)
			}
		}
		if err := networks.Check(netip.MustParseAddrPort("192.0.2.1:8443")); err != nil {
			t.Errorf("listening on %s: the same port of another machine: %v", every, err)
		}
	}
}

func TestCallersOwnAddress(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	reg := registry.Registration{Instance: "x", Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{":8080"}}}}
	g, err := r.Register(t.Context(), registry.Actor{From: "10.1.2.3"}, "1", reg, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Clone.Services["www"].Endpoints[0].String(); got != "10.1.2.3:8080" {
		t.Errorf("endpoint = %s, want 10.1.2.3:8080", got)
	}
}

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

func TestTemplatesAndChannels(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	ctx := t.Context()
	digest := func(c string) registry.Publication {
		return registry.Publication{Digest: "sha256:" + strings.Repeat(c, 64)}
	}
	publish := func(version, c string) (bool, error) {
		_, isNew, err := r.PublishTemplate(ctx, registry.System, "shop", version, digest(c))
		return isNew, err
	}
	if isNew, err := publish("1", "a"); err != nil || !isNew {
		t.Fatalf("publish 1: %v, %v", isNew, err)
	}
	if isNew, err := publish("1", "a"); err != nil || isNew {
		t.Errorf("publish 1 again: new %v, %v; want no change", isNew, err)
	}
	if _, err := publish("1", "b"); !errors.Is(err, registry.ErrExists) {
		t.Errorf("publish other content as 1: %v, want ErrExists", err)
	}
	if _, err := publish("stable", "a"); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("publish a version called stable: %v, want ErrInvalid", err)
	}
	if _, err := publish("2", "b"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"1", "2"} {
		if _, err := r.PromoteTemplate(ctx, registry.System, "shop", "stable", v, ""); err != nil {
			t.Fatal(err)
		}
	}
	resolves := func(ref, want string) {
		t.Helper()
		got, err := r.View().ResolveTemplate(ref)
		if err != nil || got.Version != want {
			t.Errorf("%s resolves to %v, %v; want version %s", ref, got, err, want)
		}
	}
	resolves("shop", "2")
	resolves("shop@stable", "2")
	resolves("shop@candidate", "2")
	resolves("shop@1", "1")
	if _, err := r.RevokeTemplate(ctx, registry.System, "shop", "2", "loses orders"); err != nil {
		t.Fatal(err)
	}
	resolves("shop", "1")
	resolves("shop@candidate", "1")
	if _, err := r.PromoteTemplate(ctx, registry.System, "shop", "stable", "2", ""); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("promote a revoked version: %v, want ErrInvalid", err)
	}
	if _, err := r.Create(ctx, registry.System, registry.CreateRequest{Template: "shop@2"}); !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), "loses orders") {
		t.Errorf("clone of a revoked version: %v, want ErrInvalid with the reason", err)
	}
	if _, err := r.View().ResolveTemplate("shp"); !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "published templates: shop") {
		t.Errorf("unknown template: %v, want ErrNotFound that says what there is", err)
	}
	if _, err := r.RevokeTemplate(ctx, registry.System, "shop", "1", "loses orders too"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"shop", "shop@stable"} {
		if _, err := r.View().ResolveTemplate(ref); !errors.Is(err, registry.ErrNotFound) || !strings.Contains(err.Error(), "no version of shop can be used any more") {
			t.Errorf("%s with every version revoked: %v, want ErrNotFound that says so", ref, err)
		}
	}
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, registrytest.NewStore(), nil)
		ctx := t.Context()
		token, secret, err := r.CreateToken(ctx, registry.System, registry.TokenRequest{Name: "ci", Role: registry.RoleClone, IDs: []string{"1000-1999"}, TTL: 3600})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(secret, registry.TokenPrefix+token.ID+"_") || strings.Contains(token.Hash, secret[len(secret)-20:]) {
			t.Errorf("secret %q of token %s", secret, token.ID)
		}
		if got, err := r.Authenticate(secret); err != nil || got.ID != token.ID {
			t.Errorf("authenticate: %v, %v", got, err)
		}
		for _, bad := range []string{"", "cgt_", "cgt_" + token.ID + "_", secret[:len(secret)-1], secret + "A", strings.ToLower(secret)} {
			if _, err := r.Authenticate(bad); !errors.Is(err, registry.ErrNoToken) {
				t.Errorf("authenticate %q: %v, want ErrNoToken", bad, err)
			}
		}
		time.Sleep(time.Hour)
		if _, err := r.Authenticate(secret); !errors.Is(err, registry.ErrNoToken) {
			t.Errorf("authenticate an hour later: %v, want ErrNoToken", err)
		}
		time.Sleep(25 * time.Hour)
		if _, ok := r.View().Token(token.ID); ok {
			t.Error("an expired token was kept for more than a day")
		}
		if _, _, err := r.CreateToken(ctx, registry.Actor{Token: token}, registry.TokenRequest{Name: "x", Role: registry.RoleAdmin}); !errors.Is(err, registry.ErrForbidden) {
			t.Errorf("a clone token makes an admin token: %v, want ErrForbidden", err)
		}
	})
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

func TestProductionIsKeptInOneSpelling(t *testing.T) {
	r := open(t, registrytest.NewStore(), nil)
	reg := shop("one")
	reg.Production = map[string]string{"WWW.Example.com.": "www", "*.Shops.example.com": "api"}
	reg.StripCookies = []string{"SESSION_PROD"}
	if _, err := r.Register(t.Context(), registry.System, "1234", reg, false); err != nil {
		t.Fatal(err)
	}
	c, _ := r.View().Clone("1234")
	if want := map[string]string{"www.example.com": "www", "*.shops.example.com": "api"}; !maps.Equal(c.Production, want) || !slices.Equal(c.StripCookies, reg.StripCookies) {
		t.Errorf("production %v, cookies %v; want %v, %v", c.Production, c.StripCookies, want, reg.StripCookies)
	}
}
