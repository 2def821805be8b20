package dnsd_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// TestResolver asks clone 1234's resolver. What upstreams are asked is marked
// by the address 198.51.100.1, which they give to every name.
func TestResolver(t *testing.T) {
	up := newUpstream(t, says(dns.RcodeSuccess, []string{" 60 IN A 198.51.100.1"}, nil))
	const forwarded = "NOERROR; A 198.51.100.1"
	r := to(up)
	r.Clone = "1234"
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"), shop("77"))}, r)
	for _, row := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		// Its own hosts and records, by short name.
		{"db.", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"DB.", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"db.", dns.TypeAAAA, noData},
		{"db.", dns.TypeMX, noData},
		{"db.", dns.TypeTXT, `NOERROR; TXT "primary"`},
		{"dual.", dns.TypeAAAA, "NOERROR; AAAA fd00:80::31"},
		{"db.shop.example.com.", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"db.shop.example.com.", dns.TypeAAAA, noData},
		{"_sip._tcp.", dns.TypeSRV, "NOERROR; SRV 0 5 5060 db.1234." + zone + ".; SRV 1 5 5060 other.example.com."},
		{"mail.", dns.TypeA, "NOERROR; CNAME db.1234." + zone + ".; A 10.80.0.30"},
		{"out.", dns.TypeA, "NOERROR; CNAME www.example.net.; A 198.51.100.1"},
		{"loop1.", dns.TypeA, "SERVFAIL"},
		{"db.", dns.TypeANY, `NOERROR; HINFO "RFC8482" ""`},

		// A host that has a service's name is meant inside the clone by its
		// short name; the public name is the gateway's everywhere.
		{"www.", dns.TypeA, "NOERROR; A 10.80.0.10"},
		{"www.1234." + zone + ".", dns.TypeA, gatewayA},
		{"www-1234." + zone + ".", dns.TypeA, gatewayA},

		// By full name, under the ID and the alias, under every zone.
		{"db.1234." + zone + ".", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"db.pr-1234." + zone + ".", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"db.1234." + alias + ".", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"db.1234." + zone + ".", dns.TypeAAAA, noData},
		{"any.wild.1234." + zone + ".", dns.TypeA, "NOERROR; A 10.80.0.99"},
		{"nope.1234." + zone + ".", dns.TypeA, noName},
		{"www.google.com.1234." + zone + ".", dns.TypeA, noName},

		// The rest of the zone, other clones' names included.
		{zone + ".", dns.TypeA, gatewayA},
		{"db.77." + zone + ".", dns.TypeA, "NOERROR; A 10.80.0.30"},
		{"www-77." + zone + ".", dns.TypeA, gatewayA},
		{"www-9999." + zone + ".", dns.TypeA, noName},
		{"out.77." + zone + ".", dns.TypeA, "NOERROR; CNAME www.example.net.; A 198.51.100.1"},

		// Addresses back to names: the shortest name owns one.
		{"30.0.80.10.in-addr.arpa.", dns.TypePTR, "NOERROR; PTR db.1234." + zone + "."},
		{"30.0.80.10.IN-addr.arpa.", dns.TypePTR, "NOERROR; PTR db.1234." + zone + "."},
		{"40.0.80.10.in-addr.arpa.", dns.TypePTR, "NOERROR; PTR a.b.deep."},
		{"1.3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NOERROR; PTR dual.1234." + zone + "."},
		{"30.0.80.10.in-addr.arpa.", dns.TypeA, noData},

		// Everything else is asked elsewhere; the names above and beneath a
		// host's are not the clone's, nor is anything by a wildcard.
		{"example.com.", dns.TypeA, forwarded},
		{"shop.example.com.", dns.TypeA, forwarded},
		{"x.db.", dns.TypeA, forwarded},
		{"*.wild.", dns.TypeA, forwarded},
		{"any.wild.", dns.TypeA, forwarded},
		{"b.deep.", dns.TypeA, forwarded},
		{"31.0.80.11.in-addr.arpa.", dns.TypeA, forwarded},
		{"1234.", dns.TypeA, forwarded},
		{`d\.b.`, dns.TypeA, forwarded},
		{".", dns.TypeA, forwarded},
		{"example.com.", dns.TypeANY, `NOERROR; HINFO "RFC8482" ""`},
	} {
		before := up.count()
		m := ask(t, s.addrs[0], row.name, row.qtype)
		if got := short(m); got != row.want {
			t.Errorf("%s %s:\n got %s\nwant %s", row.name, dns.Type(row.qtype), got, row.want)
		}
		if !m.RecursionAvailable {
			t.Errorf("%s: RA is not set on a resolver", row.name)
		}
		local := !strings.Contains(row.want, "198.51.100.1")
		if local && up.count() != before {
			t.Errorf("%s %s is known here, and upstream was asked", row.name, dns.Type(row.qtype))
		}
		if row.want == noData && (len(m.Ns) != 1 || !m.Authoritative) {
			t.Errorf("%s %s: missing type without SOA or AA: %v", row.name, dns.Type(row.qtype), m)
		}
	}
}

