package dnsd_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

const soa = "example. 600 IN SOA ns.example. host.example. 1 2 3 4 30"

// TestSpoofed: whatever else arrives at the socket, the right reply is served.
func TestSpoofed(t *testing.T) {
	good := []string{" 60 IN A 198.51.100.1"}
	bad := []string{" 60 IN A 203.0.113.66"}
	for _, row := range []struct {
		name  string
		forge func(q asked) []byte
	}{
		{"wrong ID", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Id ^= 1
			return pack(m)
		}},
		{"QR not set", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Response = false
			return pack(m)
		}},
		{"another opcode", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Opcode = dns.OpcodeNotify
			return pack(m)
		}},
		{"another name", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Question[0].Name = "www.exbmple."
			return pack(m)
		}},
		{"another spelling", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Question[0].Name = "wWw.example."
			return pack(m)
		}},
		{"another type", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Question[0].Qtype = dns.TypeAAAA
			return pack(m)
		}},
		{"another class", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Question[0].Qclass = dns.ClassCHAOS
			return pack(m)
		}},
		{"no question", func(q asked) []byte {
			m := replyTo(q, dns.RcodeServerFailure, nil, nil)
			m.Question = nil
			return pack(m)
		}},
		{"two questions", func(q asked) []byte {
			m := replyTo(q, 0, bad, nil)
			m.Question = append(m.Question, m.Question[0])
			return pack(m)
		}},
		{"header alone", func(q asked) []byte { return pack(replyTo(q, 0, bad, nil))[:12] }},
		{"cut in the question", func(q asked) []byte { return pack(replyTo(q, 0, bad, nil))[:20] }},
		{"cut in a record", func(q asked) []byte { p := pack(replyTo(q, 0, bad, nil)); return p[:len(p)-16] }},
		{"pointer to itself", func(q asked) []byte {
			p := pack(replyTo(q, 0, bad, nil))
			end := 12 + len(q.msg.Question[0].Name) + 1 + 4
			p[end], p[end+1] = 0xc0, byte(end)
			return p
		}},
		{"a few octets", func(asked) []byte { return []byte("junk") }},
		{"nothing", func(asked) []byte { return []byte{} }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			up := newUpstream(t, func(q asked, send func([]byte)) {
				for range 5 {
					send(row.forge(q))
				}
				time.Sleep(5 * time.Millisecond) // the forger is faster
				send(pack(replyTo(q, 0, good, nil)))
			})
			reg := prometheus.NewRegistry()
			s := serve(t, dnsd.Config{Directory: newWorld(t), Metrics: reg}, to(up))
			for range 2 { // from upstream, then from the cache
				if got := short(ask(t, s.addrs[0], "www.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
					t.Errorf("got %s, want the right reply", got)
				}
			}
			qs := up.questions()
			if len(qs) != 2 || qs[1].network != "tcp" {
				t.Errorf("upstream was asked %v, want once, and after two forgeries over TCP", qs)
			}
			want := 7.0 // 2 by UDP and 5 by TCP
			if row.name == "another spelling" {
				want = 6 // one says as much: the server does not keep the case, or somebody has guessed the rest
			}
			if n := gather(t, reg)["clonegate_dns_upstream_ignored_total"]; n != want {
				t.Errorf("%v forgeries were counted, want %v", n, want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	good := says(0, []string{" 60 IN A 198.51.100.1"}, nil)
	const ok = "NOERROR; A 198.51.100.1"
	closed := &upstream{addr: netip.MustParseAddrPort("127.0.0.1:1")}
	const never = time.Minute
	for _, row := range []struct {
		name     string
		ups      []*upstream
		hedge    time.Duration // 0: as it is
		want     string
		min, max time.Duration
	}{
		{"first silent", []*upstream{newUpstream(t, silent), newUpstream(t, good)}, 0, ok, 200 * time.Millisecond, 1900 * time.Millisecond},
		{"first closed", []*upstream{closed, newUpstream(t, good)}, never, ok, 0, time.Second},
		{"first fails", []*upstream{newUpstream(t, says(dns.RcodeServerFailure, nil, nil)), newUpstream(t, good)}, never, ok, 0, time.Second},
		{"first refuses", []*upstream{newUpstream(t, says(dns.RcodeRefused, nil, nil)), newUpstream(t, good)}, never, ok, 0, time.Second},
		{"first loops", []*upstream{newUpstream(t, says(0, []string{" 60 IN CNAME www.example."}, nil)), newUpstream(t, good)}, never, ok, 0, time.Second},
		{"both fail", []*upstream{newUpstream(t, says(dns.RcodeServerFailure, nil, nil)), newUpstream(t, says(dns.RcodeRefused, nil, nil))}, never, "SERVFAIL", 0, time.Second},
		{"both closed", []*upstream{closed, closed}, never, "SERVFAIL", 0, time.Second},
		{"one closed", []*upstream{closed}, never, "SERVFAIL", 0, time.Second},
		{"both silent", []*upstream{newUpstream(t, silent), newUpstream(t, silent)}, 0, "SERVFAIL", 4 * time.Second, 7 * time.Second},
		{"none", nil, never, "SERVFAIL", 0, time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) { s.SetTiming(0, row.hedge, 0, 0, 0) }, to(row.ups...))
			m := new(dns.Msg)
			m.SetQuestion("www.example.", dns.TypeA)
			m.SetEdns0(1232, false)
			start := time.Now()
			got := send(t, s.addrs[0], m)
			took := time.Since(start)
			if short(got) != row.want || took < row.min || took > row.max {
				t.Errorf("got %s after %v, want %s after %v to %v", short(got), took, row.want, row.min, row.max)
			}
			if got.Rcode == dns.RcodeServerFailure && edeOf(got) < 0 {
				t.Error("SERVFAIL does not say why")
			}
			// What came of it is remembered, so that the next one does not wait.
			questions := func() (n int) {
				for _, u := range row.ups {
					n += u.count()
				}
				return n
			}
			before := questions()
			if again := send(t, s.addrs[0], m); short(again) != row.want || questions() != before {
				t.Errorf("asked again: %s, and upstreams were asked %d times more", short(again), questions()-before)
			}
		})
	}
}

