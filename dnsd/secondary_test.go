package dnsd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// openRegistry returns a registry at work, which ends with the test.
func openRegistry(t *testing.T) *registry.Registry {
	t.Helper()
	zones, err := registry.NewZones(zone, alias)
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), registry.Config{Store: registrytest.NewStore(), Zones: zones, CheckRecord: dnsd.CheckRecord})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// nsdConf writes the configuration of an NSD that holds copies of both zones,
// signed with a key of which this is the secret, unless that is empty.
func nsdConf(t *testing.T, port, primary uint16, secret string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`server:
	ip-address: 127.0.0.1
	port: %d
	username: ""
	chroot: ""
	zonesdir: %q
	database: ""
	pidfile: %q
	xfrdfile: %q
	zonelistfile: %q
	xfrdir: %q
	server-count: 1
	verbosity: 2
	refuse-any: no
	minimal-responses: yes
	round-robin: no
	rrl-ratelimit: 0
remote-control:
	control-enable: no
`, port, dir, dir+"/pid", dir+"/xfrd.state", dir+"/zone.list", dir)
	key := "NOKEY"
	if secret != "" {
		key = "xfr.test"
		text += fmt.Sprintf("key:\n\tname: %q\n\talgorithm: hmac-sha256\n\tsecret: %q\n", key, secret)
	}
	for _, z := range []string{zone, alias} {
		text += fmt.Sprintf("zone:\n\tname: %q\n\tzonefile: %q\n\trequest-xfr: 127.0.0.1@%d %s\n\tallow-notify: 127.0.0.1 %s\n", z, z+".zone", primary, key, key)
	}
	conf := filepath.Join(dir, "nsd.conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// freePort returns a port that was free a moment ago, for UDP and TCP.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp.Close()
	tcp.Close()
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// serialOf returns the serial number of a zone at a server, 0 if it has none.
func serialOf(addr, zone string) uint32 {
	m := new(dns.Msg).SetQuestion(zone+".", dns.TypeSOA)
	c := &dns.Client{Timeout: time.Second}
	if r, _, err := c.Exchange(m, addr); err == nil && len(r.Answer) == 1 {
		return r.Answer[0].(*dns.SOA).Serial
	}
	return 0
}

// eventually waits until what holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > within {
			t.Fatalf("after %v: not yet %s", within, what)
		}
	}
}

// shopRegistration is shop as a startup script registers it.
func shopRegistration(id string) registry.Registration {
	c := shop(registry.ID(id))
	reg := registry.Registration{Instance: "i" + id, Aliases: c.Aliases, Services: map[string]registry.ServiceRegistration{}, Hosts: map[string][]string{}, Records: c.Records}
	for name, s := range c.Services {
		reg.Services[name] = registry.ServiceRegistration{Endpoints: []string{s.Endpoints[0].String()}, Default: s.Default}
	}
	for name, addrs := range c.Hosts {
		if strings.HasPrefix(string(name), "_odd") {
			continue
		}
		for _, a := range addrs {
			reg.Hosts[string(name)] = append(reg.Hosts[string(name)], a.String())
		}
	}
	return reg
}

func register(t *testing.T, r *registry.Registry, id string, reg registry.Registration) {
	t.Helper()
	if _, err := r.Register(t.Context(), registry.System, registry.ID(id), reg, false); err != nil {
		t.Fatal(err)
	}
}

