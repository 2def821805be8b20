package dnsd_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// after returns a handler that is slow.
func after(d time.Duration, h handler) handler {
	return func(q asked, send func([]byte)) {
		time.Sleep(d)
		h(q, send)
	}
}

// TestOrderOfServers: which server's answer is given, and who was asked.
func TestOrderOfServers(t *testing.T) {
	t.Parallel()
	one, two := says(0, []string{" 0 IN A 198.51.100.1"}, nil), says(0, []string{" 0 IN A 198.51.100.2"}, nil)
	for _, row := range []struct {
		name   string
		habits dnsd.Habits
		first  handler
		want   string
		asked  [2]int // after three questions
	}{
		{"one that fails is avoided", dnsd.Habits{}, silent, "2", [2]int{1, 3}},
		{"a slow one loses", dnsd.Habits{}, after(400*time.Millisecond, one), "2", [2]int{1, 3}},
		{"a slow one wins in strict order", dnsd.Habits{StrictOrder: true}, after(400*time.Millisecond, one), "1", [2]int{3, 0}},
		{"one that refuses is still the first in strict order", dnsd.Habits{StrictOrder: true}, says(dns.RcodeRefused, nil, nil), "2", [2]int{3, 3}},
		{"all at once", dnsd.Habits{AllServers: true}, after(400*time.Millisecond, one), "2", [2]int{3, 3}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			first, second := newUpstream(t, row.first), newUpstream(t, after(50*time.Millisecond, two))
			s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: row.habits}, to(first, second))
			for i := range 3 {
				if got, want := short(ask(t, s.addrs[0], fmt.Sprintf("n%d.example.", i), dns.TypeA)), "NOERROR; A 198.51.100."+row.want; got != want {
					t.Errorf("question %d: %s, want %s", i, got, want)
				}
			}
			if got := [2]int{first.count(), second.count()}; got != row.asked {
				t.Errorf("servers were asked %v times, want %v", got, row.asked)
			}
		})
	}
}

// TestStrictOrderWithoutFirst: the first server's death costs its second once,
// not with every question.
func TestStrictOrderWithoutFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: dnsd.Habits{StrictOrder: true}},
		to(newUpstream(t, silent), newUpstream(t, says(0, []string{" 0 IN A 198.51.100.2"}, nil))))
	for i, most := range []time.Duration{1500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond} {
		start := time.Now()
		if got := short(ask(t, s.addrs[0], fmt.Sprintf("n%d.example.", i), dns.TypeA)); got != "NOERROR; A 198.51.100.2" || time.Since(start) > most {
			t.Errorf("question %d: %s after %v, want the second server's answer within %v", i, got, time.Since(start), most)
		}
	}
}

// TestSourcePorts: where questions leave from, many of them at once.
func TestSourcePorts(t *testing.T) {
	t.Parallel()
	port := func(addr string) uint16 { return netip.MustParseAddrPort(addr).Port() }
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fixed, system := port(free.LocalAddr().String()), uint16(0)
	free.Close()
	few := uint16(22000 + rand.IntN(8000)) // not those of another run at the same time
	for _, row := range []struct {
		name        string
		habits      dnsd.Habits
		first, last uint16
		distinct    bool
	}{
		{"random", dnsd.Habits{}, 1, 65535, true},
		{"one", dnsd.Habits{SourcePort: &fixed}, fixed, fixed, false},
		{"one that the system chooses", dnsd.Habits{SourcePort: &system}, 1, 65535, false},
		{"range", dnsd.Habits{FirstPort: 21000, LastPort: 21999}, 21000, 21999, true},
		{"few", dnsd.Habits{FirstPort: few, LastPort: few + 3}, few, few + 3, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			good := says(0, []string{" 0 IN A 198.51.100.1"}, nil)
			up := newUpstream(t, after(2*time.Millisecond, good))
			s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: row.habits}, to(up))
			var clients sync.WaitGroup
			for i := range 20 {
				clients.Go(func() {
					if got := short(ask(t, s.addrs[0], fmt.Sprintf("n%d.example.", i), dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
						t.Errorf("question %d: %s", i, got)
					}
				})
			}
			clients.Wait()
			ports := map[uint16]bool{}
			for _, q := range up.questions() {
				p := q.from.Port()
				if ports[p] = true; q.network == "udp" && (p < row.first || p > row.last) {
					t.Errorf("a question left from port %d, want %d to %d", p, row.first, row.last)
				}
			}
			if row.distinct != (len(ports) > 1) {
				t.Errorf("questions left from %d ports", len(ports))
			}
		})
	}
}