// TestLostPacket: a server that answers at the second try is enough.
func TestLostPacket(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	up := newUpstream(t, func(q asked, send func([]byte)) {
		if n.Add(1) > 1 {
			send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
		}
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	if got := short(ask(t, s.addrs[0], "www.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
		t.Errorf("got %s", got)
	}
	qs := up.questions()
	if len(qs) != 2 || qs[0].from.Port() == qs[1].from.Port() || qs[0].msg.Id == qs[1].msg.Id {
		t.Errorf("tries share a port or an ID: %v, %v", qs[0].from, qs[1].from)
	}
}

// TestServerReturns: one that failed is left alone while another answers, and
// asked first again within 2 s of its return, though no client has tried it.
func TestServerReturns(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	dead.Store(true)
	first := newUpstream(t, func(q asked, send func([]byte)) {
		if !dead.Load() {
			send(pack(replyTo(q, 0, []string{" 0 IN A 198.51.100.1"}, nil)))
		}
	})
	second := newUpstream(t, says(0, []string{" 0 IN A 198.51.100.2"}, nil))
	s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) {
		s.SetTiming(100*time.Millisecond, 5*time.Second, 0, 0, 0)
	}, to(first, second))
	get := func() string { return short(ask(t, s.addrs[0], "www.example.", dns.TypeA)) }
	get()
	count := first.count()
	for range 50 {
		if got := get(); got != "NOERROR; A 198.51.100.2" || first.count() != count {
			t.Fatalf("after a failure: %s, want the second server at once", got)
		}
	}
	dead.Store(false)
	back := time.Now()
	until(t, "the first server is asked first", func() bool { return get() == "NOERROR; A 198.51.100.1" })
	if took := time.Since(back); took > 2*time.Second {
		t.Errorf("the server was used again after %v, want at most 2 s", took)
	}
}

// TestOneSilent: with one of two upstreams silent, clients wait for the hedge
// and a round trip at most, and nobody is refused an answer.
func TestOneSilent(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(newUpstream(t, silent), up))
	const n = 300
	took := make([]time.Duration, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond) // 100 a second
			start := time.Now()
			if got := short(ask(t, s.addrs[0], fmt.Sprintf("n%d.example.", i), dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
				t.Errorf("question %d: %s", i, got)
			}
			took[i] = time.Since(start)
		})
	}
	wg.Wait()
	slices.Sort(took)
	if p99 := took[n*99/100]; p99 > 300*time.Millisecond {
		t.Errorf("99 of 100 questions took up to %v, want at most the hedge of 200 ms and a round trip", p99)
	}
	if p50 := took[n/2]; p50 > 100*time.Millisecond && !testing.Short() {
		t.Errorf("half of the questions took %v: the silent server is still asked first", p50)
	}
}

