package dnsmasq_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/miekg/dns"
)

// The options of dnsmasq's DNS that the hosts of a clone may need.
const (
	must = `server local rev-server address host-record cname srv-host txt-record ptr-record mx-host addn-hosts hostsdir no-hosts expand-hosts
		domain domain-needed bogus-priv local-ttl neg-ttl max-ttl max-cache-ttl min-cache-ttl cache-size no-negcache port listen-address interface
		bind-interfaces bind-dynamic resolv-file no-resolv no-poll strict-order all-servers conf-file conf-dir servers-file log-queries
		edns-packet-max dns-forward-max`
	should = `stop-dns-rebind rebind-localhost-ok rebind-domain-ok bogus-nxdomain filter-A filter-AAAA filter-rr filterwin2k use-stale-cache
		fast-dns-retry dns-loop-detect localise-queries no-round-robin synth-domain caa-record naptr-record dns-rr interface-name auth-server
		auth-zone auth-ttl auth-soa query-port min-port max-port max-tcp-connections cache-rr clear-on-reload no-ident`
	always = "dns-loop-detect cache-rr clear-on-reload bind-dynamic" // what they ask for is done in any case
)

// A sight is what can be seen of a configuration.
type sight func(*testing.T, *dnsmasq.Config) string

// answers sees the answer to a question.
func answers(name string, qtype uint16) sight {
	return func(_ *testing.T, cfg *dnsmasq.Config) string { return ask(dnsmasq.New(cfg, nil), name, qtype) }
}

// worldSees sees the answer at a listener of auth-server.
func worldSees(name string, qtype uint16) sight {
	return func(_ *testing.T, cfg *dnsmasq.Config) string {
		return ask(dnsmasq.New(cfg, nil).Authority(), name, qtype)
	}
}

// ttls sees the TTLs of an answer to a local question.
func ttls(name string, qtype uint16) sight {
	return func(_ *testing.T, cfg *dnsmasq.Config) string {
		a := dnsmasq.New(cfg, nil).Answer(dns.Question{Name: dns.Fqdn(name), Qtype: qtype, Qclass: dns.ClassINET})
		var out []string
		for _, rr := range a.Records {
			out = append(out, fmt.Sprint(rr.Header().Ttl))
		}
		return strings.Join(out, " ")
	}
}

// amends sees what becomes of an answer of an upstream server.
func amends(name string, records ...string) sight {
	return func(t *testing.T, cfg *dnsmasq.Config) string {
		m := &dns.Msg{}
		for _, text := range records {
			rr, err := dns.NewRR(dns.Fqdn(name) + " " + text)
			if err != nil {
				t.Fatal(err)
			}
			if _, isSOA := rr.(*dns.SOA); isSOA {
				m.Ns = append(m.Ns, rr)
			} else {
				m.Answer = append(m.Answer, rr)
			}
		}
		qtype := dns.TypeA
		if len(m.Answer) > 0 {
			qtype = m.Answer[0].Header().Rrtype
		}
		dnsmasq.New(cfg, nil).Amend(dns.Question{Name: dns.Fqdn(name), Qtype: qtype, Qclass: dns.ClassINET}, m)
		out := []string{dns.RcodeToString[m.Rcode]}
		for _, rr := range slices.Concat(m.Answer, m.Ns) {
			out = append(out, fmt.Sprint(dns.Type(rr.Header().Rrtype), " ", rr.Header().Ttl))
		}
		return strings.Join(out, " ")
	}
}

// habit sees one of the habits, whose effects are those of dnsd's own tests.
func habit(of func(dnsd.Habits) any) sight {
	return func(_ *testing.T, cfg *dnsmasq.Config) string { return fmt.Sprint(of(cfg.Habits)) }
}

// listens sees the IPv4 addresses of the loopback that are listened on.
func listens(_ *testing.T, cfg *dnsmasq.Config) string {
	addrs, err := cfg.Addresses()
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, a := range addrs {
		if a.Addr().Is4() && a.Addr().IsLoopback() {
			out = append(out, a.String())
		}
	}
	return strings.Join(out, " ")
}

// followed sees how many files are read again when they change.
func followed(_ *testing.T, cfg *dnsmasq.Config) string { return fmt.Sprint(len(cfg.Followed())) }

// first sees which of two addresses comes first, twice.
func first(_ *testing.T, cfg *dnsmasq.Config) string {
	r := dnsmasq.New(cfg, nil)
	seen := map[string]bool{}
	for range 2 {
		seen[r.Answer(dns.Question{Name: "a.x.", Qtype: dns.TypeA, Qclass: dns.ClassINET}).Records[0].String()] = true
	}
	return fmt.Sprint(len(seen))
}

