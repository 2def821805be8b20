package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/clonegate/clonegate/registry/registrytest"
)

// What a browser can be made to send never reaches an operation, whatever
// token it carries.
func TestGuard(t *testing.T) {
	d := start(t, func(_ *registrytest.Store, _ *registry.Config, cfg *api.Config) {
		cfg.Hosts = []string{"api.clonegate.example.com", "10.9.8.7", "2001:db8::7"}
	})
	_, port, _ := strings.Cut(d.addr, ":")
	tests := []struct {
		host   string
		header string // "Name: value"
		status int
	}{
		{"127.0.0.1:" + port, "", 200},
		{"127.0.0.1", "", 200},
		{"127.8.8.8:1", "", 200},
		{"localhost:" + port, "", 200},
		{"LOCALHOST", "", 200},
		{"localhost.", "", 200},
		{"[::1]:" + port, "", 200},
		{"[::ffff:127.0.0.1]", "", 200},
		{"api.clonegate.example.com", "", 200},
		{"API.clonegate.example.com:8444", "", 200},
		{"10.9.8.7:8444", "", 200},
		{"[2001:db8::7]:8444", "", 200},
		{"evil.example.com", "", 421},
		{"www-1234." + zone, "", 421},
		{"localhost.evil.example.com", "", 421},
		{"www-1234.localhost", "", 421},
		{"10.9.8.8", "", 421},
		{"api.clonegate.example.com.evil", "", 421},
		{"2130706433", "", 421},
		{"0x7f000001", "", 421},
		{"127.0.0.1", "Origin: http://127.0.0.1", 200},
		{"127.0.0.1", "Origin: https://127.0.0.1", 403},
		{"127.0.0.1", "Origin: http://127.0.0.1:9999", 403},
		{"127.0.0.1", "Origin: https://www-1234." + zone, 403},
		{"127.0.0.1", "Origin: null", 403},
		{"127.0.0.1", "Origin: ", 403},
		{"127.0.0.1", "Sec-Fetch-Site: cross-site", 403},
		{"127.0.0.1", "Sec-Fetch-Site: same-site", 403},
		{"127.0.0.1", "Sec-Fetch-Site: nonsense", 403},
		{"127.0.0.1", "Sec-Fetch-Site: same-origin", 200},
		{"127.0.0.1", "Sec-Fetch-Site: none", 200},
	}
	for _, tt := range tests {
		for _, path := range []string{"/v1/clones", "/healthz"} {
			r := d.request(admin, "GET", path, "")
			r.Host = tt.host
			if name, value, ok := strings.Cut(tt.header, ": "); ok {
				r.Header[name] = []string{value}
			}
			a := d.send(r)
			if a.status != tt.status {
				t.Errorf("GET %s with Host %q and %q: status %d, want %d", path, tt.host, tt.header, a.status, tt.status)
			}
			if a.status != 200 {
				a.problem(t)
			}
			if a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("Host %q and %q: the answer opens itself to other pages", tt.host, tt.header)
			}
		}
	}
}

// The address that was connected to is ours, by whichever network it came.
func TestOwnAddressIsKnown(t *testing.T) {
	d := start(t, nil)
	server := httptest.NewServer(d.api.Handler())
	defer server.Close()
	r := d.request(admin, "GET", "/healthz", "")
	r.URL.Host, r.Host = strings.TrimPrefix(server.URL, "http://"), ""
	if a := d.send(r); a.status != 200 {
		t.Errorf("status %d, want 200", a.status)
	}
}

func TestConfigIsChecked(t *testing.T) {
	d := start(t, nil)
	for _, tt := range []struct {
		cfg  api.Config
		says string
	}{
		{api.Config{}, "Registry is required"},
		{api.Config{Registry: d.registry, Hosts: []string{"api." + zone}}, "lies in zone"},
		{api.Config{Registry: d.registry, Hosts: []string{"http://x"}}, "API host"},
	} {
		if _, err := api.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("New(%+v): %v, want %q", tt.cfg, err, tt.says)
		}
	}
}

// Every answer, good or bad, keeps out of caches and frames.
func TestAnswersAreHardened(t *testing.T) {
	d := start(t, nil)
	for _, role := range []registry.Role{admin, ""} {
		a := d.do(role, http.MethodGet, "/v1/clones", "")
		for name, want := range map[string]string{
			"Cache-Control":           "no-store",
			"X-Content-Type-Options":  "nosniff",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("as %q: %s is %q, want %q", role, name, got, want)
			}
		}
	}
	if got := fmt.Sprint(d.api.Server().ReadHeaderTimeout); got != "10s" {
		t.Errorf("headers may take %s", got)
	}
}