// TestSources: questions to a server leave from an address or by an interface,
// over UDP and over TCP, also where the others have one port.
func TestSources(t *testing.T) {
	system := uint16(0)
	for _, row := range []struct {
		name   string
		source dnsd.Source
		habits dnsd.Habits
		want   string
		from   string
	}{
		{"address", dnsd.Source{Addr: netip.MustParseAddr("127.0.0.9")}, dnsd.Habits{}, "NOERROR; A 198.51.100.1", "127.0.0.9"},
		{"address and ports", dnsd.Source{Addr: netip.MustParseAddr("127.0.0.9")}, dnsd.Habits{FirstPort: 31000, LastPort: 31999}, "NOERROR; A 198.51.100.1", "127.0.0.9"},
		{"address and one port", dnsd.Source{Addr: netip.MustParseAddr("127.0.0.9")}, dnsd.Habits{SourcePort: &system}, "NOERROR; A 198.51.100.1", "127.0.0.9"},
		{"interface", dnsd.Source{Interface: "lo"}, dnsd.Habits{}, "NOERROR; A 198.51.100.1", "127.0.0.1"},
		{"no such interface", dnsd.Source{Interface: "nothing0"}, dnsd.Habits{}, "SERVFAIL", ""},
		{"address of somebody else", dnsd.Source{Addr: netip.MustParseAddr("192.0.2.200")}, dnsd.Habits{}, "SERVFAIL", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := newUpstream(t, func(q asked, send func([]byte)) {
				m := replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)
				m.Truncated = q.network == "udp"
				send(pack(m))
			})
			row.habits.Sources = map[netip.AddrPort]dnsd.Source{up.addr: row.source}
			s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: row.habits}, to(up))
			if got := short(ask(t, s.addrs[0], "www.example.", dns.TypeA)); got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			for _, q := range up.questions() {
				if got := q.from.Addr().String(); got != row.from {
					t.Errorf("a question over %s came from %s, want %s", q.network, got, row.from)
				}
			}
			if n := up.count(); n != 2 && row.from != "" || n != 0 && row.from == "" {
				t.Errorf("%d questions", n)
			}
		})
	}
}

// TestSourcePortIsTaken: a port that cannot be had is told at the start.
func TestSourcePortIsTaken(t *testing.T) {
	taken, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint16(taken.LocalAddr().(*net.UDPAddr).Port)
	s, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Habits: dnsd.Habits{SourcePort: &port}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "source port") || !strings.Contains(err.Error(), "choose another one") {
		t.Errorf("got %v", err)
	}
}

// TestMessageSize: what upstreams are told, and what clients are sent.
func TestMessageSize(t *testing.T) {
	text := strings.Repeat(` "`+strings.Repeat("x", 100)+`"`, 14)
	for size, truncated := range map[int]bool{512: true, 0: true, 1400: true, 4096: false} {
		up := newUpstream(t, says(0, []string{" 60 IN TXT" + text}, nil))
		s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: dnsd.Habits{EDNSSize: size}}, to(up))
		m := new(dns.Msg)
		m.SetQuestion("www.example.", dns.TypeTXT)
		m.SetEdns0(4096, false)
		r := send(t, s.addrs[0], m)
		want := uint16(size)
		if size == 0 {
			want = 1232
		}
		if r.Truncated != truncated || r.IsEdns0().UDPSize() != want {
			t.Errorf("%d: the reply is truncated: %t, and offers %d octets", size, r.Truncated, r.IsEdns0().UDPSize())
		}
		if got := up.questions()[0].msg.IsEdns0().UDPSize(); got != want {
			t.Errorf("%d: the upstream was told %d octets", size, got)
		}
	}
	if _, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Habits: dnsd.Habits{EDNSSize: 100}}); err == nil {
		t.Error("messages of 100 octets are accepted")
	}
}

