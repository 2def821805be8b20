package proxy_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// TestCertificatesOfEndpoints asks services that speak https with various ideas
// of who they are.
func TestCertificatesOfEndpoints(t *testing.T) {
	b := newBench(t)
	var names, protocols atomic.Value
	var conns atomic.Int64
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "secure")
	}))
	up.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		conns.Add(1)
		names.Store(hello.ServerName)
		protocols.Store(strings.Join(hello.SupportedProtos, " "))
		return nil, nil
	}}
	up.EnableHTTP2 = true
	up.StartTLS()
	defer up.Close()
	leaf := up.Certificate() // for example.com, *.example.com, 127.0.0.1 and ::1
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
	pin := registry.PinOf(sha256.Sum256(leaf.RawSubjectPublicKeyInfo))
	other := registry.PinOf(sha256.Sum256(nil))

	for _, tt := range []struct {
		name string
		tls  *registry.TLS
		sni  string
		says []string // nil: it is trusted
	}{
		{"no word about it", nil, "", nil},
		{"a name only", &registry.TLS{Name: "shop.internal"}, "shop.internal", nil},
		{"an authority", &registry.TLS{Verify: "www.example.com", CA: ca}, "www.example.com", nil},
		{"an authority and an address", &registry.TLS{Verify: "127.0.0.1", CA: ca}, "", nil},
		{"an authority and another name to ask for", &registry.TLS{Verify: "example.com", Name: "vhost", CA: ca}, "vhost", nil},
		{"a pin", &registry.TLS{Pin: pin}, "", nil},
		{"all of it", &registry.TLS{Verify: "example.com", CA: ca, Pin: pin}, "example.com", nil},
		{"another name", &registry.TLS{Verify: "www.example.net", CA: ca}, "www.example.net", []string{"is for example.com, *.example.com", "want a valid one for www.example.net"}},
		{"the machine's authorities", &registry.TLS{Verify: "example.com"}, "example.com", []string{"unknown authority", "want a valid one for example.com"}},
		{"another pin", &registry.TLS{Pin: other}, "", []string{"has the key " + pin, "want " + other}},
		{"a pin and another name", &registry.TLS{Pin: pin, Verify: "example.net", CA: ca}, "example.net", []string{"want a valid one for example.net"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.register("1", map[string]registry.ServiceRegistration{"www": {
				Endpoints: []string{up.Listener.Addr().String()}, Protocol: registry.HTTPS, TLS: tt.tls,
			}})
			conns.Store(0)
			for range 3 {
				got := b.get("https://www-1." + zone + "/")
				if tt.says == nil {
					if got.StatusCode != 200 || got.body != "secure" {
						t.Fatalf("got %d %q; want it trusted", got.StatusCode, got.body)
					}
					continue
				}
				p := got.wantReason(t, 502, proxy.Untrusted)
				for _, words := range tt.says {
					if !strings.Contains(p.Detail, words) {
						t.Errorf("detail %q does not say %q", p.Detail, words)
					}
				}
			}
			if n := conns.Load(); tt.says == nil && n != 1 {
				t.Errorf("3 requests took %d connections; want 1", n)
			}
			if names.Load() != tt.sni || protocols.Load() != "http/1.1" {
				t.Errorf("asked for the name %q and %q; want %q and http/1.1", names.Load(), protocols.Load(), tt.sni)
			}
		})
	}
}

// TestHandshakesAreInTime has an endpoint accept a connection and say nothing.
func TestHandshakesAreInTime(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.DialTimeout = 100 * time.Millisecond })
	ln := listen(t)
	defer ln.Close()
	b.register("1", map[string]registry.ServiceRegistration{"www": {Endpoints: []string{ln.Addr().String()}, Protocol: registry.HTTPS}})
	p := b.get("https://www-1."+zone+"/").wantReason(t, 502, proxy.UpstreamBroken)
	if !strings.Contains(p.Detail, "tls: ") {
		t.Errorf("detail %q; want it to tell of TLS", p.Detail)
	}
}

// TestProductionIsAskedFor has a service that is a copy of production's and picks
// its certificate by the name that it is asked for.
func TestProductionIsAskedFor(t *testing.T) {
	b := newBench(t)
	var names atomic.Value
	up := httptest.NewUnstartedServer(who("1"))
	up.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		names.Store(hello.ServerName)
		return nil, nil
	}}
	up.StartTLS()
	defer up.Close()
	secure := func(c *registry.TLS) map[string]registry.ServiceRegistration {
		return map[string]registry.ServiceRegistration{"www": {Endpoints: []string{up.Listener.Addr().String()}, Protocol: registry.HTTPS, TLS: c}}
	}
	for _, tt := range []struct {
		name string
		tls  *registry.TLS
		want string
	}{
		{"its name in production", nil, "www.shop.example"},
		{"what its service says", &registry.TLS{Name: "vhost"}, "vhost"},
	} {
		b.register("1", secure(tt.tls), production)
		for _, client := range []*http.Client{b.client, b.h2} {
			if got := b.do(client, "https://www-1."+zone+"/"); got.body != "1 as www.shop.example" || names.Load() != tt.want {
				t.Errorf("%s: got %q, asked for the name %q; want %q", tt.name, got.body, names.Load(), tt.want)
			}
		}
	}
}
