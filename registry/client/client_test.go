package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/client"
	"github.com/clonegate/clonegate/registry/registrytest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = "test_envs.internal.example.com"

// A daemon is the API of a real registry, on one address over restarts.
type daemon struct {
	t        *testing.T
	store    *registrytest.Store
	addr     string
	registry *registry.Registry
	admin    string // the secret of an admin token
	stop     func()
}

func start(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{t: t, store: registrytest.NewStore(), addr: "127.0.0.1:0"}
	d.run()
	_, secret, err := d.registry.CreateToken(t.Context(), registry.System, registry.TokenRequest{Name: "root", Role: registry.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	d.admin = secret
	t.Cleanup(func() { d.stop() })
	return d
}

// run starts the daemon, again if it was stopped.
func (d *daemon) run() {
	d.t.Helper()
	zones, err := registry.NewZones(zone)
	if err != nil {
		d.t.Fatal(err)
	}
	d.registry, err = registry.Open(context.Background(), registry.Config{Store: d.store, Zones: zones, Providers: []string{"process"}})
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := api.New(api.Config{
		Registry: d.registry, Version: "1.2.3", Metrics: prometheus.NewRegistry(),
		CARoot: func() []byte { return []byte("PEM") }, Heartbeat: 50 * time.Millisecond,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr = ln.Addr().String()
	server := a.Server()
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { server.Serve(ln) })
	parts.Go(func() { d.registry.Run(ctx) })
	d.stop = sync.OnceFunc(func() {
		patience, enough := context.WithTimeout(context.Background(), 5*time.Second)
		defer enough()
		if err := server.Shutdown(patience); err != nil {
			d.t.Errorf("shutdown: %v", err)
		}
		cancel()
		parts.Wait()
	})
}

func (d *daemon) client(secret string) *client.Client {
	d.t.Helper()
	return open(d.t, client.Config{URL: "http://" + d.addr, Token: secret})
}

func open(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var shop = registry.Registration{
	Instance: "6f1c", Owner: "ada",
	Services: map[string]registry.ServiceRegistration{"www": {Endpoints: []string{"10.0.4.10:8080"}}},
}

func TestClones(t *testing.T) {
	d, ctx := start(t), t.Context()
	c := d.client(d.admin)
	g, isNew, err := c.Register(ctx, "1234", shop, false)
	if err != nil || !isNew || g.URLs["www"] != "https://www-1234."+zone || g.Lease.RenewEvery != 20 {
		t.Fatalf("registered: %+v, %v, %v", g, isNew, err)
	}
	if _, isNew, err = c.Register(ctx, "1234", shop, false); err != nil || isNew {
		t.Errorf("registered again: new %v, %v", isNew, err)
	}
	if _, err = c.Renew(ctx, "1234", "6f1c"); err != nil {
		t.Errorf("renewed: %v", err)
	}
	other := shop
	other.Instance = "other"
	if _, _, err := c.Register(ctx, "1234", other, false); !errors.Is(err, registry.ErrHeld) || errors.Is(err, registry.ErrExists) {
		t.Errorf("another instance: %v, want ErrHeld", err)
	}
	if _, isNew, err := c.Register(ctx, "1234", other, true); err != nil || !isNew {
		t.Errorf("takeover: new %v, %v", isNew, err)
	}
	if _, err := c.Renew(ctx, "1234", "6f1c"); !errors.Is(err, registry.ErrFenced) {
		t.Errorf("late renewal: %v, want ErrFenced", err)
	}
	got, err := c.Clone(ctx, "1234")
	if err != nil || got.Incarnation != 2 || got.Lease == nil {
		t.Errorf("clone: %+v, %v", got, err)
	}
	ended, gone, err := c.Unregister(ctx, "1234", "other")
	if err != nil || !gone || ended.State != registry.Gone {
		t.Errorf("ended: %+v, gone %v, %v", ended, gone, err)
	}
	if _, err := c.Clone(ctx, "nobody"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("an unknown clone: %v, want ErrNotFound", err)
	}
	_, err = c.Clone(ctx, "../tokens")
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 422 || e.Faults[0].Location != "path.id" {
		t.Errorf("an ID that leads elsewhere: %v", err)
	}
	wrong := registry.Registration{Instance: "", Aliases: []string{"A"}}
	_, _, err = c.Register(ctx, "7", wrong, false)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != "invalid" || len(e.Faults) != 2 ||
		!strings.Contains(err.Error(), "body.instance: ") || !strings.Contains(err.Error(), "; body.aliases[0]: ") {
		t.Errorf("two faults: %v", err)
	}
}

func TestListing(t *testing.T) {
	d, ctx := start(t), t.Context()
	c := d.client(d.admin)
	for i := range 2500 {
		reg := registry.Registration{Instance: "x", Owner: []string{"ada", "bob"}[i%2], Labels: map[string]string{"n": fmt.Sprint(i % 10)}}
		if _, err := d.registry.Register(ctx, registry.System, registry.ID(fmt.Sprint(10000+i)), reg, false); err != nil {
			t.Fatal(err)
		}
	}
	count := func(f api.CloneFilter) (n int) {
		for _, err := range c.Clones(ctx, f) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	for _, tt := range []struct {
		filter api.CloneFilter
		want   int
	}{
		{api.CloneFilter{}, 2500},
		{api.CloneFilter{All: true}, 2500},
		{api.CloneFilter{Owner: "bob"}, 1250},
		{api.CloneFilter{Label: []string{"n=4"}, Owner: "ada"}, 250},
		{api.CloneFilter{State: []registry.State{registry.Gone, registry.Lost}}, 0},
		{api.CloneFilter{Q: "1249"}, 11},
		{api.CloneFilter{Template: "shop"}, 0},
	} {
		if got := count(tt.filter); got != tt.want {
			t.Errorf("%+v: %d clones, want %d", tt.filter, got, tt.want)
		}
	}
	for range c.Clones(ctx, api.CloneFilter{}) {
		break // asks for no second page
	}
	d.stop()
	failed := 0
	for clone, err := range c.Clones(ctx, api.CloneFilter{}) {
		if clone != nil || err == nil {
			t.Errorf("without a daemon: %v, %v", clone, err)
		}
		failed++
	}
	if failed != 1 {
		t.Errorf("without a daemon the list had %d elements, want one error", failed)
	}
}

func TestTemplatesAndTokens(t *testing.T) {
	d, ctx := start(t), t.Context()
	c := d.client(d.admin)
	p := registry.Publication{Digest: "sha256:" + strings.Repeat("a", 64), Manifest: []byte(`{"hosts":{}}`)}
	for _, v := range []string{"1", "2"} {
		if _, isNew, err := c.Publish(ctx, "shop", v, p); err != nil || !isNew {
			t.Fatalf("published %s: new %v, %v", v, isNew, err)
		}
	}
	if _, isNew, err := c.Publish(ctx, "shop", "1", p); err != nil || isNew {
		t.Errorf("published again: new %v, %v", isNew, err)
	}
	p.Digest = "sha256:" + strings.Repeat("b", 64)
	if _, _, err := c.Publish(ctx, "shop", "1", p); !errors.Is(err, registry.ErrExists) {
		t.Errorf("other content: %v, want ErrExists", err)
	}
	if ch, err := c.Promote(ctx, "shop", "stable", "2", "tested"); err != nil || ch.History[0].Why != "tested" {
		t.Errorf("promoted: %+v, %v", ch, err)
	}
	if v, err := c.Version(ctx, "shop", "2"); err != nil || string(v.Manifest) != `{"hosts":{}}` {
		t.Errorf("version: %+v, %v", v, err)
	}
	made, err := c.Create(ctx, registry.CreateRequest{Template: "shop@stable"})
	if err != nil || made.Template != "shop@2" || made.State != registry.Registered {
		t.Errorf("created: %+v, %v", made, err)
	}
	if _, gone, err := c.Unregister(ctx, made.ID, ""); err != nil || gone {
		t.Errorf("ended a provided clone: gone %v, %v; want it stopping", gone, err)
	}
	if v, err := c.Revoke(ctx, "shop", "2", "leaks"); err != nil || v.State != registry.Revoked {
		t.Errorf("revoked: %+v, %v", v, err)
	}
	if detail, err := c.Template(ctx, "shop"); err != nil || len(detail.Versions) != 2 || len(detail.Channels) != 2 {
		t.Errorf("template: %+v, %v", detail, err)
	}
	names := 0
	for s, err := range c.Templates(ctx) {
		if err != nil || s.Name != "shop" || s.Versions != 2 {
			t.Errorf("templates: %+v, %v", s, err)
		}
		names++
	}
	if names != 1 {
		t.Errorf("%d templates, want 1", names)
	}

	token, err := c.CreateToken(ctx, registry.TokenRequest{Name: "ci", Role: registry.RoleClone, IDs: []string{"7"}})
	if err != nil {
		t.Fatal(err)
	}
	ci := d.client(token.Secret)
	if who, err := ci.Whoami(ctx); err != nil || who.ID != token.ID || who.From != "127.0.0.1" {
		t.Errorf("whoami: %+v, %v", who, err)
	}
	if _, _, err := ci.Register(ctx, "8", shop, false); !errors.Is(err, registry.ErrForbidden) {
		t.Errorf("a clone of another: %v, want ErrForbidden", err)
	}
	var listed []string
	for token, err := range c.Tokens(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, token.Name)
	}
	if !slices.Equal(listed, []string{"root", "ci"}) {
		t.Errorf("tokens %v", listed)
	}
	if err := c.RevokeToken(ctx, token.ID); err != nil {
		t.Error(err)
	}
	if _, err := ci.Whoami(ctx); !errors.Is(err, registry.ErrNoToken) {
		t.Errorf("a revoked token: %v, want ErrNoToken", err)
	}
}

func TestFaults(t *testing.T) {
	d, ctx := start(t), t.Context()
	c := d.client(d.admin)
	if _, _, err := c.Register(ctx, "7", shop, false); err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	for _, kind := range []registry.FaultKind{registry.FaultReset, registry.FaultDNSDrop, registry.FaultDNSServfail} {
		f, err := c.AddFault(ctx, "7", registry.FaultRequest{FaultSpec: registry.FaultSpec{Kind: kind}, For: 60})
		if err != nil || f.Kind != kind || f.By != "root" {
			t.Fatalf("added %s: %+v, %v", kind, f, err)
		}
		ids = append(ids, f.ID)
	}
	if clone, err := c.Clone(ctx, "7"); err != nil || len(clone.Faults) != 3 {
		t.Errorf("the clone has %v, %v; want three faults", clone.Faults, err)
	}
	if ended, err := c.RemoveFault(ctx, "7", ids[1]); err != nil || len(ended) != 1 || ended[0].ID != ids[1] {
		t.Errorf("removed one: %v, %v", ended, err)
	}
	if _, err := c.RemoveFault(ctx, "7", ids[1]); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("removed twice: %v, want ErrNotFound", err)
	}
	if ended, err := c.RemoveFault(ctx, "7", 0); err != nil || len(ended) != 2 {
		t.Errorf("removed the others: %v, %v", ended, err)
	}
	if _, err := c.AddFault(ctx, "7", registry.FaultRequest{FaultSpec: registry.FaultSpec{Kind: "melt"}}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("of no kind: %v, want ErrInvalid", err)
	}
}

func TestDaemonItself(t *testing.T) {
	d, ctx := start(t), t.Context()
	c := d.client("")
	if s, err := c.Health(ctx); err != nil || s.Version != "1.2.3" {
		t.Errorf("health: %+v, %v", s, err)
	}
	if s, err := c.Ready(ctx); err != nil || s.Status != "ok" {
		t.Errorf("ready: %+v, %v", s, err)
	}
	if pem, err := c.CARoot(ctx); err != nil || string(pem) != "PEM" {
		t.Errorf("CA: %q, %v", pem, err)
	}
	if doc, err := c.OpenAPI(ctx); err != nil || !strings.Contains(string(doc), `"openapi":"3.1`) {
		t.Errorf("OpenAPI: %.40s, %v", doc, err)
	}
	if _, err := c.Metrics(ctx); !errors.Is(err, registry.ErrNoToken) {
		t.Errorf("metrics without a token: %v, want ErrNoToken", err)
	}
	if m, err := d.client(d.admin).Metrics(ctx); err != nil || len(m) != 0 {
		t.Errorf("metrics: %q, %v", m, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg  client.Config
		says string
	}{
		{client.Config{}, "want http://host:port"},
		{client.Config{URL: "127.0.0.1:8444"}, "want http://host:port"},
		{client.Config{URL: "ftp://x"}, "want http://host:port"},
		{client.Config{URL: "https://ada:hunter2@x"}, "ada:xxxxx@"},
		{client.Config{URL: "https://x/v1"}, "host and port only"},
		{client.Config{URL: "http://api.example.com", Token: "cgt_a_b"}, "not sent in clear"},
		{client.Config{URL: "https://x", Token: "a", TokenFile: "b"}, "exclude each other"},
		{client.Config{URL: "https://x", CAFile: filepath.Join(dir, "none.pem")}, "none.pem"},
		{client.Config{URL: "https://x", CAFile: empty}, "no certificate"},
	} {
		if _, err := client.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("New(%+v): %v, want %q", tt.cfg, err, tt.says)
		}
	}
	for _, url := range []string{"http://localhost:1", "http://[::1]:1/", "http://api.localhost", "https://api.example.com"} {
		if _, err := client.New(client.Config{URL: url, Token: "cgt_a_b"}); err != nil {
			t.Errorf("New(%s): %v", url, err)
		}
	}
}

// A token file may be replaced while the client lives, and its content is in
// no error.
func TestTokenFile(t *testing.T) {
	d, ctx := start(t), t.Context()
	file := filepath.Join(t.TempDir(), "token")
	c := open(t, client.Config{URL: "http://" + d.addr, TokenFile: file})
	if _, err := c.Whoami(ctx); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for content, want := range map[string]error{
		"cgt_wrong_secret\n":    registry.ErrNoToken,
		d.admin + "\n":          nil,
		"two secret\nlines\r\n": errors.ErrUnsupported,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.Whoami(ctx)
		switch {
		case want == errors.ErrUnsupported && (err == nil || !strings.Contains(err.Error(), "characters")),
			want != errors.ErrUnsupported && !errors.Is(err, want):
			t.Errorf("file %q: %v, want %v", content, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

// Whoever answers in the API's place is told from it, and gets no second token.
func TestNotTheAPI(t *testing.T) {
	other := newServer(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("a redirect was followed to %s", r.URL) })
	answers := map[string]http.HandlerFunc{
		"a page":     func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"an error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusTemporaryRedirect) },
		"half JSON":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":`) },
		"a cut answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{}`)
		},
	}
	for name, answer := range answers {
		c := open(t, client.Config{URL: newServer(t, answer), Token: "cgt_a_topsecret"})
		_, err := c.Whoami(t.Context())
		if err == nil || !strings.Contains(err.Error(), "/v1/whoami") || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
