package dnsd

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestPlain: the replies that need not be unpacked are kept as if they were,
// and all others are unpacked.
func TestPlain(t *testing.T) {
	const a, aaaa = dns.TypeA, dns.TypeAAAA
	for _, row := range []struct {
		name   string
		q      question
		refuse bool
		answer []string
		change func(m *dns.Msg)
		want   bool
	}{
		{name: "an address", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, want: true},
		{name: "several", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1", "www.example. 30 IN A 198.18.0.2"}, want: true},
		{name: "IPv6", q: question{qtype: aaaa, cd: true}, answer: []string{"www.example. 60 IN AAAA 2001:db8::1"}, want: true},
		{name: "no TTL", q: question{qtype: a}, answer: []string{"www.example. 0 IN A 198.18.0.1"}, want: true},
		{name: "a TTL for ever", q: question{qtype: a}, answer: []string{"www.example. 2147483647 IN A 198.18.0.1"}, want: true},
		{name: "a negative TTL", q: question{qtype: a}, answer: []string{"www.example. 2147483648 IN A 198.18.0.1"}, want: true},
		{name: "outside where inside is refused", q: question{qtype: a}, refuse: true, answer: []string{"www.example. 60 IN A 8.8.8.8"}, want: true},
		{name: "without EDNS", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, change: func(m *dns.Msg) { m.Extra = nil }, want: true},

		{name: "more than was asked for", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, change: func(m *dns.Msg) {
			m.Ns = []dns.RR{mustRR(t, "example. 60 IN NS ns.example.")}
			m.Extra = append([]dns.RR{mustRR(t, "ns.example. 60 IN A 203.0.113.66")}, m.Extra...)
		}},
		{name: "inside where that is refused", q: question{qtype: a}, refuse: true, answer: []string{"www.example. 60 IN A 10.0.0.1"}},
		{name: "signatures wanted", q: question{qtype: a, do: true}, answer: []string{"www.example. 60 IN A 198.18.0.1"}},
		{name: "another type", q: question{qtype: dns.TypeTXT}, answer: []string{`www.example. 60 IN TXT "x"`}},
		{name: "none", q: question{qtype: a}},
		{name: "an alias", q: question{qtype: a}, answer: []string{"www.example. 60 IN CNAME b.example.", "b.example. 60 IN A 198.18.0.1"}},
		{name: "another name", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1", "b.example. 60 IN A 198.18.0.1"}},
		{name: "another class", q: question{qtype: a}, answer: []string{"www.example. 60 CH A 198.18.0.1"}},
		{name: "an error", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, change: func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }},
		{name: "an extended error", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, change: func(m *dns.Msg) { m.Rcode = dns.RcodeBadVers }},
		{name: "truncated", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, change: func(m *dns.Msg) { m.Truncated = true }},
		{name: "another ID", q: question{qtype: a}, answer: []string{"www.example. 60 IN A 198.18.0.1"}, change: func(m *dns.Msg) { m.Id++ }},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.q.name = "www.example."
			f := plainFlight(t, row.q)
			f.view.refuse = row.refuse
			query := f.view.upstreamQuery(row.q, netip.AddrPort{}, true)
			m := new(dns.Msg)
			if err := m.Unpack(query); err != nil {
				t.Fatal(err)
			}
			m.Response, m.Compress = true, true
			for _, text := range row.answer {
				rr := mustRR(t, text)
				if rr.Header().Name == row.q.name {
					rr.Header().Name = m.Question[0].Name
				}
				m.Answer = append(m.Answer, rr)
			}
			if row.change != nil {
				row.change(m)
			}
			p, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			if got := checkPlain(t, f, p, query); got != row.want {
				t.Errorf("kept without unpacking: %t, want %t", got, row.want)
			}
		})
	}
}

// FuzzPlain: whatever an upstream says, what is kept of it without unpacking
// is what would have been kept.
func FuzzPlain(f *testing.F) {
	q := question{name: "www.example.", qtype: dns.TypeA}
	flight := plainFlight(f, q)
	query := flight.view.upstreamQuery(q, netip.AddrPort{}, true)
	end, _ := skipName(query, headerLen)
	addr := []byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc6\x12\x00\x01")
	opt := []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00")
	f.Add([]byte{0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1}, slices.Concat(addr, opt))
	f.Add([]byte{0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0}, slices.Concat(addr, addr))
	f.Add([]byte{0x81, 0x80, 0, 1, 0, 1, 0, 1, 0, 0}, slices.Concat(addr, addr))
	f.Fuzz(func(t *testing.T, flags, tail []byte) {
		if len(flags) != headerLen-2 {
			return
		}
		checkPlain(t, flight, slices.Concat(query[:2], flags, query[headerLen:end+4], tail), query)
	})
}

// plainFlight returns a question on its way to upstreams of which nobody waits
// for the answer.
func plainFlight(t testing.TB, q question) *flight {
	_, resolver := hitFronts(t)
	v := resolver.view
	return &flight{view: v, key: v.key(q, v.own), q: q, group: v.own}
}

// checkPlain reports whether a reply is kept without unpacking, and fails if
// what is kept is not the same as with.
func checkPlain(t *testing.T, f *flight, p, query []byte) bool {
	t.Helper()
	now := time.Now()
	got := f.plain(bytes.Clone(p), query, maxUpstreamUDP, now)
	if got == nil {
		return false
	}
	m, isReply := readReply(bytes.Clone(p), maxUpstreamUDP, query)
	if !isReply {
		t.Fatalf("%x is no reply, but kept", p)
	}
	clean, err := f.view.clean(m, f.q)
	if err != nil || f.view.refusePrivate(f.q, clean) {
		t.Fatalf("%v is kept in spite of %v", m, err)
	}
	want := f.view.newEntry(f.key, clean, now)
	if got.positive != want.positive || !got.expires.Equal(want.expires) || got.ready.rcode != want.ready.rcode || want.ready.target != "" {
		t.Fatalf("of %v, %+v is kept, want %+v", m, got, want)
	}
	g, w := got.ready.packed, want.ready.packed
	if !bytes.Equal(g.body, w.body) || g.counts != w.counts || !slices.Equal(g.ttls, w.ttls) || !g.stored.Equal(w.stored) {
		t.Fatalf("of %v, %x is kept, want %x", m, g.body, w.body)
	}
	return true
}

func mustRR(t testing.TB, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// TestEntryOverhead: what an entry is said to cost is about what it costs.
func TestEntryOverhead(t *testing.T) {
	const n = 20_000
	flight := plainFlight(t, question{name: "www.example.", qtype: dns.TypeA})
	query := flight.view.upstreamQuery(flight.q, netip.AddrPort{}, true)
	m := new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		t.Fatal(err)
	}
	m.Response, m.Compress = true, true
	m.Answer = []dns.RR{mustRR(t, m.Question[0].Name+" 60 IN A 198.18.0.1")}
	p, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c := newCache(4*n, maxCacheBytes)
	before := heap()
	for i := range n {
		flight.key.name = fmt.Sprintf("n%d.a-name-of-usual-length.example.", i)
		c.put(flight.plain(bytes.Clone(p), query, maxUpstreamUDP, time.Now()))
	}
	took := int(heap() - before)
	entries, said := c.size()
	if entries != n || said < took*8/10 || said > took*14/10 {
		t.Errorf("%d entries are said to take %d octets each, and take %d", entries, said/n, took/n)
	}
	runtime.KeepAlive(c)
}

// heap returns how many octets of the heap are in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
