package dnsd

import (
	"net/netip"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/miekg/dns"
)

// hitRows are questions whose answer is ready.
var hitRows = []struct {
	name     string
	resolver bool
	question string
	qtype    uint16
	rcode    int
}{
	{"label", false, "wWw-1234.test_envs.localhost.", dns.TypeA, 0},
	{"clone", false, "1234.test_envs.localhost.", dns.TypeA, 0},
	{"nested", false, "www.1234.test_envs.localhost.", dns.TypeA, 0},
	{"host", false, "db.1234.test_envs.localhost.", dns.TypeA, 0},
	{"wildcard", false, "x.w.1234.test_envs.localhost.", dns.TypeTXT, 0},
	{"no data", false, "www-1234.test_envs.localhost.", dns.TypeTXT, 0},
	{"no name", false, "no-4711.test_envs.localhost.", dns.TypeA, dns.RcodeNameError},
	{"odd name", false, `n\.o\000_.test_envs.localhost.`, dns.TypeA, dns.RcodeNameError},
	{"apex", false, "test_envs.localhost.", dns.TypeSOA, 0},
	{"short name", true, "DB.", dns.TypeA, 0},
	{"short name without data", true, "db.", dns.TypeAAAA, 0},
	{"address", true, "1.0.0.10.in-addr.arpa.", dns.TypePTR, 0},
	{"label in a resolver", true, "www-1234.test_envs.localhost.", dns.TypeA, 0},
	{"cached", true, "www.cached.example.", dns.TypeA, 0},
	{"cached absence", true, "no.cached.example.", dns.TypeA, dns.RcodeNameError},
}

// TestReadyAnswersCostNoMemory: an answer that is ready is given away without
// a single allocation, in each of its classes.
func TestReadyAnswersCostNoMemory(t *testing.T) {
	authoritative, resolver := hitFronts(t)
	client := netip.MustParseAddrPort("127.0.0.1:4242")
	for _, row := range hitRows {
		t.Run(row.name, func(t *testing.T) {
			w := authoritative.newWorker()
			if row.resolver {
				w = resolver.newWorker()
			}
			m := new(dns.Msg)
			m.SetQuestion(row.question, row.qtype)
			m.SetEdns0(1232, true)
			packet, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			reply, waiting := w.take(packet, client, false)
			if waiting != nil {
				t.Fatal("the answer is not ready")
			}
			back := new(dns.Msg)
			if err := back.Unpack(reply); err != nil || back.Rcode != row.rcode {
				t.Fatalf("reply %v, %v; want rcode %d", back, err, row.rcode)
			}
			if n := testing.AllocsPerRun(500, func() { w.take(packet, client, false) }); n != 0 {
				t.Errorf("%v allocations, want none", n)
			}
		})
	}
}

// TestLimitedAnswersCostNoMemory: neither do answers that are counted, sent
// truncated, or not sent.
func TestLimitedAnswersCostNoMemory(t *testing.T) {
	f, _ := hitFronts(t)
	var err error
	if f.limiter, err = newLimiter(RateLimit{PerSecond: 20, Slip: 2}, f.log); err != nil {
		t.Fatal(err)
	}
	packet := askedAs(1, "www-1234.test_envs.localhost.")
	w, client := f.newWorker(), netip.MustParseAddrPort("198.51.100.1:4242")
	sent, truncated := 0, 0
	if n := testing.AllocsPerRun(1000, func() {
		if reply, _ := w.take(packet, client, false); reply != nil {
			sent++
			truncated += int(reply[2] >> 1 & 1)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	// The first 100 are whole; the clock may have let in one more now and then.
	if truncated < 400 || sent < truncated+100 || sent > 800 {
		t.Errorf("%d replies were sent, %d of them truncated", sent, truncated)
	}
}

// BenchmarkLimiter is the decision about one answer.
func BenchmarkLimiter(b *testing.B) {
	l, err := newLimiter(RateLimit{PerSecond: 1000, Slip: 2}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	client, now := netip.MustParseAddr("198.51.100.1"), time.Now()
	for b.Loop() {
		now = now.Add(2 * time.Millisecond)
		l.judge(client, now)
	}
}

// hitFronts returns listeners without sockets over a registry with the clone
// 1234 in it, and a cache with two answers.
func hitFronts(t testing.TB) (authoritative, resolver *front) {
	t.Helper()
	zones, err := registry.NewZones("test_envs.localhost")
	if err != nil {
		t.Fatal(err)
	}
	c := oneClone{}.clone()
	c.Services["www"].Default = true
	c.Faults = []*registry.Fault{{
		Until: time.Now().Add(time.Hour), FaultSpec: registry.FaultSpec{Kind: registry.FaultDNSDrop, Percent: 100, Name: "elsewhere"},
	}}
	store := registrytest.NewStore()
	if err := store.Commit(t.Context(), &registry.Batch{Events: []registry.Event{{Seq: 1}}, Clones: []*registry.Clone{c}}); err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), registry.Config{Store: store, Zones: zones})
	if err != nil {
		t.Fatal(err)
	}
	upstream := netip.MustParseAddrPort("192.0.2.53:53")
	s, err := New(Config{Directory: r.View(), Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, ResolvConf: t.TempDir() + "/absent"})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.newView(1, &Resolver{Clone: "1234", Upstreams: []netip.AddrPort{upstream}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"www.cached.example. 3600 IN A 198.51.100.1", "cached.example. 3600 IN SOA . . 1 2 3 4 60"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m := &dns.Msg{Answer: []dns.RR{rr}}
		q := question{name: "www.cached.example.", qtype: dns.TypeA, do: true}
		if _, isSOA := rr.(*dns.SOA); isSOA {
			m.Answer, m.Ns, m.Rcode, q.name = nil, []dns.RR{rr}, dns.RcodeNameError, "no.cached.example."
		}
		s.cache.put(s.newEntry(v.key(q, v.own), m, time.Now()))
	}
	return &front{Server: s, kind: "authoritative"}, &front{Server: s, kind: "resolver", view: v}
}

// BenchmarkTake is an answer that is ready, without the system calls around it.
func BenchmarkTake(b *testing.B) {
	authoritative, resolver := hitFronts(b)
	client := netip.MustParseAddrPort("127.0.0.1:4242")
	for _, row := range hitRows {
		b.Run(row.name, func(b *testing.B) {
			w := authoritative.newWorker()
			if row.resolver {
				w = resolver.newWorker()
			}
			m := new(dns.Msg)
			m.SetQuestion(row.question, row.qtype)
			m.SetEdns0(1232, true)
			packet, err := m.Pack()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.take(packet, client, false)
			}
		})
	}
}
