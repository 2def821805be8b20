package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/registry"
)

const churnedClones = 2000

// TestChurn lets 2,000 clones come, be used once, and go. What the daemon holds
// then is what it held before, but for the record that says who ended each.
func TestChurn(t *testing.T) {
	long(t)
	t.Parallel()
	g := newGateway(t)
	g.start()
	backend := startEverywhere(t)
	stays := "www-stays"
	g.register("stays", serving("a", "127.20.255.1"+backend))
	visitor := &http.Client{Transport: g.transport(), Timeout: 30 * time.Second}
	use := func(from, to int) {
		g.churn(from, to, backend)
		g.get(visitor, g.url(stays, "/")).is(t, "the clone that stays", 200, "hello")
		visitor.CloseIdleConnections()
	}
	use(0, 100)
	before := g.settle()
	began := time.Now()
	use(100, 100+churnedClones)
	took := time.Since(began)
	after := g.settle()
	t.Logf("%d clones came and went in %s", churnedClones, took)
	for _, name := range []string{"go_goroutines", "process_open_fds", "series"} {
		t.Logf("%s: %.0f before, %.0f after", name, before[name], after[name])
		if after[name] > before[name]*1.1+5 {
			t.Errorf("%s grew from %.0f to %.0f", name, before[name], after[name])
		}
	}
	for name := range after {
		if _, known := before[name]; !known {
			t.Errorf("series %s is left", name)
		}
	}
	perClone := (after["live"] - before["live"]) / churnedClones
	t.Logf("live heap: %.1f MB before, %.1f MB after: %.0f octets for each clone that is gone", before["live"]/1e6, after["live"]/1e6, perClone)
	if perClone > 8192 {
		t.Errorf("a clone that is gone costs %.0f octets", perClone)
	}
}

// churn registers, uses and removes clones.
func (g *gateway) churn(from, to int, backend string) {
	g.t.Helper()
	const workers = 8
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for i := from + worker; i < to; i += workers {
				if err := g.useOnce(i, backend); err != nil {
					g.t.Errorf("clone %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func (g *gateway) useOnce(i int, backend string) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	id := registry.ID("c" + strconv.Itoa(i))
	reg := serving("a", fmt.Sprintf("127.20.%d.%d%s", i/250, 1+i%250, backend))
	reg.Services["www"] = registry.ServiceRegistration{
		Endpoints: reg.Services["www"].Endpoints, Default: true, Health: &registry.HealthRegistration{Path: "/healthz"},
	}
	reg.Hosts = map[string][]string{"db": {"10.80.0.30"}}
	if _, _, err := g.api.Register(ctx, id, reg, false); err != nil {
		return err
	}
	c := &http.Client{Transport: g.transport()}
	defer c.CloseIdleConnections()
	url := g.url("www-"+string(id), "/")
	a, err := ask(ctx, c, http.MethodGet, url, "")
	if err != nil {
		return err
	}
	if a.status != 200 {
		return fmt.Errorf("GET %s: %d %.300s", url, a.status, a.body)
	}
	if i%10 == 0 { // it leaves with a WebSocket open
		conn, _, err := websocket.Dial(ctx, url+"ws", &websocket.DialOptions{HTTPClient: c})
		if err != nil {
			return err
		}
		defer conn.CloseNow()
	}
	_, gone, err := g.api.Unregister(ctx, id, "a")
	if err == nil && !gone {
		err = errors.New("it is not gone")
	}
	return err
}

// startEverywhere runs a service on every address of loopback and returns
// ":port".
func startEverywhere(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", says("hello"))
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			<-conn.CloseRead(r.Context()).Done()
			conn.CloseNow()
		}
	})
	s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return ":" + port
}

// settle returns the daemon's numbers once they fall no more: those of
// /metrics without labels, the number of series, and the live heap.
func (g *gateway) settle() map[string]float64 {
	g.t.Helper()
	g.metrics() // makes the series of this operation
	best := g.metrics()
	for calm := 0; calm < 3; calm++ {
		now := g.collect()
		for _, name := range []string{"go_goroutines", "process_open_fds", "series", "live"} {
			if now[name] < best[name] {
				best[name], calm = now[name], -1
			}
		}
	}
	return best
}

// collect keeps the daemon busy until it has collected its garbage.
func (g *gateway) collect() map[string]float64 {
	g.t.Helper()
	const collections = "go_gc_duration_seconds_count"
	first := g.metrics()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if now := g.metrics(); now[collections] > first[collections]+1 {
			return now
		}
	}
	return g.metrics()
}

func (g *gateway) metrics() map[string]float64 {
	g.t.Helper()
	text, err := g.api.Metrics(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	m := map[string]float64{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !ok || name == "#" {
			continue
		}
		m["series"]++
		if m[name], err = strconv.ParseFloat(value, 64); err != nil && !strings.Contains(name, "{") {
			g.t.Fatalf("metric %s: %v", line, err)
		}
	}
	// The collector aims at twice what it found alive.
	m["live"] = m["go_memstats_next_gc_bytes"] / 2
	return m
}
