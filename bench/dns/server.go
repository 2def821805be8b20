package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// Names of servers that appear twice or only as a yardstick: they answer for
// their own zone alone.
const (
	oursAuthoritative = "clonegate, authoritative"
	nsd               = "NSD, authoritative"
)

// servers are all that can be put to the test; the first is ours.
func servers() []lab.Server {
	return []lab.Server{
		{Name: lab.Ours, Start: startOurs},
		{Name: "dnsmasq", Program: lab.Program{Name: "dnsmasq", Package: "dnsmasq-base"}, Start: startDnsmasq},
		{Name: "Unbound", Program: lab.Program{Name: "unbound", Package: "unbound"}, Start: startUnbound},
		{Name: "CoreDNS", Program: lab.Program{Name: "coredns", Module: "github.com/coredns/coredns@v1.15.0"}, Start: startCoreDNS},
		{Name: "Knot Resolver", Program: lab.Program{Name: "kresd", Package: "knot-resolver"}, Start: startKnot},
		{Name: nsd, Program: lab.Program{Name: "nsd", Package: "nsd"}, Start: startNSD},
	}
}

// rivals are the servers that ours is held against.
func rivals() []string { return []string{"dnsmasq", "Unbound", "CoreDNS", "Knot Resolver"} }

// hosts is the names of all clones in the form of /etc/hosts.
func hosts(site *lab.Site) string {
	var text strings.Builder
	for id := range site.Clones {
		fmt.Fprintf(&text, "%s %s\n", load.Addr(id), load.Host(id))
	}
	return text.String()
}

// soa is the record that stands at the top of the zone.
const soa = "SOA ns." + lab.Zone + ". hostmaster." + lab.Zone + ". 1 3600 600 86400 60"

// zone is the names of all clones as a zone file.
func zone(site *lab.Site) string {
	var text strings.Builder
	fmt.Fprintf(&text, "$ORIGIN %s.\n$TTL 60\n@ %s\n@ NS ns\nns A 127.0.0.1\n", lab.Zone, soa)
	for id := range site.Clones {
		fmt.Fprintf(&text, "%s. A %s\n", load.Host(id), load.Addr(id))
	}
	return text.String()
}

// noForwards are the tests that authoritative servers have nothing for.
func noForwards() map[string]bool { return map[string]bool{"zipf": true, "miss": true} }

func startOurs(ctx context.Context, site *lab.Site) ([]*lab.Subject, error) {
	gate, err := lab.StartGate(ctx, lab.GateConfig{
		Binary: site.Program, Dir: site.Dir, CertDir: site.CertDir, Clones: site.Clones, Upstream: site.Backend,
		Endpoint: func(id int) netip.AddrPort { return netip.AddrPortFrom(load.Addr(id), 8080) },
	})
	if err != nil {
		return nil, err
	}
	pids := []int{gate.PID}
	return []*lab.Subject{
		{Name: lab.Ours, Addr: gate.Resolver, Process: gate.Process, PIDs: pids, Gate: gate, Stop: gate.Stop},
		{Name: oursAuthoritative, Addr: gate.Authoritative, Process: gate.Process, PIDs: pids, Lacks: noForwards(), Stop: func() {}},
	}, nil
}

func startDnsmasq(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	return site.Launch(&lab.Subject{Name: "dnsmasq", Addr: addr}, map[string]string{"hosts": hosts(site)}, 1,
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-",
		fmt.Sprintf("--port=%d", addr.Port()), "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts",
		"--addn-hosts="+filepath.Join(site.Dir, "hosts"), "--local=/"+lab.Zone+"/", "--local-ttl=60",
		fmt.Sprintf("--server=/%s/%s#%d", upstreamZone, site.Backend.Addr(), site.Backend.Port()),
		"--cache-size=20000", "--dns-forward-max=2000")
}

// knotConfig has no rule for what does not exist: its policy module denies a
// zone before its hints are looked at.
const knotConfig = `net.listen('127.0.0.1', %d, { kind = 'dns' })
modules = { 'hints > iterate' }
hints.config('%s/hosts')
hints.ttl(60)
cache.size = 100 * MB
policy.add(policy.suffix(policy.STUB('%s@%d'), {todname('%s')}))
log_level('err')
trust_anchors.remove('.')
`

func startKnot(_ context.Context, site *lab.Site) ([]*lab.Subject, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"hosts":      hosts(site),
		"kresd.conf": fmt.Sprintf(knotConfig, addr.Port(), site.Dir, site.Backend.Addr(), site.Backend.Port(), upstreamZone),
	}
	return site.Launch(&lab.Subject{Name: "Knot Resolver", Addr: addr, Lacks: map[string]bool{"unknown": true}}, files, lab.Workers,
		"--noninteractive", "--config="+filepath.Join(site.Dir, "kresd.conf"), site.Dir)
}
