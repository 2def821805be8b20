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

// A server is one under test, running and with its names.
type server struct {
	name string
	addr netip.AddrPort
	pids []int
	gate *lab.Gate       // if it is ours
	lack map[string]bool // tests it has nothing for
	stop func()
}

// A kind is a server that can be put to the test.
type kind struct {
	lab.Server
	start func(ctx context.Context, s *site) ([]*server, error)
}

// Names of servers that appear twice or only as a yardstick: they answer for
// their own zone alone.
const (
	oursAuthoritative = "clonegate, authoritative"
	nsd               = "NSD, authoritative"
)

// kinds are all of them; the first is ours.
func kinds() []kind {
	return []kind{
		{lab.Server{Name: lab.Ours}, startOurs},
		{lab.Server{Name: "dnsmasq", Program: lab.Program{Name: "dnsmasq", Package: "dnsmasq-base"}}, startDnsmasq},
		{lab.Server{Name: "Unbound", Program: lab.Program{Name: "unbound", Package: "unbound"}}, startUnbound},
		{lab.Server{Name: "CoreDNS", Program: lab.Program{Name: "coredns", Module: "github.com/coredns/coredns@v1.15.0"}}, startCoreDNS},
		{lab.Server{Name: "Knot Resolver", Program: lab.Program{Name: "kresd", Package: "knot-resolver"}}, startKnot},
		{lab.Server{Name: nsd, Program: lab.Program{Name: "nsd", Package: "nsd"}}, startNSD},
	}
}

// rivals are the servers that ours is held against.
func rivals() []string { return []string{"dnsmasq", "Unbound", "CoreDNS", "Knot Resolver"} }

// A site is what a server of one round is started with.
type site struct {
	dir      string // of its own
	certDir  string
	program  string // path of the executable
	clones   int
	upstream netip.AddrPort
}

// hosts is the names of all clones in the form of /etc/hosts.
func (s *site) hosts() string {
	var text strings.Builder
	for id := range s.clones {
		fmt.Fprintf(&text, "%s %s\n", load.Addr(id), load.Host(id))
	}
	return text.String()
}

// soa is the record that stands at the top of the zone.
const soa = "SOA ns." + lab.Zone + ". hostmaster." + lab.Zone + ". 1 3600 600 86400 60"

// zone is the names of all clones as a zone file.
func (s *site) zone() string {
	var text strings.Builder
	fmt.Fprintf(&text, "$ORIGIN %s.\n$TTL 60\n@ %s\n@ NS ns\nns A 127.0.0.1\n", lab.Zone, soa)
	for id := range s.clones {
		fmt.Fprintf(&text, "%s. A %s\n", load.Host(id), load.Addr(id))
	}
	return text.String()
}

// launch writes files, starts a program so many times with them, and waits
// until it answers for the last clone.
func (s *site) launch(ctx context.Context, srv *server, files map[string]string, processes int, args ...string) ([]*server, error) {
	if err := lab.WriteFiles(s.dir, files); err != nil {
		return nil, err
	}
	var started []*lab.Process
	srv.stop = func() {
		for _, p := range started {
			p.Stop()
		}
	}
	for i := range processes {
		p, err := lab.Start(s.dir, fmt.Sprintf("process-%d", i), s.program, args...)
		if err != nil {
			srv.stop()
			return nil, err
		}
		started = append(started, p)
		srv.pids = append(srv.pids, p.PID)
	}
	return s.serving(ctx, started[0], srv)
}

// serving waits until servers of a process answer; otherwise it stops the first.
func (s *site) serving(ctx context.Context, p *lab.Process, all ...*server) ([]*server, error) {
	for _, srv := range all {
		err := p.Ready(ctx, func(ctx context.Context) error {
			if err := lookUp(ctx, srv.addr, load.Host(s.clones-1)); err != nil || srv.lack["zipf"] {
				return err
			}
			return lookUp(ctx, srv.addr, "ready."+upstreamZone)
		})
		if err != nil {
			all[0].stop()
			return nil, fmt.Errorf("start %s: %w", srv.name, err)
		}
	}
	return all, nil
}

// noForwards are the tests that authoritative servers have nothing for.
func noForwards() map[string]bool { return map[string]bool{"zipf": true, "miss": true} }

func startOurs(ctx context.Context, s *site) ([]*server, error) {
	gate, err := lab.StartGate(ctx, lab.GateConfig{
		Binary: s.program, Dir: s.dir, CertDir: s.certDir, Clones: s.clones, Upstream: s.upstream,
		Endpoint: func(id int) netip.AddrPort { return netip.AddrPortFrom(load.Addr(id), 8080) },
	})
	if err != nil {
		return nil, err
	}
	pids := []int{gate.PID}
	return s.serving(ctx, gate.Process,
		&server{name: lab.Ours, addr: gate.Resolver, pids: pids, gate: gate, stop: gate.Stop},
		&server{name: oursAuthoritative, addr: gate.Authoritative, pids: pids, lack: noForwards(), stop: func() {}})
}

func startDnsmasq(ctx context.Context, s *site) ([]*server, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	return s.launch(ctx, &server{name: "dnsmasq", addr: addr}, map[string]string{"hosts": s.hosts()}, 1,
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-",
		fmt.Sprintf("--port=%d", addr.Port()), "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts",
		"--addn-hosts="+filepath.Join(s.dir, "hosts"), "--local=/"+lab.Zone+"/", "--local-ttl=60",
		fmt.Sprintf("--server=/%s/%s#%d", upstreamZone, s.upstream.Addr(), s.upstream.Port()),
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

func startKnot(ctx context.Context, s *site) ([]*server, error) {
	addr, err := lab.FreePort()
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"hosts":      s.hosts(),
		"kresd.conf": fmt.Sprintf(knotConfig, addr.Port(), s.dir, s.upstream.Addr(), s.upstream.Port(), upstreamZone),
	}
	return s.launch(ctx, &server{name: "Knot Resolver", addr: addr, lack: map[string]bool{"unknown": true}}, files, lab.Workers,
		"--noninteractive", "--config="+filepath.Join(s.dir, "kresd.conf"), s.dir)
}