// TestSecondary has Debian's NSD hold a copy of the zones, which it keeps up to
// date by NOTIFY and IXFR, and compares its answers with ours. NSD reads the
// records as any master file, so this is where our idea of wildcards, empty
// non-terminals, aliases and negative answers meets another.
func TestSecondary(t *testing.T) {
	program(t, "nsd")
	r := openRegistry(t)
	for _, id := range []string{"1234", "7", "77"} {
		register(t, r, id, shopRegistration(id))
	}
	register(t, r, "plain", registry.Registration{Instance: "p", Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{"10.80.1.1:80"}}}})
	register(t, r, "star", registry.Registration{Instance: "s", Hosts: map[string][]string{"a.b": {"10.80.1.2"}}, Records: []registry.Record{
		{Name: "*", Type: "A", Data: "10.80.1.3"}, {Name: "*.b", Type: "CNAME", Data: "a.b"}, {Name: "a.b", Type: "A", TTL: 3, Data: "10.80.1.2"},
	}})
	register(t, r, "empty", registry.Registration{Instance: "e"})
	random := rand.New(rand.NewPCG(1, 2))
	for i := range randomClones {
		register(t, r, fmt.Sprint("r", i), randomRegistration(random))
	}
	challenges, metrics := new(dnsd.Challenges), prometheus.NewRegistry()
	nsdAddr := freePort(t)
	s := serve(t, dnsd.Config{Directory: r.View(), Challenges: challenges, Metrics: metrics, Secondaries: []dnsd.Secondary{{
		Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Notify: []netip.AddrPort{nsdAddr},
	}}}, nil)
	ours, theirs := s.addrs[0], nsdAddr.String()
	startDaemon(t, "nsd", "-d", "-c", nsdConf(t, nsdAddr.Port(), netip.MustParseAddrPort(ours).Port(), ""))
	same := func() bool {
		return serialOf(theirs, zone) == serialOf(ours, zone) && serialOf(theirs, alias) == serialOf(ours, alias)
	}
	eventually(t, 10*time.Second, "loaded by NSD", same)
	compareServers(t, random, ours, theirs, 1500)
	compareRandom(t, random, ours, theirs, 3000)

	start := time.Now()
	register(t, r, "99", shopRegistration("99"))
	eventually(t, 2*time.Second, "seen by NSD that a clone has come", func() bool { return resolves(theirs, "www-99."+zone+".") })
	t.Logf("NSD followed within %v", time.Since(start))
	seven, moved := shopRegistration("7"), shopRegistration("77")
	register(t, r, "r0", randomRegistration(random))
	moved.Aliases, moved.Hosts["new"] = seven.Aliases, []string{"10.80.2.2"} // an alias moves from one to another
	seven.Aliases = nil
	register(t, r, "7", seven)
	register(t, r, "77", moved)
	if _, err := r.Unregister(t.Context(), registry.System, "7", "i7"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 4*time.Second, "level with us", same)
	compareServers(t, random, ours, theirs, 1500)
	compareRandom(t, random, ours, theirs, 1500)
	if n := gather(t, metrics)["clonegate_dns_transfers_total axfr ok"]; n != 2 {
		t.Errorf("%v whole transfers, want the first of each of two zones and then differences", n)
	}
	challenges.Set("_acme-challenge."+zone, "token")
	challenges.Set("_acme-challenge.tenant.www-1234."+zone, "deep")
	register(t, r, "100", shopRegistration("100"))
	eventually(t, 4*time.Second, "level with us", same)
	compareServers(t, random, ours, theirs, 1500)
}

func resolves(addr, name string) bool {
	c := &dns.Client{Timeout: time.Second}
	r, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), addr)
	return err == nil && r.Rcode == dns.RcodeSuccess
}

// compareServers asks two servers the same random questions. Where we differ
// from a server of plain zone files on purpose is not asked:
//
//   - beneath HINFO at _acme-challenge: it stands there so that the name exists
//   - delegations and DNAME: clones cannot make any (see TestNoDelegations)
func compareServers(t *testing.T, random *rand.Rand, ours, theirs string, n int) {
	t.Helper()
	firsts := []string{
		"", "www", "api", "db", "dual", "deep", "b.deep", "a.b.deep", "c.b.deep", "mail", "out", "front", "nowhere", "loop1", "x.loop2", "x.wild", "wild", "*.wild", "q.x.wild",
		"x.y.wild", "y.wild", "z.y.wild", "_sip._tcp", "_tcp", "odd", "x.db", "a.b", "b", "z.b", "q.z.b", "*", "*.b", "any.thing", "_acme-challenge", "new", "com", "tenant",
	}
	seconds := []string{
		"1234", "7", "77", "99", "100", "plain", "star", "empty", "pr-1234", "pr-7", "www-1234", "api-pr-77", "www-7", "www-plain", "api-plain", "ns",
		"_acme-challenge", "www", "no-1234", "www-12345", "tenant.www-1234", "_acme-challenge.tenant.www-1234", "",
	}
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeCNAME, dns.TypeSRV, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeDS, dns.TypeANY, 65280}
	for range n {
		parts := []string{firsts[random.IntN(len(firsts))], seconds[random.IntN(len(seconds))], []string{zone, alias}[random.IntN(2)]}
		name := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ".") + "."
		m := new(dns.Msg).SetQuestion(name, types[random.IntN(len(types))])
		m.RecursionDesired = random.IntN(2) == 0
		if random.IntN(2) == 0 {
			m.SetEdns0(1232, false)
		}
		compareAnswers(t, ours, theirs, m)
	}
}

// compareAnswers asks both servers one question. Two differences are on purpose,
// and have to be there: ANY gets one HINFO from us (RFC 8482 §4.2), and aliases
// that lead in a circle get SERVFAIL, since 10 steps of them lead nowhere; the
// other gives the whole circle away.
func compareAnswers(t *testing.T, ours, theirs string, m *dns.Msg) {
	t.Helper()
	we, they := send(t, ours, m), send(t, theirs, m)
	got, want := comparable(we), comparable(they)
	switch {
	case m.Question[0].Qtype == dns.TypeANY && len(they.Answer) > 0:
		got, want = short(we), "NOERROR; HINFO \"RFC8482\" \"\""
	case m.Question[0].Qtype != dns.TypeCNAME && isCircle(they.Answer):
		got, want = short(we), "SERVFAIL"
	}
	if got != want {
		t.Errorf("%s %s:\n  we say\n%s\n  NSD says\n%s", m.Question[0].Name, dns.Type(m.Question[0].Qtype), got, want)
	}
}