// TestViews: copies share names and addresses; the listener says which is meant.
func TestViews(t *testing.T) {
	one, two := shop("1"), shop("2")
	two.Hosts["only-two"] = addrs("10.80.0.50")
	w := newWorld(t, one, two)
	s := serve(t, dnsd.Config{Directory: w}, &dnsd.Resolver{Clone: "1"}, &dnsd.Resolver{Clone: "2"}, &dnsd.Resolver{Clone: "3"})
	for i, want := range []string{"db.1." + zone + ".", "db.2." + zone + "."} {
		if got := short(ask(t, s.addrs[i], "30.0.80.10.in-addr.arpa.", dns.TypePTR)); got != "NOERROR; PTR "+want {
			t.Errorf("listener %d: PTR = %s, want %s", i+1, got, want)
		}
		if got := short(ask(t, s.addrs[i], "db.", dns.TypeA)); got != "NOERROR; A 10.80.0.30" {
			t.Errorf("listener %d: db = %s", i+1, got)
		}
	}
	if got := ask(t, s.addrs[0], "only-two.", dns.TypeA).Rcode; got != dns.RcodeServerFailure {
		t.Errorf("clone 1 sees a host of clone 2: %s", dns.RcodeToString[got])
	}
	if got := short(ask(t, s.addrs[1], "only-two.", dns.TypeA)); got != "NOERROR; A 10.80.0.50" {
		t.Errorf("clone 2 does not see its own host: %s", got)
	}
	// A clone that comes later is seen at once.
	if got := ask(t, s.addrs[2], "db.", dns.TypeA).Rcode; got != dns.RcodeServerFailure {
		t.Errorf("clone 3 does not exist and has hosts: %s", dns.RcodeToString[got])
	}
	w.set(one, two, shop("3"))
	if got := short(ask(t, s.addrs[2], "db.", dns.TypeA)); got != "NOERROR; A 10.80.0.30" {
		t.Errorf("clone 3 has come and its host answers %s", got)
	}
}

// TestOwnHostsStay: a clone the world no longer sees still finds its own hosts.
func TestOwnHostsStay(t *testing.T) {
	c := shop("1234")
	c.State = registry.Lost
	s := serve(t, dnsd.Config{Directory: newWorld(t, c)}, nil, &dnsd.Resolver{Clone: "1234"})
	name := "db.1234." + zone + "."
	if got := short(ask(t, s.addrs[0], name, dns.TypeA)); got != noName {
		t.Errorf("the world sees %s of a lost clone: %s", name, got)
	}
	for _, name := range []string{name, "db."} {
		if got := short(ask(t, s.addrs[1], name, dns.TypeA)); got != "NOERROR; A 10.80.0.30" {
			t.Errorf("a lost clone sees its own %s as %s", name, got)
		}
	}
	if got := short(ask(t, s.addrs[1], "www-1234."+zone+".", dns.TypeA)); got != noName {
		t.Errorf("a lost clone's service answers %s", got)
	}
}

