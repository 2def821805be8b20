// Package proxy carries HTTP and TLS traffic to clones. A request's authority
// is looked up as a whole, leads to a service of a clone, and is forwarded to
// one of the service's endpoints; whatever stands in the way is said clearly,
// to browsers on a page and to programs as a problem.
//
// It learns where names lead from Routes and does not know how clones start,
// where certificates come from, or who answers DNS.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/registry"
)

// Config is what a Gateway needs. Routes, Zones, TLS and CheckEndpoint are
// required.
type Config struct {
	Routes Routes
	Zones  *registry.Zones
	TLS    *tls.Config // where certificates come from; versions and protocols are set by the gateway

	// CheckEndpoint refuses addresses that endpoints may not have. It is asked
	// again at every dial: see registry.Networks.Check.
	CheckEndpoint func(netip.AddrPort) error

	// Lease says how long a clone may still live without renewal, for pages
	// about clones that do not answer. Nil leaves it out.
	Lease func(registry.ID) (registry.Lease, bool)

	// TrustedPeers are load balancers whose forwarding headers are believed,
	// and who may open any number of connections.
	TrustedPeers []netip.Prefix

	// ProxyPeers are load balancers that begin every connection with a header of
	// the PROXY protocol, version 1 or 2. What it says of the client is believed;
	// without one they get no answer. Nobody else's is read.
	ProxyPeers []netip.Prefix

	Log       *slog.Logger          // nil discards
	AccessLog *slog.Logger          // gets records of requests; nil: none
	LogOneIn  int                   // of the requests that went well, the access log gets one in so many; 0: none
	Metrics   prometheus.Registerer // nil: none
	Limits    Limits

	// Tracer makes a span of each request that belongs to a sampled trace, and
	// one of its way to the endpoint. Its provider must sample everything and
	// take its IDs from SpanIDs. Nil makes none.
	Tracer     trace.Tracer
	TraceOneIn int // of the requests that belong to no trace, one in so many begins a sampled one; 0: none
}

// Limits bound what one client, one connection and one clone can take. A zero
// field means its default.
type Limits struct {
	RequestsPerClone int // requests at work for one clone; 250
	TunnelsPerClone  int // open WebSockets of one clone; 500
	StreamsPerConn   int // HTTP/2 streams of one connection; 100
	ConnsPerSource   int // connections from one IPv4 address or IPv6 /64; 4096
	HeadBytes        int // octets of a request's head; 65536
	ConnsPerEndpoint int // connections to one endpoint, WebSockets included; 500
	QueuePerEndpoint int // requests that wait for one of them; 100
	IdlePerEndpoint  int // idle connections kept to one endpoint; 256
	IdleConns        int // idle connections kept to all endpoints; 8192
	FailuresLogged   int // lines a second that the log gets of what went wrong with one clone; 10
	RequestsRecorded int // last requests of one clone that are kept to be shown; 256
	RecordedBytes    int // octets of memory for those of all clones; 67108864

	HeadTimeout     time.Duration // for a handshake, and for a request's head; 15 s
	IdleTimeout     time.Duration // for the next request on a connection; 180 s
	StallTimeout    time.Duration // for progress in a request's or an answer's body; 60 s
	DialTimeout     time.Duration // for a connection to an endpoint; 3 s
	QueueTimeout    time.Duration // for one of an endpoint's connections to come free; 3 s
	ResponseTimeout time.Duration // for the head of an endpoint's answer, gRPC excepted; 60 s
	UpstreamIdle    time.Duration // for the next use of a connection to an endpoint; 90 s
	TunnelIdle      time.Duration // for the next octet of a WebSocket; 15 min
	DrainGrace      time.Duration // for requests at work when the gateway stops; 20 s
}

