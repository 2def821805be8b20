package dnsd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzPatch: an answer that is given away later differs from what upstreams
// said in the TTLs alone, for whoever asks in whatever spelling.
func FuzzPatch(f *testing.F) {
	s := fuzzFronts(f)[0].Server
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	for _, text := range []string{
		"www.example. 60 IN A 198.51.100.1", "www.example. 3600 IN CNAME a.example.", "a.example. 0 IN A 198.51.100.2",
		"example. 300 IN SOA ns.example. host.example. 1 2 3 4 5", "www.example. 2147483647 IN TXT \"a\" \"b\"", "www.example. 7 IN MX 1 mail.example.",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		p, _ := m.Pack()
		f.Add(p[headerLen+17:], uint8(len(m.Answer)), uint32(5), uint32(0x55))
	}
	q := question{name: "www.example.", qtype: dns.TypeA}
	f.Fuzz(func(t *testing.T, tail []byte, answers uint8, age, spelling uint32) {
		said := new(dns.Msg)
		plain := askedAs(0xbeef, "www.example.")
		reply := append(bytes.Clone(plain), tail...)
		reply[2], reply[7] = 0x80, answers
		odd := func(rr dns.RR) bool { return isHollow(rr) || !dns.IsDuplicate(rr, dns.Copy(rr)) } // which the library cannot compare
		if said.Unpack(reply) != nil || slices.ContainsFunc(said.Answer, odd) {
			return
		}
		p, err := pack(q, &result{answer: said.Answer})
		if err != nil || len(p.body) > 1<<15 {
			return
		}
		p.stored = s.now()
		name := []byte("www.example.")
		for i, c := range name {
			if c >= 'a' && spelling>>i&1 == 1 {
				name[i] = c - 'a' + 'A'
			}
		}
		later := &query{question: q, wire: askedAs(uint16(spelling), string(name)), whole: true, now: p.stored.Add(time.Duration(age) * time.Second)}
		got := new(dns.Msg)
		if err := got.Unpack(p.append(appendHeader(nil, later, p, 0, false, false, true), later, s)); err != nil {
			t.Fatalf("after %d s: %v", age, err)
		}
		if got.Id != uint16(spelling) || got.Question[0].Name != string(name) || len(got.Answer) != len(said.Answer) {
			t.Fatalf("got %v, want what %v says", got, said)
		}
		for i, rr := range got.Answer {
			want := dns.Copy(said.Answer[i])
			want.Header().Ttl -= min(want.Header().Ttl, age)
			if rr.Header().Ttl != want.Header().Ttl || !dns.IsDuplicate(rr, want) {
				t.Fatalf("after %d s: got %v, want %v", age, rr, want)
			}
		}
	})
}

// askedAs returns the packet of a question, without EDNS.
func askedAs(id uint16, name string) []byte {
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.Id = id
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return wire
}

// FuzzMatches: what is taken for the reply to a query is one by the library's
// reading, too, and the reply of an honest server is always taken.
func FuzzMatches(f *testing.F) {
	s := fuzzFronts(f)[0].Server
	good := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	good.Id, good.Response = 0xbeef, true
	wire, _ := good.Pack()
	f.Add(wire, "www.example.")
	f.Add(wire[:len(wire)-1], "www.example.")
	f.Add(append([]byte{0xbe, 0xee}, wire[2:]...), "www.example.")
	f.Add(bytes.ReplaceAll(wire, []byte("www"), []byte("wWw")), "www.example.")
	f.Add(wire, `w\.w.example.`)
	f.Fuzz(func(t *testing.T, reply []byte, name string) {
		if _, ok := dns.IsDomainName(name); !ok || len(name) > 200 {
			return
		}
		asked := new(dns.Msg).SetQuestion(canonical(dns.Fqdn(name)), dns.TypeA)
		if p, err := asked.Pack(); err != nil || asked.Unpack(p) != nil {
			return
		}
		query := s.upstreamQuery(question{name: canonical(asked.Question[0].Name), qtype: dns.TypeA}, netip.AddrPort{}, true)
		if len(reply) >= 2 {
			binary.BigEndian.PutUint16(query, 0xbeef)
		}
		sent := new(dns.Msg)
		if err := sent.Unpack(query); err != nil {
			t.Fatalf("our own query %x: %v", query, err)
		}
		m := new(dns.Msg)
		if matches(reply, query) && m.Unpack(reply) == nil {
			if m.Id != sent.Id || !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 || m.Question[0] != sent.Question[0] {
				t.Fatalf("%v is taken for the reply to %v", m, sent)
			}
		}
		honest, err := new(dns.Msg).SetReply(sent).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if !matches(honest, query) {
			t.Fatalf("%x is not taken for the reply to %x", honest, query)
		}
		for i := range honest { // and one that differs in the ID or the question is not
			if i >= 2 && i < headerLen || i >= len(honest) {
				continue
			}
			honest[i] ^= 1
			if matches(honest, query) {
				t.Fatalf("%x is taken for the reply to %x", honest, query)
			}
			honest[i] ^= 1
		}
	})
}
