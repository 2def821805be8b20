package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// An origin is a service that sees connections, not only requests.
type origin struct {
	conns    atomic.Int64
	requests atomic.Int64
}

// origin registers clone 1, every request of which is answered by octets that
// answer writes. It returns false to close the connection.
func (b *bench) origin(answer func(c *net.TCPConn, r *http.Request) bool) *origin {
	b.t.Helper()
	o := new(origin)
	ln := listen(b.t)
	b.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.conns.Add(1)
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					o.requests.Add(1)
					if !answer(c.(*net.TCPConn), r) {
						return
					}
				}
			}()
		}
	}()
	b.register("1", www(ln.Addr().String()))
	return o
}

const hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

// TestConnectionsAreUsedAgain counts the connections that requests take.
func TestConnectionsAreUsedAgain(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		conns        int64 // of 10 requests in turn
	}{
		{"length", hello, 1},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 1},
		{"nothing", "HTTP/1.1 204 No Content\r\n\r\n", 1},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 10},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 10},
		{"octets behind the answer", hello + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			o := b.origin(func(c *net.TCPConn, r *http.Request) bool { io.WriteString(c, tt.answer); return true })
			for range 10 {
				if got := b.get("https://www-1." + zone + "/"); got.StatusCode >= 300 || got.body != "hello" && got.StatusCode != 204 {
					t.Fatalf("got %d %q", got.StatusCode, got.body)
				}
			}
			if n := o.conns.Load(); n != tt.conns {
				t.Errorf("10 requests took %d connections; want %d", n, tt.conns)
			}
		})
	}
}

// TestClosedConnectionsHurtNobody has an endpoint close every connection after
// its first answer, without a word.
func TestClosedConnectionsHurtNobody(t *testing.T) {
	for _, pause := range []time.Duration{0, 20 * time.Millisecond} {
		b := newBench(t)
		o := b.origin(func(c *net.TCPConn, r *http.Request) bool { io.WriteString(c, hello); return false })
		for i := range 50 {
			m := "GET"
			if pause > 0 && i%2 == 1 {
				m = "POST" // is sent once only, so the close must have been seen
			}
			got := b.get("https://www-1."+zone+"/", method(m))
			if got.body != "hello" {
				t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
			}
			time.Sleep(pause)
		}
		if n := o.requests.Load(); n != 50 {
			t.Errorf("50 requests came %d times", n)
		}
		if n := len(b.log.records("endpoint is benched")); n > 0 {
			t.Error("the endpoint was benched for closing idle connections")
		}
	}
}

// TestSentOnce has an endpoint read a request on a used connection and close: a
// POST is not sent again, a GET is.
func TestSentOnce(t *testing.T) {
	for m, want := range map[string]int64{"POST": 2, "GET": 3} {
		b := newBench(t)
		var requests atomic.Int64
		o := b.origin(func(c *net.TCPConn, r *http.Request) bool {
			if requests.Add(1) == 2 {
				return false
			}
			io.WriteString(c, hello)
			return true
		})
		b.get("https://www-1." + zone + "/")
		got := b.get("https://www-1."+zone+"/", method(m))
		if m == "POST" {
			got.wantReason(t, 502, proxy.UpstreamBroken)
		} else if got.body != "hello" {
			t.Errorf("GET: got %d %q; want it sent again", got.StatusCode, got.body)
		}
		if n := o.requests.Load(); n != want {
			t.Errorf("%s: %d requests came; want %d", m, n, want)
		}
	}
}

// TestIdleConnectionsEnd counts connections to an endpoint that nobody uses.
func TestIdleConnectionsEnd(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.UpstreamIdle = 200 * time.Millisecond })
	ended := make(chan error, 1)
	b.backend("2", func(c *net.TCPConn, in *bufio.Reader) {
		io.WriteString(c, hello)
		_, err := in.ReadByte()
		ended <- err
	})
	b.get("https://www-2." + zone + "/")
	select {
	case err := <-ended:
		if err != io.EOF {
			t.Errorf("the idle connection: %v; want it closed", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the connection is still open after 5 s of idleness")
	}
}

// TestConnectionsPerEndpointAreLimited sends more requests at once than an
// endpoint may have connections: they wait for their turn.
func TestConnectionsPerEndpointAreLimited(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.ConnsPerEndpoint = 3 })
	var open, most atomic.Int64
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		n := open.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		open.Add(-1)
	})
	var clients sync.WaitGroup
	for range 30 {
		clients.Go(func() {
			if got := b.get("https://www-1." + zone + "/"); got.StatusCode != 200 {
				t.Errorf("got %d, reason %s", got.StatusCode, got.Header.Get("Clonegate-Reason"))
			}
		})
	}
	clients.Wait()
	if n := most.Load(); n != 3 {
		t.Errorf("%d requests were at the endpoint at once; want 3", n)
	}
}

