package proxy_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// reasons returns every reason that there is.
func reasons(t *testing.T) []proxy.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []proxy.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Reason" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, proxy.Reason(value))
		}
		return true
	})
	return out
}

// refusals is a gateway that has every reason to answer itself.
func refusals(t *testing.T) *bench {
	var forbidden atomic.Pointer[string]
	b := newBench(t, func(c *proxy.Config) {
		c.Routes = panicking{c.Routes}
		c.Limits.ResponseTimeout, c.Limits.StallTimeout, c.Limits.RequestsPerClone = 300*time.Millisecond, 300*time.Millisecond, 2
		check := c.CheckEndpoint
		c.CheckEndpoint = func(ep netip.AddrPort) error {
			if addr := forbidden.Load(); addr != nil && *addr == ep.String() {
				return registry.NewNetworks(nil).Check(ep)
			}
			return check(ep)
		}
	})
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
	t.Cleanup(ill.Close)
	addr, refused := plain.Listener.Addr().String(), other.Listener.Addr().String()

	b.register("well", www(addr))
	b.register("faulty", www(addr))
	b.fault("faulty", registry.FaultSpec{Kind: registry.FaultAbort, Status: 418})
	b.register("empty", www())
	b.register("down", www(closedPort(t)))
	b.register("gone", www(addr))
	b.unregister("gone")
	b.register("starting", www(addr), func(r *registry.Registration) { r.State = registry.Starting })
	b.register("asleep", www(addr))
	b.setState("asleep", registry.Suspending, "")
	b.register("stopping", www(addr))
	b.setState("stopping", registry.Stopping, "")
	b.register("failed", www(addr), func(r *registry.Registration) { r.State = registry.Starting })
	b.setState("failed", registry.Failed, "")
	b.register("refused", www(refused))
	forbidden.Store(&refused)
	b.register("untrusted", map[string]registry.ServiceRegistration{"www": {
		Endpoints: []string{secure.Listener.Addr().String()}, Protocol: registry.HTTPS, TLS: &registry.TLS{Verify: "example.com"},
	}})
	b.register("ill", map[string]registry.ServiceRegistration{"www": {
		Endpoints: []string{ill.Listener.Addr().String()}, Health: &registry.HealthRegistration{Path: "/", Interval: 1, Timeout: 1},
	}})
	eventually(t, "the probe finds it ill", func() bool { return b.get("https://www-ill."+zone+"/").StatusCode == 503 })
	b.backend("broken", func(c *net.TCPConn, _ *bufio.Reader) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") })
	b.backend("silent", func(_ *net.TCPConn, in *bufio.Reader) { in.ReadByte() })
	release := make(chan struct{})
	b.serve("busy", func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	})
	for range 2 {
		stream, err := b.h2.Get("https://www-busy." + zone + "/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Body.Close() })
	}
	t.Cleanup(func() { close(release) })
	return b
}

// TestEveryReasonIsTold has the gateway answer for every reason that it tells
// clients, over HTTP/1.1 and, where that can be, over HTTP/2.
func TestEveryReasonIsTold(t *testing.T) {
	b := refusals(t)
	told := map[proxy.Reason][2]bool{} // over HTTP/1.1, over HTTP/2
	note := func(t *testing.T, r reply, status int, reason proxy.Reason, proto int) {
		t.Helper()
		r.wantReason(t, status, reason)
		both := told[reason]
		both[proto] = true
		told[reason] = both
	}
	hops := strings.TrimSuffix(strings.Repeat("gw-1.www-1, ", 8), ", ")
	for _, tt := range []struct {
		host   string // before the zone; or whole, with a dot at its end
		status int
		reason proxy.Reason
		change []func(*http.Request)
	}{
		{"", 404, proxy.NoName, nil},
		{"www-unknown", 404, proxy.UnknownClone, nil},
		{"shop-well", 404, proxy.UnknownService, nil},
		{"www-well--7", 404, proxy.UnknownMember, nil},
		{"www-starting", 503, proxy.Starting, nil},
		{"www-asleep", 503, proxy.Asleep, nil},
		{"www-stopping", 503, proxy.Stopping, nil},
		{"www-gone", 410, proxy.Gone, nil},
		{"www-failed", 502, proxy.Failed, nil},
		{"www-faulty", 418, proxy.Injected, nil},
		{"www-empty", 503, proxy.NoEndpoint, nil},
		{"www-ill", 503, proxy.Unhealthy, nil},
		{"www-down", 503, proxy.Unreachable, nil},
		{"www-busy", 503, proxy.Overloaded, nil},
		{"www-refused", 502, proxy.AddressRefused, nil},
		{"www-untrusted", 502, proxy.Untrusted, nil},
		{"www-broken", 502, proxy.UpstreamBroken, []func(*http.Request){method("POST")}},
		{"www-silent", 504, proxy.UpstreamTimeout, []func(*http.Request){method("POST")}},
		{"www-9", 500, proxy.InternalError, nil},
		{"www-well", 508, proxy.Loop, []func(*http.Request){header("Clonegate-Hop", hops)}},
		{"www-well", 431, proxy.HeadTooLarge, []func(*http.Request){header("X", strings.Repeat("x", 70_000))}},
		{"www-well", 404, proxy.UnknownZone, []func(*http.Request){func(r *http.Request) { r.Host = "www-1.example.org" }}},
		{"www-well", 400, proxy.BadRequest, []func(*http.Request){func(r *http.Request) { r.Host = "www-well." + zone + ":x" }}},
		{"www-well", 408, proxy.BodyTimeout, []func(*http.Request){method("POST"), func(r *http.Request) {
			body, w := io.Pipe() // nothing comes
			t.Cleanup(func() { w.Close() })
			r.Body, r.ContentLength = body, 7
		}}},
	} {
		for proto, client := range []*http.Client{b.client, b.h2} {
			url := "https://" + strings.TrimPrefix(tt.host+"."+zone, ".") + "/"
			note(t, b.do(client, url, tt.change...), tt.status, tt.reason, proto)
		}
	}
	host := "Host: www-well." + zone + "\r\n"
	for _, tt := range []struct {
		request string
		status  int
		reason  proxy.Reason
	}{
		{"GET / HTTP/1.1\r\nHost : www-well." + zone + "\r\n\r\n", 400, proxy.BadRequest},
		{"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400, proxy.BadRequest},
		{"\x16\x03\x01\x02\r\n\r\n", 400, proxy.BadRequest},
		{"GET /\r\n\r\n", 400, proxy.BadRequest},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, proxy.BadBody},
		{"GET /" + strings.Repeat("x", 70_000) + " HTTP/1.1\r\n" + host + "\r\n", 414, proxy.TargetTooLong},
		{"GET / HTTP/3.0\r\n" + host + "\r\n", 505, proxy.VersionRefused},
		{"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", 501, proxy.CodingRefused},
		{"CONNECT www-well." + zone + ":443 HTTP/1.1\r\n" + host + "\r\n", 501, proxy.MethodRefused},
	} {
		note(t, b.raw(tt.request), tt.status, tt.reason, 0)
	}
	note(t, b.do(b.h2, "https://www-well."+zone+"/", method("CONNECT")), 501, proxy.MethodRefused, 1)
	note(t, b.get("http://www-well."+zone+"/"), 301, proxy.Redirect, 0)

	// Nobody is left to hear these, or they need a lease to run out: see
	// TestLostCloneSaysWhen.
	silent := []proxy.Reason{proxy.ClientGone, proxy.CutByClone, proxy.Lost}
	// These are about what HTTP/2 does not have, or answers by a reset.
	old := []proxy.Reason{proxy.Redirect, proxy.VersionRefused, proxy.CodingRefused, proxy.TargetTooLong, proxy.BadBody}
	for _, r := range reasons(t) {
		if slices.Contains(silent, r) {
			continue
		}
		if got := told[r]; !got[0] || !got[1] && !slices.Contains(old, r) {
			t.Errorf("reason %s was told over HTTP/1.1: %v, over HTTP/2: %v; want both", r, got[0], got[1])
		}
	}
}
