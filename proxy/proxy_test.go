package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/registrytest"
)

const zone = registrytest.Zone

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench is a registry, a gateway in front of it and what it takes to talk to
// both.
type bench struct {
	t        testing.TB
	registry *registry.Registry
	gateway  *proxy.Gateway
	metrics  *prometheus.Registry
	log      *logBook
	addr     string // of the TLS listener
	plain    string // of the redirect listener
	roots    *x509.CertPool
	client   *http.Client // HTTP/1.1; follows no redirects
	h2       *http.Client // HTTP/2
	stop     func()       // ends the gateway and waits
}

// newBench runs a gateway until the test ends.
func newBench(t testing.TB, change ...func(*proxy.Config)) *bench {
	t.Helper()
	return newBenchOver(t, func(*registry.Config) {}, change...)
}

// newBenchOver does so over a registry with other rules.
func newBenchOver(t testing.TB, rules func(*registry.Config), change ...func(*proxy.Config)) *bench {
	t.Helper()
	networks := registry.NewNetworks([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	b := &bench{t: t, metrics: prometheus.NewRegistry(), log: new(logBook)}
	zones, err := registry.NewZones(zone, "test-envs.example.com")
	if err != nil {
		t.Fatal(err)
	}
	zones.SetPort(8443)
	b.registry = registrytest.New(t, func(c *registry.Config) { c.Networks, c.Zones = networks, zones }, rules)
	if _, _, err := b.registry.PublishTemplate(t.Context(), registry.System, "shop", "7", registry.Publication{
		Digest: "sha256:" + strings.Repeat("0", 64), Manifest: json.RawMessage(`{}`),
	}); err != nil {
		t.Fatal(err)
	}
	cert, roots := testCertificate(t)
	b.roots = roots
	cfg := proxy.Config{
		Routes:        b.registry.View(),
		Zones:         zones,
		TLS:           tlsWith(cert),
		CheckEndpoint: networks.Check,
		Lease:         b.registry.Lease,
		Log:           slog.New(slog.NewJSONHandler(b.log, nil)),
		AccessLog:     slog.New(slog.NewJSONHandler(b.log, nil)),
		LogOneIn:      1,
		Metrics:       b.metrics,
		Limits:        proxy.Limits{DrainGrace: 2 * time.Second},
	}
	for _, fn := range change {
		fn(&cfg)
	}
	if b.gateway, err = proxy.New(cfg); err != nil {
		t.Fatal(err)
	}
	front, plain := listen(t), listen(t)
	b.addr, b.plain = front.Addr().String(), plain.Addr().String()
	networks.SetOwn([]netip.AddrPort{netip.MustParseAddrPort(b.addr), netip.MustParseAddrPort(b.plain)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- b.gateway.Run(ctx, proxy.Listeners{HTTPS: []net.Listener{front}, Redirect: []net.Listener{plain}})
	}()
	b.client, b.h2 = b.newClient(false), b.newClient(true)
	b.stop = sync.OnceFunc(func() {
		cancel()
		b.client.CloseIdleConnections()
		b.h2.CloseIdleConnections()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

// newClient returns a client that sends every name to the gateway.
func (b *bench) newClient(h2 bool) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to := b.addr
			if strings.HasSuffix(addr, ":80") {
				to = b.plain
			}
			return new(net.Dialer).DialContext(ctx, "tcp", to)
		},
		TLSClientConfig:    &tls.Config{RootCAs: b.roots},
		Protocols:          new(http.Protocols),
		DisableCompression: true,
	}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetHTTP2(h2)
	return &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       15 * time.Second,
	}
}

// register begins or changes the life of a clone.
func (b *bench) register(id registry.ID, services map[string]registry.ServiceRegistration, change ...func(*registry.Registration)) *registry.Clone {
	b.t.Helper()
	reg := registry.Registration{Instance: "life-1", Template: "shop@7", Owner: "ada", Services: services}
	for _, fn := range change {
		fn(&reg)
	}
	grant, err := b.registry.Register(context.Background(), registry.System, id, reg, true)
	if err != nil {
		b.t.Fatalf("register %s: %v", id, err)
	}
	return grant.Clone
}

// serve registers a clone whose service www is a handler, and returns its server.
func (b *bench) serve(id registry.ID, h http.HandlerFunc) *httptest.Server {
	b.t.Helper()
	s := httptest.NewServer(h)
	b.t.Cleanup(s.Close)
	b.register(id, www(s.Listener.Addr().String()))
	return s
}

// www is the services of a clone that has one.
func www(endpoints ...string) map[string]registry.ServiceRegistration {
	return map[string]registry.ServiceRegistration{"www": {Endpoints: endpoints, Default: true}}
}

func (b *bench) unregister(id registry.ID) {
	b.t.Helper()
	if _, err := b.registry.Unregister(context.Background(), registry.System, id, ""); err != nil {
		b.t.Fatalf("unregister %s: %v", id, err)
	}
}

// setState moves a clone to a state.
func (b *bench) setState(id registry.ID, s registry.State, reason string) {
	b.t.Helper()
	c, _ := b.registry.View().Clone(id)
	if err := b.registry.SetState(context.Background(), registry.System, id, c.Incarnation, s, reason); err != nil {
		b.t.Fatalf("state of %s: %v", id, err)
	}
}

// A reply is an answer that was read to its end.
type reply struct {
	*http.Response
	body string
}

// get fetches a URL over HTTP/1.1; change may edit the request.
func (b *bench) get(url string, change ...func(*http.Request)) reply {
	b.t.Helper()
	return b.do(b.client, url, change...)
}

func (b *bench) do(client *http.Client, url string, change ...func(*http.Request)) reply {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, fn := range change {
		fn(req)
	}
	res, err := client.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", req.Method, url, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatalf("%s %s: body: %v", req.Method, url, err)
	}
	return reply{res, string(body)}
}

// problem is what the gateway tells programs.
type problem struct {
	Title, Detail, Code, Request, Clone, Service, State string
	Status                                              int
	RetryAfter                                          int `json:"retry_after"`
	Services, Nearest                                   []struct{ Name, URL string }
}

// wantReason checks that the gateway answered itself, and why.
func (r reply) wantReason(t testing.TB, status int, reason proxy.Reason) problem {
	t.Helper()
	var p problem
	if r.StatusCode != status || r.Header.Get("Clonegate-Reason") != string(reason) {
		t.Fatalf("%s %s: got %d, reason %q, body %.300q; want %d, %q", r.Request.Method, r.Request.URL,
			r.StatusCode, r.Header.Get("Clonegate-Reason"), r.body, status, reason)
	}
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s: Cache-Control %q; want no-store", r.Request.URL, got)
	}
	if r.Header.Get("Content-Type") != "application/problem+json" {
		return p
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("%s: body %q: %v", r.Request.URL, r.body, err)
	}
	if p.Status != status || p.Code != string(reason) || p.Title == "" || p.Detail == "" || p.Request == "" {
		t.Errorf("%s: problem %+v; want status %d, code %s, and a title, detail and request", r.Request.URL, p, status, reason)
	}
	return p
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func method(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }

// asBrowser makes a request what a browser sends when a person opens a page.
func asBrowser(r *http.Request) {
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func listeners(ln net.Listener) proxy.Listeners { return proxy.Listeners{HTTPS: []net.Listener{ln}} }

func tlsWith(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// closedPort returns an address that refuses connections.
func closedPort(t testing.TB) string {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().String()
}

var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{zone, "*." + zone, "*.1234." + zone, "*.test-envs.example.com", "*.1234.test-envs.example.com"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// testCertificate returns a certificate for every name of the zone, and the
// roots that trust it.
func testCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return cert, roots
}

// A logBook keeps what was logged.
type logBook struct {
	mu    sync.Mutex
	lines bytes.Buffer // guarded by mu
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

// records returns what was logged under a message.
func (l *logBook) records(msg string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for line := range strings.Lines(l.lines.String()) {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil && r["msg"] == msg {
			out = append(out, r)
		}
	}
	return out
}

// requests waits for so many lines of the access log and returns them.
func (l *logBook) requests(t testing.TB, n int) []map[string]any {
	t.Helper()
	eventually(t, "lines of the access log", func() bool { return len(l.records("request")) >= n })
	return l.records("request")
}

func TestCarriesRequestsToTheCloneThatIsNamed(t *testing.T) {
	b := newBench(t)
	for _, id := range []registry.ID{"1234", "1235"} {
		b.serve(id, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen-Host", r.Host)
			io.WriteString(w, string(id)+" "+r.URL.Path)
		})
	}
	for _, client := range []*http.Client{b.client, b.h2} {
		for _, tt := range []struct{ url, want string }{
			{"https://www-1234." + zone + "/a", "1234 /a"},
			{"https://1234." + zone + "/", "1234 /"},
			{"https://www.1234." + zone + "/", "1234 /"},
			{"https://WWW-1235." + strings.ToUpper(zone) + "/", "1235 /"},
			{"https://www-1235." + zone + ":8443/b", "1235 /b"},
			{"https://www-1235.test-envs.example.com/", "1235 /"},
		} {
			got := b.do(client, tt.url)
			if got.StatusCode != 200 || got.body != tt.want {
				t.Errorf("%s: got %d %q; want 200 %q", tt.url, got.StatusCode, got.body, tt.want)
			}
			if want := got.Request.URL.Host; got.Header.Get("X-Seen-Host") != want {
				t.Errorf("%s: the clone saw host %q; want it unchanged: %q", tt.url, got.Header.Get("X-Seen-Host"), want)
			}
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	networks := registry.NewNetworks(nil)
	zones, _ := registry.NewZones(zone)
	good := func() proxy.Config {
		return proxy.Config{Routes: (*registry.View)(nil), Zones: zones, TLS: &tls.Config{}, CheckEndpoint: networks.Check}
	}
	metrics := prometheus.NewRegistry()
	for name, spoil := range map[string]func(*proxy.Config){
		"no routes":               func(c *proxy.Config) { c.Routes = nil },
		"no zones":                func(c *proxy.Config) { c.Zones = nil },
		"no TLS configuration":    func(c *proxy.Config) { c.TLS = nil },
		"no check of endpoints":   func(c *proxy.Config) { c.CheckEndpoint = nil },
		"limit HeadBytes is -1":   func(c *proxy.Config) { c.Limits.HeadBytes = -1 },
		"limit IdleTimeout is -1": func(c *proxy.Config) { c.Limits.IdleTimeout = -1 },
		"metrics: duplicate":      func(c *proxy.Config) { c.Metrics = metrics },
	} {
		cfg := good()
		spoil(&cfg)
		if cfg.Metrics != nil {
			if _, err := proxy.New(cfg); err != nil {
				t.Errorf("first registration: %v", err)
			}
		}
		if _, err := proxy.New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	if _, err := proxy.New(good()); err != nil {
		t.Errorf("a full configuration: %v", err)
	}
}
