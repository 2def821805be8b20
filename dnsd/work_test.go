package dnsd_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// TestEndlessAliases: a chain of CNAMEs that somebody makes as long as he likes
// costs at most 10 steps and 12 messages to upstreams, and the client is told.
func TestEndlessAliases(t *testing.T) {
	step := func(i int) string { return fmt.Sprintf("s%d.evil.example.", i) }
	number := func(q asked) (i int) {
		fmt.Sscanf(strings.ToLower(q.msg.Question[0].Name), "s%d.", &i)
		return i
	}
	// A chain that goes through our own zone and out again with each step.
	c := shop("1234")
	for i := range 40 {
		c.Records = append(c.Records, registry.Record{Name: fmt.Sprintf("r%d", i), Type: "CNAME", Data: step(i + 1)})
	}
	back := func(q asked) []string {
		return []string{fmt.Sprintf(" 0 IN CNAME r%d.1234.%s.", number(q), zone)}
	}
	truncated := func(m *dns.Msg, q asked) *dns.Msg {
		if q.network == "udp" {
			m.Truncated, m.Answer = true, nil
		}
		return m
	}
	for _, row := range []struct {
		name  string
		reply func(q asked) *dns.Msg
		want  int // rcode
	}{
		{"of 10 in one reply", func(q asked) *dns.Msg { return replyTo(q, 0, append(chain(10), step(10)+" 60 IN A 198.51.100.1"), nil) }, dns.RcodeSuccess},
		{"of 11 in one reply", func(q asked) *dns.Msg { return replyTo(q, 0, append(chain(11), step(11)+" 60 IN A 198.51.100.1"), nil) }, dns.RcodeServerFailure},
		{"of 300 in one reply", func(q asked) *dns.Msg { return truncated(replyTo(q, 0, chain(300), nil), q) }, dns.RcodeServerFailure},
		{"in a circle", func(q asked) *dns.Msg {
			return replyTo(q, 0, []string{" 60 IN CNAME b.example.", "b.example. 60 IN CNAME " + q.msg.Question[0].Name}, nil)
		}, dns.RcodeServerFailure},
		{"through our zone", func(q asked) *dns.Msg { return replyTo(q, 0, back(q), nil) }, dns.RcodeServerFailure},
		{"through our zone, by TCP", func(q asked) *dns.Msg { return truncated(replyTo(q, 0, back(q), nil), q) }, dns.RcodeServerFailure},
		{"through our zone, without EDNS, by TCP", func(q asked) *dns.Msg {
			if q.network == "udp" && q.msg.IsEdns0() != nil {
				m := replyTo(q, dns.RcodeFormatError, nil, nil)
				m.Extra = nil
				return m
			}
			return truncated(replyTo(q, 0, back(q), nil), q)
		}, dns.RcodeServerFailure},
		{"through our zone, once", func(q asked) *dns.Msg {
			if number(q) > 0 {
				return replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)
			}
			return replyTo(q, 0, back(q), nil)
		}, dns.RcodeSuccess},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(row.name+" asked by "+network, func(t *testing.T) {
				up := newUpstream(t, func(q asked, send func([]byte)) { send(pack(row.reply(q))) })
				s := serve(t, dnsd.Config{Directory: newWorld(t, c)}, to(up))
				m := new(dns.Msg).SetQuestion(step(0), dns.TypeA)
				m.SetEdns0(1232, false)
				r, _, err := (&dns.Client{Net: network, Timeout: 8 * time.Second}).Exchange(m, s.addrs[0])
				if err != nil {
					t.Fatal(err)
				}
				if r.Rcode != row.want || (edeOf(r) >= 0) != (row.want != 0) || len(r.Answer) > 12 {
					t.Errorf("got %v, want %s, and why", r, dns.RcodeToString[row.want])
				}
				if n := up.count(); n > 12 {
					t.Errorf("upstream got %d messages for one question, want at most 12", n)
				}
			})
		}
	}
}

// chain returns the CNAMEs of so many steps.
func chain(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("s%d.evil.example. 60 IN CNAME s%d.evil.example.", i, i+1))
	}
	return out
}

