package dnsd_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// A clock is a time that only a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// TestCacheTTL: how long each kind of answer is kept, and what is seen of it.
func TestCacheTTL(t *testing.T) {
	for _, row := range []struct {
		name string
		up   handler
		ttl  uint32 // of the first record that a client sees at first
		kept time.Duration
	}{
		{"positive", says(0, []string{" 300 IN A 198.51.100.1"}, nil), 300, 300 * time.Second},
		{"shortest of several", says(0, []string{" 300 IN CNAME a.example.", "a.example. 20 IN A 198.51.100.1"}, nil), 300, 20 * time.Second},
		{"capped", says(0, []string{" 86400 IN A 198.51.100.1"}, nil), 3600, time.Hour},
		{"highest bit", says(0, []string{" 2147483648 IN A 198.51.100.1"}, nil), 0, 0},
		{"zero", says(0, []string{" 0 IN A 198.51.100.1"}, nil), 0, 0},
		{"NXDOMAIN by the SOA's minimum", says(dns.RcodeNameError, nil, []string{soa}), 30, 30 * time.Second},
		{"NXDOMAIN by the SOA's TTL", says(dns.RcodeNameError, nil, []string{"example. 7 IN SOA ns.example. host.example. 1 2 3 4 30"}), 7, 7 * time.Second},
		{"NXDOMAIN capped", says(dns.RcodeNameError, nil, []string{"example. 86400 IN SOA ns.example. host.example. 1 2 3 4 86400"}), 60, time.Minute},
		{"NODATA", says(0, nil, []string{soa}), 30, 30 * time.Second},
		{"NODATA behind an alias", says(0, []string{" 20 IN CNAME a.example."}, []string{soa}), 20, 20 * time.Second},
		{"NXDOMAIN without SOA", says(dns.RcodeNameError, nil, nil), 0, 0},
		{"NODATA without SOA", says(0, nil, nil), 0, 0},
		{"NODATA behind an alias without SOA", says(0, []string{" 20 IN CNAME a.example."}, nil), 20, 0},
		{"SOA of somebody else", says(dns.RcodeNameError, nil, []string{"other. 600 IN SOA ns.other. h.other. 1 2 3 4 30"}), 0, 0},
		{"failure", says(dns.RcodeServerFailure, nil, nil), 0, time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			var c clock
			up := newUpstream(t, row.up)
			s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) { s.SetClock(c.now) }, to(up))
			see := func() (ttl uint32) {
				t.Helper()
				m := ask(t, s.addrs[0], "www.example.", dns.TypeA)
				if all := append(m.Answer, m.Ns...); len(all) > 0 {
					ttl = all[0].Header().Ttl
				}
				return ttl
			}
			if got := see(); got != row.ttl {
				t.Errorf("TTL at first = %d, want %d", got, row.ttl)
			}
			asked := up.count()
			if row.kept >= time.Second {
				c.advance(row.kept - time.Second)
				if got, want := see(), row.ttl-min(row.ttl, uint32(row.kept/time.Second)-1); got != want {
					t.Errorf("TTL one second before the end = %d, want %d", got, want)
				}
				if up.count() != asked {
					t.Error("upstream was asked again before the end")
				}
				c.advance(time.Second)
			}
			if see(); up.count() == asked {
				t.Error("upstream was not asked again at the end")
			}
		})
	}
}

// TestCacheKey: what makes two questions different, and what does not.
func TestCacheKey(t *testing.T) {
	up := newUpstream(t, func(q asked, send func([]byte)) {
		m := replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)
		do, cd := "-", "-"
		if o := q.msg.IsEdns0(); o != nil && o.Do() {
			do = "DO"
		}
		if q.msg.CheckingDisabled {
			cd = "CD"
		}
		m.Answer = records(q, []string{fmt.Sprintf(" 60 IN TXT %s %s", do, cd)})
		send(pack(m))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up), to(up))
	type variant struct {
		listener   int
		do, cd, ad bool
		class      uint16
		name       string
	}
	var variants []variant
	for _, listener := range []int{0, 1} {
		for i := range 8 {
			for _, name := range []string{"www.example.", "WWW.Example."} {
				variants = append(variants, variant{listener, i&1 != 0, i&2 != 0, i&4 != 0, dns.ClassINET, name})
				variants = append(variants, variant{listener, i&1 != 0, i&2 != 0, i&4 != 0, dns.ClassCHAOS, name})
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 6 {
		random.Shuffle(len(variants), func(i, j int) { variants[i], variants[j] = variants[j], variants[i] })
		for _, v := range variants {
			m := new(dns.Msg)
			m.SetQuestion(v.name, dns.TypeTXT)
			m.SetEdns0(1232, v.do)
			m.CheckingDisabled, m.AuthenticatedData = v.cd, v.ad
			m.Question[0].Qclass = v.class
			r := send(t, s.addrs[v.listener], m)
			if v.class != dns.ClassINET {
				if r.Rcode != dns.RcodeRefused || len(r.Answer) > 0 || r.Question[0] != m.Question[0] {
					t.Errorf("%+v: got %v, want a refusal", v, r)
				}
				continue
			}
			want := []string{"-", "-"}
			if v.do {
				want[0] = "DO"
			}
			if v.cd {
				want[1] = "CD"
			}
			if len(r.Answer) != 1 || !slices.Equal(r.Answer[0].(*dns.TXT).Txt, want) || r.CheckingDisabled != v.cd || r.IsEdns0().Do() != v.do || r.AuthenticatedData {
				t.Errorf("%+v: got %v, want %v", v, r, want)
			}
			if r.Question[0].Name != v.name || r.Answer[0].Header().Name != v.name {
				t.Errorf("%+v: names come back as %s and %s", v, r.Question[0].Name, r.Answer[0].Header().Name)
			}
		}
	}
	if up.count() != 8 {
		t.Errorf("upstream was asked %d times, want once per listener, DO and CD: 8", up.count())
	}
}

// TestCacheBounds: the cache stays within its entries and its octets.
func TestCacheBounds(t *testing.T) {
	for _, row := range []struct {
		name        string
		size        int
		answers     int
		wantEntries int
	}{
		{"by entries", 10, 25_000, 20_000},
		{"by octets", 60_000, 1_000, 560},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := dnsd.NewFilledCache(row.answers, row.size)
			entries, bytes := c.Size()
			if entries > 20_000 || bytes > 32<<20 || entries < row.wantEntries*9/10 || entries > row.wantEntries {
				t.Errorf("%d entries of %d octets, want about %d within bounds", entries, bytes, row.wantEntries)
			}
			if !c.Has(row.answers-1) || c.Has(0) {
				t.Error("not the oldest were dropped")
			}
			c.Refill(row.answers-1, 10)
			if got, after := c.Size(); got != entries || after > bytes {
				t.Errorf("after one was replaced by a small one: %d entries of %d octets, were %d of %d", got, after, entries, bytes)
			}
		})
	}
}

// TestStale: while upstreams are silent, what they said last is served for an
// hour; what they said is missing is not.
func TestStale(t *testing.T) {
	var c clock
	var mode atomic.Int32 // 0 answers, 1 is silent, 2 fails
	up := newUpstream(t, func(q asked, send func([]byte)) {
		switch mode.Load() {
		case 0:
			if strings.EqualFold(q.msg.Question[0].Name, "missing.example.") {
				send(pack(replyTo(q, dns.RcodeNameError, nil, []string{soa})))
			} else {
				send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
			}
		case 2:
			send(pack(replyTo(q, dns.RcodeServerFailure, nil, nil)))
		}
	})
	s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) {
		s.SetClock(c.now)
		s.SetTiming(time.Second, 0, time.Second, 100*time.Millisecond, 0)
	}, to(up))
	get := func(name string) (m *dns.Msg, took time.Duration) {
		t.Helper()
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		q.SetEdns0(1232, false)
		start := time.Now()
		return send(t, s.addrs[0], q), time.Since(start)
	}
	isStale := func(m *dns.Msg) bool {
		return short(m) == "NOERROR; A 198.51.100.1" && m.Answer[0].Header().Ttl == 30 && edeOf(m) == int(dns.ExtendedErrorCodeStaleAnswer)
	}
	get("www.example.")
	get("missing.example.")
	c.advance(61 * time.Second)
	mode.Store(1)
	if m, took := get("www.example."); !isStale(m) || took < 100*time.Millisecond || took > 900*time.Millisecond {
		t.Errorf("silent upstream: after %v %v, want the stale answer after 100 ms", took, m)
	}
	time.Sleep(1100 * time.Millisecond) // the question goes on by itself, and fails
	asked := up.count()
	if m, _ := get("www.example."); !isStale(m) || up.count() != asked {
		t.Errorf("right after a failure: %v, want the stale answer at once", m)
	}
	if m, _ := get("missing.example."); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a name that was missing: %v, want SERVFAIL", m)
	}
	mode.Store(2)
	c.advance(6 * time.Second)
	until(t, "an upstream that fails is asked again", func() bool {
		if m, _ := get("www.example."); !isStale(m) {
			t.Errorf("failing upstream: %v, want the stale answer", m)
		}
		return up.count() > asked
	})
	c.advance(6 * time.Second)
	mode.Store(0)
	until(t, "upstream is back", func() bool { m, _ := get("www.example."); return !isStale(m) && m.Answer[0].Header().Ttl == 60 })
	mode.Store(2)
	c.advance(62*time.Minute + time.Second)
	if m, _ := get("www.example."); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("an hour past its end: %v, want SERVFAIL", m)
	}
}
