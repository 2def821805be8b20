package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// TestLeavingIsNoticed has clients leave while their requests wait for each thing
// that a request may wait for. Nothing waits on for them: the request is over,
// and what is under way to the clone cancelled, in a tenth of a second.
func TestLeavingIsNoticed(t *testing.T) {
	const tries = 7
	b := newBench(t, func(c *proxy.Config) {
		l := &c.Limits
		l.DialTimeout, l.QueueTimeout, l.ConnsPerEndpoint = 10*time.Second, 10*time.Second, 1
	})
	deaf := listen(t) // takes connections and never speaks TLS
	defer deaf.Close()
	b.register("dial", map[string]registry.ServiceRegistration{"www": {Endpoints: []string{deaf.Addr().String()}, Protocol: registry.HTTPS}})
	working, cancelled := make(chan struct{}, 1), make(chan time.Time, 1)
	works := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/upload" {
			io.ReadFull(r.Body, make([]byte, 10))
			working <- struct{}{}
		}
		io.Copy(io.Discard, r.Body) // or net/http's server does not look after its client
		if r.URL.Path == "/download" {
			w.(http.Flusher).Flush()
		}
		if r.URL.Path != "/upload" {
			working <- struct{}{}
			<-r.Context().Done()
		}
		cancelled <- time.Now()
	}
	b.serve("answer", works)
	h2c := httptest.NewUnstartedServer(http.HandlerFunc(works))
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	defer h2c.Close()
	b.register("h2c", map[string]registry.ServiceRegistration{"www": {Endpoints: []string{h2c.Listener.Addr().String()}, Protocol: registry.H2C}})
	busy, release := make(chan struct{}), make(chan struct{})
	b.serve("queue", func(http.ResponseWriter, *http.Request) { close(busy); <-release })
	occupied := make(chan reply, 1)
	go func() { occupied <- b.get("https://www-queue." + zone + "/") }()
	<-busy
	defer func() { close(release); <-occupied }()
	b.serve("held", who("held"))
	b.fault("held", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 10_000})

	for _, tt := range []struct {
		name, id, path string
		body           string
		goesOn         bool // the body does not end
		working        bool // the clone works on it and hears of the cancelling
	}{
		{name: "a connection", id: "dial", path: "/"},
		{name: "a connection, with a body", id: "dial", path: "/", body: "some body"},
		{name: "its turn", id: "queue", path: "/"},
		{name: "its turn, with a body", id: "queue", path: "/", body: "some body"},
		{name: "a fault to pass", id: "held", path: "/", body: "some body"},
		{name: "an answer", id: "answer", path: "/", working: true},
		{name: "an answer to a body", id: "answer", path: "/", body: "some body", working: true},
		{name: "the rest of an answer", id: "answer", path: "/download", working: true},
		{name: "the clone to take a body", id: "answer", path: "/upload", body: "some more of a body", goesOn: true, working: true},
		{name: "an answer over h2c", id: "h2c", path: "/", working: true},
		{name: "the rest of an answer over h2c", id: "h2c", path: "/download", working: true},
	} {
		for _, over2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tt.name, over2), func(t *testing.T) {
				var took []time.Duration
				for range tries {
					before := len(b.log.records("request"))
					leave := b.begin(t, over2, tt.id, tt.path, tt.body, tt.goesOn)
					if tt.working {
						<-working
					} else {
						eventually(t, "it waits", func() bool { return b.gauge("clonegate_proxy_requests_at_work", tt.id) > b.atRest(tt.id) })
					}
					left := time.Now()
					leave()
					if tt.working {
						took = append(took, (<-cancelled).Sub(left))
					}
					eventually(t, "it is over", func() bool { return len(b.log.records("request")) > before })
					if !tt.working {
						took = append(took, time.Since(left))
					}
					line := b.log.records("request")[before]
					if line["reason"] != string(proxy.ClientGone) || tt.path != "/download" && line["status"] != 499.0 {
						t.Fatalf("access log: %v; want 499, client-gone", line)
					}
				}
				slices.Sort(took)
				if d := took[tries/2]; d > 100*time.Millisecond {
					t.Errorf("it took %s to be noticed; want 0.1 s in half of the cases", d)
				}
				if d := took[tries-1]; d > 2*time.Second {
					t.Errorf("it took %s to be noticed; want no more than 2 s ever", d)
				}
			})
		}
	}
	if n := len(b.log.records("endpoint is benched")); n > 0 {
		t.Errorf("endpoints were benched %d times for what clients did", n)
	}
}

// atRest returns how many requests are at work for a clone in any case.
func (b *bench) atRest(id string) float64 {
	if id == "queue" {
		return 1
	}
	return 0
}

// begin sends a request on a connection of its own; leave ends both.
func (b *bench) begin(t *testing.T, over2 bool, id, path, body string, goesOn bool) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	if goesOn {
		in = io.MultiReader(in, waiter{ctx})
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "https://www-"+id+"."+zone+path, in)
	if err != nil {
		t.Fatal(err)
	}
	client := b.newClient(over2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := client.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}()
	return func() {
		cancel()
		<-done
		client.CloseIdleConnections()
	}
}
