package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/miekg/dns"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/sqlite"
)

// TestChurn lets 20,000 clones come, be used once, and go, while strangers ask for
// names that nobody has. What the daemon holds then is what it held before.
//
// It has run for long by then: it knows as many clones that are gone as it
// keeps to be explained, and as many changes as it keeps for readers.
func TestChurn(t *testing.T) {
	long(t)
	t.Parallel()
	churned := 20_000
	if raced {
		churned = 1_000
		t.Log("with the race detector it is 1,000 clones instead of 20,000: make test runs both")
	}
	const gone, warm = 10_000, 1_200
	g := newGateway(t)
	g.haveGone(gone)
	g.start()
	backend := startEverywhere(t)
	stays := "www-stays"
	g.register("stays", serving("a", "127.20.255.1"+backend))
	visitor := &http.Client{Transport: g.transport(), Timeout: 30 * time.Second}
	use := func(from, to int) {
		for ; from < to; from += 1_000 {
			g.churn(from, min(from+1_000, to), backend)
			if _, err := g.api.Renew(t.Context(), "stays", "a"); err != nil { // a slow machine takes longer than its lease
				t.Fatal(err)
			}
		}
		g.get(visitor, g.url(stays, "/")).is(t, "the clone that stays", 200, "hello")
		visitor.CloseIdleConnections()
	}
	use(0, warm)
	before := g.settle()
	began := time.Now()
	use(warm, warm+churned)
	t.Logf("%d clones came and went in %s", churned, time.Since(began))
	after := g.settle()
	for _, name := range []string{"go_goroutines", "process_open_fds", "series", "live"} {
		t.Logf("%s: %.0f before, %.0f after", name, before[name], after[name])
		most := before[name] * 1.05
		switch name {
		case "live":
			most += float64(64 * churned) // tables keep the room of their fullest moment
		case "go_goroutines", "process_open_fds":
			most += 3 // the daemon's own connections to callers and to its file come and go
		}
		if after[name] > most {
			t.Errorf("%s grew from %.0f to %.0f; want at most %.0f", name, before[name], after[name], most)
		}
	}
	for name := range after {
		if _, known := before[name]; !known {
			t.Errorf("series %s is left", name)
		}
	}
}

// haveGone writes so many clones into the registry that are gone.
func (g *gateway) haveGone(n int) {
	g.t.Helper()
	if err := os.Mkdir(g.data, 0o700); err != nil {
		g.t.Fatal(err)
	}
	store, err := sqlite.Open(g.t.Context(), filepath.Join(g.data, "registry.db"), sqlite.Config{})
	if err != nil {
		g.t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	b := new(registry.Batch)
	for i := range n {
		seq := uint64(i + 1)
		c := &registry.Clone{
			ID: registry.ID("g" + strconv.Itoa(i)), Incarnation: 1, Revision: seq, Instance: "a", State: registry.Gone, Desired: registry.WantGone,
			Services: map[string]*registry.Service{"www": {Protocol: registry.HTTP, Default: true}},
			Owner:    "admin", Reason: "unregistered by its instance", EndedBy: "admin", Created: now, Changed: now, Ended: now,
		}
		b.Clones = append(b.Clones, c)
		b.Events = append(b.Events, registry.Event{Seq: seq, Time: now, Type: registry.EventCloneGone, Clone: c.ID, Incarnation: 1, State: c.State})
		if len(b.Clones) == 500 || i == n-1 {
			if err := store.Commit(g.t.Context(), b); err != nil {
				g.t.Fatal(err)
			}
			b = new(registry.Batch)
		}
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

// useOnce is the life of one clone: somebody looks its name up, opens its page,
// and leaves, now and then with a WebSocket open, or after a name that nobody has.
func (g *gateway) useOnce(i int, backend string) error {
	ctx, cancel := context.WithTimeout(g.t.Context(), 30*time.Second)
	defer cancel()
	id := registry.ID("c" + strconv.Itoa(i))
	own := fmt.Sprintf("127.20.%d.%d", i/250, 1+i%250)
	reg := serving("a", own+backend)
	reg.Services["www"] = registry.ServiceRegistration{
		Endpoints: reg.Services["www"].Endpoints, Default: true, Health: &registry.HealthRegistration{Path: "/healthz"},
	}
	reg.Hosts = map[string][]string{"db": {"10.80.0.30"}}
	if _, _, err := g.api.Register(ctx, id, reg, false); err != nil {
		return err
	}
	label := "www-" + string(id)
	for name, want := range map[string]int{label: dns.RcodeSuccess, "db." + string(id): dns.RcodeSuccess, unknown(): dns.RcodeNameError} {
		if got, err := g.lookUp(name); err != nil || got != want {
			return fmt.Errorf("the name %s: %s, %w; want %s", name, dns.RcodeToString[got], err, dns.RcodeToString[want])
		}
	}
	transport := g.transport()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { // each comes from elsewhere
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(own)}}
		return d.DialContext(ctx, network, g.at.Gateway.Listen)
	}
	c := &http.Client{Transport: transport}
	defer c.CloseIdleConnections()
	for name, want := range map[string]int{label: 200, unknown(): 404} {
		if want == 404 && i%10 != 0 {
			continue
		}
		a, err := ask(ctx, c, http.MethodGet, g.url(name, "/"), "")
		if err != nil {
			return err
		}
		if a.status != want {
			return fmt.Errorf("GET %s: %d %.300s", name, a.status, a.body)
		}
	}
	if i%10 == 0 { // it leaves with a WebSocket open
		conn, _, err := websocket.Dial(ctx, g.url(label, "/ws"), &websocket.DialOptions{HTTPClient: c})
		if err != nil {
			return err
		}
		defer conn.CloseNow()
	}
	_, ended, err := g.api.Unregister(ctx, id, "a")
	if err == nil && !ended {
		err = errors.New("it is not gone")
	}
	return err
}

// unknown returns a name below the zone that nobody has.
func unknown() string { return fmt.Sprintf("www-x%d", rand.Uint64()>>8) }

// lookUp asks the daemon's DNS server for the address of a name below the zone.
func (g *gateway) lookUp(name string) (rcode int, err error) {
	q := new(dns.Msg).SetQuestion(name+"."+zone+".", dns.TypeA)
	in, _, err := new(dns.Client).Exchange(q, g.at.DNS.Listen)
	if err != nil {
		return 0, err
	}
	return in.Rcode, nil
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
	for calm := 0; calm < 5; calm++ {
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

// metrics asks without compression, whose buffers would be counted, too.
func (g *gateway) metrics() map[string]float64 {
	g.t.Helper()
	token, err := os.ReadFile(filepath.Join(g.data, "admin.token"))
	if err != nil {
		g.t.Fatal(err)
	}
	a, err := ask(g.t.Context(), http.DefaultClient, http.MethodGet, g.at.API.URL+"/metrics", "",
		"Authorization", "Bearer "+strings.TrimSpace(string(token)), "Accept-Encoding", "identity")
	if err != nil || a.status != http.StatusOK {
		g.t.Fatalf("metrics: %d, %v", a.status, err)
	}
	m := map[string]float64{}
	for line := range strings.Lines(a.body) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
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
