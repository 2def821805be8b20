package dnsd_test

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// nobodyIsExempt lets tests limit what loopback asks.
var nobodyIsExempt = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}

// dialFrom opens a UDP socket at an address of loopback.
func dialFrom(t *testing.T, source, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}}
	c, err := d.DialContext(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// reflected are the replies that reached a victim.
type reflected struct {
	mu               sync.Mutex
	whole, truncated int // guarded by mu
	octets           int // guarded by mu
}

// read counts replies until the socket closes.
func (r *reflected) read(t *testing.T, c net.Conn) {
	buf := make([]byte, 65535)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Errorf("reply cannot be read: %v", err)
			return
		}
		limit := 512
		if m.IsEdns0() != nil {
			limit = 1232
		}
		if n > limit || m.Question[0].Qtype == dns.TypeANY && len(m.Answer) > 1 {
			t.Errorf("reply of %d octets and %d records to %s, at most %d", n, len(m.Answer), dns.Type(m.Question[0].Qtype), limit)
		}
		r.mu.Lock()
		r.octets += n
		if m.Truncated && len(m.Answer) == 0 {
			r.truncated++
		} else {
			r.whole++
		}
		r.mu.Unlock()
	}
}

// TestReflection: 10,000 questions with a forged source, the kind that have
// large answers, bring the victim a bounded number of small replies. Whoever
// really is at that address comes by TCP, and nobody else notices.
func TestReflection(t *testing.T) {
	c := shop("1234")
	c.Records = append(c.Records, registry.Record{Name: "big", Type: "TXT", Data: strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 19)})
	reg := prometheus.NewRegistry()
	clock := time.Now()
	var log logBuffer
	s := serveWith(t, dnsd.Config{
		Directory: newWorld(t, c), Metrics: reg, Log: log.logger(),
		RateLimit: dnsd.RateLimit{PerSecond: 100, Slip: 4, Exempt: nobodyIsExempt},
	}, func(s *dnsd.Server) { s.SetClock(func() time.Time { return clock }) }, nil)
	questions := []dns.Question{
		{Name: "1234." + zone + ".", Qtype: dns.TypeANY},
		{Name: zone + ".", Qtype: dns.TypeDNSKEY},
		{Name: "big.1234." + zone + ".", Qtype: dns.TypeTXT},
	}
	var victim reflected
	var socks []net.Conn
	for i := range 4 {
		sock := dialFrom(t, fmt.Sprintf("127.66.0.%d", i+1), s.addrs[0])
		socks = append(socks, sock)
		go victim.read(t, sock)
	}
	const n = 10_000
	judged := func() float64 {
		got := gather(t, reg)
		victim.mu.Lock()
		defer victim.mu.Unlock()
		return got["clonegate_dns_rate_limited_total dropped"] + float64(victim.truncated+victim.whole)
	}
	var sent int
	for i := range n {
		m := new(dns.Msg)
		m.SetQuestion(questions[i%3].Name, questions[i%3].Qtype)
		if i%2 == 0 {
			m.SetEdns0(4096, true)
		}
		p := pack(m)
		sent += len(p)
		socks[i%4].Write(p)
		if i%100 == 99 { // loopback would lose them otherwise
			eventually(t, 5*time.Second, "all judged", func() bool { return judged() == float64(i+1) })
		}
	}
	victim.mu.Lock()
	t.Logf("%d octets of questions, %d of replies", sent, victim.octets)
	// Some of the first 500 were too large and truncated for that.
	if all := 500 + (n-500)/4; victim.whole > 500 || victim.whole+victim.truncated != all || victim.octets > 2*sent {
		t.Errorf("victim got %d whole and %d truncated replies of %d octets; want at most 500 whole, and %d together", victim.whole, victim.truncated, victim.octets, all)
	}
	victim.mu.Unlock()
	if dropped := gather(t, reg)["clonegate_dns_rate_limited_total dropped"]; dropped != (n-500)/4*3 {
		t.Errorf("%v dropped", dropped)
	}
	if !strings.Contains(log.String(), "127.66.0.0/24") || strings.Count(log.String(), "withheld") != 1 {
		t.Error("the log does not tell the network, once")
	}
	// Others, and TCP, are not limited.
	www := "www-1234." + zone + "."
	if got := short(ask(t, s.addrs[0], www, dns.TypeA)); got != gatewayA {
		t.Errorf("another network: %s", got)
	}
	client := &dns.Client{Net: "tcp", Dialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 66, 0, 1)}}}
	if m, _, err := client.Exchange(new(dns.Msg).SetQuestion(www, dns.TypeA), s.addrs[0]); err != nil || short(m) != gatewayA {
		t.Errorf("the same network by TCP: %v, %v", m, err)
	}
}