func TestTruncatedUpstream(t *testing.T) {
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf(" 60 IN A 198.51.100.%d", i))
	}
	up := newUpstream(t, func(q asked, send func([]byte)) {
		m := replyTo(q, 0, many, nil)
		if q.network == "udp" {
			m.Truncated = true
			m.Answer = m.Answer[:3]
		}
		send(pack(m))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	for range 2 {
		c := &dns.Client{Net: "tcp"}
		m := new(dns.Msg)
		m.SetQuestion("many.example.", dns.TypeA)
		r, _, err := c.Exchange(m, s.addrs[0])
		if err != nil || len(r.Answer) != 200 || r.Truncated {
			t.Fatalf("TCP: %v, %v; want 200 records", r, err)
		}
	}
	r := ask(t, s.addrs[0], "many.example.", dns.TypeA)
	if !r.Truncated || len(r.Answer) != 0 {
		t.Errorf("UDP: got %d records, TC %t; want none and TC", len(r.Answer), r.Truncated)
	}
	if up.count() != 2 {
		t.Errorf("upstream was asked %d times, want once by UDP and once by TCP", up.count())
	}
}

// TestNoEDNS: a server that does not know EDNS is asked without.
func TestNoEDNS(t *testing.T) {
	up := newUpstream(t, func(q asked, send func([]byte)) {
		if q.msg.IsEdns0() != nil {
			m := replyTo(q, dns.RcodeFormatError, nil, nil)
			m.Extra = nil
			send(pack(m))
			return
		}
		send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	if got := short(ask(t, s.addrs[0], "www.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
		t.Errorf("got %s", got)
	}
}

// TestJoined: a thousand clients with one question are one question.
// TestSpoofedFromElsewhere: a perfect reply that comes from another port or
// another address than the one that was asked is none.
func TestSpoofedFromElsewhere(t *testing.T) {
	for _, from := range []string{"127.0.0.1:0", "127.0.0.2:0", "127.0.0.2"} {
		t.Run(from, func(t *testing.T) {
			forgers := make(chan net.PacketConn, 1)
			up := newUpstream(t, func(q asked, send func([]byte)) {
				forger := <-forgers
				for range 5 {
					forger.WriteTo(pack(replyTo(q, 0, []string{" 60 IN A 203.0.113.66"}, nil)), net.UDPAddrFromAddrPort(q.from))
				}
				time.Sleep(5 * time.Millisecond)
				send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
			})
			if !strings.Contains(from, ":") { // the port of the server, at another address
				from = netip.AddrPortFrom(netip.MustParseAddr(from), up.addr.Port()).String()
			}
			forger, err := net.ListenPacket("udp", from)
			if err != nil {
				t.Fatal(err)
			}
			defer forger.Close()
			forgers <- forger
			s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
			for range 2 {
				if got := short(ask(t, s.addrs[0], "www.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
					t.Errorf("got %s, want the reply of the server", got)
				}
			}
			if qs := up.questions(); len(qs) != 1 {
				t.Errorf("upstream was asked %v, want once", qs)
			}
		})
	}
}

// TestJoined: questions that are alike cost one at the upstream, however many
// there are.
func TestJoined(t *testing.T) {
	release := make(chan struct{})
	up := newUpstream(t, func(q asked, send func([]byte)) {
		<-release
		send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	var wg sync.WaitGroup
	var wrong atomic.Int32
	for i := range 1000 {
		wg.Go(func() {
			m := new(dns.Msg)
			m.SetQuestion([]string{"www.example.", "WWW.example."}[i%2], dns.TypeA)
			c := &dns.Client{Timeout: 5 * time.Second}
			r, _, err := c.Exchange(m, s.addrs[0])
			if err != nil || short(r) != "NOERROR; A 198.51.100.1" || r.Question[0] != m.Question[0] || r.Answer[0].Header().Name != m.Question[0].Name {
				wrong.Add(1)
			}
		})
	}
	for up.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if wrong.Load() != 0 || up.count() != 1 {
		t.Errorf("%d of 1,000 got no or a wrong answer; upstream was asked %v, want 1", wrong.Load(), up.questions())
	}
	for deadline := time.Now().Add(5 * time.Second); s.Waiting()+s.Places() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d questions still wait at %d places", s.Waiting(), s.Places())
		}
	}
}

// TestBusy: one silent group of upstreams takes no more than its places, and
// other questions are answered meanwhile.
func TestBusy(t *testing.T) {
	up := newUpstream(t, silent)
	fast := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, func(s *dnsd.Server) {
		s.SetTiming(time.Minute, 0, time.Minute, 0, 0)
	}, to(up), to(fast))
	conn, err := net.Dial("udp", s.addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const places = 1000
	for i := range places {
		m := new(dns.Msg)
		m.SetQuestion(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		conn.Write(pack(m))
		for sent := time.Now(); s.Waiting() <= i; time.Sleep(50 * time.Microsecond) {
			if time.Since(sent) > 5*time.Second {
				t.Fatalf("question %d does not wait", i)
			}
		}
	}
	for range 3 {
		start := time.Now()
		if got := short(ask(t, s.addrs[0], "more.example.", dns.TypeA)); got != "SERVFAIL" || time.Since(start) > time.Second {
			t.Errorf("beyond %d questions: %s after %v, want SERVFAIL at once", places, got, time.Since(start))
		}
	}
	if got := short(ask(t, s.addrs[1], "www.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
		t.Errorf("another group: %s", got)
	}
	if got := short(ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)); got != gatewayA {
		t.Errorf("the zone: %s", got)
	}
}

func TestOwnListener(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		udp, tcp, err := dnsd.Listen(listen)
		if err != nil {
			t.Fatal(err)
		}
		self := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(tcp.Addr().(*net.TCPAddr).Port))
		run(t, dnsd.Config{Directory: newWorld(t)}, nil, dnsd.Listener{
			UDP: udp, TCP: tcp, Resolver: &dnsd.Resolver{Upstreams: []netip.AddrPort{self}},
		})
		m := new(dns.Msg)
		m.SetQuestion("www.example.", dns.TypeA)
		m.SetEdns0(1232, false)
		r := send(t, self.String(), m)
		if r.Rcode != dns.RcodeServerFailure || !strings.Contains(fmt.Sprint(r.IsEdns0()), "this server itself") {
			t.Errorf("listening on %s: got %v, want SERVFAIL that says why", listen, r)
		}
	}
}

// TestShutdown: Run returns at once though questions wait.
func TestShutdown(t *testing.T) {
	up := newUpstream(t, silent)
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: addrs("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	s.SetTiming(time.Minute, 0, time.Minute, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: to(up)}) }()
	conn := dialTCP(t, tcp.Addr().String())
	for i := range 20 {
		m := new(dns.Msg)
		m.SetQuestion(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		conn.Write(framed(pack(m)))
	}
	for s.Waiting() < 20 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run waits for questions that nobody can be told the answer of")
	}
}
