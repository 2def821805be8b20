package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

func TestFaultLatency(t *testing.T) {
	b := newBench(t)
	b.hello("1")
	b.fault("1", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 250, Service: "www"})
	b.fault("1", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 40, Jitter: 40, Path: "/slow/"})
	b.each(t, func(t *testing.T, client *http.Client) {
		for _, row := range []struct {
			url      string
			min, max time.Duration
		}{
			{"https://www-1." + zone + "/a", 250 * time.Millisecond, time.Minute},
			{"https://1." + zone + "/slow/a", 250 * time.Millisecond, time.Minute},
			{"https://api-1." + zone + "/a", 0, 245 * time.Millisecond},
		} {
			start := time.Now()
			r := b.do(client, row.url)
			if took := time.Since(start); r.StatusCode != 200 || took < row.min || took > row.max {
				t.Errorf("%s: %d after %s; want 200 after %s to %s", row.url, r.StatusCode, took, row.min, row.max)
			}
		}
		r := b.do(client, "https://www-1."+zone+"/a", func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader("body")), 4
		})
		if r.StatusCode != 200 {
			t.Errorf("with a body: %d %s", r.StatusCode, r.body)
		}
	})
	if line := b.log.requests(t, 1)[0]; !strings.Contains(fmt.Sprint(line["faults"]), " latency") {
		t.Errorf("access log: %v; want the fault", line)
	}
	if got := b.series("clonegate_proxy_faults_total")["latency "]; got < 4 {
		t.Errorf("%v faults are counted; want at least 4", got)
	}
}

// TestFaultLatencyAndTimeouts: the time that a fault takes is not the clone's.
func TestFaultLatencyAndTimeouts(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) {
		c.Limits.ResponseTimeout, c.Limits.StallTimeout = 250*time.Millisecond, 250*time.Millisecond
	})
	b.serve("1", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	b.fault("1", registry.FaultSpec{Kind: registry.FaultLatency, Delay: 300})
	b.each(t, func(t *testing.T, client *http.Client) {
		for _, body := range []string{"", strings.Repeat("x", 200_000)} {
			r := b.do(client, "https://www-1."+zone, func(r *http.Request) {
				r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader(body)), int64(len(body))
			})
			if r.StatusCode != 200 {
				t.Errorf("%d octets: %d %s", len(body), r.StatusCode, r.body)
			}
		}
	})
}

func TestFaultAbort(t *testing.T) {
	b := newBench(t)
	b.hello("1")
	f := b.fault("1", registry.FaultSpec{Kind: registry.FaultAbort, Status: 418, Path: "/bad"})
	b.each(t, func(t *testing.T, client *http.Client) {
		r := b.do(client, "https://www-1."+zone+"/bad/luck")
		p := r.wantReason(t, 418, proxy.Injected)
		if want := fmt.Sprintf("Fault %d, which clonegate added, does so: abort 418, requests to every service under /bad; it ends in 9 minutes.", f.ID); p.Detail != want {
			t.Errorf("detail %q; want %q", p.Detail, want)
		}
		if r := b.do(client, "https://www-1."+zone+"/good"); r.StatusCode != 200 {
			t.Errorf("another path: %d", r.StatusCode)
		}
		if r := b.do(client, "https://www-1."+zone+"/bad", asBrowser); r.StatusCode != 418 || !strings.Contains(r.body, "clonegate fault remove 1") {
			t.Errorf("a browser: %d %s; want a page that says how to end it", r.StatusCode, r.body)
		}
		b.wantUnharmed(t, client)
	})
}

