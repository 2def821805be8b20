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
	random := rand.New(rand.NewPCG(1, 2))
	compareServers(t, random, ours, theirs, 1500)

	start := time.Now()
	register(t, r, "99", shopRegistration("99"))
	eventually(t, 2*time.Second, "seen by NSD that a clone has come", func() bool { return resolves(theirs, "www-99."+zone+".") })
	t.Logf("NSD followed within %v", time.Since(start))
	seven, moved := shopRegistration("7"), shopRegistration("77")
	moved.Aliases, moved.Hosts["new"] = seven.Aliases, []string{"10.80.2.2"} // an alias moves from one to another
	seven.Aliases = nil
	register(t, r, "7", seven)
	register(t, r, "77", moved)
	if _, err := r.Unregister(t.Context(), registry.System, "7", "i7"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 4*time.Second, "level with us", same)
	compareServers(t, random, ours, theirs, 1500)
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
//   - ANY: one HINFO from us (RFC 8482)
//   - loops of aliases: SERVFAIL from us, for 10 steps lead nowhere; the other
//     gives the loop away
//   - beneath HINFO at _acme-challenge: it stands there so that the name exists
//   - delegations and DNAME: clones cannot make any
func compareServers(t *testing.T, random *rand.Rand, ours, theirs string, n int) {
	t.Helper()
	firsts := []string{
		"", "www", "api", "db", "dual", "deep", "b.deep", "a.b.deep", "c.b.deep", "mail", "out", "front", "nowhere", "x.wild", "wild", "*.wild", "q.x.wild",
		"x.y.wild", "y.wild", "z.y.wild", "_sip._tcp", "_tcp", "odd", "x.db", "a.b", "b", "z.b", "q.z.b", "*", "*.b", "any.thing", "_acme-challenge", "new", "com", "tenant",
	}
	seconds := []string{
		"1234", "7", "77", "99", "100", "plain", "star", "empty", "pr-1234", "pr-7", "www-1234", "api-pr-77", "www-7", "www-plain", "api-plain", "ns",
		"_acme-challenge", "www", "no-1234", "www-12345", "tenant.www-1234", "_acme-challenge.tenant.www-1234", "",
	}
	types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeCNAME, dns.TypeSRV, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeDS, 65280}
	for range n {
		parts := []string{firsts[random.IntN(len(firsts))], seconds[random.IntN(len(seconds))], []string{zone, alias}[random.IntN(2)]}
		name := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ".") + "."
		m := new(dns.Msg).SetQuestion(name, types[random.IntN(len(types))])
		m.RecursionDesired = random.IntN(2) == 0
		if random.IntN(2) == 0 {
			m.SetEdns0(1232, false)
		}
		if got, want := comparable(send(t, ours, m)), comparable(send(t, theirs, m)); got != want {
			t.Errorf("%s %s:\n  we say\n%s\n  NSD says\n%s", name, dns.Type(m.Question[0].Qtype), got, want)
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
