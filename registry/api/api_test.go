package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = "test_envs.internal.example.com"

// A daemon is an API on a real listener over a real registry.
type daemon struct {
	t        *testing.T
	registry *registry.Registry
	store    *registrytest.Store
	api      *api.API
	url      string // "http://127.0.0.1:port"
	addr     string
	log      *bytes.Buffer // read it after stop
	stop     func()
	client   *http.Client
	secrets  map[registry.Role]string
}

// start runs a daemon until the test ends. before may change what it is made
// of, and may be nil.
func start(t *testing.T, before func(*registrytest.Store, *registry.Config, *api.Config)) *daemon {
	t.Helper()
	d := &daemon{t: t, store: registrytest.NewStore(), secrets: map[registry.Role]string{}, log: &bytes.Buffer{}}
	zones, err := registry.NewZones(zone, "test-envs.internal.example.com")
	if err != nil {
		t.Fatal(err)
	}
	metrics := prometheus.NewRegistry()
	kept := registry.Config{
		Store: d.store, Zones: zones, Providers: []string{"process"},
		Networks: registry.NewNetworks(append([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, registry.PrivateNetworks...)),
	}
	cfg := api.Config{
		Version: "1.2.3", Log: slog.New(slog.NewJSONHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: metrics, Registerer: metrics,
	}
	if before != nil {
		before(d.store, &kept, &cfg)
	}
	if d.registry, err = registry.Open(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	cfg.Registry = d.registry
	if d.api, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	d.run()
	d.makeTokens()
	return d
}

func (d *daemon) run() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr = ln.Addr().String()
	d.url = "http://" + d.addr
	d.client = &http.Client{Transport: &http.Transport{}}
	ctx, cancel := context.WithCancel(context.Background())
	server := d.api.Server()
	ended := make(chan error, 2)
	go func() { ended <- d.registry.Run(ctx) }()
	go func() { ended <- server.Serve(ln) }()
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		d.client.CloseIdleConnections()
		patience, enough := context.WithTimeout(context.Background(), 10*time.Second)
		defer enough()
		if err := server.Shutdown(patience); err != nil {
			d.t.Errorf("shutdown: %v", err)
		}
		cancel()
		<-ended
		<-ended
	}
	d.t.Cleanup(d.stop)
}

func (d *daemon) makeTokens() {
	d.t.Helper()
	for _, role := range registry.Roles {
		req := registry.TokenRequest{Name: string(role) + "-token", Role: role}
		if role == registry.RoleClone {
			req.IDs = []string{"1000-1999", "7"}
		}
		_, secret, err := d.registry.CreateToken(d.t.Context(), registry.System, req)
		if err != nil {
			d.t.Fatal(err)
		}
		d.secrets[role] = secret
	}
}

// An answer is what came back for one request.
type answer struct {
	status int
	header http.Header
	body   string
}

// problem decodes the answer as a problem.
func (a answer) problem(t *testing.T) api.Problem {
	t.Helper()
	var p api.Problem
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("Content-Type %q, want a problem; body %s", ct, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if p.Status != a.status || p.Title == "" || p.Detail == "" || p.Type != "urn:clonegate:problem:"+p.Code {
		t.Errorf("incomplete problem under status %d: %+v", a.status, p)
	}
	return p
}

// into decodes the answer, which must have the given status.
func (a answer) into(t *testing.T, status int, v any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d; body %s", a.status, status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// request returns a request as a role's token would send it; role "" has none.
func (d *daemon) request(role registry.Role, method, path, body string) *http.Request {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+d.secrets[role])
	}
	return r
}

func (d *daemon) send(r *http.Request) answer {
	d.t.Helper()
	resp, err := d.client.Do(r)
	if err != nil {
		d.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (d *daemon) do(role registry.Role, method, path, body string) answer {
	d.t.Helper()
	return d.send(d.request(role, method, path, body))
}

// contract is the body of the startup script, as the documentation shows it.
const contract = `{"instance":"6f1c","owner":"ada","aliases":["pr-87"],` +
	`"services":{"www":{"endpoints":["127.0.4.10:8080"],"default":true,"health":{"path":"/healthz"}},` +
	`"api":{"endpoints":["127.0.4.20:8080","127.0.4.21:8080"]}},"hosts":{"db":["10.80.0.30"]}}`

const (
	admin     = registry.RoleAdmin
	viewer    = registry.RoleViewer
	clone     = registry.RoleClone
	engineer  = registry.RoleEngineer
	publisher = registry.RolePublisher
)

func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }
