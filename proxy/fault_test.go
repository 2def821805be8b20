package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// fault gives a clone a fault and waits until the gateway has it.
func (b *bench) fault(id registry.ID, spec registry.FaultSpec, life ...registry.Seconds) *registry.Fault {
	b.t.Helper()
	req := registry.FaultRequest{FaultSpec: spec}
	if len(life) > 0 {
		req.For = life[0]
	}
	f, err := b.registry.AddFault(context.Background(), registry.System, id, req)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// mend ends all faults of a clone.
func (b *bench) mend(id registry.ID) {
	b.t.Helper()
	if _, err := b.registry.RemoveFault(context.Background(), registry.System, id, 0); err != nil {
		b.t.Fatal(err)
	}
}

// hello registers a clone whose services www and api say their path.
func (b *bench) hello(id registry.ID) {
	b.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) }))
	b.t.Cleanup(s.Close)
	services := www(s.Listener.Addr().String())
	services["api"] = registry.ServiceRegistration{Endpoints: services["www"].Endpoints}
	b.register(id, services)
}

// TestFaultFrees: whoever waits goes on at once when the fault is removed, when
// it ends, or when the gateway drains, and is forgotten when the client leaves.
func TestFaultFrees(t *testing.T) {
	minute := registry.FaultSpec{Kind: registry.FaultLatency, Delay: 60_000}
	waiting := func(b *bench, n float64) {
		eventually(b.t, fmt.Sprintf("%v requests wait", n), func() bool { return b.gauge("clonegate_proxy_requests_at_work", "1") == n })
	}
	for _, row := range []struct {
		name string
		life registry.Seconds
		free func(*bench)
	}{
		{"removed", 600, func(b *bench) { b.mend("1") }},
		{"ended by itself", 1, func(*bench) {}},
		{"draining", 600, func(b *bench) { b.stop() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t)
			b.hello("1")
			b.fault("1", minute, row.life)
			start := time.Now()
			var all sync.WaitGroup
			for _, client := range []*http.Client{b.client, b.h2} {
				all.Go(func() {
					r, err := client.Get("https://www-1." + zone + "/here")
					if err != nil {
						t.Error(err)
						return
					}
					defer r.Body.Close()
					if body, err := io.ReadAll(r.Body); string(body) != "/here" || err != nil {
						t.Errorf("got %q, %v", body, err)
					}
				})
			}
			waiting(b, 2)
			row.free(b)
			all.Wait()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("they waited %s", took)
			}
		})
	}
	b := newBench(t)
	b.hello("1")
	b.fault("1", minute)
	b.each(t, func(t *testing.T, client *http.Client) {
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", "https://www-1."+zone, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := client.Do(req)
			done <- err
		}()
		waiting(b, 1)
		leave()
		<-done
		waiting(b, 0)
	})
}

// wantUnharmed checks that a clone without faults serves.
func (b *bench) wantUnharmed(t *testing.T, client *http.Client) {
	t.Helper()
	b.hello("2")
	if r := b.do(client, "https://www-2."+zone+"/bad"); r.StatusCode != 200 {
		t.Errorf("another clone: %d", r.StatusCode)
	}
}

// TestFaultsOfSome: a fault befalls as many requests as it says, until its end.
func TestFaultsOfSome(t *testing.T) {
	b := newBench(t, quiet)
	b.hello("1")
	b.fault("1", registry.FaultSpec{Kind: registry.FaultAbort, Status: 503, Percent: 30})
	b.each(t, func(t *testing.T, client *http.Client) {
		failed := 0
		const asked = 1000
		for range asked {
			if b.do(client, "https://www-1."+zone).StatusCode == 503 {
				failed++
			}
		}
		if failed < asked*22/100 || failed > asked*38/100 { // five standard deviations
			t.Errorf("%d of %d requests failed, want about 30 %%", failed, asked)
		}
	})
	b.mend("1")
	f := b.fault("1", registry.FaultSpec{Kind: registry.FaultAbort, Status: 503}, 1)
	for time.Now().Before(f.Until.Add(-100 * time.Millisecond)) {
		if r := b.get("https://www-1." + zone); r.StatusCode != 503 {
			t.Fatalf("before its end: %d", r.StatusCode)
		}
	}
	time.Sleep(time.Until(f.Until))
	if r := b.get("https://www-1." + zone); r.StatusCode != 200 {
		t.Errorf("at its end: %d", r.StatusCode)
	}
}

// TestFaultsOfWebSockets: latency before the beginning, a rate for its whole
// life, a reset some time after.
func TestFaultsOfWebSockets(t *testing.T) {
	b := newBench(t)
	b.serve("1", echo)
	b.fault("1", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 100})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: 40_000, Direction: registry.DirectionUp})
	start := time.Now()
	c := b.websocket("wss://www-1." + zone)
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("opened after %s; want 100 ms", took)
	}
	c.SetReadLimit(1 << 20)
	start = time.Now()
	wantEcho(t, c, strings.Repeat("x", 20_000))
	if took := time.Since(start).Seconds(); took < 0.4 || took > 2 {
		t.Errorf("20,000 octets at 40,000 a second took %.3f s", took)
	}
	b.mend("1")
	start = time.Now()
	wantEcho(t, c, strings.Repeat("x", 400_000))
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("400,000 octets took %s after the end of the fault", took)
	}

	b.fault("1", registry.FaultSpec{Kind: registry.FaultReset})
	var broken atomic.Int64
	const most = 24
	for range most {
		c := b.websocket("wss://www-1." + zone)
		go func() {
			if _, _, err := c.Read(t.Context()); errors.Is(err, syscall.ECONNRESET) {
				broken.Add(1)
			}
		}()
	}
	if broken.Load() == most {
		t.Error("all WebSockets broke at once")
	}
	eventually(t, "two WebSockets were reset", func() bool { return broken.Load() >= 2 })
	b.mend("1")
	wantEcho(t, c, "the one from before")
	kept := b.gauge("clonegate_proxy_tunnels", "1")
	if kept < 2 || kept > most-1 { // with the one from before
		t.Errorf("%v WebSockets are open; want some of %d", kept, most)
	}
	if got := b.series("clonegate_proxy_gateway_answers_total")["fault "]; got != float64(broken.Load()) {
		t.Errorf("%v resets are counted; %d were seen", got, broken.Load())
	}
}

// TestFaultsOfWebSocketsOverHTTP2: each stream meets them by itself.
func TestFaultsOfWebSocketsOverHTTP2(t *testing.T) {
	b := newBench(t)
	b.serve("1", echo)
	cc := b.extended()
	kept := b.websocket2(cc, "1", "/")
	b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: 1024, Direction: registry.DirectionDown})
	slow := b.websocket2(cc, "1", "/")
	start := time.Now()
	for range 5 {
		slow.send(strings.Repeat("x", 100))
		slow.receive(t)
	}
	if took := time.Since(start).Seconds(); took < 0.4 || took > 2 {
		t.Errorf("510 octets at 1,024 a second took %.3f s", took)
	}
	b.mend("1")
	b.fault("1", registry.FaultSpec{Kind: registry.FaultReset})
	var broken atomic.Int64
	for range 24 {
		ws := b.websocket2(cc, "1", "/")
		go func() {
			_, err := ws.down.ReadByte()
			if stream, ok := errors.AsType[http2.StreamError](err); ok && stream.Code == http2.ErrCodeCancel {
				broken.Add(1)
			}
		}()
	}
	eventually(t, "two WebSockets were reset", func() bool { return broken.Load() >= 2 })
	b.mend("1")
	for _, ws := range []websocket2{kept, slow} {
		ws.send("still here")
		if _, got := ws.receive(t); got != "still here" {
			t.Errorf("got %q", got)
		}
	}
}

// TestFaultsOfH2C: endpoints that speak HTTP/2 are behind the same faults.
func TestFaultsOfH2C(t *testing.T) {
	const rate, size = 100_000, 30_000
	body := strings.Repeat("x", size)
	b := newBench(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	b.register("1", map[string]registry.ServiceRegistration{"grpc": {Endpoints: []string{s.Listener.Addr().String()}, Protocol: registry.H2C}})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 100})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: rate, Direction: registry.DirectionUp})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultAbort, Status: 500, Path: "/bad"})
	b.each(t, func(t *testing.T, client *http.Client) {
		start := time.Now()
		r := b.do(client, "https://grpc-1."+zone+"/good", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader(body)), size
		})
		if took := time.Since(start).Seconds(); r.StatusCode != 200 || r.body != body || took < 0.1+float64(size)/rate-0.06 || took > 3 {
			t.Errorf("%d with %d octets after %.3f s", r.StatusCode, len(r.body), took)
		}
		b.do(client, "https://grpc-1."+zone+"/bad").wantReason(t, 500, proxy.Injected)
	})
}

// TestFaultsComeLater: a stream that began before a fault is spared.
func TestFaultsComeLater(t *testing.T) {
	b := newBench(t)
	later := make(chan struct{})
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "before")
		w.(http.Flusher).Flush()
		<-later
		io.WriteString(w, strings.Repeat("x", 1<<20))
	})
	var bodies []io.Reader
	b.each(t, func(t *testing.T, client *http.Client) {
		r, err := client.Get("https://www-1." + zone)
		if err != nil {
			t.Fatal(err)
		}
		b.t.Cleanup(func() { r.Body.Close() })
		if _, err := io.ReadFull(r.Body, make([]byte, len("before"))); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, r.Body)
	})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultReset})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: 1024})
	close(later)
	for i, body := range bodies {
		if rest, err := io.ReadAll(body); len(rest) != 1<<20 || err != nil {
			t.Errorf("stream %d: %d octets more, %v", i+1, len(rest), err)
		}
	}
}
