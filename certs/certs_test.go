package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/certs"
	"github.com/clonegate/clonegate/registry"
)

const (
	zone  = "test_envs.localhost"
	alias = "test-envs.localhost"
)

func mustZones(t testing.TB, zone string, aliases ...string) *registry.Zones {
	t.Helper()
	z, err := registry.NewZones(zone, aliases...)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// clone1234 says the names of one clone, under all of which it is registered.
func clone1234(sub string) (string, []string) {
	names := []string{"1234", "www-1234", "pr-87", "www-pr-87", "www.1234", "www.pr-87", "*.1234", "*.pr-87"}
	for _, n := range names {
		if sub == n || strings.HasSuffix(sub, ".1234") {
			return "1234@1", names
		}
	}
	return "", nil
}

// mustCA returns a CA in a folder of its own, for zone, alias and clone 1234
// where change does not say otherwise.
func mustCA(t testing.TB, change ...func(*certs.CAConfig)) (*certs.CA, certs.CAConfig) {
	t.Helper()
	cfg := certs.CAConfig{Dir: t.TempDir(), Zones: mustZones(t, zone, alias), Names: clone1234}
	for _, c := range change {
		c(&cfg)
	}
	ca, err := certs.NewCA(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ca, cfg
}

// present returns the leaf that get presents to a client that asks for name.
func present(t testing.TB, get func(*tls.ClientHelloInfo) (*tls.Certificate, error), name string) *x509.Certificate {
	t.Helper()
	c, err := get(hello(name))
	if err != nil {
		t.Fatalf("GetCertificate(%q): %v", name, err)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func hello(name string) *tls.ClientHelloInfo { return &tls.ClientHelloInfo{ServerName: name} }

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// newUnboundCA returns a CA that may sign for every name.
func newUnboundCA(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(der)
}

func mustParse(t testing.TB, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no PEM block in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// steal reads the signer and its key from the CA's folder, as a thief would.
func steal(t testing.TB, dir string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	block, rest := pem.Decode(mustRead(t, filepath.Join(dir, "ca.key")))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, rest), key.(*ecdsa.PrivateKey)
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustWrite(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func pool(root []byte) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(root)
	return p
}

// serve answers https on a free port of loopback with the name asked for.
func serve(t testing.TB, get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			host, _, _ := net.SplitHostPort(r.Host)
			fmt.Fprintf(w, "<title>this is %s</title>", host)
		}),
		TLSConfig: certs.TLSConfig(get),
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	srv.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { srv.Close(); <-done })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// A recorder is a slog.Handler that keeps what was logged, one line a record.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Level.String() + " " + rec.Message
	rec.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	return nil
}

// find returns the lines that hold every part.
func (r *recorder) find(parts ...string) (found []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}
