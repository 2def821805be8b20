package dnsmasq_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// one is a directory of one clone.
type one struct {
	clone *registry.Clone
	zones *registry.Zones
}

func (o one) Lookup(label string) (registry.Target, bool) {
	return registry.Target{Clone: o.clone}, label == string(o.clone.ID)
}
func (o one) Clone(id registry.ID) (*registry.Clone, bool) { return o.clone, id == o.clone.ID }
func (o one) Revision() uint64                             { return 1 }
func (o one) Zones() *registry.Zones                       { return o.zones }

// TestTemplateAndFileAgree: what a template says about hosts and DNS is
// answered alike by a resolver of the gateway, by a sidecar that follows the
// registry, and by a sidecar with the same written as a dnsmasq configuration.
func TestTemplateAndFileAgree(t *testing.T) {
	up := newScript(t, 2)
	zones, err := registry.NewZones("clones.example")
	if err != nil {
		t.Fatal(err)
	}
	addrs := func(texts ...string) (out []netip.Addr) {
		for _, s := range texts {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	clone := &registry.Clone{
		ID: "1234", Incarnation: 1, State: registry.Ready, Desired: registry.WantReady,
		Hosts: map[registry.Host][]netip.Addr{
			"db": addrs("10.80.0.30"), "web": addrs("10.80.0.10", "fd00::10"), "db.shop.example": addrs("10.80.0.31"),
		},
		Records: []registry.Record{
			{Name: "_ldap._tcp", Type: "SRV", TTL: 5, Data: "0 5 389 db"},
			{Name: "mail", Type: "CNAME", TTL: 30, Data: "db"},
			{Name: "note", Type: "TXT", TTL: 5, Data: `"a text"`},
			{Name: "post", Type: "MX", TTL: 5, Data: "10 web"},
		},
		Forward: []registry.Forward{{Zone: "corp.example", Servers: up.addrs[1:]}},
	}
	const file = `no-hosts
no-resolv
host-record=db.1234.clones.example,db,10.80.0.30
host-record=web.1234.clones.example,web,10.80.0.10,fd00::10
host-record=db.shop.example,10.80.0.31
srv-host=_ldap._tcp.1234.clones.example,db.1234.clones.example,389,0,5
srv-host=_ldap._tcp,db.1234.clones.example,389,0,5
cname=mail.1234.clones.example,db.1234.clones.example,30
cname=mail,db.1234.clones.example,30
txt-record=note.1234.clones.example,a text
txt-record=note,a text
mx-host=post.1234.clones.example,web.1234.clones.example,10
mx-host=post,web.1234.clones.example,10
local=/1234.clones.example/_ldap._tcp/note/post/
server=/corp.example/%s
server=%s
`
	server := func(a netip.AddrPort) string { return fmt.Sprintf("%v#%d", a.Addr(), a.Port()) }
	fromFile, stopFile := serve(t, dnsmasq.New(parse(t, fmt.Sprintf(file, server(up.addrs[1]), server(up.addrs[0]))), nil), dnsd.Habits{})
	defer stopFile()
	mirror := dnsd.NewMirror(nil)
	mirror.Set(clone, zones)
	fromMirror, stopMirror := serve(t, mirror.Ahead(dnsmasq.New(parse(t, "no-hosts", "no-resolv", "server="+server(up.addrs[0]), "local=/1234.clones.example/"), nil)), dnsd.Habits{})
	defer stopMirror()
	fromTemplate := serveClone(t, one{clone, zones}, up.addrs[:1])

	for _, name := range []string{
		"db", "DB.1234.clones.example", "web", "web.1234.clones.example", "db.shop.example", "mail", "mail.1234.clones.example", "_ldap._tcp",
		"_ldap._tcp.1234.clones.example", "note", "note.1234.clones.example", "post", "post.1234.clones.example", "missing.1234.clones.example",
		"nothing.1234.clones.example", "www.corp.example", "www.example.com", "nx.example.com", "30.0.80.10.in-addr.arpa", "31.0.80.10.in-addr.arpa",
		"10.0.80.10.in-addr.arpa", "9.9.9.9.in-addr.arpa",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeSRV, dns.TypeTXT, dns.TypeMX, dns.TypePTR} {
			if strings.HasSuffix(name, ".arpa") && qtype != dns.TypePTR {
				continue // dnsmasq knows no other type of a reverse name
			}
			q := dns.Question{Name: dns.Fqdn(name), Qtype: qtype, Qclass: dns.ClassINET}
			see := func(addr string) outcome {
				up.take()
				o := exchange(t, addr, q)
				o.asked = up.take()
				return o
			}
			want := see(fromTemplate)
			for from, addr := range map[string]string{"a file": fromFile, "the registry": fromMirror} {
				if from == "the registry" && strings.Contains(name, "ing.1234.") {
					continue // a sidecar leaves what the clone does not have to the zone's own servers
				}
				if got := see(addr); !got.equal(want) {
					t.Errorf("%s %s: from %s %v\nfrom the template %v", name, dns.Type(qtype), from, got, want)
				}
			}
		}
	}
}

// serveClone runs the resolver of a clone until the test ends.
func serveClone(t *testing.T, dir one, upstreams []netip.AddrPort) (addr string) {
	t.Helper()
	s, err := dnsd.New(dnsd.Config{
		Directory: dir, Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.80")}, CacheEntries: -1, ResolvConf: filepath.Join(t.TempDir(), "none"),
	})
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: &dnsd.Resolver{Clone: dir.clone.ID, Upstreams: upstreams}})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return udp.LocalAddr().String()
}
