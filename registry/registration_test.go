package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

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
		{"an ID to come as alias", "aliases[0]", "label-reserved", func(reg *registry.Registration) { reg.Aliases = []string{"1000"} }},
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