// isCircle reports whether aliases lead back to where they were.
func isCircle(answer []dns.RR) bool {
	to := map[string]string{}
	for _, rr := range answer {
		if alias, ok := rr.(*dns.CNAME); ok {
			to[strings.ToLower(alias.Hdr.Name)] = strings.ToLower(alias.Target)
		}
	}
	for start := range to {
		for at, steps := to[start], 0; at != "" && steps <= len(to); at, steps = to[at], steps+1 {
			if at == start {
				return true
			}
		}
	}
	return false
}

// randomClones is how many clones have records at random.
const randomClones = 8

// randomName returns a name of up to three labels, few of them different, so
// that names meet: one beneath another, beneath a wildcard, or in between.
func randomName(random *rand.Rand, wildcard bool) string {
	labels := make([]string, 1+random.IntN(3))
	for i := range labels {
		labels[i] = string("ab"[random.IntN(2)])
	}
	if wildcard && random.IntN(3) == 0 {
		labels[0] = "*"
	}
	return strings.Join(labels, ".")
}

// randomRegistration returns a clone with addresses, texts and aliases at random
// names: aliases to each other, to wildcards, beneath them, and to nothing.
func randomRegistration(random *rand.Rand) registry.Registration {
	reg := registry.Registration{Instance: "r"}
	taken := map[string]string{} // types by name
	for range 6 + random.IntN(12) {
		name, kind := randomName(random, true), []string{"A", "TXT", "CNAME", "CNAME"}[random.IntN(4)]
		if taken[name] != "" && (kind == "CNAME" || taken[name] == "CNAME") {
			continue
		}
		taken[name] = kind
		rec := registry.Record{Name: name, Type: kind, TTL: 30}
		switch kind {
		case "A":
			rec.Data = fmt.Sprintf("10.9.%d.%d", random.IntN(256), random.IntN(256))
		case "TXT":
			rec.Data = fmt.Sprint("t", random.IntN(1000))
		case "CNAME":
			rec.Data = randomName(random, random.IntN(4) == 0)
			if random.IntN(8) == 0 {
				rec.Data = "www.example.net."
			}
		}
		reg.Records = append(reg.Records, rec)
	}
	return reg
}

// compareRandom asks for names at, above and beneath those of random clones.
func compareRandom(t *testing.T, random *rand.Rand, ours, theirs string, n int) {
	t.Helper()
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeTXT, dns.TypeCNAME, dns.TypeAAAA, dns.TypeANY, dns.TypeNS}
	circles := 0
	for range n {
		name := fmt.Sprintf("%s.r%d.%s.", randomName(random, true), random.IntN(randomClones), []string{zone, alias}[random.IntN(2)])
		if random.IntN(10) == 0 {
			name = "d." + name
		}
		m := new(dns.Msg).SetQuestion(name, types[random.IntN(len(types))])
		if random.IntN(2) == 0 {
			m.SetEdns0(1232, false)
		}
		compareAnswers(t, ours, theirs, m)
		if isCircle(send(t, theirs, m).Answer) {
			circles++
		}
	}
	t.Logf("%d of %d questions met aliases in a circle", circles, n)
	if circles == 0 || circles > n/2 {
		t.Errorf("%d of %d questions met aliases in a circle, so this compares little", circles, n)
	}
}

// TestNoDelegations: a clone cannot give a part of the zone to somebody else,
// nor redirect all that is below a name.
func TestNoDelegations(t *testing.T) {
	r := openRegistry(t)
	for _, rec := range []registry.Record{
		{Name: "sub", Type: "NS", Data: "ns.example.net."},
		{Name: "sub", Type: "ns", Data: "ns.sub"},
		{Name: "sub", Type: "TYPE2", Data: `\# 1 00`},
		{Name: "@", Type: "NS", Data: "ns.example.net."},
		{Name: "*", Type: "NS", Data: "ns.example.net."},
		{Name: "sub", Type: "DNAME", Data: "example.net."},
		{Name: "sub", Type: "DS", Data: "1 8 2 " + strings.Repeat("ab", 32)},
		{Name: "sub", Type: "SOA", Data: ". . 1 2 3 4 5"},
	} {
		reg := registry.Registration{Instance: "i", Records: []registry.Record{rec}}
		if _, err := r.Register(t.Context(), registry.System, "1234", reg, false); err == nil || !strings.Contains(err.Error(), "belongs to the zone") {
			t.Errorf("%s %s: %v, want that it belongs to the zone", rec.Name, rec.Type, err)
		}
	}
}

// comparable returns what two servers have to agree on.
func comparable(m *dns.Msg) string {
	var lines []string
	for _, rr := range m.Answer {
		lines = append(lines, rr.String())
	}
	slices.Sort(lines)
	head := fmt.Sprintf("%s AA=%t TC=%t RA=%t", dns.RcodeToString[m.Rcode], m.Authoritative, m.Truncated, m.RecursionAvailable)
	for _, rr := range m.Ns {
		if _, isSOA := rr.(*dns.SOA); isSOA {
			lines = append(lines, "authority: "+rr.String())
		}
	}
	return strings.Join(append([]string{head}, lines...), "\n")
}
