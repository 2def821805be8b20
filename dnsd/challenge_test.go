package dnsd_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/clonegate/clonegate/dnsd"
)

// TestChallenges sets and unsets values as a solver does, and asks as a
// certificate authority does: by UDP, and with letters of random case.
func TestChallenges(t *testing.T) {
	challenges := new(dnsd.Challenges)
	w := newWorld(t, shop("1234"))
	s := serve(t, dnsd.Config{Directory: w, Challenges: challenges}, nil)
	apex, nested := "_acme-challenge."+zone+".", "_acme-challenge.1234."+zone+"."
	expect := func(name, want string) {
		t.Helper()
		m := ask(t, s.addrs[0], name, dns.TypeTXT)
		got := strings.Split(short(m), "; ")
		slices.Sort(got[1:])
		if strings.Join(got, "; ") != want || !m.Authoritative {
			t.Errorf("%s TXT: got %s, authoritative %t; want %s, true", name, strings.Join(got, "; "), m.Authoritative, want)
		}
	}
	expect(apex, noData)
	expect(nested, noName)
	challenges.Unset(apex, "never set")
	challenges.Set("_acme-challenge."+zone, "one")
	expect(apex, `NOERROR; TXT "one"`)
	challenges.Set(apex, "two")
	challenges.Set(apex, "two")
	expect("_AcMe-ChAlLeNgE."+strings.ToUpper(zone)+".", `NOERROR; TXT "one"; TXT "two"`)
	challenges.Set(nested, "three")
	expect(nested, `NOERROR; TXT "three"`)
	expect("_acme-challenge.9999."+zone+".", noName)
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeNS, dns.TypeCNAME, dns.TypeA} {
		if m := ask(t, s.addrs[0], apex, qtype); short(m) != noData || len(m.Ns) != 1 || m.Ns[0].Header().Name != zone+"." {
			t.Errorf("%s %s: got %s with %v; want NODATA with the zone's SOA", apex, dns.Type(qtype), short(m), m.Ns)
		}
	}
	if m := ask(t, s.addrs[0], apex, dns.TypeTXT); m.Answer[0].Header().Ttl != 1 {
		t.Errorf("TTL of a value: got %d, want 1", m.Answer[0].Header().Ttl)
	}
	challenges.Unset(apex, "one")
	expect(apex, `NOERROR; TXT "two"`)
	challenges.Unset(apex, "two")
	challenges.Unset(nested, "three")
	expect(apex, noData)
	expect(nested, noName)
}
