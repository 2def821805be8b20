package dnsd_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestZoneCheck: what is wrong between clients and the zone is named.
func TestZoneCheck(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil, &dnsd.Resolver{Clone: "1234"})
	other := serve(t, dnsd.Config{Directory: func() *world { w := newWorld(t); w.revision.Store(99); return w }()}, nil)
	own := netip.MustParseAddrPort(s.addrs[0])
	parent := []string{"localhost. 60 IN SOA ns.corp. host.corp. 1 2 3 4 5"}
	// pass has a resolver say what a server says, unless change says otherwise.
	pass := func(server string, change func(q dns.Question, m *dns.Msg)) handler {
		return func(q asked, send func([]byte)) {
			m := relay(server, q.msg)
			if m == nil {
				return
			}
			m.Authoritative, m.RecursionAvailable = false, true
			if change != nil {
				change(q.msg.Question[0], m)
			}
			send(pack(m))
		}
	}
	refuse := func(rcode int, when func(dns.Question) bool) func(dns.Question, *dns.Msg) {
		return func(q dns.Question, m *dns.Msg) {
			if when(q) {
				m.Rcode, m.Answer, m.Ns = rcode, nil, nil
			}
		}
	}
	always := func(dns.Question) bool { return true }
	underscored := func(q dns.Question) bool { return strings.Contains(q.Name, "_") }
	for _, row := range []struct {
		name     string
		resolver handler
		zone     string
		own      netip.AddrPort
		found    bool
		want     []string // in the detail and the fix
	}{
		{"forwarded", pass(s.addrs[0], nil), zone, own, true, []string{"finds " + zone + " at this gateway"}},
		{"a stub without authority", pass(s.addrs[0], func(q dns.Question, m *dns.Msg) { m.Ns = nil }), zone, own, true, []string{"at this gateway"}},
		{"not delegated", says(dns.RcodeNameError, nil, parent), alias, own, false, []string{"not delegated", "localhost. knows nothing", "test-envs IN NS ns.test-envs", s.addrs[0]}},
		{"denied by the resolver itself", says(dns.RcodeNameError, nil, nil), alias, own, false, []string{"in its own name", "delegate"}},
		{"delegated elsewhere", says(dns.RcodeNameError, nil, []string{alias + ". 60 IN SOA dns.hoster.example. h. 1 2 3 4 5"}), alias, own, false, []string{"delegated elsewhere", "dns.hoster.example."}},
		{"another gateway", pass(other.addrs[0], nil), zone, own, false, []string{"answers differ", "serial number 99", "another gateway"}},
		{"invented", says(0, []string{" 60 IN A 203.0.113.1"}, nil), alias, own, false, []string{"invents", "203.0.113.1", "wildcard"}},
		{"underscore filtered", pass(s.addrs[0], func(q dns.Question, m *dns.Msg) {
			refuse(dns.RcodeFormatError, underscored)(q, m)
			refuse(dns.RcodeSuccess, func(q dns.Question) bool { return q.Name == "localhost." })(q, m)
		}), zone, own, false, []string{"FORMERR", "names with an underscore seem to be filtered", "zone_aliases"}},
		{"challenge filtered", pass(s.addrs[0], refuse(dns.RcodeNameError, underscored)), alias, own, false, []string{"answers differ", "_acme-challenge", "DNS-01"}},
		{"private addresses filtered", pass(s.addrs[0], func(_ dns.Question, m *dns.Msg) {
			if m.Answer != nil && m.Answer[0].Header().Rrtype == dns.TypeA {
				m.Answer = nil
			}
		}), alias, own, false, []string{"answers differ", "ns." + alias, "rebinding"}},
		{"refused", pass(s.addrs[0], refuse(dns.RcodeRefused, always)), alias, own, false, []string{"REFUSED"}},
		{"failed", pass(s.addrs[0], refuse(dns.RcodeServerFailure, always)), alias, own, false, []string{"SERVFAIL", "where a delegation leads", "port 53"}},
		{"silent", silent, alias, own, false, []string{"no resolver of this machine answers", "no answer in time"}},
		{"somebody else in our place", silent, alias, newUpstream(t, says(dns.RcodeNameError, nil, parent)).addr, false, []string{"not its authoritative server (no AA)"}},
		{"nobody in our place", silent, alias, freePort(t), false, []string{"the gateway does not answer"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			check := dnsd.ZoneCheck{
				Zone: row.zone, Resolvers: []netip.AddrPort{newUpstream(t, row.resolver).addr}, Own: row.own,
				Patience: 300 * time.Millisecond, Lag: time.Millisecond,
			}
			f := check.Run(t.Context())
			if f.Found != row.found || f.Found != (f.Fix == "") {
				t.Errorf("found=%t: %s → %s", f.Found, f.Detail, f.Fix)
			}
			for _, want := range row.want {
				if !strings.Contains(f.Detail+"\n"+f.Fix, want) {
					t.Errorf("%q is not in: %s → %s", want, f.Detail, f.Fix)
				}
			}
		})
	}
}

// relay forwards a question, and returns nil if nobody answers.
func relay(server string, m *dns.Msg) *dns.Msg {
	reply, _, err := (&dns.Client{Timeout: time.Second}).Exchange(m, server)
	if err != nil {
		return nil
	}
	return reply
}
