package proxy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

func TestRedirect(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	b.register("2", www(), func(r *registry.Registration) { r.State = registry.Starting })
	for _, tt := range []struct {
		name, url, method string
		status            int
		want              string
	}{
		{"a page", "http://www-1." + zone + "/a?b=%zz", "GET", 301, "https://www-1." + zone + ":8443/a?b=%zz"},
		{"a form", "http://www-1." + zone + "/a", "POST", 308, "https://www-1." + zone + ":8443/a"},
		{"another spelling", "http://WWW-1." + zone + ".:80/", "GET", 301, "https://www-1." + zone + ":8443/"},
		{"nested", "http://www.1." + zone + "/", "GET", 301, "https://www.1." + zone + ":8443/"},
		{"under an alias", "http://www-1.test-envs.example.com/", "GET", 301, "https://www-1.test-envs.example.com:8443/"},
		{"two slashes", "http://www-1." + zone + "//evil.example/", "GET", 301, "https://www-1." + zone + ":8443//evil.example/"},
		{"a clone that starts", "http://www-2." + zone + "/", "GET", 301, "https://www-2." + zone + ":8443/"},
		{"an unknown clone", "http://www-9." + zone + "/", "GET", 404, ""},
		{"a stranger", "http://evil.example/", "GET", 404, ""},
	} {
		got := b.get(tt.url, method(tt.method))
		if tt.want != "" && got.Header.Get("Clonegate-Reason") != string(proxy.Redirect) {
			t.Errorf("%s: reason %q; want %q", tt.name, got.Header.Get("Clonegate-Reason"), proxy.Redirect)
		}
		if got.StatusCode != tt.status || got.Header.Get("Location") != tt.want || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got %d to %q; want %d to %q, not stored", tt.name, got.StatusCode, got.Header.Get("Location"), tt.status, tt.want)
		}
	}
}

// TestDrain stops a gateway under traffic: requests end, WebSockets hear about
// it, nothing new begins.
func TestDrain(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.DrainGrace = 5 * time.Second })
	working, finish := make(chan struct{}), make(chan struct{})
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live" {
			echo(w, r)
			return
		}
		close(working)
		<-finish
		io.WriteString(w, "finished")
	})
	live := b.websocket("wss://www-1." + zone + "/live")
	wantEcho(t, live, "hello")
	got := make(chan reply, 1)
	go func() { got <- b.do(b.h2, "https://www-1."+zone+"/slow") }()
	<-working
	stopped := make(chan struct{})
	go func() { b.stop(); close(stopped) }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, _, err := live.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the WebSocket heard %v; want close code 1001", err)
	}
	if _, err := b.newClient(false).Get("https://www-1." + zone + "/"); err == nil {
		t.Error("a new connection was served while draining")
	}
	close(finish)
	if r := <-got; r.body != "finished" {
		t.Errorf("the request at work: got %d %q; want it finished", r.StatusCode, r.body)
	}
	select {
	case <-stopped:
	case <-time.After(5 * time.Second):
		t.Fatal("Run has not returned after the last request")
	}
}

// TestDrainEnds cuts a request that never ends.
func TestDrainEnds(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.DrainGrace = 100 * time.Millisecond })
	working := make(chan struct{})
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(working)
		<-r.Context().Done()
	})
	res, err := b.client.Get("https://www-1." + zone + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	<-working
	start := time.Now()
	b.stop()
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("Run took %s to return; want 0.1 s", d)
	}
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the stream ended with %q as if it were whole", body)
	}
}

// TestRunTellsOfALostListener closes a listener under a gateway.
func TestRunTellsOfALostListener(t *testing.T) {
	b := newBench(t)
	cfg := proxy.Config{
		Routes: b.registry.View(), Zones: b.registry.View().Zones(),
		CheckEndpoint: registry.NewNetworks(nil).Check,
	}
	cert, _ := testCertificate(t)
	cfg.TLS = tlsWith(cert)
	g, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	ln.Close()
	if err := g.Run(t.Context(), listeners(ln)); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Run on a closed listener: %v; want its error", err)
	}
}

// panicking is routes with a fault.
type panicking struct{ proxy.Routes }

func (p panicking) Lookup(sub string) (registry.Target, bool) {
	if sub == "www-9" {
		panic("a fault of ours")
	}
	return p.Routes.Lookup(sub)
}

// TestFaultIsContained has one request meet a fault of the gateway.
func TestFaultIsContained(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Routes = panicking{c.Routes} })
	b.serve("1", who("1"))
	for _, client := range []*http.Client{b.client, b.h2} {
		p := b.do(client, "https://www-9."+zone+"/").wantReason(t, 500, proxy.InternalError)
		if strings.Contains(p.Detail, "a fault of ours") {
			t.Errorf("the fault is shown to strangers: %q", p.Detail)
		}
		if got := b.do(client, "https://www-1."+zone+"/"); got.StatusCode != 200 {
			t.Errorf("the next request: got %d; want 200", got.StatusCode)
		}
	}
	if lines := b.log.records("panic in a request"); len(lines) != 2 || lines[0]["err"] != "a fault of ours" || lines[0]["stack"] == "" {
		t.Errorf("the log says %v; want the fault and the stack, twice", lines)
	}
}
