// Package api serves the registry over HTTP: JSON under /v1/, streams of
// changes and events, OpenAPI 3.1, health and metrics.
//
// It decides who may ask and whether a question is well formed; what the
// answer is, package registry decides. A room with operations of its own adds
// them to the same API by Huma, Operation and Register.
package api

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what an API needs. Registry is required.
type Config struct {
	Registry *registry.Registry
	Version  string       // of the daemon, told in /openapi.json and /healthz
	Log      *slog.Logger // nil discards

	// Hosts are the names and addresses, without port, by which the API is
	// called beside loopback and the address that was connected to. None may
	// lie in a zone.
	Hosts []string

	// Metrics is shown at /metrics. Nil answers 404 there.
	Metrics prometheus.Gatherer
	// Registerer takes the API's own metrics. Nil: none.
	Registerer prometheus.Registerer

	// CARoot returns the certificate of the internal CA in PEM, for /ca.pem.
	// Nil answers 404 there.
	CARoot func() []byte
	// Ready returns nil once the gateway can serve, and otherwise what it
	// waits for, for /readyz. Nil is always ready.
	Ready func() error

	// Streams bounds how many streams are open at once. Zero means 256.
	Streams int
	// Heartbeat is how often a silent stream shows that it lives. Zero means 15 seconds.
	Heartbeat time.Duration
	// Patience is how long a write to a stream may wait for its client before
	// the client is cut off. Zero means 10 seconds.
	Patience time.Duration
}

// An API answers requests about the registry.
type API struct {
	registry *registry.Registry
	view     *registry.View
	cfg      Config
	log      *slog.Logger
	guard    *guard
	metrics  *metrics
	streams  *streams
	mux      *http.ServeMux
	huma     huma.API
}

// New returns an API. It starts nothing.
func New(cfg Config) (*API, error) {
	if cfg.Registry == nil {
		return nil, errors.New("api: Registry is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Streams = cmp.Or(cfg.Streams, 256)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 15*time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Second)
	guard, err := newGuard(cfg.Hosts, cfg.Registry.View().Zones())
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	a := &API{
		registry: cfg.Registry,
		view:     cfg.Registry.View(),
		cfg:      cfg,
		log:      cfg.Log,
		guard:    guard,
		metrics:  metrics,
		streams:  newStreams(cfg.Streams, metrics.streams),
		mux:      http.NewServeMux(),
	}
	a.huma = newHuma(a.mux, cfg.Version)
	a.huma.UseMiddleware(a.checkRole, a.checkQuery, a.readBody)
	a.routes()
	return a, nil
}

// newHuma returns an empty huma API that adds nothing of its own to bodies,
// and serves no pages.
func newHuma(mux *http.ServeMux, version string) huma.API {
	schemas := huma.NewMapRegistry(schemaPrefix, huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[Problem]())
	return humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "clonegate",
				Version:     cmp.Or(version, "dev"),
				Description: "Templates and clones: register, list, watch, publish. Every error is a problem+json with a stable code.",
			},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "cgt_… as made by clonegate token create."},
				},
			},
		},
		Formats: map[string]huma.Format{
			"application/json": huma.DefaultJSONFormat,
			"json":             huma.DefaultJSONFormat,
		},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{translate},
	})
}

// Huma returns what other rooms add their operations to, by Register. They
// must do so before the first request.
func (a *API) Huma() huma.API { return a.huma }

// Handler returns the whole API. The layers run from the outside in.
func (a *API) Handler() http.Handler {
	var h http.Handler = http.HandlerFunc(a.dispatch)
	for _, layer := range []func(http.Handler) http.Handler{
		a.authenticate,
		a.guard.wrap,
		harden,
		a.record,
	} {
		h = layer(h)
	}
	return h
}

// Server returns an http.Server for the API, with its bounds set and without
// an address: whoever listens serves with it. Its Shutdown ends streams first.
func (a *API) Server() *http.Server {
	s := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      60 * time.Second, // streams set their own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(a.Close)
	return s
}

// Close ends every stream and refuses new ones.
func (a *API) Close() { a.streams.close() }

// harden keeps answers out of caches and browsers from guessing.
func harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// dispatch hands a request to its operation, and answers in our own words if
// there is none.
func (a *API) dispatch(w http.ResponseWriter, r *http.Request) {
	h, pattern := a.mux.Handler(r)
	if pattern != "" {
		a.mux.ServeHTTP(w, r)
		return
	}
	// The mux has found nothing; what it would say tells why.
	said := &silent{header: http.Header{}}
	h.ServeHTTP(said, r)
	if allow := said.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		Refusal(http.StatusMethodNotAllowed, "method", "%s takes %s, not %s", clip(r.URL.Path), allow, clip(r.Method)).write(w)
		return
	}
	Refusal(http.StatusNotFound, "no-route", "the API has nothing at %s; /openapi.json lists what there is", clip(r.URL.Path)).write(w)
}

// A silent ResponseWriter keeps the headers of an answer that is not sent.
type silent struct {
	header http.Header
	io.Writer
}

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }
func (s *silent) WriteHeader(int)             {}