// fill sets defaults, or says which limit makes no sense.
func (l *Limits) fill() error {
	for _, n := range []struct {
		name  string
		value *int
		fill  int
	}{
		{"RequestsPerClone", &l.RequestsPerClone, 250},
		{"TunnelsPerClone", &l.TunnelsPerClone, 500},
		{"StreamsPerConn", &l.StreamsPerConn, 100},
		{"ConnsPerSource", &l.ConnsPerSource, 4096},
		{"HeadBytes", &l.HeadBytes, 64 << 10},
		{"ConnsPerEndpoint", &l.ConnsPerEndpoint, 500},
		{"QueuePerEndpoint", &l.QueuePerEndpoint, 100},
		{"IdlePerEndpoint", &l.IdlePerEndpoint, 256},
		{"IdleConns", &l.IdleConns, 8192},
		{"FailuresLogged", &l.FailuresLogged, 10},
		{"RequestsRecorded", &l.RequestsRecorded, 256},
		{"RecordedBytes", &l.RecordedBytes, 64 << 20},
	} {
		if *n.value < 0 {
			return fmt.Errorf("proxy: limit %s is %d; want a positive number", n.name, *n.value)
		}
		*n.value = cmp.Or(*n.value, n.fill)
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		fill  time.Duration
	}{
		{"HeadTimeout", &l.HeadTimeout, 15 * time.Second},
		{"IdleTimeout", &l.IdleTimeout, 180 * time.Second},
		{"StallTimeout", &l.StallTimeout, 60 * time.Second},
		{"DialTimeout", &l.DialTimeout, 3 * time.Second},
		{"QueueTimeout", &l.QueueTimeout, 3 * time.Second},
		{"ResponseTimeout", &l.ResponseTimeout, 60 * time.Second},
		{"UpstreamIdle", &l.UpstreamIdle, 90 * time.Second},
		{"TunnelIdle", &l.TunnelIdle, 15 * time.Minute},
		{"DrainGrace", &l.DrainGrace, 20 * time.Second},
	} {
		if *d.value < 0 {
			return fmt.Errorf("proxy: limit %s is %s; want a positive duration", d.name, *d.value)
		}
		*d.value = cmp.Or(*d.value, d.fill)
	}
	return nil
}

// Listeners are where a Gateway takes connections. It closes them.
type Listeners struct {
	HTTPS    []net.Listener // speak TLS, HTTP/1.1 and HTTP/2
	Redirect []net.Listener // speak plain HTTP/1.1 and lead to HTTPS
}

// A Gateway carries requests to clones.
type Gateway struct {
	cfg       Config
	policy    headerPolicy
	pages     *pages
	directory *directory
	prober    *prober
	journals  *journals
	tenants   *tenants
	metrics   *metrics
	dialer    *dialer
	cookies   map[registry.Host]*ownCookies // by zone
	engine    *engine
	strays    quota // of lines in the log about requests that led to no clone
}

// New returns a Gateway that Run starts, once.
func New(cfg Config) (*Gateway, error) {
	switch {
	case cfg.Routes == nil:
		return nil, errors.New("proxy: no routes")
	case cfg.Zones == nil:
		return nil, errors.New("proxy: no zones")
	case cfg.TLS == nil:
		return nil, errors.New("proxy: no TLS configuration")
	case cfg.CheckEndpoint == nil:
		return nil, errors.New("proxy: no check of endpoints")
	}
	if err := cfg.Limits.fill(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	pages, err := newPages()
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	g := &Gateway{
		cfg:       cfg,
		policy:    headerPolicy{trusted: slices.Clone(cfg.TrustedPeers), gateway: newRequestID().String()},
		pages:     pages,
		directory: &directory{routes: cfg.Routes},
		dialer:    newDialer(cfg.CheckEndpoint, cfg.Limits.DialTimeout),
		cookies:   ownCookiesOf(cfg.Zones),
	}
	g.prober = newProber(func(ctx context.Context, k *check) error { return g.engine.probe(ctx, k) }, cfg.Log)
	g.journals = newJournals(cfg.Routes, cfg.Limits.RequestsRecorded, cfg.Limits.RecordedBytes)
	g.tenants = newTenants(cfg.Routes, g.prober, g.journals, cfg.Log)
	g.metrics = newMetrics(g.tenants)
	if g.engine, err = newEngine(g); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if err := g.metrics.register(cfg.Metrics); err != nil {
		return nil, err
	}
	return g, nil
}

// Run serves until ctx ends and then drains: it accepts no more, sends close
// frames to WebSockets, waits up to DrainGrace for the requests at work, and
// cuts what is left. It returns nil after that, or why it could not serve.
func (g *Gateway) Run(ctx context.Context, l Listeners) error {
	// Draining requests still need pools that follow the registry.
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var parts errgroup.Group
	parts.Go(func() error { g.tenants.follow(behind); return nil })
	parts.Go(func() error { g.prober.run(behind); return nil })
	parts.Go(func() error { g.engine.upstream.run(behind); return nil })

	err := g.engine.serve(ctx, l)
	g.tenants.close()
	g.engine.close()
	stop()
	parts.Wait() // its parts return no errors
	if ctx.Err() != nil {
		return nil
	}
	return err
}