// TestRateLimit: who is limited when.
func TestRateLimit(t *testing.T) {
	start := time.Now()
	count := func(l dnsd.Limiter, client string, n int, now time.Time) map[string]int {
		got := map[string]int{}
		for range n {
			got[l.Judge(netip.MustParseAddr(client), now)]++
		}
		return got
	}
	public := dnsd.RateLimit{PerSecond: 1000, Slip: 2}
	for _, row := range []struct {
		name    string
		limit   dnsd.RateLimit
		clients []string
		n       int // questions of each client
		seconds int // over how long
		want    map[string]int
	}{
		{"an office of 1,000 behind one address, 5 names each at once", public, []string{"198.51.100.7"}, 5000, 0, map[string]int{"whole": 5000}},
		{"and then for as long as it likes", public, []string{"198.51.100.7"}, 30_000, 30, map[string]int{"whole": 30_000}},
		{"a flood", public, []string{"198.51.100.7"}, 9000, 0, map[string]int{"whole": 5000, "truncated": 2000, "nothing": 2000}},
		{"one network, many addresses", public, []string{"198.51.100.7", "198.51.100.200"}, 5000, 0, map[string]int{"whole": 5000, "truncated": 2500, "nothing": 2500}},
		{"two networks", public, []string{"198.51.100.7", "198.51.101.7"}, 5000, 0, map[string]int{"whole": 10_000}},
		{"one IPv6 site", public, []string{"2001:db8:1:100::1", "2001:db8:1:1ff::1"}, 5000, 0, map[string]int{"whole": 5000, "truncated": 2500, "nothing": 2500}},
		{"two IPv6 sites", public, []string{"2001:db8:1:100::1", "2001:db8:1:200::1"}, 5000, 0, map[string]int{"whole": 10_000}},
		{"IPv4 in IPv6", public, []string{"::ffff:198.51.100.7", "198.51.100.8"}, 5000, 0, map[string]int{"whole": 5000, "truncated": 2500, "nothing": 2500}},
		{"private and loopback", public, []string{"10.0.0.53", "127.0.0.1", "fd00::1", "::1"}, 50_000, 0, map[string]int{"whole": 200_000}},
		{"no slip", dnsd.RateLimit{PerSecond: 1}, []string{"198.51.100.7"}, 100, 0, map[string]int{"whole": 5, "nothing": 95}},
		{"all slip", dnsd.RateLimit{PerSecond: 1, Slip: 1}, []string{"198.51.100.7"}, 100, 0, map[string]int{"whole": 5, "truncated": 95}},
		{"exempt", dnsd.RateLimit{PerSecond: 1, Exempt: nobodyIsExempt}, []string{"203.0.113.1"}, 100, 0, map[string]int{"whole": 100}},
		{"no longer exempt", dnsd.RateLimit{PerSecond: 1, Exempt: nobodyIsExempt}, []string{"127.0.0.1"}, 100, 0, map[string]int{"whole": 5, "nothing": 95}},
		{"no limit", dnsd.RateLimit{}, []string{"198.51.100.7"}, 100_000, 0, map[string]int{"whole": 100_000}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, got := dnsd.NewLimiter(t, row.limit), map[string]int{}
			steps := max(1, 10*row.seconds)
			for _, client := range row.clients {
				for i := range steps {
					for k, n := range count(l, client, row.n/steps, start.Add(time.Duration(i)*time.Second/10)) {
						got[k] += n
					}
				}
			}
			if !maps.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
	l := dnsd.NewLimiter(t, public)
	count(l, "198.51.100.7", 9000, start)
	for _, later := range []struct {
		after time.Duration
		want  int // whole answers out of 9000
	}{{time.Second, 1000}, {3 * time.Second, 2000}, {time.Hour, 5000}, {14 * 24 * time.Hour, 5000}} {
		if got := count(l, "198.51.100.7", 9000, start.Add(later.after))["whole"]; got != later.want {
			t.Errorf("%v after a flood: %d whole answers, want %d", later.after, got, later.want)
		}
	}
}

// TestRateLimitTable: forging every address of the world costs no memory, and
// frees nobody who is limited already.
func TestRateLimitTable(t *testing.T) {
	l := dnsd.NewLimiter(t, dnsd.RateLimit{PerSecond: 100, Slip: 2})
	victim, now := netip.MustParseAddr("198.51.100.7"), time.Now()
	for range 1000 {
		l.Judge(victim, now)
	}
	i := uint32(0)
	if n := testing.AllocsPerRun(300_000, func() {
		i++
		l.Judge(netip.AddrFrom4([4]byte{byte(11 + i>>16), byte(i >> 8), byte(i), 1}), now)
	}); n != 0 {
		t.Errorf("%v allocations per answer", n)
	}
	if got := l.Judge(victim, now); got == "whole" {
		t.Error("the flood has made us forget whom we limit")
	}
	var wg sync.WaitGroup
	var whole [4]int
	for i := range whole {
		wg.Go(func() {
			for range 1000 {
				if l.Judge(netip.MustParseAddr("192.0.2.1"), now) == "whole" {
					whole[i]++
				}
			}
		})
	}
	wg.Wait()
	if sum := whole[0] + whole[1] + whole[2] + whole[3]; sum != 500 {
		t.Errorf("%d whole answers to 4 sockets together, want 500", sum)
	}
	for _, wrong := range []dnsd.RateLimit{{PerSecond: -1}, {PerSecond: 1_000_001}, {PerSecond: 1, Slip: -1}, {PerSecond: 1, Slip: 11}} {
		if _, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: addrs("192.0.2.1"), RateLimit: wrong}); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

// TestUnlistedSource: a resolver gives nothing but a refusal, no longer than
// the question, to those who may not ask, whatever they ask for.
func TestUnlistedSource(t *testing.T) {
	c := shop("1234")
	s := serve(t, dnsd.Config{Directory: newWorld(t, c)}, &dnsd.Resolver{Clone: "1234", Clients: nobodyIsExempt})
	for _, qtype := range []uint16{dns.TypeA, dns.TypeANY, dns.TypeTXT, dns.TypeDNSKEY} {
		for _, name := range []string{"db.", "www-1234." + zone + ".", "www.example."} {
			p := pack(new(dns.Msg).SetQuestion(name, qtype))
			reply := raw(t, s.addrs[0], p, 2*time.Second)
			m := new(dns.Msg)
			if err := m.Unpack(reply); err != nil || m.Rcode != dns.RcodeRefused || len(reply) > len(p) {
				t.Errorf("%s %s: %v, %v, %d octets for %d", name, dns.Type(qtype), m, err, len(reply), len(p))
			}
		}
	}
}
