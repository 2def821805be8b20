package dnsd_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/miekg/dns"
)

// BenchmarkAnswer is one question and its reply over UDP on loopback, one
// after the other, with so many clones registered.
func BenchmarkAnswer(b *testing.B) {
	for _, clones := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("label/clones=%d", clones), func(b *testing.B) {
			s := serve(b, dnsd.Config{Directory: crowd(b, clones)}, nil)
			exchange(b, s.addrs[0], fmt.Sprintf("www-%d.%s.", clones, zone))
		})
	}
	s := serve(b, dnsd.Config{Directory: crowd(b, 100)}, nil, &dnsd.Resolver{Clone: "7"})
	for _, row := range []struct {
		name     string
		listener int
		question string
	}{
		{"host", 0, "db.7." + zone + "."},
		{"missing", 0, "www-none." + zone + "."},
		{"short", 1, "db."},
	} {
		b.Run(row.name, func(b *testing.B) { exchange(b, s.addrs[row.listener], row.question) })
	}
}

// BenchmarkForward is the same for a name of somebody else's.
func BenchmarkForward(b *testing.B) {
	up := newUpstream(b, says(0, []string{" 3600 IN A 198.51.100.1"}, nil))
	fresh := newUpstream(b, says(0, []string{" 0 IN A 198.51.100.1"}, nil))
	s := serve(b, dnsd.Config{Directory: crowd(b, 1)}, to(up), to(fresh))
	b.Run("cached", func(b *testing.B) { exchange(b, s.addrs[0], "www.example.") })
	b.Run("uncached", func(b *testing.B) { exchange(b, s.addrs[1], "www.example.") })
}

// BenchmarkCompile is the first question about a clone after it has changed.
func BenchmarkCompile(b *testing.B) {
	c := shop("1234")
	b.ReportAllocs()
	for b.Loop() {
		dnsd.Compile(c, zone)
	}
}

// exchange asks one question again and again over one socket.
func exchange(b *testing.B, addr, name string) {
	b.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	m.SetEdns0(1232, false)
	p := pack(m)
	c, err := net.Dial("udp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// crowd returns the view of a registry with clones 1 to n.
func crowd(b *testing.B, n int) *registry.View {
	b.Helper()
	zones, err := registry.NewZones(zone)
	if err != nil {
		b.Fatal(err)
	}
	batch := &registry.Batch{Events: []registry.Event{{Seq: 1}}}
	for i := range n {
		batch.Clones = append(batch.Clones, &registry.Clone{
			ID: registry.ID(fmt.Sprint(i + 1)), State: registry.Ready,
			Services: map[string]*registry.Service{"www": {Default: true}},
			Hosts:    map[registry.Host][]netip.Addr{"db": addrs("10.80.0.30"), "web": addrs("10.80.0.10")},
		})
	}
	store := registrytest.NewStore()
	if err := store.Commit(b.Context(), batch); err != nil {
		b.Fatal(err)
	}
	r, err := registry.Open(b.Context(), registry.Config{Store: store, Zones: zones})
	if err != nil {
		b.Fatal(err)
	}
	return r.View()
}
