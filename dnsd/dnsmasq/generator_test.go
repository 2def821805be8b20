package dnsmasq_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/miekg/dns"
)

// A generator makes configurations and questions that meet in a small world
// of names, so that rules overlap.
type generator struct {
	*rand.Rand
	t       *testing.T
	dir     string
	servers []netip.AddrPort
	lines   []string
	asked   []string // names to ask for, beside the usual ones
	aliases map[string]bool
}

func newGenerator(t *testing.T, seed int, servers []netip.AddrPort) *generator {
	return &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 290)), t: t, dir: t.TempDir(), servers: servers, aliases: map[string]bool{}}
}

var (
	domainPool = []string{"x.example", "a.x.example", "y.example", "example", "corp.test", "single", "b.a.x.example", "168.192.in-addr.arpa"}
	labelPool  = []string{"a", "b", "db", "nx1", "private", "loopback", "bogus", "v4", "www", "deep.www"}
	hostPool   = []string{"db.x.example", "www.x.example", "single", "db", "nx1.x.example", "mail.corp.test", "y.example", "deep.www.y.example"}
	addrPool   = []string{"192.0.2.1", "10.1.2.3", "192.168.7.9", "2001:db8::7", "fd00::9", "192.0.2.2", "127.0.0.9"}
	typePool   = []uint16{
		dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeAAAA, dns.TypeTXT, dns.TypeMX, dns.TypeSRV, dns.TypeCNAME,
		dns.TypePTR, dns.TypeNS, dns.TypeSOA, dns.TypeCAA, dns.TypeNAPTR, dns.TypeHTTPS, 65280,
	}
)

func (g *generator) pick(pool []string) string { return pool[g.IntN(len(pool))] }