// TestBounds: how many questions wait for one group, and how many connections
// are open.
func TestBounds(t *testing.T) {
	release := make(chan struct{})
	up := newUpstream(t, func(q asked, send func([]byte)) {
		<-release
		send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: dnsd.Habits{MaxWaiting: 2, MaxConns: 2}}, to(up))
	var held sync.WaitGroup
	for i := range 2 {
		held.Go(func() { ask(t, s.addrs[0], fmt.Sprintf("n%d.example.", i), dns.TypeA) })
	}
	until(t, "two questions wait", func() bool { return s.Waiting() == 2 })
	if got := short(ask(t, s.addrs[0], "one-more.example.", dns.TypeA)); got != "SERVFAIL" {
		t.Errorf("a third question: %s", got)
	}
	close(release)
	held.Wait()

	for i := range 3 {
		c, err := net.Dial("tcp", s.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn := &dns.Conn{Conn: c}
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		m := new(dns.Msg)
		m.SetQuestion("n1.example.", dns.TypeA)
		if err = conn.WriteMsg(m); err == nil {
			_, err = conn.ReadMsg()
		}
		if (err == nil) != (i < 2) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// TestRetry: one silent server is asked again as often as it says, and no
// longer.
func TestRetry(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, silent)
	s := serve(t, dnsd.Config{Directory: newWorld(t), Habits: dnsd.Habits{Retry: 100 * time.Millisecond, Patience: 500 * time.Millisecond}}, to(up))
	start := time.Now()
	if got := short(ask(t, s.addrs[0], "www.example.", dns.TypeA)); got != "SERVFAIL" {
		t.Errorf("got %s", got)
	}
	if took := time.Since(start); took < 400*time.Millisecond || took > 1500*time.Millisecond || up.count() != 3 {
		t.Errorf("it took %v, and the server was asked %d times; want 500 ms and 3 times", took, up.count())
	}
}

// TestUpstreamsGone: with all upstreams gone, what they said last is given at
// once, but for the first time, with EDE 3; what they said is missing is not;
// and within 2 s of their return they are asked again.
func TestUpstreamsGone(t *testing.T) {
	t.Parallel()
	var c clock
	var gone atomic.Bool
	var version atomic.Int32
	h := func(q asked, send func([]byte)) {
		switch {
		case gone.Load():
		case strings.HasPrefix(strings.ToLower(q.msg.Question[0].Name), "missing"):
			send(pack(replyTo(q, dns.RcodeNameError, nil, []string{soa})))
		default:
			send(pack(replyTo(q, 0, []string{fmt.Sprintf(" 60 IN A 198.51.100.%d", version.Load())}, nil)))
		}
	}
	one := newUpstream(t, h)
	s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) { s.SetClock(c.now) }, to(one, newUpstream(t, h)))
	get := func(name string) (*dns.Msg, time.Duration) {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		start := time.Now()
		return send(t, s.addrs[0], m), time.Since(start)
	}
	for i := range 50 {
		get(fmt.Sprintf("n%d.example.", i))
	}
	get("missing.example.")
	gone.Store(true)
	c.advance(61 * time.Second)
	isStale := func(m *dns.Msg) bool {
		return short(m) == "NOERROR; A 198.51.100.0" && edeOf(m) == int(dns.ExtendedErrorCodeStaleAnswer)
	}
	if m, took := get("n0.example."); !isStale(m) || took > 4*time.Second {
		t.Errorf("the first question: %v after %v, want the stale answer within 1.8 s", m, took)
	}
	until(t, "both are known to be gone", func() bool { m, took := get("n1.example."); return isStale(m) && took < 200*time.Millisecond })
	before := len(one.questions())
	for i := range 50 {
		if m, took := get(fmt.Sprintf("n%d.example.", i)); !isStale(m) {
			t.Errorf("question %d: %v after %v, want the stale answer", i, m, took)
		}
	}
	for _, q := range one.questions()[before:] {
		if name := strings.ToLower(q.msg.Question[0].Name); name != "n0.example." && name != "n1.example." {
			t.Errorf("%s was waited for, though upstreams are known to be gone", name)
		}
	}
	if m, _ := get("missing.example."); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a name that was missing: %v, want SERVFAIL", m)
	}
	version.Store(1)
	gone.Store(false)
	back := time.Now()
	until(t, "upstreams are asked again", func() bool { m, _ := get("n2.example."); return short(m) == "NOERROR; A 198.51.100.1" })
	if took := time.Since(back); took > 2*time.Second {
		t.Errorf("upstreams were asked again after %v, want at most 2 s", took)
	}
}

// TestStaleFirst: an answer that has expired is given at once, and the next
// one is fresh.
func TestStaleFirst(t *testing.T) {
	var c clock
	var version atomic.Int32
	up := newUpstream(t, func(q asked, send func([]byte)) {
		send(pack(replyTo(q, 0, []string{fmt.Sprintf(" 60 IN A 198.51.100.%d", version.Load())}, nil)))
	})
	s := serveWith(t, dnsd.Config{Directory: newWorld(t), Habits: dnsd.Habits{StaleFirst: true, StaleFor: 10 * time.Minute}},
		func(s *dnsd.Server) { s.SetClock(c.now) }, to(up))
	get := func() string { return short(ask(t, s.addrs[0], "www.example.", dns.TypeA)) }
	get()
	version.Store(1)
	c.advance(5 * time.Minute)
	if got := get(); got != "NOERROR; A 198.51.100.0" {
		t.Errorf("five minutes past its end: %s, want what was kept", got)
	}
	until(t, "it is renewed", func() bool { return get() == "NOERROR; A 198.51.100.1" })
	version.Store(2)
	c.advance(12 * time.Minute)
	if got := get(); got != "NOERROR; A 198.51.100.2" {
		t.Errorf("twelve minutes past its end: %s, want a fresh one", got)
	}
}
