package dnsmasq_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// How much is compared.
const (
	configurations   = 200
	questionsPerConf = 45
	workers          = 4
)

// A trial is one question to both servers.
type trial struct {
	conf         string
	strict       bool
	q            dns.Question
	oracle, ours outcome
}

// An outcome is what can be seen of an answer: its rcode, its records with
// their TTLs, and which server was asked what for it.
type outcome struct {
	rcode  string
	answer []string
	asked  []string
}

func (o outcome) String() string {
	return fmt.Sprintf("%s %q, asked %q", o.rcode, o.answer, o.asked)
}

func (o outcome) equal(p outcome) bool {
	return o.rcode == p.rcode && slices.Equal(o.answer, p.answer) && slices.Equal(o.asked, p.asked)
}

// exceptions are where we differ from dnsmasq 2.90 on purpose. Beside them,
// authority and additional sections and the AA bit are not compared: negative
// answers of ours carry an SOA and AA (RFC 2308), so that clients do not ask
// again every few seconds.
var exceptions = []struct {
	name, reason string
	covers       func(trial) bool
}{
	{
		"types of a local host", "A client that asks for AAAA of a host with A alone must not wait for upstream servers, nor hear from them that the name does not exist. Strict restores dnsmasq's behaviour.",
		func(t trial) bool {
			return !t.strict && t.ours.rcode == "NOERROR" && len(t.ours.answer) == 0 && len(t.ours.asked) == 0 &&
				(len(t.oracle.asked) > 0 || t.oracle.rcode == "REFUSED" || t.oracle.rcode == "NXDOMAIN")
		},
	},
	{
		"empty rule and server of one domain", "That names of a domain do not exist outweighs a server of the same domain, as in dnsmasq 2.92; 2.90 asked the server.",
		func(t trial) bool {
			return len(t.ours.asked) == 0 && len(t.oracle.asked) > 0 && contradicts(t.conf, t.q.Name)
		},
	},
	{
		"name with a CAA or other record alone", "A name with data does exist; dnsmasq says so for some types of record only.",
		func(t trial) bool {
			name := strings.ToLower(strings.TrimSuffix(t.q.Name, "."))
			return t.oracle.rcode == "NXDOMAIN" && t.ours.rcode == "NOERROR" && len(t.ours.answer) == 0 && slices.Equal(t.ours.asked, t.oracle.asked) &&
				(strings.Contains(t.conf, "caa-record="+name+",") || strings.Contains(t.conf, "dns-rr="+name+","))
		},
	},
	{
		"names of one label", "dnsmasq 2.90 loses the rule of // where no server is left beside it, and refuses; we ask the server that is meant.",
		func(t trial) bool {
			return t.oracle.rcode == "REFUSED" && strings.Contains(t.conf, "=//") && strings.Count(t.q.Name, ".") == 1
		},
	},
	{
		"alias of a name that is not local", "An alias is followed wherever it leads; dnsmasq returns the CNAME alone, which stub resolvers take for no address.",
		func(t trial) bool {
			return len(t.oracle.asked) == 0 && t.oracle.rcode == "NOERROR" && len(t.oracle.answer) > 0 &&
				!slices.ContainsFunc(t.oracle.answer, func(s string) bool { return !strings.Contains(s, "\tcname\t") }) &&
				len(t.ours.answer) >= len(t.oracle.answer) && isSubset(t.oracle.answer, t.ours.answer)
		},
	},
}

// contradicts reports whether a configuration has both an empty rule and a
// server for a domain that a name lies in.
func contradicts(conf, name string) bool {
	cfg, err := dnsmasq.ParseText("conf", conf)
	if err != nil {
		return false
	}
	empty, server := map[string]bool{}, map[string]bool{}
	for _, d := range cfg.Domains {
		if d.NoDots && strings.Count(name, ".") > 1 || !strings.HasSuffix(strings.ToLower(name), strings.TrimPrefix(d.Domain+".", ".")) {
			continue
		}
		key := fmt.Sprint(d.Domain, d.Partial, d.NoDots)
		if d.Server.IsValid() || d.Usual {
			server[key] = true
		} else if !d.Addr.IsValid() && !d.Null {
			empty[key] = true
		}
	}
	for key := range empty {
		if server[key] {
			return true
		}
	}
	return false
}