// TestQueueEnds fills an endpoint for longer than anybody waits, and its queue
// for longer than anybody may join.
func TestQueueEnds(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) {
		c.Limits.ConnsPerEndpoint, c.Limits.QueuePerEndpoint, c.Limits.QueueTimeout = 1, 1, 300*time.Millisecond
	})
	working, release := make(chan struct{}), make(chan struct{})
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { working <- struct{}{}; <-release })
	url := "https://www-1." + zone + "/"
	first, second := make(chan reply, 1), make(chan reply, 1)
	go func() { first <- b.get(url) }()
	<-working
	go func() { second <- b.get(url) }()
	eventually(t, "one waits", func() bool { return b.gauge("clonegate_proxy_requests_waiting", "1") == 1 })
	full := b.get(url)
	waited := <-second
	for got, says := range map[*reply]string{&full: "1 requests wait for one", &waited: "none came free in 300ms"} {
		if p := got.wantReason(t, 503, proxy.Overloaded); !strings.Contains(p.Detail, says) {
			t.Errorf("detail %q; want it to say %q", p.Detail, says)
		}
		if got.Header.Get("Retry-After") == "" {
			t.Error("overloaded without Retry-After")
		}
	}
	for name, want := range map[string]float64{
		"clonegate_proxy_endpoint_connections": 1, "clonegate_proxy_requests_waiting": 0, "clonegate_proxy_overloaded_total": 2,
	} {
		if got := b.gauge(name, "1"); got != want {
			t.Errorf("%s is %v; want %v", name, got, want)
		}
	}
	close(release)
	if got := <-first; got.StatusCode != 200 {
		t.Errorf("the one at work: got %d", got.StatusCode)
	}
	go func() { <-working }()
	if got := b.get(url); got.StatusCode != 200 {
		t.Errorf("afterwards: got %d", got.StatusCode)
	}
	if n := len(b.log.records("endpoint is benched")); n > 0 {
		t.Error("the endpoint was benched for being busy")
	}
	b.unregister("1")
	eventually(t, "the clone's series are gone", func() bool { return len(b.series("clonegate_proxy_overloaded_total")) == 0 })
}

// TestBusyIsNotIll has all connections of an endpoint in use while it is probed.
func TestBusyIsNotIll(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.ConnsPerEndpoint = 1 })
	working, release := make(chan struct{}), make(chan struct{})
	var probes atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			probes.Add(1)
			return
		}
		working <- struct{}{}
		<-release
	}))
	defer up.Close()
	b.register("1", map[string]registry.ServiceRegistration{"www": {
		Endpoints: []string{up.Listener.Addr().String()},
		Health:    &registry.HealthRegistration{Path: "/healthz", Interval: 1, Timeout: 1},
	}})
	answer := make(chan reply, 1)
	go func() { answer <- b.get("https://www-1." + zone + "/") }()
	<-working
	before := probes.Load()
	eventually(t, "it is probed while busy", func() bool { return probes.Load() > before })
	close(release)
	if got := <-answer; got.StatusCode != 200 {
		t.Errorf("got %d", got.StatusCode)
	}
	if n := len(b.log.records("endpoint is unhealthy")); n > 0 {
		t.Error("a busy endpoint was found unhealthy")
	}
}

// TestIdleConnectionsInAllAreLimited uses endpoints of many clones: only the
// connections used last are kept.
func TestIdleConnectionsInAllAreLimited(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.IdleConns, c.Limits.UpstreamIdle = 3, 8*time.Second })
	var open atomic.Int64
	for i := range 10 {
		id := registry.ID(fmt.Sprint(i + 1))
		b.backend(id, func(c *net.TCPConn, in *bufio.Reader) {
			open.Add(1)
			defer open.Add(-1)
			io.WriteString(c, hello)
			in.ReadByte()
		})
		b.wantHello(id)
	}
	eventually(t, "the oldest are closed", func() bool { return open.Load() == 3 })
}

// wantHello asks a clone that says hello.
func (b *bench) wantHello(id registry.ID) {
	b.t.Helper()
	if got := b.get("https://www-" + string(id) + "." + zone + "/"); got.StatusCode != 200 || got.body != "hello" {
		b.t.Errorf("clone %s: got %d %q; want hello", id, got.StatusCode, got.body)
	}
}

// TestUploadsMeetEarlyAnswers sends a long body to an endpoint that answers
// before it is through and goes on reading: the answer arrives, and the rest of
// the body, too.
func TestUploadsMeetEarlyAnswers(t *testing.T) {
	b := newBench(t)
	got := make(chan int64, 1)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
		fmt.Fprint(w, n)
	})
	r, w := io.Pipe()
	req, _ := http.NewRequest("POST", "https://www-1."+zone+"/", r)
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.CopyN(w, zeros{}, 3<<20)
	w.Close()
	body, err := io.ReadAll(res.Body)
	if n := <-got; n != 3<<20 || string(body) != fmt.Sprint(3<<20) || err != nil {
		t.Errorf("the clone got %d, said %q, %v; want all of 3 MiB", n, body, err)
	}
}

// TestCutUploadsAreCut has a client leave in the middle of its body: the clone
// must not take what it got for the whole.
func TestCutUploadsAreCut(t *testing.T) {
	for _, head := range []string{"Content-Length: 100\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		b := newBench(t)
		got := make(chan error, 1)
		b.serve("1", func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			got <- err
		})
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: www-1."+zone+"\r\n"+head)
		time.Sleep(20 * time.Millisecond)
		c.Close()
		if err := <-got; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the clone's body ended with %v; want it cut", err)
		}
		if line := b.log.requests(t, 1)[0]; line["reason"] != "client-gone" {
			t.Errorf("access log: %v", line)
		}
	}
}