// near sees the answer at a listener in a network.
func near(_ *testing.T, cfg *dnsmasq.Config) string {
	return ask(dnsmasq.New(cfg, nil).At(netip.MustParsePrefix("10.0.0.0/8")), "a.x", dns.TypeA)
}

func field(of func(*dnsmasq.Config) any) sight {
	return func(_ *testing.T, cfg *dnsmasq.Config) string {
		if v := of(cfg); v != (*int)(nil) {
			if n, ok := v.(*int); ok {
				return fmt.Sprint(*n)
			}
			return fmt.Sprint(v)
		}
		return ""
	}
}

// TestEffects: every option that a clone's DNS may need is applied, and there
// is something that is another with it.
func TestEffects(t *testing.T) {
	dir := t.TempDir()
	hosts := write(t, dir, "hosts.d/hosts", "10.1.0.1 db.x.example short\n")
	resolv := write(t, dir, "resolv.conf", "nameserver 192.0.2.53\n")
	write(t, dir, "conf.d/a.conf", "host-record=db.x.example,10.1.0.1\n")
	servers := write(t, dir, "servers", "server=/x.example/192.0.2.8\n")
	const (
		up    = "server=192.0.2.53\n"
		no    = "REFUSED"
		there = "upstream [192.0.2.53:53]"
		soaRR = "300 IN SOA . . 1 2 3 4 300"
	)
	db := answers("db.x.example", dns.TypeA)
	authority := "auth-server=ns.x.example,127.0.0.1\nauth-zone=x.example\nhost-record=db.x.example,10.1.0.1\n"
	rows := []struct {
		option, base string
		see          sight
		without      string
		with         string
	}{
		{"server=192.0.2.9#5353", "", db, no, "upstream [192.0.2.9:5353]"},
		{"local=/x.example/", up, db, there, "NXDOMAIN"},
		{"rev-server=10.0.0.0/8,192.0.2.9", up, answers("1.0.1.10.in-addr.arpa", dns.TypePTR), there, "upstream [192.0.2.9:53]"},
		{"address=/x.example/192.0.2.1", up, db, there, "NOERROR 192.0.2.1"},
		{"host-record=db.x.example,10.1.0.1", up, db, there, "NOERROR 10.1.0.1"},
		{"cname=db.x.example,other.x.example", up, db, there, "NOERROR other.x.example."},
		{"srv-host=_x._tcp.x.example,db.x.example,7", up, answers("_x._tcp.x.example", dns.TypeSRV), there, "NOERROR 0 0 7 db.x.example."},
		{"txt-record=x.example,text", up, answers("x.example", dns.TypeTXT), there, `NOERROR "text"`},
		{"ptr-record=1.0.1.10.in-addr.arpa,db", up, answers("1.0.1.10.in-addr.arpa", dns.TypePTR), there, "NOERROR db."},
		{"mx-host=x.example,mail.x.example,10", up, answers("x.example", dns.TypeMX), there, "NOERROR 10 mail.x.example."},
		{"addn-hosts=" + hosts, up, db, there, "NOERROR 10.1.0.1"},
		{"hostsdir=" + dir + "/hosts.d", up, db, there, "NOERROR 10.1.0.1"},
		{"no-hosts", "", answers("localhost", dns.TypeA), "NOERROR 127.0.0.1", no},
		{"expand-hosts", up + "domain=x.example\naddn-hosts=" + hosts, answers("short.x.example", dns.TypeA), there, "NOERROR 10.1.0.1"},
		{"domain=x.example", up + "expand-hosts\naddn-hosts=" + hosts, answers("short.x.example", dns.TypeA), there, "NOERROR 10.1.0.1"},
		{"domain-needed", up, answers("single", dns.TypeA), there, "NXDOMAIN"},
		{"bogus-priv", up, answers("1.0.1.10.in-addr.arpa", dns.TypePTR), there, "NXDOMAIN"},
		{"local-ttl=77", "host-record=db.x.example,10.1.0.1", ttls("db.x.example", dns.TypeA), "5", "77"},
		{"neg-ttl=40", "", amends("a.x"), "NOERROR", "NOERROR SOA 40"},
		{"max-ttl=20", "", amends("a.x", "300 IN A 8.8.8.8"), "NOERROR A 300", "NOERROR A 20"},
		{"max-cache-ttl=30", "", amends("a.x", "300 IN A 8.8.8.8"), "NOERROR A 300", "NOERROR A 30"},
		{"min-cache-ttl=900", "", amends("a.x", "300 IN A 8.8.8.8"), "NOERROR A 300", "NOERROR A 900"},
		{"cache-size=100", "", field(func(c *dnsmasq.Config) any { return c.CacheSize }), "", "100"},
		{"no-negcache", "", amends("a.x", soaRR), "NOERROR SOA 300", "NOERROR SOA 0"},
		{"port=5353", "listen-address=127.0.0.1", listens, "127.0.0.1:53", "127.0.0.1:5353"},
		{"listen-address=127.0.0.9", "", listens, "127.0.0.1:53", "127.0.0.9:53"},
		{"interface=lo", "listen-address=127.0.0.9", listens, "127.0.0.9:53", "127.0.0.9:53 127.0.0.1:53"},
		{"bind-interfaces", "interface=nothing0\nexcept-interface=lo", listens, "", "interface nothing0: this machine has none of that name; wait for it with bind-dynamic"},
		{"bind-dynamic", "interface=nothing0", listens, "127.0.0.1:53", "127.0.0.1:53"},
		{"resolv-file=" + resolv, "", answers("db.x.example", dns.TypeA), no, there},
		{"no-resolv", "resolv-file=" + resolv, db, there, no},
		{"no-poll", "resolv-file=" + resolv, followed, "1", "0"},
		{"strict-order", "", habit(func(h dnsd.Habits) any { return h.StrictOrder }), "false", "true"},
		{"all-servers", "", habit(func(h dnsd.Habits) any { return h.AllServers }), "false", "true"},
		{"conf-file=" + dir + "/conf.d/a.conf", up, db, there, "NOERROR 10.1.0.1"},
		{"conf-dir=" + dir + "/conf.d", up, db, there, "NOERROR 10.1.0.1"},
		{"servers-file=" + servers, up, db, there, "upstream [192.0.2.8:53]"},
		{"log-queries", "", field(func(c *dnsmasq.Config) any { return c.LogQueries }), "false", "true"},
		{"edns-packet-max=1400", "", habit(func(h dnsd.Habits) any { return h.EDNSSize }), "0", "1400"},
		{"dns-forward-max=500", "", habit(func(h dnsd.Habits) any { return h.MaxWaiting }), "0", "500"},

		{"stop-dns-rebind", "", amends("a.x", "300 IN A 10.0.0.1"), "NOERROR A 300", "NOERROR"},
		{"rebind-localhost-ok", "stop-dns-rebind", amends("a.x", "300 IN A 127.0.0.1"), "NOERROR", "NOERROR A 300"},
		{"rebind-domain-ok=/x/", "stop-dns-rebind", amends("a.x", "300 IN A 10.0.0.1"), "NOERROR", "NOERROR A 300"},
		{"bogus-nxdomain=64.94.0.0/16", "", amends("a.x", "300 IN A 64.94.110.11"), "NOERROR A 300", "NXDOMAIN"},
		{"filter-A", "", amends("a.x", "300 IN A 8.8.8.8"), "NOERROR A 300", "NOERROR"},
		{"filter-AAAA", "", amends("a.x", "300 IN AAAA 2a00::1"), "NOERROR AAAA 300", "NOERROR"},
		{"filter-rr=TXT", "", amends("a.x", "300 IN TXT x"), "NOERROR TXT 300", "NOERROR"},
		{"filterwin2k", up, answers("_ldap._tcp.x.example", dns.TypeSRV), there, "NOERROR"},
		{"use-stale-cache=60", "", habit(func(h dnsd.Habits) any { return []any{h.StaleFirst, h.StaleFor} }), "[false 0s]", "[true 1m0s]"},
		{"fast-dns-retry=100,900", "", habit(func(h dnsd.Habits) any { return []any{h.Retry, h.Patience} }), "[0s 0s]", "[100ms 900ms]"},
		{"dns-loop-detect", up, db, there, there},
		{"localise-queries", "host-record=a.x,10.0.0.1\nhost-record=a.x,192.0.2.1", near, "NOERROR 10.0.0.1 192.0.2.1", "NOERROR 10.0.0.1"},
		{"no-round-robin", "host-record=a.x,10.0.0.1\nhost-record=a.x,192.0.2.1", first, "2", "1"},
		{"synth-domain=x.example,10.1.0.0/24,h-", up, answers("h-10-1-0-9.x.example", dns.TypeA), there, "NOERROR 10.1.0.9"},
		{"caa-record=x.example,0,issue,ca.example", up, answers("x.example", dns.TypeCAA), there, `NOERROR 0 issue "ca.example"`},
		{"naptr-record=x.example,1,2,U,SIP,!a!b!", up, answers("x.example", dns.TypeNAPTR), there, `NOERROR 1 2 "U" "SIP" "!a!b!" .`},
		{"dns-rr=x.example,65280,0102", up, answers("x.example", 65280), there, "NOERROR x.example.\t5\tCLASS1\tTYPE65280\t\\# 2 0102"},
		{"interface-name=lo.x.example,lo/4", up, answers("lo.x.example", dns.TypeA), there, "NOERROR 127.0.0.1"},
		{"auth-server=ns.x.example,127.0.0.9", "", listens, "127.0.0.1:53", "127.0.0.1:53 127.0.0.9:53"},
		{"auth-zone=y.example", authority + "host-record=db.y.example,10.1.0.2", worldSees("db.y.example", dns.TypeA), no, "NOERROR 10.1.0.2"},
		{"auth-ttl=55", authority, ttls("db.x.example", dns.TypeA), "600", "55"},
		{"auth-soa=7,hm@x.example,1,2,3", authority, soaOf, "hostmaster.ns.x.example. 1200 180 1209600 600", "hm.x.example. 1 2 3 600"},
		{"query-port=0", "", habit(func(h dnsd.Habits) any { return h.SourcePort != nil }), "false", "true"},
		{"min-port=20000", "", habit(func(h dnsd.Habits) any { return []any{h.FirstPort, h.LastPort} }), "[0 0]", "[20000 65535]"},
		{"max-port=30000", "", habit(func(h dnsd.Habits) any { return []any{h.FirstPort, h.LastPort} }), "[0 0]", "[1024 30000]"},
		{"max-tcp-connections=9", "", habit(func(h dnsd.Habits) any { return h.MaxConns }), "0", "9"},
		{"cache-rr=TXT", up, db, there, there},
		{"clear-on-reload", up, db, there, there},
		{"no-ident", "", field(func(c *dnsmasq.Config) any { return c.NoIdent }), "false", "true"},
	}
	var covered []string
	for _, row := range rows {
		name, _, _ := strings.Cut(row.option, "=")
		covered = append(covered, name)
		base := "no-hosts\n" + row.base
		if name == "no-hosts" {
			base = row.base
		}
		if !strings.Contains(base, "resolv-file=") {
			base += "\nresolv-file=" + dir + "/absent"
		}
		cfg := parse(t, base, row.option)
		if got := row.see(t, parse(t, base)); got != row.without {
			t.Errorf("without %s: %q, want %q", row.option, got, row.without)
		}
		if got := row.see(t, cfg); got != row.with {
			t.Errorf("with %s: %q, want %q", row.option, got, row.with)
		}
		note := cfg.Notes[slices.IndexFunc(cfg.Notes, func(n dnsmasq.Note) bool { return n.Option == row.option && n.Origin.File == "test.conf" })]
		isAlways := slices.Contains(strings.Fields(always), name)
		if !note.Applied || isAlways != (row.without == row.with) || isAlways && note.Why == "" {
			t.Errorf("%s: %+v", row.option, note)
		}
	}
	if want := strings.Fields(must + " " + should); !slices.Equal(covered, want) {
		t.Errorf("these are seen:\n%q\nand these are to be:\n%q", covered, want)
	}
}

