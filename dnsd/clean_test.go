package dnsd_test

import (
	"fmt"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestClaims: what a reply says beside the answer is not believed, least of
// all about our own zone.
func TestClaims(t *testing.T) {
	const mine = "www-1234." + zone + "."
	for _, row := range []struct {
		name string
		up   handler
		want string
	}{
		{
			"records of other names", says(0,
				[]string{" 60 IN A 198.51.100.1", mine + " 60 IN A 203.0.113.66", "other.example. 60 IN A 203.0.113.66", " 60 CH A 203.0.113.66"},
				[]string{"example. 60 IN NS ns.evil.", zone + ". 60 IN NS ns.evil."}, "ns.evil. 60 IN A 203.0.113.66", mine+" 60 IN A 203.0.113.66"),
			"NOERROR; A 198.51.100.1",
		},
		{
			"alias into our zone with its own idea of it", says(0,
				[]string{" 60 IN CNAME " + mine, mine + " 60 IN A 203.0.113.66"}, nil),
			"NOERROR; CNAME " + mine + "; A 192.0.2.80",
		},
		{
			"alias into our zone, denied", says(dns.RcodeNameError, []string{" 60 IN CNAME " + mine}, []string{zone + ". 60 IN SOA . . 1 2 3 4 5"}),
			"NOERROR; CNAME " + mine + "; A 192.0.2.80",
		},
		{
			"alias into our zone that is not there", says(0, []string{" 60 IN CNAME www-9." + zone + "."}, nil),
			"NXDOMAIN; CNAME www-9." + zone + ".",
		},
		{
			"chain in the wrong order", says(0, []string{"b.example. 60 IN A 198.51.100.1", "a.example. 60 IN CNAME b.example.", " 60 IN CNAME a.example."}, nil),
			"NOERROR; CNAME a.example.; CNAME b.example.; A 198.51.100.1",
		},
		{"chain that ends nowhere", says(0, []string{" 60 IN CNAME a.example."}, nil), "NOERROR; CNAME a.example."},
		{"chain in a circle", says(0, []string{" 60 IN CNAME a.example.", "a.example. 60 IN CNAME www.example."}, nil), "SERVFAIL"},
		{
			"DNAME", says(0, []string{"example. 60 IN DNAME example.net.", " 60 IN CNAME www.example.net.", "www.example.net. 60 IN A 198.51.100.1"}, nil),
			"NOERROR; DNAME example.net.; CNAME www.example.net.; A 198.51.100.1",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, to(newUpstream(t, row.up)))
			for _, from := range []string{"upstream", "the cache"} {
				m := ask(t, s.addrs[0], "www.example.", dns.TypeA)
				if got := short(m); got != row.want {
					t.Errorf("from %s: got %s, want %s", from, got, row.want)
				}
				if m.AuthenticatedData || m.Authoritative {
					t.Errorf("from %s: AD or AA is set on what somebody else said", from)
				}
				for _, rr := range append(m.Ns, m.Extra...) {
					if rr.Header().Rrtype == dns.TypeNS || rr.Header().Rrtype == dns.TypeA {
						t.Errorf("from %s: %v was passed on", from, rr)
					}
				}
			}
			if got := short(ask(t, s.addrs[0], mine, dns.TypeA)); got != gatewayA {
				t.Errorf("our own name now answers %s", got)
			}
		})
	}
}

// TestHeavyReply: a reply that would cost a validating resolver dearly is
// passed on, or not, for the price of reading it.
func TestHeavyReply(t *testing.T) {
	answer := []string{" 60 IN A 198.51.100.1"}
	for i := range 1500 {
		answer = append(answer, fmt.Sprintf(" 60 IN RRSIG A 8 2 60 20300101000000 20200101000000 %d x. aGVhdnk=", i))
	}
	up := newUpstream(t, func(q asked, send func([]byte)) {
		m := replyTo(q, 0, answer, nil)
		if q.network == "udp" {
			m.Truncated, m.Answer = true, nil
		}
		send(pack(m))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	if got := short(ask(t, s.addrs[0], "heavy.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
		t.Errorf("without DO: %s", got)
	}
	m := new(dns.Msg)
	m.SetQuestion("heavy.example.", dns.TypeA)
	m.SetEdns0(1232, true)
	r, _, err := (&dns.Client{Net: "tcp"}).Exchange(m, s.addrs[0])
	if err != nil || len(r.Answer) != 1501 {
		t.Errorf("with DO: %v, %d records", err, len(r.Answer))
	}
}

// TestRecordWithoutData: a record that has no data is none, so nobody is sent
// one that cannot be read.
func TestRecordWithoutData(t *testing.T) {
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeSOA, dns.TypeCNAME} {
		up := newUpstream(t, func(q asked, send func([]byte)) {
			m := replyTo(q, 0, nil, nil)
			m.Extra = nil
			p := pack(m)
			p[7] = 1
			send(append(p, 0xc0, 12, 0, byte(rrtype), 0, 1, 0, 0, 0, 60, 0, 0))
		})
		s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
		for _, from := range []string{"upstream", "the cache"} {
			if got := short(ask(t, s.addrs[0], "www.example.", rrtype)); got != noData {
				t.Errorf("%s from %s: got %s, want no data", dns.Type(rrtype), from, got)
			}
		}
	}
}