func (g *generator) add(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

// server returns a server in the form of a configuration.
func (g *generator) server(i int) string {
	return fmt.Sprintf("%v#%d", g.servers[i].Addr(), g.servers[i].Port())
}

// configuration returns between 4 and 18 lines.
func (g *generator) configuration() string {
	g.add("no-resolv")
	g.add("no-hosts")
	g.usualServers()
	g.authority()
	makers := []func(){g.domainRule, g.domainRule, g.domainRule, g.host, g.host, g.record, g.record, g.flag, g.hostsFile, g.synth}
	for range 3 + g.IntN(14) {
		makers[g.IntN(len(makers))]()
	}
	return strings.Join(g.lines, "\n") + "\n"
}

// usualServers adds the servers of every name: none, one, or two in a habit that
// says which of them is asked.
func (g *generator) usualServers() {
	switch n := g.IntN(12); n {
	case 0:
	case 1, 2:
		g.add("server=%s", g.server(0))
		g.add("server=%s", g.server(1))
		g.add("%s", []string{"strict-order", "all-servers"}[n-1])
	default:
		g.add("server=%s", g.server(0))
	}
}

// authority makes the server an authority for some of the domains: for its
// clients or, at the address that is asked, for the world.
func (g *generator) authority() {
	if g.IntN(4) > 0 {
		return
	}
	if g.IntN(2) == 0 {
		g.add("auth-server=ns.x.example")
	} else {
		g.add("auth-server=ns.x.example,127.0.0.1")
		g.add("auth-sec-servers=ns2.up.test,ns3.up.test") // dnsmasq's NS cannot be read where it is none itself
	}
	g.add("auth-soa=%d,hm@x.example,1,2", 1+g.IntN(9))
	g.add("auth-zone=x.example%s", g.pick([]string{"", ",192.168.7.0/24,10.0.0.0/8", ",192.168.0.0/16,exclude:192.168.7.9/32", ",lo/4"}))
	if g.IntN(2) == 0 {
		g.add("auth-zone=corp.test,2001:db8::/64,192.0.2.0/25")
	}
	for _, line := range []string{"auth-ttl=55", "cname=*.x.example,db.x.example", "cname=*.w.x.example,short"} {
		if g.IntN(3) == 0 {
			g.add("%s", line)
		}
	}
	g.asked = append(g.asked, "x.example", "x.example", "corp.test", "w.x.example", "v.w.x.example", "u.v.w.x.example", "short.x.example", "w.a.x.example",
		"7.168.192.in-addr.arpa", "10.in-addr.arpa")
}

func (g *generator) domainRule() {
	d := g.pick(domainPool)
	switch g.IntN(14) {
	case 0:
		d = "*" + d
	case 1:
		d += "/" + g.pick(domainPool)
	}
	switch g.IntN(10) {
	case 9:
		g.add("%s", g.pick([]string{"local=//", "address=/#/192.0.2.9", "address=/#/", "interface-name=lo.x.example,lo", "interface-name=y.example,lo/4"}))
	case 0:
		g.add("local=/%s/", d)
	case 1, 2:
		g.add("server=/%s/%s", d, g.server(1))
	case 3:
		g.add("server=/%s/#", d)
	case 4, 5:
		g.add("address=/%s/%s", d, g.pick(addrPool))
	case 6:
		g.add("address=/%s/#", d)
	case 7:
		g.add("address=/%s/", d)
	case 8:
		if g.IntN(2) == 0 {
			g.add("server=//%s", g.server(2))
		} else {
			g.add("rev-server=192.168.%d.0/%d,%s", g.IntN(8), 16+g.IntN(9), g.server(2))
		}
	}
}

func (g *generator) host() {
	parts := []string{g.pick(hostPool)}
	if g.IntN(3) == 0 {
		parts = append(parts, g.pick(hostPool))
	}
	parts = append(parts, g.pick(addrPool))
	if g.IntN(3) == 0 {
		parts = append(parts, g.pick(addrPool))
	}
	if g.IntN(4) == 0 {
		parts = append(parts, fmt.Sprint(g.IntN(500)))
	}
	g.add("host-record=%s", strings.Join(slices.Compact(parts), ","))
}

func (g *generator) record() {
	name := g.pick(hostPool)
	switch g.IntN(9) {
	case 0:
		if alias := g.pick([]string{"alias.x.example", "alias2.corp.test", "alias3"}); !g.aliases[alias] {
			g.aliases[alias] = true
			g.add("cname=%s,%s", alias, g.pick([]string{"db.x.example", "www.x.example", "away.up.test", "alias.x.example", "alias3"}))
			if _, err := dnsmasq.ParseText("conf", strings.Join(g.lines, "\n")); err != nil { // an alias of itself
				g.lines = g.lines[:len(g.lines)-1]
				g.aliases[alias] = false
			}
		}
	case 1:
		g.asked = append(g.asked, "_ldap._tcp."+name)
		g.add("srv-host=_ldap._tcp.%s,%s,%d,%d", name, g.pick(hostPool), g.IntN(700), g.IntN(9))
	case 2:
		g.add(`txt-record=%s,"a, quoted \"text\"",plain`, name)
	case 3:
		g.add("ptr-record=%s,%s", g.pick([]string{"1.2.0.192.in-addr.arpa", "_http._tcp." + name}), name)
		g.asked = append(g.asked, "_http._tcp."+name)
	case 4:
		g.add("mx-host=%s,%s,%d", name, g.pick(hostPool), g.IntN(60))
	case 5:
		g.add("caa-record=%s,0,issue,ca.example", name)
	case 6:
		g.add("naptr-record=%s,10,20,U,SIP,!^.*$!sip:a@b!", name)
	case 7:
		g.add("dns-rr=%s,65280,01:02:0a", name)
	case 8:
		g.add("txt-record=%s", name)
	}
}

func (g *generator) flag() {
	line := g.pick([]string{
		"domain-needed", "bogus-priv", "filterwin2k", "filter-A", "filter-AAAA", "filter-rr=TXT,MX", "stop-dns-rebind", "rebind-localhost-ok",
		"rebind-domain-ok=/x.example/", "bogus-nxdomain=64.94.110.11", "bogus-nxdomain=8.8.1.0/24", "local-ttl=77", "max-ttl=33",
		"no-round-robin", "localise-queries", "expand-hosts", "domain=x.example", "neg-ttl=20",
		"dns-forward-max=500", "edns-packet-max=1000", "min-port=20000", "max-port=60000", "query-port=0", "cache-rr=TXT", "clear-on-reload",
		"no-ident", "dns-loop-detect", "use-stale-cache", "fast-dns-retry", "max-tcp-connections=10",
	})
	if !slices.Contains(g.lines, line) {
		g.add("%s", line)
	}
}

func (g *generator) hostsFile() {
	path := filepath.Join(g.dir, fmt.Sprintf("hosts%d", len(g.lines)))
	var b strings.Builder
	for range 1 + g.IntN(4) {
		fmt.Fprintf(&b, "%s\t%s %s # a comment\n", g.pick(addrPool), g.pick(hostPool), g.pick(hostPool))
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		g.t.Fatal(err)
	}
	g.add("addn-hosts=%s", path)
}

func (g *generator) synth() {
	switch g.IntN(3) {
	case 0:
		g.add("synth-domain=x.example,192.168.7.0/24,host-")
		g.asked = append(g.asked, "host-192-168-7-9.x.example", "host-192-168-8-9.x.example", "host-x.x.example")
	case 1:
		g.add("synth-domain=corp.test,192.168.7.5,192.168.7.20,n*")
		g.asked = append(g.asked, "n0.corp.test", "n4.corp.test", "n99.corp.test")
	case 2:
		g.add("synth-domain=y.example,fd00::/120,six-")
		g.asked = append(g.asked, "six-fd00--9.y.example", "six-fd00--1-1.y.example")
	}
	g.asked = append(g.asked, "9.7.168.192.in-addr.arpa", "200.7.168.192.in-addr.arpa")
}

// questions returns distinct questions, in any spelling.
func (g *generator) questions() []dns.Question {
	pool := slices.Concat(hostPool, domainPool, g.asked, []string{
		"alias.x.example", "alias2.corp.test", "alias3", "ax.example", "lo.x.example", "1.0.0.127.in-addr.arpa", "9.0.0.127.in-addr.arpa", "unknown", "away.up.test", "1.2.0.192.in-addr.arpa",
		"3.2.1.10.in-addr.arpa", "9.7.168.192.in-addr.arpa", "8.8.8.8.in-addr.arpa",
		"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
	})
	for _, d := range domainPool {
		pool = append(pool, g.pick(labelPool)+"."+d, g.pick(labelPool)+"."+d)
	}
	seen := map[string]bool{}
	var out []dns.Question
	for len(out) < questionsPerConf {
		q := dns.Question{Name: dns.Fqdn(g.pick(pool)), Qtype: typePool[g.IntN(len(typePool))], Qclass: dns.ClassINET}
		if strings.HasSuffix(q.Name, ".arpa.") && g.IntN(3) > 0 {
			q.Qtype = dns.TypePTR
		}
		key := fmt.Sprint(q.Name, q.Qtype)
		if seen[key] {
			continue
		}
		seen[key] = true
		if g.IntN(2) == 0 {
			q.Name = g.spell(q.Name)
		}
		out = append(out, q)
	}
	return out
}

// spell returns a name in a random mixture of cases.
func (g *generator) spell(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c >= 'a' && c <= 'z' && g.IntN(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