// TestSources: where questions to a server leave from.
func TestSources(t *testing.T) {
	cfg := parse(t, "server=192.0.2.1@eth0", "server=/a.example/192.0.2.2#54@192.0.2.7", "rev-server=10.0.0.0/8,192.0.2.3@eth1@192.0.2.8", "server=192.0.2.4")
	want := map[netip.AddrPort]dnsd.Source{
		netip.MustParseAddrPort("192.0.2.1:53"): {Interface: "eth0"},
		netip.MustParseAddrPort("192.0.2.2:54"): {Addr: netip.MustParseAddr("192.0.2.7")},
		netip.MustParseAddrPort("192.0.2.3:53"): {Interface: "eth1", Addr: netip.MustParseAddr("192.0.2.8")},
	}
	if !maps.Equal(cfg.Habits.Sources, want) {
		t.Errorf("got %v, want %v", cfg.Habits.Sources, want)
	}
	if _, err := dnsmasq.ParseText("x", "server=192.0.2.1@eth0\nserver=/a/192.0.2.1@eth1"); err == nil || !strings.Contains(err.Error(), "x:2: server=/a/192.0.2.1@eth1: 192.0.2.1:53 is asked from another source") {
		t.Errorf("two sources of one server: %v", err)
	}
}

// soaOf sees the SOA of x.example, without its serial number.
func soaOf(t *testing.T, cfg *dnsmasq.Config) string {
	a := dnsmasq.New(cfg, nil).Authority().Answer(dns.Question{Name: "x.example.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET})
	soa, ok := a.Records[0].(*dns.SOA)
	if !ok || soa.Serial == 0 {
		t.Fatalf("SOA is %v", a.Records[0])
	}
	return fmt.Sprint(soa.Mbox, " ", soa.Refresh, " ", soa.Retry, " ", soa.Expire, " ", soa.Minttl)
}
