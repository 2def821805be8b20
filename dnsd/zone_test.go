package dnsd_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const (
	gatewayA    = "NOERROR; A 192.0.2.80"
	gatewayAAAA = "NOERROR; AAAA 2001:db8::80"
	noData      = "NOERROR"
	noName      = "NXDOMAIN"
)

// zoneRows is what stands in the zone with clone 1234 in it. A name without a
// trailing dot is relative to the zone.
var zoneRows = []struct {
	name  string
	qtype uint16
	want  string
}{
	// The zone itself.
	{"@", dns.TypeA, gatewayA},
	{"@", dns.TypeAAAA, gatewayAAAA},
	{"@", dns.TypeNS, "NOERROR; NS ns." + zone + "."},
	{"@", dns.TypeMX, noData},
	{"@", dns.TypeDS, noData},
	{"@", dns.TypeTXT, noData},
	{"ns", dns.TypeA, "NOERROR; A 127.0.0.1"},
	{"ns", dns.TypeAAAA, noData},
	{"_acme-challenge", dns.TypeTXT, noData},
	{"_acme-challenge", dns.TypeSOA, noData},
	{"_acme-challenge", dns.TypeCNAME, noData},
	{"x._acme-challenge", dns.TypeTXT, noName},

	// Public labels.
	{"www-1234", dns.TypeA, gatewayA},
	{"www-1234", dns.TypeAAAA, gatewayAAAA},
	{"www-1234", dns.TypeHTTPS, noData},
	{"www-1234", dns.TypeTXT, noData},
	{"WwW-1234", dns.TypeA, gatewayA},
	{"1234", dns.TypeA, gatewayA},
	{"1234", dns.TypeTXT, `NOERROR; TXT "v=spf1 -all" "two"`},
	{"pr-1234", dns.TypeA, gatewayA},
	{"api-pr-1234", dns.TypeA, gatewayA},
	{"nope-1234", dns.TypeA, noName},
	{"x.www-1234", dns.TypeA, noName},
	{"x.api-1234", dns.TypeA, gatewayA},
	{"a.b.api-pr-1234", dns.TypeAAAA, gatewayAAAA},
	{"x.nope-1234", dns.TypeA, noName},
	{"x.api-1234", dns.TypeTXT, noData},
	{"www-9999", dns.TypeA, noName},
	{"9999", dns.TypeA, noName},
	{"www", dns.TypeA, noName},
	{"-1234", dns.TypeA, noName},
	{"www_1234", dns.TypeA, noName},
	{`www\.1234`, dns.TypeA, noName},
	{`www\0001234`, dns.TypeA, noName},
	{`\255\254`, dns.TypeA, noName},
	{"*", dns.TypeA, noName},

	// Nested names: services, then hosts and records.
	{"www.1234", dns.TypeA, gatewayA},
	{"api.1234", dns.TypeAAAA, gatewayAAAA},
	{"www.pr-1234", dns.TypeA, gatewayA},
	{"db.1234", dns.TypeA, "NOERROR; A 10.80.0.30"},
	{"DB.1234", dns.TypeA, "NOERROR; A 10.80.0.30"},
	{"db.pr-1234", dns.TypeA, "NOERROR; A 10.80.0.30"},
	{"db.1234", dns.TypeAAAA, noData},
	{"db.1234", dns.TypeTXT, `NOERROR; TXT "primary"`},
	{"dual.1234", dns.TypeA, "NOERROR; A 10.80.0.31; A 10.80.0.32"},
	{"dual.1234", dns.TypeAAAA, "NOERROR; AAAA fd00:80::31"},
	{"_odd-.name.1234", dns.TypeA, "NOERROR; A 10.80.0.41"},
	{"db.shop.example.com.1234", dns.TypeA, "NOERROR; A 10.80.0.30"},
	{"x.db.1234", dns.TypeA, noName},
	{"x.www.1234", dns.TypeA, noName},
	{"x.api.1234", dns.TypeA, gatewayA},
	{"a.b.c.api.pr-1234", dns.TypeA, gatewayA},
	{"x.nope.1234", dns.TypeA, noName},
	{"nope.1234", dns.TypeA, noName},
	{`d\.b.1234`, dns.TypeA, noName},
	{"api.1234", dns.TypeTXT, `NOERROR; TXT "beside the service"`},
	{"_sip._tcp.1234", dns.TypeSRV, "NOERROR; SRV 0 5 5060 db.1234." + zone + ".; SRV 1 5 5060 other.example.com."},
	{"_sip._tcp.1234", dns.TypeA, noData},
	{"odd.1234", 65280, `NOERROR; TYPE65280 odd.1234.` + zone + ".\t30\tCLASS1\tTYPE65280\t\\# 2 0a0b"},

	// Empty non-terminals exist.
	{"_tcp.1234", dns.TypeSRV, noData},
	{"b.deep.1234", dns.TypeA, noData},
	{"deep.1234", dns.TypeA, noData},
	{"a.b.deep.1234", dns.TypeA, "NOERROR; A 10.80.0.40"},
	{"c.b.deep.1234", dns.TypeA, noName},
	{"com.1234", dns.TypeNS, noData},

	// Wildcards (RFC 4592).
	{"any.wild.1234", dns.TypeA, "NOERROR; A 10.80.0.99"},
	{"ANY.wild.1234", dns.TypeTXT, `NOERROR; TXT "wild"`},
	{"any.wild.1234", dns.TypeAAAA, noData},
	{"two.any.wild.1234", dns.TypeA, "NOERROR; A 10.80.0.99"},
	{`we\.ird.wild.1234`, dns.TypeA, "NOERROR; A 10.80.0.99"},
	{"*.wild.1234", dns.TypeA, "NOERROR; A 10.80.0.99"},
	{"wild.1234", dns.TypeA, noData},
	{"x.y.wild.1234", dns.TypeA, "NOERROR; A 10.80.0.98"},
	{"y.wild.1234", dns.TypeA, noData},
	{"z.y.wild.1234", dns.TypeA, noName},

	// Aliases.
	{"mail.1234", dns.TypeA, "NOERROR; CNAME db.1234." + zone + ".; A 10.80.0.30"},
	{"mail.1234", dns.TypeAAAA, "NOERROR; CNAME db.1234." + zone + "."},
	{"mail.1234", dns.TypeCNAME, "NOERROR; CNAME db.1234." + zone + "."},
	{"front.1234", dns.TypeA, "NOERROR; CNAME www.1234." + zone + ".; A 192.0.2.80"},
	{"out.1234", dns.TypeA, "NOERROR; CNAME www.example.net."},
	{"nowhere.1234", dns.TypeA, "NXDOMAIN; CNAME missing.1234." + zone + "."},
	{"loop1.1234", dns.TypeA, "SERVFAIL"},

	// ANY is answered with as little as possible (RFC 8482).
	{"www-1234", dns.TypeANY, `NOERROR; HINFO "RFC8482" ""`},
	{"@", dns.TypeANY, `NOERROR; HINFO "RFC8482" ""`},
	{"db.1234", dns.TypeANY, `NOERROR; HINFO "RFC8482" ""`},
	{"deep.1234", dns.TypeANY, noData},
	{"nope.1234", dns.TypeANY, noName},

	// Elsewhere.
	{"www-1234.test_envs.localhos.", dns.TypeA, "REFUSED"},
	{"www-1234.xtest_envs.localhost.", dns.TypeA, "REFUSED"},
	{`www-1234\.test_envs.localhost.`, dns.TypeA, "REFUSED"},
	{"localhost.", dns.TypeNS, "REFUSED"},
	{".", dns.TypeNS, "REFUSED"},
	{"db.", dns.TypeA, "REFUSED"},
	{"30.0.80.10.in-addr.arpa.", dns.TypePTR, "REFUSED"},
}

