package main

import (
	"context"
	"net/netip"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// servers are all that can be put to the test; the first is ours.
func servers() []lab.Server {
	return []lab.Server{
		{Name: lab.Ours, Start: startOurs},
		{Name: "nginx", Program: lab.Program{Name: "nginx", Package: "nginx"}, Start: startNginx},
		{Name: "HAProxy", Program: lab.Program{Name: "haproxy", Package: "haproxy"}, Start: startHAProxy},
		{Name: "Caddy", Program: lab.Program{Name: "caddy", Module: "github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9"}, Start: startCaddy},
	}
}

// rivals are the servers that ours is held against; Caddy is held against ours.
func rivals() []string { return []string{"nginx", "HAProxy"} }

// endpoint is where clone id listens: the origin has every address of loopback.
func endpoint(site *lab.Site, id int) netip.AddrPort {
	return netip.AddrPortFrom(load.Addr(id), site.Backend.Port())
}

func startOurs(ctx context.Context, site *lab.Site) ([]*lab.Subject, error) {
	gate, err := lab.StartGate(ctx, lab.GateConfig{
		Binary: site.Program, Dir: site.Dir, CertDir: site.CertDir, Clones: site.Clones,
		Endpoint: func(id int) netip.AddrPort { return endpoint(site, id) },
	})
	if err != nil {
		return nil, err
	}
	return []*lab.Subject{{
		Name: lab.Ours, Addr: gate.HTTPS, Process: gate.Process, PIDs: []int{gate.PID}, Gate: gate, Stop: gate.Stop, Register: gate.Register,
	}}, nil
}