func TestFaultReset(t *testing.T) {
	b := newBench(t)
	var asked atomic.Bool
	b.serve("1", func(http.ResponseWriter, *http.Request) { asked.Store(true) })
	b.fault("1", registry.FaultSpec{Kind: registry.FaultReset})
	_, err := b.client.Post("https://www-1."+zone, "text/plain", strings.NewReader("x")) // which is not sent again
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("HTTP/1.1: %v; want a connection that was reset", err)
	}
	_, err = b.h2.Post("https://www-1."+zone, "text/plain", strings.NewReader("x"))
	if stream, ok := errors.AsType[http2.StreamError](err); !ok && (err == nil || !strings.Contains(err.Error(), "stream error")) {
		t.Errorf("HTTP/2: %v, %v; want a stream that was reset", err, stream)
	}
	if asked.Load() {
		t.Error("the clone was asked")
	}
	b.wantUnharmed(t, b.h2)
	if line := b.log.requests(t, 1)[0]; line["reason"] != "fault" || line["status"] != 0.0 {
		t.Errorf("access log: %v", line)
	}
	b.mend("1")
	b.each(t, func(t *testing.T, client *http.Client) {
		if r := b.do(client, "https://www-1."+zone); r.StatusCode != 200 {
			t.Errorf("afterwards: %d", r.StatusCode)
		}
	})
}

// TestFaultBandwidth: octets pass at the rate that was asked for, both ways.
func TestFaultBandwidth(t *testing.T) {
	const rate = 400 << 10
	const size = rate * 6 / 10
	body := bytes.Repeat([]byte("octets "), size/7+1)[:size]
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if got, err := io.ReadAll(r.Body); r.Method == "POST" && (err != nil || !bytes.Equal(got, body)) {
			t.Errorf("the clone got %d octets, %v; want the %d that were sent", len(got), err, size)
		}
		if r.Method == "GET" {
			w.Write(body)
		}
	})
	for _, row := range []struct {
		direction registry.Direction
		method    string
		slow      bool
	}{
		{registry.DirectionDown, "GET", true},
		{registry.DirectionDown, "POST", false},
		{registry.DirectionUp, "POST", true},
		{registry.DirectionUp, "GET", false},
	} {
		b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: rate, Direction: row.direction})
		b.each(t, func(t *testing.T, client *http.Client) {
			// What the link passes at once, having been idle, is not among it.
			want := float64(size)/rate - 0.05
			for tries := 1; ; tries++ {
				start := time.Now()
				r := b.do(client, "https://www-1."+zone, func(r *http.Request) {
					if r.Method = row.method; row.method == "POST" {
						r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), size
					}
				})
				took := time.Since(start).Seconds()
				if r.StatusCode != 200 || row.method == "GET" && r.body != string(body) {
					t.Fatalf("%s: %d with %d octets", row.method, r.StatusCode, len(r.body))
				}
				if row.slow && took < want*0.9 {
					t.Errorf("limited %s, %s took %.3f s only; want %.3f", row.direction, row.method, took, want)
				}
				if row.slow && took <= (want+0.05)*1.1 || !row.slow && took < want/2 {
					return
				}
				if tries == 3 { // a busy machine may be late, but not always
					t.Fatalf("limited %s, %s took %.3f s; limited, it takes %.3f", row.direction, row.method, took, want)
				}
			}
		})
		b.mend("1")
	}
}

// TestFaultBandwidthEnds: the rest of a body does not trickle when the fault is
// gone, and a client that leaves a slow upload frees what it held.
func TestFaultBandwidthEnds(t *testing.T) {
	body := strings.Repeat("x", 1<<20)
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, body)
	})
	b.each(t, func(t *testing.T, client *http.Client) {
		b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: 4096})
		start := time.Now()
		r, err := client.Get("https://www-1." + zone)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if _, err := io.ReadFull(r.Body, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		b.mend("1")
		rest, err := io.ReadAll(r.Body)
		if took := time.Since(start); len(rest) != len(body)-1000 || err != nil || took > 3*time.Second {
			t.Errorf("%d octets more after %s, %v; want the rest at once", len(rest), took, err)
		}

		b.fault("1", registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: 16384, Direction: registry.DirectionUp})
		ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer leave()
		req, err := http.NewRequestWithContext(ctx, "POST", "https://www-1."+zone, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(req); err == nil {
			t.Errorf("a slow upload was answered with %d", res.StatusCode)
		}
		if client == b.client {
			b.mend("1") // over HTTP/1.1, its end stands behind all that it has sent
		}
		eventually(t, "nothing is at work", func() bool { return b.gauge("clonegate_proxy_requests_at_work", "1") == 0 })
		b.mend("1")
	})
}