// absolute returns the name of a row under a zone.
func absolute(name, zone string) string {
	switch {
	case name == "@":
		return zone + "."
	case strings.HasSuffix(name, "."):
		return name
	}
	return name + "." + zone + "."
}

func TestZone(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil)
	for _, z := range []string{zone, alias} {
		for _, row := range zoneRows {
			name := absolute(row.name, z)
			want := strings.ReplaceAll(row.want, zone, z)
			if strings.HasSuffix(row.name, ".") {
				want = row.want
			}
			m := ask(t, s.addrs[0], name, row.qtype)
			if got := short(m); got != want {
				t.Errorf("%s %s:\n got %s\nwant %s", name, dns.Type(row.qtype), got, want)
			}
			if m.RecursionAvailable {
				t.Errorf("%s: RA is set on an authoritative listener", name)
			}
			if m.Question[0].Name != name {
				t.Errorf("question comes back as %s, want %s", m.Question[0].Name, name)
			}
			checkSections(t, m, z+".")
		}
	}
}

// checkSections holds what is true of every reply of ours from the zone.
func checkSections(t *testing.T, m *dns.Msg, zone string) {
	t.Helper()
	name := m.Question[0].Name
	mine := m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError
	if m.Authoritative != mine {
		t.Errorf("%s: AA = %t with rcode %s", name, m.Authoritative, dns.RcodeToString[m.Rcode])
	}
	if len(m.Answer) > 0 && m.Answer[0].Header().Name != name {
		t.Errorf("%s: answer is owned by %s", name, m.Answer[0].Header().Name)
	}
	final := len(m.Answer) == 0 || m.Rcode == dns.RcodeNameError
	if !mine || !final {
		return
	}
	if len(m.Ns) != 1 {
		t.Fatalf("%s: negative answer has %d authority records, want the SOA", name, len(m.Ns))
	}
	soa, ok := m.Ns[0].(*dns.SOA)
	if !ok || soa.Hdr.Name != zone || soa.Hdr.Ttl != 5 || soa.Minttl != 5 {
		t.Errorf("%s: negative answer has %v, want the zone's SOA with TTL and minimum 5", name, m.Ns[0])
	}
}