func isSubset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// TestLikeDnsmasq asks Debian's dnsmasq 2.90 and us the same questions under
// the same generated configurations.
func TestLikeDnsmasq(t *testing.T) {
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/dnsmasq"); err != nil {
			t.Skip("NOT TESTED: dnsmasq is not installed; .ci/install installs it")
		}
	}
	if out, _ := exec.Command(path, "--version").Output(); !bytes.Contains(out, []byte("version 2.90")) {
		t.Skipf("NOT TESTED: the oracle is dnsmasq 2.90, not %.40s", out)
	}
	var mu sync.Mutex
	used := map[string]int{}
	var compared, different int
	t.Run("configurations", func(t *testing.T) {
		for w := range workers {
			t.Run(fmt.Sprint(w), func(t *testing.T) {
				t.Parallel()
				up := newScript(t, 3)
				for seed := w; seed < configurations; seed += workers {
					for _, tr := range compare(t, path, up, seed) {
						mu.Lock()
						compared++
						if tr.oracle.equal(tr.ours) {
							mu.Unlock()
							continue
						}
						i := slices.IndexFunc(exceptions, func(e struct {
							name, reason string
							covers       func(trial) bool
						},
						) bool {
							return e.covers(tr)
						})
						if i >= 0 {
							used[exceptions[i].name]++
						} else if different++; different <= 20 {
							t.Errorf("seed %d: %s %s\ndnsmasq: %v\nours:    %v\n%s", seed, tr.q.Name, dns.Type(tr.q.Qtype), tr.oracle, tr.ours, tr.conf)
						}
						mu.Unlock()
					}
				}
			})
		}
	})
	t.Logf("%d questions under %d configurations, %d differences, intended ones: %v", compared, configurations, different, used)
	if want := configurations * questionsPerConf; compared != want && !t.Failed() {
		t.Errorf("%d questions were compared, want %d", compared, want)
	}
	intended := 0
	for _, n := range used {
		intended += n
	}
	if intended > compared/10 {
		t.Errorf("%d of %d questions fall under exceptions; ask what dnsmasq and we should agree on", intended, compared)
	}
	for _, e := range exceptions {
		if used[e.name] == 0 && !t.Failed() {
			t.Errorf("exception %q was never needed; remove it, or ask what shows it", e.name)
		}
	}
}

// compare runs both servers with one configuration and asks them.
func compare(t *testing.T, path string, up *script, seed int) []trial {
	t.Helper()
	g := newGenerator(t, seed, up.addrs)
	conf := g.configuration()
	oracle := startOracle(t, path, conf, g.dir, seed%workers)
	defer oracle.stop()
	strict := seed%2 == 1
	ours, stop := startOurs(t, conf, strict)
	defer stop()
	var out []trial
	for _, q := range g.questions() {
		up.take()
		tr := trial{conf: conf, strict: strict, q: q}
		tr.oracle = exchange(t, oracle.addr, q)
		tr.oracle.asked = up.take()
		tr.ours = exchange(t, ours, q)
		tr.ours.asked = up.take()
		if !strings.Contains(conf, "local-ttl") {
			tr.ours.answer = zeroTTL(tr.ours.answer)
		}
		out = append(out, tr)
	}
	return out
}