// TestManyNameServers: name servers that a reply names are not asked, however
// many there are: one question stays one question.
func TestManyNameServers(t *testing.T) {
	var servers, glue []string
	for i := range 1000 {
		servers = append(servers, fmt.Sprintf("evil.example. 60 IN NS ns%d.victim.example.", i))
		glue = append(glue, fmt.Sprintf("ns%d.victim.example. 60 IN A 192.0.2.1", i))
	}
	for _, row := range []struct {
		name       string
		answer, ns []string
		extra      []string
		qtype      uint16
		want       int // records in the answer
	}{
		{"as a referral", nil, servers, nil, dns.TypeA, 0},
		{"as a referral with glue", nil, servers, glue[:500], dns.TypeA, 0},
		{"as the answer", servers, nil, nil, dns.TypeNS, 1000},
		{"beside the answer", []string{" 60 IN A 198.51.100.1"}, servers, nil, dns.TypeA, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := newUpstream(t, func(q asked, send func([]byte)) {
				m := replyTo(q, 0, row.answer, row.ns, row.extra...)
				if q.network == "udp" {
					m.Truncated, m.Answer, m.Ns, m.Extra = true, nil, nil, m.Extra[len(m.Extra)-1:]
				}
				send(pack(m))
			})
			s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
			c := &dns.Client{Net: "tcp"}
			r, _, err := c.Exchange(new(dns.Msg).SetQuestion("evil.example.", row.qtype), s.addrs[0])
			if err != nil || r.Rcode != 0 || len(r.Answer) != row.want || len(r.Ns)+len(r.Extra) > 0 {
				t.Errorf("got %v, %v; want %d records and no name servers beside them", r, err, row.want)
			}
			if n := up.count(); n != 2 {
				t.Errorf("upstream got %d messages, want one by UDP and one by TCP", n)
			}
		})
	}
}

// TestGhostName: a name that its owner has taken away does not live on because
// it is asked for all the time: what is renewed before its end gets what the
// upstream says now, and without that no answer outlives its TTL but as stale.
func TestGhostName(t *testing.T) {
	const lives, gone, quiet, shorter = 0, 1, 2, 3
	for _, row := range []struct {
		name string
		then int32
		want string // after the first TTL has ended
	}{
		{"gone", gone, "NXDOMAIN"},
		{"upstream fails", quiet, "stale"},
		{"TTL is 2 now", shorter, "NOERROR; A 198.51.100.2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var c clock
			var mode atomic.Int32
			up := newUpstream(t, func(q asked, send func([]byte)) {
				switch mode.Load() {
				case lives:
					send(pack(replyTo(q, 0, []string{" 20 IN A 198.51.100.1"}, nil)))
				case gone:
					send(pack(replyTo(q, dns.RcodeNameError, nil, []string{soa})))
				case quiet:
					send(pack(replyTo(q, dns.RcodeServerFailure, nil, nil)))
				case shorter:
					send(pack(replyTo(q, 0, []string{" 2 IN A 198.51.100.2"}, nil)))
				}
			})
			s := serveWith(t, dnsd.Config{Directory: newWorld(t)}, func(s *dnsd.Server) { s.SetClock(c.now) }, to(up))
			m := new(dns.Msg).SetQuestion("www.ghost.example.", dns.TypeA)
			m.SetEdns0(1232, false)
			first := send(t, s.addrs[0], m)
			mode.Store(row.then)
			for second := range 20 {
				r := send(t, s.addrs[0], m)
				if len(r.Answer) == 1 && r.Answer[0].Header().Ttl > first.Answer[0].Header().Ttl-uint32(second) {
					t.Errorf("after %d s: TTL %d, which ends later than the first", second, r.Answer[0].Header().Ttl)
				}
				c.advance(time.Second)
			}
			r := send(t, s.addrs[0], m)
			got := short(r)
			if edeOf(r) == int(dns.ExtendedErrorCodeStaleAnswer) {
				got = "stale"
			}
			if got != row.want {
				t.Errorf("after its TTL: %s, want %s", got, row.want)
			}
		})
	}
}

// TestParentIsMissing: that a name does not exist says nothing about one below
// it that is forwarded elsewhere, in whichever order they are asked for.
func TestParentIsMissing(t *testing.T) {
	parent := newUpstream(t, says(dns.RcodeNameError, nil, []string{"example. 60 IN SOA ns.example. host.example. 1 2 3 4 30"}))
	child := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	c := shop("1234")
	c.Forward = []registry.Forward{{Zone: "child.parent.example", Servers: []netip.AddrPort{child.addr}}}
	for _, names := range [][]string{
		{"parent.example.", "example.", "child.parent.example.", "www.child.parent.example."},
		{"www.child.parent.example.", "child.parent.example.", "example.", "parent.example."},
	} {
		r := to(parent)
		r.Clone = "1234"
		s := serve(t, dnsd.Config{Directory: newWorld(t, c)}, r)
		for range 2 {
			for _, name := range names {
				want := "NXDOMAIN"
				if strings.Contains(name, "child") {
					want = "NOERROR; A 198.51.100.1"
				}
				if got := short(ask(t, s.addrs[0], name, dns.TypeA)); got != want {
					t.Errorf("%s: got %s, want %s", name, got, want)
				}
			}
		}
	}
}