func TestSOA(t *testing.T) {
	w := newWorld(t)
	s := serve(t, dnsd.Config{Directory: w}, nil)
	serial := func() uint32 {
		t.Helper()
		m := ask(t, s.addrs[0], zone+".", dns.TypeSOA)
		if len(m.Answer) != 1 || !m.Authoritative {
			t.Fatalf("SOA: got %v", m)
		}
		soa := m.Answer[0].(*dns.SOA)
		if soa.Ns != "ns."+zone+"." || soa.Hdr.Ttl != 5 {
			t.Errorf("got %v", soa)
		}
		return soa.Serial
	}
	if got := serial(); got != uint32(w.Revision()) {
		t.Errorf("serial = %d, want the revision %d", got, w.Revision())
	}
	w.revision.Store(1<<32 + 7)
	if got := serial(); got != 7 {
		t.Errorf("serial = %d, want the revision modulo 2^32, 7", got)
	}
}

// TestTTLs: names of clones are remembered for 5 seconds, records for as long
// as they say.
func TestTTLs(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil)
	for name, want := range map[string]uint32{"www-1234": 5, "db.1234": 5, "@": 5, "any.wild.1234": 30} {
		m := ask(t, s.addrs[0], absolute(name, zone), dns.TypeA)
		if len(m.Answer) == 0 || m.Answer[0].Header().Ttl != want {
			t.Errorf("%s: got %v, want TTL %d", name, m.Answer, want)
		}
	}
}

func TestNameServers(t *testing.T) {
	for _, row := range []struct {
		name   string
		config []netip.Addr
		want   []string
	}{
		{"the listener's own address", nil, []string{"127.0.0.1"}},
		{"configured", addrs("192.0.2.53", "2001:db8::53", "::ffff:192.0.2.54"), []string{"192.0.2.53", "192.0.2.54", "2001:db8::53"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := serve(t, dnsd.Config{Directory: newWorld(t), NameServers: row.config}, nil)
			m := ask(t, s.addrs[0], zone+".", dns.TypeNS)
			var got []string
			for _, rr := range m.Extra {
				switch rr := rr.(type) {
				case *dns.A:
					got = append(got, rr.A.String())
				case *dns.AAAA:
					got = append(got, rr.AAAA.String())
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("addresses beside NS (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoDefaultService: a clone's own name exists as long as it does.
func TestNoDefaultService(t *testing.T) {
	c := shop("1234")
	c.Services["www"].Default = false
	s := serve(t, dnsd.Config{Directory: newWorld(t, c)}, nil)
	for name, want := range map[string]string{
		"1234": noData, "pr-1234": noData, "www-1234": gatewayA, "db.1234": "NOERROR; A 10.80.0.30",
	} {
		if got := short(ask(t, s.addrs[0], absolute(name, zone), dns.TypeA)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestStates: names come with a clone's start and go before anything else of it.
func TestStates(t *testing.T) {
	w := newWorld(t)
	s := serve(t, dnsd.Config{Directory: w}, nil)
	for _, state := range registry.States {
		c := shop("1234")
		c.State = state
		w.set(c)
		for _, name := range []string{"www-1234", "1234", "www.1234", "db.1234", "pr-1234"} {
			got := ask(t, s.addrs[0], absolute(name, zone), dns.TypeA).Rcode
			want := dns.RcodeNameError
			if state.Named() {
				want = dns.RcodeSuccess
			}
			if got != want {
				t.Errorf("state %s: %s answers %s, want %s", state, name, dns.RcodeToString[got], dns.RcodeToString[want])
			}
		}
	}
}

func TestConfigErrors(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name string
		cfg  dnsd.Config
		want string
	}{
		{"no directory", dnsd.Config{Gateway: addrs("192.0.2.1")}, "Directory"},
		{"no gateway", dnsd.Config{Directory: w}, "Gateway is empty"},
		{"unspecified gateway", dnsd.Config{Directory: w, Gateway: addrs("0.0.0.0")}, "0.0.0.0"},
		{"multicast name server", dnsd.Config{Directory: w, Gateway: addrs("192.0.2.1"), NameServers: addrs("ff02::1")}, "ff02::1"},
	} {
		if _, err := dnsd.New(row.cfg); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: New = %v, want an error about %s", row.name, err, row.want)
		}
	}
}