// zeroTTL puts dnsmasq's TTL for local data in the place of ours: 0 has every
// client ask again for every connection.
func zeroTTL(answer []string) []string {
	var out []string
	for _, s := range answer {
		out = append(out, strings.Replace(s, "\t5\t", "\t0\t", 1))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// exchange asks one question.
func exchange(t *testing.T, addr string, q dns.Question) outcome {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Qtype)
	m.Question[0].Name = q.Name
	c := &dns.Client{Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		return outcome{rcode: err.Error()}
	}
	if r.Question[0].Name != q.Name {
		t.Errorf("%s: the question came back as %s", q.Name, r.Question[0].Name)
	}
	o := outcome{rcode: dns.RcodeToString[r.Rcode]}
	for _, rr := range r.Answer {
		text := rr.String()
		if rr.Header().Rrtype != dns.TypeTXT {
			text = strings.ToLower(text) // a compressed name takes on the spelling of the question
		}
		o.answer = append(o.answer, strings.ToLower(rr.Header().Name)+text[len(rr.Header().Name):])
	}
	slices.Sort(o.answer)
	o.answer = slices.Compact(o.answer) // dnsmasq repeats a record that is configured twice
	return o
}

// An oracle is a dnsmasq at work.
type oracle struct {
	addr string
	cmd  *exec.Cmd
}

// freePort returns an address that is free, and outside of the range from
// which the system gives ports to others until dnsmasq has taken it.
func freePort(t *testing.T, worker int) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+1000*worker+rand.IntN(1000))
		udp, tcp, err := dnsd.Listen(addr)
		if err == nil {
			udp.Close()
			tcp.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func startOracle(t *testing.T, path, conf, dir string, worker int) *oracle {
	t.Helper()
	file := filepath.Join(dir, "dnsmasq.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freePort(t, worker)
	_, port, _ := net.SplitHostPort(addr)
	o := &oracle{addr: addr}
	var log bytes.Buffer
	o.cmd = exec.Command(path, "--keep-in-foreground", "--conf-file="+file, "--user=", "--pid-file=", "--bind-interfaces",
		"--listen-address=127.0.0.1", "--port="+port, "--cache-size=0", "--log-facility=-")
	o.cmd.Stderr = &log
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("version.bind.", dns.TypeTXT)
	m.Question[0].Qclass = dns.ClassCHAOS
	c := &dns.Client{Timeout: 100 * time.Millisecond}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(3 * time.Millisecond) {
		if _, _, err := c.Exchange(m, addr); err == nil {
			return o
		}
		if time.Now().After(deadline) {
			o.stop()
			t.Fatalf("dnsmasq does not answer:\n%s\n%s", log.String(), conf)
		}
	}
}

func (o *oracle) stop() {
	o.cmd.Process.Kill()
	o.cmd.Wait()
}

// startOurs serves a configuration with dnsd.
func startOurs(t *testing.T, conf string, strict bool) (addr string, stop func()) {
	t.Helper()
	cfg, err := dnsmasq.ParseText("dnsmasq.conf", conf)
	if err != nil {
		t.Fatalf("%v\n%s", err, conf)
	}
	cfg.Strict = strict
	return serve(t, dnsmasq.New(cfg, nil).At(netip.MustParsePrefix("127.0.0.0/8")))
}

// serve runs a resolver with rules until stop is called.
func serve(t *testing.T, rules dnsd.Rules) (addr string, stop func()) {
	t.Helper()
	s, err := dnsd.New(dnsd.Config{Directory: nobody{}, CacheEntries: -1, ResolvConf: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: &dnsd.Resolver{Rules: rules}})
	}()
	return udp.LocalAddr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// nobody is a directory without clones and zones.
type nobody struct{}

func (nobody) Lookup(string) (registry.Target, bool)     { return registry.Target{}, false }
func (nobody) Clone(registry.ID) (*registry.Clone, bool) { return nil, false }
func (nobody) Revision() uint64                          { return 0 }
func (nobody) Zones() *registry.Zones                    { return new(registry.Zones) }

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
	if g.IntN(12) > 0 {
		g.add("server=%s", g.server(0))
	}
	makers := []func(){g.domainRule, g.domainRule, g.domainRule, g.host, g.host, g.record, g.record, g.flag, g.hostsFile, g.synth}
	for range 3 + g.IntN(14) {
		makers[g.IntN(len(makers))]()
	}
	return strings.Join(g.lines, "\n") + "\n"
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
