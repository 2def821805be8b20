// Package daemon connects the rooms into one running gateway: it opens the
// data directory, binds every listener, wires registry, certificates, DNS,
// gateway, providers and API together, and stops them in the right order.
//
// It decides nothing about clones; the rooms do.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/pipeline/process"
	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// Options is what a Daemon needs. Config is required.
type Options struct {
	Config  *config.Config
	Version string
	Log     *slog.Logger // nil discards

	// EndClones ends the clones that are processes of this machine when the
	// daemon ends. Otherwise they go on, and the next daemon takes them over.
	EndClones bool
}

// A Daemon is one gateway with everything that belongs to it.
type Daemon struct {
	cfg       *config.Config
	version   string
	log       *slog.Logger
	endClones bool

	lock         *Lock
	sockets      *sockets
	zones        *registry.Zones
	networks     *registry.Networks
	metrics      *prometheus.Registry
	store        *sqlite.Store
	registry     *registry.Registry
	addresses    Addresses
	certificates certificateSource
	dns          *dnsd.Server             // nil if no DNS is served
	traces       *sdktrace.TracerProvider // nil if none are made
	gateway      *proxy.Gateway

	provider  *process.Provider
	templates *oci.Store
	launcher  *pipeline.Launcher

	api   []part // the API and what depends on it
	parts []part // everything else beside the registry
	state atomic.Pointer[string]

	started chan struct{} // closed when everything is served
}

// What a daemon says about itself until it is ready, and when it no longer is.
const (
	starting = "the daemon is still starting"
	stopping = "the daemon is stopping"
)

// Open prepares a daemon: its data directory is locked, its listeners are
// bound, and nothing is served yet. The caller must call Run.
func Open(ctx context.Context, opts Options) (_ *Daemon, err error) {
	d := &Daemon{cfg: opts.Config, version: opts.Version, log: opts.Log, endClones: opts.EndClones, metrics: prometheus.NewRegistry(), started: make(chan struct{})}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	d.setState(starting)
	d.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, step := range []func(context.Context) error{
		d.openData,
		d.openSockets,
		d.openProviders,
		d.openRegistry,
		d.openCertificates,
		d.openDNS,
		d.openTraces,
		d.openGateway,
		d.openLauncher,
		d.openAPI,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// openData makes and locks the data directory.
func (d *Daemon) openData(context.Context) error {
	open, err := MakeData(d.cfg.Data)
	if err != nil {
		return err
	}
	if open {
		d.log.Warn("others on this machine may look into the data directory; run  chmod 700 on it", "dir", d.cfg.Data)
	}
	d.lock, err = LockData(d.cfg.Data)
	return err
}

// openRegistry opens the records. The networks of endpoints are those that
// the operator allowed and those that the providers use.
func (d *Daemon) openRegistry(ctx context.Context) (err error) {
	allow := d.cfg.Endpoints.Allow
	if len(allow) == 0 {
		allow = registry.PrivateNetworks
	}
	d.networks = registry.NewNetworks(append(allow[:len(allow):len(allow)], d.provider.Networks()...))
	d.networks.SetOwn(d.sockets.streams())
	d.store, err = sqlite.Open(ctx, storeFile(d.cfg.Data), sqlite.Config{})
	if err != nil {
		return err
	}
	d.registry, err = registry.Open(ctx, registry.Config{
		Store:    d.store,
		Zones:    d.zones,
		Networks: d.networks,
		Log:      d.log.With("room", "registry"),

		Providers:   []string{ProcessProvider},
		CheckParams: pipeline.CheckParams,
		CheckRecord: dnsd.CheckRecord,

		TTL:        d.cfg.Leases.TTL,
		RenewEvery: d.cfg.Leases.RenewEvery,
		SweepEvery: d.cfg.Leases.Sweep,
	})
	return err
}

// Addresses returns what the daemon listens on.
func (d *Daemon) Addresses() Addresses { return d.addresses }

// Started returns a channel that is closed when everything is served.
func (d *Daemon) Started() <-chan struct{} { return d.started }

// Run serves until ctx ends, then drains and returns nil; or it returns why
// it could not go on. It may be called once.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.close()
	l := newLayers(ctx)
	// Clones that end still call the API, and what that does is written.
	l.start(part{"registry", d.registry.Run}, part{"memory", runMemory}, part{"clones that are over", d.forgetOver})
	d.announce(l.ctx)
	defer os.Remove(filepath.Join(d.cfg.Data, addressesName))
	l.start(d.api...)
	l.start(d.parts...)
	d.setState("")
	close(d.started)
	context.AfterFunc(l.ctx, func() {
		d.setState(stopping)
		notify(d.log, sd.SdNotifyStopping)
		d.log.Info("stopping")
	})
	notify(d.log, sd.SdNotifyReady)
	a := d.addresses
	d.log.Info("ready", "zone", a.Zone, "gateway", a.Gateway.Listen, "api", a.API.URL, "dns", a.DNS.Listen)
	return l.wait(ctx)
}

// announce leaves in the data directory what the command line needs to find
// this daemon. On a full disk that may fail; traffic is more important.
func (d *Daemon) announce(ctx context.Context) {
	if err := ensureAdminToken(ctx, d.registry, d.cfg.Data, d.log); err != nil {
		d.log.Error("there is no admin token; free some space and start again", "err", err)
	}
	if err := d.addresses.write(d.cfg.Data); err != nil {
		d.log.Error("the command line cannot find this daemon by itself; name it with --api", "api", d.addresses.API.URL, "err", err)
	}
}

// setState says why the daemon is not ready; "" says that it is.
func (d *Daemon) setState(why string) { d.state.Store(&why) }

// ready returns nil when everything is served.
func (d *Daemon) ready() error {
	if why := *d.state.Load(); why != "" {
		return errors.New(why)
	}
	return nil
}

// close lets go of everything, in the opposite order of Open.
func (d *Daemon) close() {
	d.closeTraces()
	if d.store != nil {
		if err := d.store.Close(); err != nil {
			d.log.Error("the registry's file was not closed cleanly", "err", err)
		}
	}
	if d.sockets != nil {
		d.sockets.close()
	}
	if d.lock != nil {
		d.lock.Close()
	}
}

// TryListen returns nil if a daemon with this configuration could listen now.
func TryListen(ctx context.Context, cfg *config.Config) error {
	s := new(sockets)
	defer s.close()
	return s.open(ctx, cfg)
}

// CheckStore returns nil if the registry in a data directory that no daemon
// uses can be read and is sound. It changes nothing. The error is fs.ErrNotExist
// if there is none.
func CheckStore(ctx context.Context, data string) error { return sqlite.Check(ctx, storeFile(data)) }

func storeFile(data string) string { return filepath.Join(data, "registry.db") }

// CAFile is the certificate of the internal CA in a data directory.
func CAFile(data string) string { return filepath.Join(data, "ca.pem") }
