package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

// instance is the life that all clones of a test pretend to have.
const instance = "bench"

// renewAfter is when clones are renewed: well before their lease of 120 s ends,
// and later than any single measurement takes.
const renewAfter = 45 * time.Second

// registrars is how many clones register or renew at the same time.
const registrars = 8

// A GateConfig is what StartGate needs. All is required but Upstream.
type GateConfig struct {
	Binary  string // the program clonegate
	Dir     string // made, for its data
	CertDir string // where WriteCertificate wrote

	// Clones is how many clones register; clone i has the service www at
	// Endpoint(i).
	Clones   int
	Endpoint func(i int) netip.AddrPort

	// Upstream adds DNS listeners: the zone's own, and a resolver that forwards
	// to this server. The zero AddrPort: none.
	Upstream netip.AddrPort
}

// A Gate is a running clonegate serve, as it is shipped: listeners, zone, data,
// certificate and allowed endpoints are configured, and nothing else.
type Gate struct {
	*Process

	HTTPS         netip.AddrPort
	Authoritative netip.AddrPort // invalid if there is no DNS
	Resolver      netip.AddrPort // the same

	cfg     GateConfig
	api     *client.Client
	renewed time.Time
}

// StartGate starts clonegate and registers its clones over the API.
func StartGate(ctx context.Context, cfg GateConfig) (*Gate, error) {
	g := &Gate{cfg: cfg}
	var api netip.AddrPort
	for _, addr := range []*netip.AddrPort{&g.HTTPS, &api, &g.Authoritative, &g.Resolver} {
		var err error
		if *addr, err = FreePort(); err != nil {
			return nil, err
		}
	}
	if err := WriteFiles(cfg.Dir, map[string]string{"clonegate.yaml": g.configuration(api)}); err != nil {
		return nil, err
	}
	data := filepath.Join(cfg.Dir, "data")
	var err error
	g.api, err = client.New(client.Config{URL: "http://" + api.String(), TokenFile: filepath.Join(data, "admin.token")})
	if err != nil {
		return nil, err
	}
	g.Process, err = Start(cfg.Dir, "clonegate", cfg.Binary, "serve", "--config", filepath.Join(cfg.Dir, "clonegate.yaml"))
	if err != nil {
		return nil, err
	}
	err = g.Ready(ctx, func(ctx context.Context) error {
		_, err := g.api.Ready(ctx)
		return err
	})
	if err == nil {
		err = g.each(ctx, g.Register)
	}
	if err != nil {
		g.Stop()
		return nil, err
	}
	g.renewed = time.Now()
	return g, nil
}

// configuration is the file that clonegate is started with.
func (g *Gate) configuration(api netip.AddrPort) string {
	var b strings.Builder
	fmt.Fprintf(&b, "zone: %s\ndata: %s\n", Zone, filepath.Join(g.cfg.Dir, "data"))
	fmt.Fprintf(&b, "gateway: {listen: %q, redirect: off}\napi: {listen: %q}\n", g.HTTPS, api)
	fmt.Fprintf(&b, "certificates: {files: [{cert: %s, key: %s}]}\n", filepath.Join(g.cfg.CertDir, CertFile), filepath.Join(g.cfg.CertDir, KeyFile))
	b.WriteString("endpoints: {allow: [127.0.0.0/8]}\n")
	if g.cfg.Upstream.IsValid() {
		fmt.Fprintf(&b, "dns:\n  listen: %q\n  resolvers: [{listen: %q, view: world, upstreams: [%q]}]\n", g.Authoritative, g.Resolver, g.cfg.Upstream)
	}
	return b.String()
}

// Register registers clone i, or changes its registration back to this.
func (g *Gate) Register(ctx context.Context, i int) error {
	return g.register(ctx, i, "bench")
}

func (g *Gate) register(ctx context.Context, i int, owner string) error {
	_, _, err := g.api.Register(ctx, id(i), registry.Registration{
		Instance: instance,
		Owner:    owner,
		Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{g.cfg.Endpoint(i).String()}}},
	}, false)
	if err != nil {
		return fmt.Errorf("register clone %d: %w", i, err)
	}
	return nil
}

// Change changes clones, one after another and so many a second, until ctx
// ends. It returns how many it has changed.
func (g *Gate) Change(ctx context.Context, perSecond int) (int, error) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return n, nil
		case <-tick.C:
		}
		if err := g.register(ctx, n%g.cfg.Clones, "owner "+strconv.Itoa(n)); err != nil {
			if errors.Is(ctx.Err(), context.Canceled) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return n, nil
			}
			return n, err
		}
	}
}

// Renew renews the leases of all clones if it is time to. Call it between
// measurements: what clones of the real world do all the time is kept out of
// what is compared with servers that know no leases.
func (g *Gate) Renew(ctx context.Context) error {
	if time.Since(g.renewed) < renewAfter {
		return nil
	}
	g.renewed = time.Now()
	return g.each(ctx, func(ctx context.Context, i int) error {
		if _, err := g.api.Renew(ctx, id(i), instance); err != nil {
			return fmt.Errorf("renew clone %d: %w", i, err)
		}
		return nil
	})
}

// each calls fn for every clone, several at a time.
func (g *Gate) each(ctx context.Context, fn func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for k := range registrars {
		group.Go(func() error {
			for i := k; i < g.cfg.Clones; i += registrars {
				if err := fn(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// Stop ends clonegate.
func (g *Gate) Stop() {
	g.api.Close()
	g.Process.Stop()
}

func id(i int) registry.ID { return registry.ID(strconv.Itoa(i)) }
