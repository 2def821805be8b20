package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// A gateway is one server under test, running and with its clones.
type gateway struct {
	name     string
	addr     netip.AddrPort
	process  *lab.Process
	register func(ctx context.Context, id int) error
	renew    func(ctx context.Context) error // call it between measurements
	stop     func()
}

// A kind is a server that can be put to the test.
type kind struct {
	lab.Server
	start func(ctx context.Context, s *site) (*gateway, error)
}

// kinds are all of them; the first is ours.
func kinds() []kind {
	return []kind{
		{lab.Server{Name: lab.Ours}, startOurs},
		{lab.Server{Name: "nginx", Program: lab.Program{Name: "nginx", Package: "nginx"}}, startNginx},
		{lab.Server{Name: "HAProxy", Program: lab.Program{Name: "haproxy", Package: "haproxy"}}, startHAProxy},
		{lab.Server{Name: "Caddy", Program: lab.Program{Name: "caddy", Module: "github.com/caddyserver/caddy/v2/cmd/caddy@v2.11.9"}}, startCaddy},
	}
}

// rivals are the servers that ours is held against; Caddy is held against ours.
func rivals() []string { return []string{"nginx", "HAProxy"} }

// A site is what a gateway of one round is started with.
type site struct {
	dir     string // of its own
	certDir string
	program string // path of the executable
	clones  int
	origin  uint16 // port that stands behind every clone
}

func (s *site) endpoint(id int) netip.AddrPort { return netip.AddrPortFrom(load.Addr(id), s.origin) }
func (s *site) cert() string                   { return filepath.Join(s.certDir, lab.CertFile) }
func (s *site) key() string                    { return filepath.Join(s.certDir, lab.KeyFile) }

// launch writes files, starts the program with them and waits until it serves
// the last clone.
func (s *site) launch(ctx context.Context, g *gateway, files map[string]string, args ...string) (*gateway, error) {
	if err := lab.WriteFiles(s.dir, files); err != nil {
		return nil, err
	}
	var err error
	g.process, err = lab.Start(s.dir, g.name, s.program, args...)
	if err != nil {
		return nil, err
	}
	g.stop = g.process.Stop
	g.renew = func(context.Context) error { return nil }
	return g.serving(ctx, s.clones-1)
}

// serving waits until a gateway serves a clone; if it never does, it is stopped.
func (g *gateway) serving(ctx context.Context, id int) (*gateway, error) {
	visitor := &load.Visitor{Gateway: g.addr}
	err := g.process.Ready(ctx, func(context.Context) error { return visitor.Get(id) })
	if err != nil {
		g.stop()
		return nil, fmt.Errorf("start %s: %w", g.name, err)
	}
	return g, nil
}

func startOurs(ctx context.Context, s *site) (*gateway, error) {
	gate, err := lab.StartGate(ctx, lab.GateConfig{Binary: s.program, Dir: s.dir, CertDir: s.certDir, Clones: s.clones, Endpoint: s.endpoint})
	if err != nil {
		return nil, err
	}
	g := &gateway{name: lab.Ours, addr: gate.HTTPS, process: gate.Process, register: gate.Register, renew: gate.Renew, stop: gate.Stop}
	return g.serving(ctx, s.clones-1)
}