func TestForwardRules(t *testing.T) {
	marked := func(a string) *upstream {
		return newUpstream(t, says(dns.RcodeSuccess, []string{" 60 IN A " + a}, nil))
	}
	def, corp, deep, reverse := marked("198.51.100.1"), marked("198.51.100.2"), marked("198.51.100.3"), marked("198.51.100.4")
	c := shop("1234")
	c.Forward = []registry.Forward{
		{Zone: "corp.example", Servers: []netip.AddrPort{corp.addr}},
		{Zone: "lab.corp.example", Servers: []netip.AddrPort{deep.addr}},
		{Zone: "80.10.in-addr.arpa", Servers: []netip.AddrPort{reverse.addr}},
	}
	w := newWorld(t, c)
	r := to(def)
	r.Clone = "1234"
	s := serve(t, dnsd.Config{Directory: w}, r)
	for name, want := range map[string]string{
		"www.example.":            "198.51.100.1",
		"corp.example.":           "198.51.100.2",
		"WWW.Corp.Example.":       "198.51.100.2",
		"xcorp.example.":          "198.51.100.1",
		"lab.corp.example.":       "198.51.100.3",
		"a.b.lab.corp.example.":   "198.51.100.3",
		"9.9.80.10.in-addr.arpa.": "198.51.100.4",
	} {
		if got := short(ask(t, s.addrs[0], name, dns.TypeA)); got != "NOERROR; A "+want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	// A rule that changes takes its cached answers along.
	c2 := shop("1234")
	c2.Forward = []registry.Forward{{Zone: "corp.example", Servers: []netip.AddrPort{deep.addr}}}
	w.set(c2)
	if got := short(ask(t, s.addrs[0], "corp.example.", dns.TypeA)); got != "NOERROR; A 198.51.100.3" {
		t.Errorf("after the rule changed: %s", got)
	}
}

func TestClients(t *testing.T) {
	up := newUpstream(t, says(dns.RcodeSuccess, []string{" 60 IN A 198.51.100.1"}, nil))
	r := to(up)
	r.Clients = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, r)
	for _, name := range []string{"example.com.", "www-1234." + zone + "."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		got := send(t, s.addrs[0], m)
		if got.Rcode != dns.RcodeRefused || edeOf(got) != int(dns.ExtendedErrorCodeProhibited) {
			t.Errorf("%s: a client that is not listed gets %v, want REFUSED and why", name, got)
		}
	}
	if up.count() != 0 {
		t.Error("upstream was asked for a client that is not listed")
	}
}

// TestNoRecursion: without RD only what is known is answered.
func TestNoRecursion(t *testing.T) {
	up := newUpstream(t, says(dns.RcodeSuccess, []string{" 60 IN A 198.51.100.1"}, nil))
	r := to(up)
	r.Clone = "1234"
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, r)
	norec := func(name string) string {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.RecursionDesired = false
		return short(send(t, s.addrs[0], m))
	}
	for _, row := range []struct{ name, want string }{
		{"db.", "NOERROR; A 10.80.0.30"},
		{"out.", "NOERROR; CNAME www.example.net."},
		{"www.example.net.", "REFUSED"},
	} {
		if got := norec(row.name); got != row.want {
			t.Errorf("%s without RD: got %s, want %s", row.name, got, row.want)
		}
	}
	if up.count() != 0 {
		t.Fatal("upstream was asked without RD")
	}
	ask(t, s.addrs[0], "www.example.net.", dns.TypeA)
	if got := norec("www.example.net."); got != "NOERROR; A 198.51.100.1" {
		t.Errorf("cached and without RD: got %s", got)
	}
}

// TestResolvConf: the machine's own servers are used, and followed when they change.
func TestResolvConf(t *testing.T) {
	// Port 53 is not ours to take, so the servers named here do not answer;
	// which of them is asked shows in the extended error.
	path := t.TempDir() + "/resolv.conf"
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write("# mine\nsearch example.com\nnameserver bogus\nnameserver 0.0.0.0\nnameserver 127.9.8.7\noptions edns0\n", now)
	var c clock
	s := serveWith(t, dnsd.Config{Directory: newWorld(t), ResolvConf: path}, func(s *dnsd.Server) {
		s.SetTiming(100*time.Millisecond, 0, 200*time.Millisecond, 0, 0)
		s.SetClock(c.now)
	}, &dnsd.Resolver{})
	why := func() string {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion("example.com.", dns.TypeA)
		m.SetEdns0(1232, false)
		got := send(t, s.addrs[0], m)
		if got.Rcode != dns.RcodeServerFailure || len(got.IsEdns0().Option) != 1 {
			t.Fatalf("got %v, want SERVFAIL and why", got)
		}
		return got.IsEdns0().Option[0].(*dns.EDNS0_EDE).ExtraText
	}
	if got := why(); !strings.Contains(got, "127.9.8.7:53") {
		t.Errorf("error = %q, want it to name the server of the file", got)
	}
	write("nameserver 127.9.8.6\n", now.Add(time.Second))
	c.advance(10 * time.Second)
	if got := why(); !strings.Contains(got, "127.9.8.6:53") {
		t.Errorf("error = %q, want it to name the server of the changed file", got)
	}
	os.Remove(path)
	c.advance(10 * time.Second)
	if got := why(); !strings.Contains(got, "no upstream server is known") {
		t.Errorf("error = %q, want it to say that there is no server", got)
	}
}
