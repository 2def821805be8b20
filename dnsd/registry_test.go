package dnsd_test

import (
	"context"
	"errors"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/miekg/dns"
)

// TestRegistry runs a real registry beneath: what it has acknowledged is
// answered at once, and what it has taken back is not.
func TestRegistry(t *testing.T) {
	zones, err := registry.NewZones(zone)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), registry.Config{Store: registrytest.NewStore(), Zones: zones, CheckRecord: dnsd.CheckRecord})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	s := serve(t, dnsd.Config{Directory: r.View()}, nil, &dnsd.Resolver{Clone: "1234"})
	see := func(name, want string) {
		t.Helper()
		if got := short(ask(t, s.addrs[0], absolute(name, zone), dns.TypeA)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	serial := func() uint32 {
		return ask(t, s.addrs[0], zone+".", dns.TypeSOA).Answer[0].(*dns.SOA).Serial
	}
	reg := registry.Registration{
		Instance: "6f1c", Aliases: []string{"pr-87"},
		Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{"10.80.0.10:8080"}, Default: true}},
		Hosts:    map[string][]string{"db": {"10.80.0.30"}},
		Records:  []registry.Record{{Name: "_shop._tcp", Type: "SRV", TTL: 60, Data: "0 0 8080 db"}},
	}
	see("www-1234", noName)
	first := serial()
	if _, err := r.Register(ctx, registry.System, "1234", reg, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"www-1234", "1234", "pr-87", "www-pr-87", "www.1234", "www-1234--1", "pr-87--2"} {
		see(name, gatewayA)
	}
	see("www-1235--1", noName)
	see("www-1234--0", noName)
	see("db.1234", "NOERROR; A 10.80.0.30")
	if got := short(ask(t, s.addrs[0], absolute("_shop._tcp.1234", zone), dns.TypeSRV)); got != "NOERROR; SRV 0 0 8080 db.1234."+zone+"." {
		t.Errorf("_shop._tcp: %s", got)
	}
	second := serial()
	reg.Hosts["db"] = []string{"10.80.0.31"}
	reg.Aliases = nil
	if _, err := r.Register(ctx, registry.System, "1234", reg, false); err != nil {
		t.Fatal(err)
	}
	see("db.1234", "NOERROR; A 10.80.0.31")
	see("pr-87", noName)
	if got := short(ask(t, s.addrs[1], "db.", dns.TypeA)); got != "NOERROR; A 10.80.0.31" {
		t.Errorf("inside the clone, db is %s", got)
	}
	if _, err := r.Unregister(ctx, registry.System, "1234", "6f1c"); err != nil {
		t.Fatal(err)
	}
	see("www-1234", noName)
	see("db.1234", noName)
	if third := serial(); !(first < second && second < third) {
		t.Errorf("serials %d, %d, %d do not grow with changes", first, second, third)
	}
	reg.Instance, reg.Records = "7a2d", []registry.Record{{Name: "sub", Type: "NS", Data: "ns.evil."}}
	if _, err := r.Register(ctx, registry.System, "1235", reg, false); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("a delegation is registered: %v", err)
	}
}
