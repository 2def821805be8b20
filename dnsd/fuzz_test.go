package dnsd

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// oneClone is a Directory of the clone 1234 with the service www.
type oneClone struct{ zones *registry.Zones }

func (oneClone) clone() *registry.Clone {
	return &registry.Clone{
		ID: "1234", State: registry.Ready,
		Services: map[string]*registry.Service{"www": {}},
		Hosts:    map[registry.Host][]netip.Addr{"db": {netip.MustParseAddr("10.0.0.1")}},
		Records:  []registry.Record{{Name: "*.w", Type: "TXT", Data: "wild"}},
	}
}

func (d oneClone) Lookup(sub string) (registry.Target, bool) {
	return registry.Target{Clone: d.clone(), Service: "www"}, sub == "1234" || sub == "www-1234"
}

func (d oneClone) Clone(id registry.ID) (*registry.Clone, bool) { return d.clone(), id == "1234" }
func (d oneClone) Revision() uint64                             { return 7 }
func (d oneClone) Zones() *registry.Zones                       { return d.zones }

// fuzzFronts returns an authoritative listener and a resolver, without sockets.
func fuzzFronts(f *testing.F) []*front {
	zones, err := registry.NewZones("test_envs.localhost")
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{Directory: oneClone{zones}, Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ResolvConf: f.TempDir() + "/absent"})
	if err != nil {
		f.Fatal(err)
	}
	v, err := s.newView(1, &Resolver{Clone: "1234"})
	if err != nil {
		f.Fatal(err)
	}
	return []*front{{Server: s, kind: "authoritative"}, {Server: s, kind: "resolver", view: v}}
}

// FuzzPacket: whatever octets arrive, a listener stays up, answers with the
// same ID and question, in no more octets than the sender takes, and in a
// form that another parser reads.
func FuzzPacket(f *testing.F) {
	for _, name := range []string{"www-1234.test_envs.localhost.", "db.", "example.com.", ".", "x.w.1234.test_envs.localhost."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		plain, _ := m.Pack()
		m.SetEdns0(4096, true)
		edns, _ := m.Pack()
		f.Add(plain)
		f.Add(edns)
	}
	f.Add([]byte("\xbe\xef\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	fronts := fuzzFronts(f)
	client := netip.MustParseAddrPort("127.0.0.1:4242")
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, l := range fronts {
			q := new(query)
			isQuery := q.parse(packet)
			w := l.newWorker()
			reply, waiting := w.take(packet, client, false)
			if waiting != nil {
				reply = waiting.finish(t.Context())
			}
			if !isQuery {
				if reply != nil {
					t.Fatalf("%x is not to be answered and got %x", packet, reply)
				}
				continue
			}
			checkReply(t, q, packet, reply)
			if over, _ := l.newWorker().take(packet, client, true); waiting == nil && len(over) < len(reply) {
				t.Fatalf("TCP says less than UDP: %x, %x", over, reply)
			}
		}
	})
}

func checkReply(t *testing.T, q *query, packet, reply []byte) {
	t.Helper()
	if len(reply) < headerLen || !bytes.Equal(reply[:2], packet[:2]) || reply[2]&0x80 == 0 {
		t.Fatalf("reply %x to %x", reply, packet)
	}
	if limit := min(q.size, maxSize); len(reply) > limit || limit > maxSize || !q.edns && limit != plainSize {
		t.Fatalf("reply of %d octets, EDNS %t, limit %d", len(reply), q.edns, limit)
	}
	m := new(dns.Msg)
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("reply %x: %v", reply, err)
	}
	if q.edns != (m.IsEdns0() != nil) {
		t.Fatalf("EDNS asked %t, in reply: %v", q.edns, m)
	}
	if !q.whole {
		return
	}
	end, _ := skipName(packet, headerLen)
	end += 4
	if len(reply) < end || !bytes.Equal(reply[headerLen:end], packet[headerLen:end]) {
		t.Fatalf("question of %x comes back in %x", packet, reply)
	}
	// What we took for a question, the library takes for the same.
	theirs := new(dns.Msg)
	if theirs.Unpack(packet) == nil && (theirs.Question[0] != dns.Question{Name: q.asked(), Qtype: q.qtype, Qclass: q.class} || canonical(q.asked()) != q.name) {
		t.Fatalf("we read %v, the library %v", q.question, theirs.Question[0])
	}
}

// FuzzUpstream: whatever an upstream says, what is kept of it can be read
// back, names nothing of ours, and answers what was asked.
func FuzzUpstream(f *testing.F) {
	s := fuzzFronts(f)[0].Server
	query := s.upstreamQuery(question{name: "www.example.", qtype: dns.TypeA}, netip.AddrPort{}, true)
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	m.Response = true
	for _, s := range []string{"www.example. 60 IN CNAME www-1234.test_envs.localhost.", "www-1234.test_envs.localhost. 60 IN A 203.0.113.66", "www.example. 60 IN A 198.51.100.1"} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
		p, _ := m.Pack()
		f.Add(p[headerLen:])
	}
	f.Add([]byte("\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x00")) // an SOA without data
	f.Add([]byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x00")) // an address without one
	end, _ := skipName(query, headerLen)
	f.Fuzz(func(t *testing.T, tail []byte) {
		reply := append([]byte{query[0], query[1]}, 0x81, 0x80, 0, 1, 0, 9, 0, 9, 0, 9)
		reply = append(reply, query[headerLen:end+4]...)
		reply = append(reply, tail...)
		m := new(dns.Msg)
		if !matches(reply, query) || m.Unpack(reply) != nil {
			return
		}
		q := question{name: "www.example.", qtype: dns.TypeA}
		clean, err := s.clean(m, q)
		if err != nil {
			return
		}
		e := s.newEntry(cacheKey{name: q.name, qtype: q.qtype}, clean, s.now())
		r := s.records(q, e.result(q, s.now()))
		if len(r.answer) != len(clean.Answer) || len(r.ns) != len(clean.Ns) {
			t.Fatalf("of %v only %v, %v can be read back", clean, r.answer, r.ns)
		}
		for _, rr := range append(r.answer, r.ns...) {
			if _, _, ours := s.split(canonical(rr.Header().Name)); ours && rr.Header().Rrtype != dns.TypeNSEC && rr.Header().Rrtype != dns.TypeNSEC3 && rr.Header().Rrtype != dns.TypeRRSIG {
				t.Fatalf("%v was kept", rr)
			}
		}
	})
}
