package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// each runs a test over HTTP/1.1 and HTTP/2.
func (b *bench) each(t *testing.T, fn func(*testing.T, *http.Client)) {
	t.Run("h1", func(t *testing.T) { fn(t, b.client) })
	t.Run("h2", func(t *testing.T) { fn(t, b.h2) })
}

func TestTrailers(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s", body, r.Trailer.Get("X-Check"))
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		for _, length := range []int64{-1, 4} {
			got := b.do(c, "https://www-1."+zone+"/", method("POST"), func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), length
				r.Trailer = http.Header{"X-Check": {"seven"}}
			})
			if length == 4 && c == b.client {
				continue // HTTP/1.1 has no trailers without chunks
			}
			if got.body != "body seven" {
				t.Errorf("length %d: the clone got %q; want the body and the request's trailer", length, got.body)
			}
			if got.Trailer.Get("X-Sum") != "42" || got.Trailer.Get("X-Late") != "unannounced" {
				t.Errorf("length %d: trailers %v; want X-Sum and X-Late", length, got.Trailer)
			}
		}
	})
}

func TestInterimAnswers(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Set("Link", "</b.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		w.WriteHeader(404)
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, h["Link"]))
			return nil
		}}
		got := b.do(c, "https://www-1."+zone+"/", func(r *http.Request) {
			*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
		})
		if want := "103 [</a.css>; rel=preload] 103 [</b.css>; rel=preload]"; strings.Join(hints, " ") != want {
			t.Errorf("got %q; want %q", hints, want)
		}
		if got.StatusCode != 404 || got.Header["Link"] != nil || got.Header["Clonegate-Reason"] != nil {
			t.Errorf("then %d with Link %q; want the clone's 404 without", got.StatusCode, got.Header["Link"])
		}
	})
}

// TestContinue holds a body back until the clone wants it.
func TestContinue(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(417)
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d octets, %s", len(body), r.Header.Get("Expect"))
	})
	for path, want := range map[string]string{"/yes": "HTTP/1.1 100 Continue", "/no": "HTTP/1.1 417 Expectation Failed"} {
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: www-1."+zone+"\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		in := bufio.NewReader(c)
		if line, _ := in.ReadString('\n'); strings.TrimSpace(line) != want {
			t.Errorf("%s: got %q; want %q", path, line, want)
		}
		if path == "/yes" {
			in.ReadString('\n') // the end of the interim head
			io.WriteString(c, "hello")
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(res.Body); string(body) != "5 octets, 100-continue" {
				t.Errorf("got %q", body)
			}
		}
	}
}

// TestEventsArriveAtOnce reads an event stream whose events are far apart.
func TestEventsArriveAtOnce(t *testing.T) {
	b := newBench(t)
	streams := map[string]chan struct{}{"HTTP/1.1": make(chan struct{}), "HTTP/2.0": make(chan struct{})}
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		w.(http.Flusher).Flush()
		for n := 0; ; n++ {
			select {
			case <-streams[r.URL.Query().Get("proto")]:
				fmt.Fprintf(w, "data: %d\n\n", n)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		proto := "HTTP/1.1"
		if c == b.h2 {
			proto = "HTTP/2.0"
		}
		res, err := c.Get("https://www-1." + zone + "/?proto=" + proto)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.Proto != proto {
			t.Fatalf("got %s; want %s", res.Proto, proto)
		}
		in := bufio.NewReader(res.Body)
		for n := range 10 {
			streams[proto] <- struct{}{}
			if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", n) {
				t.Fatalf("got %q, %v; want event %d", line, err, n)
			}
			in.ReadString('\n')
		}
	})
}

// TestBodiesAreNotBuffered sends and receives more than memory should hold, and
// an octet that must not wait for its successors.
func TestBodiesAreNotBuffered(t *testing.T) {
	const size = 64 << 20
	b := newBench(t)
	first := make(chan byte, 1)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		var octet [1]byte
		io.ReadFull(r.Body, octet[:])
		first <- octet[0]
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Header().Set("X-Got", fmt.Sprint(n+1))
		io.CopyN(w, zeros{}, size)
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		r, w := io.Pipe()
		go func() {
			w.Write([]byte{7})
			if octet := <-first; octet != 7 {
				t.Errorf("the clone got %d first; want 7", octet)
			}
			io.CopyN(w, zeros{}, size-1)
			w.Close()
		}()
		var before, during runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		req, _ := http.NewRequest("POST", "https://www-1."+zone+"/", r)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		n, err := io.CopyN(io.Discard, res.Body, size/2)
		runtime.ReadMemStats(&during)
		m, err2 := io.Copy(io.Discard, res.Body)
		if n+m != size || err != nil || err2 != nil || res.Header.Get("X-Got") != fmt.Sprint(size) {
			t.Errorf("got %d octets, %v, %v, the clone %s; want %d both ways", n+m, err, err2, res.Header.Get("X-Got"), size)
		}
		if grown := int64(during.HeapInuse) - int64(before.HeapInuse); grown > size/2 {
			t.Errorf("the heap grew by %d octets", grown)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestClientsThatLeave abort in every phase of a request. Nobody may be blamed
// for that, and nothing may be left behind.
func TestClientsThatLeave(t *testing.T) {
	const clients = 60
	b := newBench(t)
	var cancelled, running atomic.Int64
	reached, early := make(chan struct{}, clients), make(chan string, clients)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		switch r.URL.Path {
		case "/upload":
			io.ReadFull(r.Body, make([]byte, 1000))
			reached <- struct{}{}
			io.Copy(io.Discard, r.Body)
		case "/download":
			w.Write(make([]byte, 1000))
			w.(http.Flusher).Flush()
			reached <- struct{}{}
			for r.Context().Err() == nil { // at full speed, one would starve the next
				w.Write(make([]byte, 32<<10))
				time.Sleep(50 * time.Millisecond)
			}
		default:
			reached <- struct{}{}
		}
		<-r.Context().Done()
		cancelled.Add(1)
	})
	before := runtime.NumGoroutine()
	for _, h2 := range []bool{false, true} {
		for _, path := range []string{"/wait", "/upload", "/download"} {
			client := b.newClient(h2)
			cancelled.Store(0)
			var all sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			for range clients {
				all.Go(func() {
					var body io.Reader
					if path == "/upload" {
						body = io.MultiReader(bytes.NewReader(make([]byte, 1000)), waiter{ctx})
					}
					req, _ := http.NewRequestWithContext(ctx, "POST", "https://www-1."+zone+path, body)
					res, err := client.Do(req)
					if err == nil {
						_, err = io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
					if ctx.Err() == nil {
						early <- fmt.Sprintf("%v, error %v", res, err)
					}
				})
			}
			for range clients {
				select {
				case <-reached:
				case what := <-early:
					t.Fatalf("%s, HTTP/2: %v: a request has ended by itself: %s", path, h2, what)
				}
			}
			start := time.Now()
			cancel()
			all.Wait()
			eventually(t, "all requests are cancelled", func() bool { return cancelled.Load() == clients })
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("%s: cancelling took %s", path, d)
			}
			client.CloseIdleConnections()
		}
	}
	for _, line := range b.log.requests(t, 6*clients) {
		if line["reason"] != "client-gone" {
			t.Fatalf("access log: %v; want reason client-gone", line)
		}
		if line["path"] != "/download" && line["status"] != 499.0 {
			t.Fatalf("access log: %v; want status 499", line)
		}
	}
	if n := len(b.log.records("endpoint is benched")); n > 0 {
		t.Errorf("the endpoint was benched %d times for what clients did", n)
	}
	eventually(t, "all goroutines are gone", func() bool { return runtime.NumGoroutine() <= before+10 })
	if got := b.gauge("clonegate_proxy_requests_at_work", "1"); got != 0 {
		t.Errorf("%v requests are still at work", got)
	}
}

// A waiter is a body that never goes on.
type waiter struct{ ctx context.Context }

func (w waiter) Read([]byte) (int, error) { <-w.ctx.Done(); return 0, w.ctx.Err() }

// TestBrokenBodyIsTheClientsFault sends chunks that are none.
func TestBrokenBodyIsTheClientsFault(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	for _, chunk := range []string{"0x5", "+5", "", "10000000000000000", "5;\n"} {
		got := b.raw("POST / HTTP/1.1\r\nHost: www-1." + zone + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + "\r\nhello\r\n0\r\n\r\n")
		got.wantReason(t, 400, proxy.BadBody)
		if !got.Close {
			t.Errorf("chunk size %q: the connection stays open; want it closed", chunk)
		}
	}
	if n := len(b.log.records("endpoint is benched")); n > 0 {
		t.Errorf("the endpoint was benched %d times for the client's chunks", n)
	}
}

func TestStalledUpload(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.StallTimeout = 800 * time.Millisecond })
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})
	c := b.dialTLS("www-1." + zone)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: www-1."+zone+"\r\nContent-Length: 10\r\n\r\n")
	for range 5 { // progress resets the clock
		time.Sleep(200 * time.Millisecond)
		io.WriteString(c, "x")
	}
	start := time.Now()
	exchangeRaw(t, c, "").wantReason(t, 408, proxy.BodyTimeout)
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("it took %s to give up; want 0.8 s", d)
	}
}

// TestStalledDownload has a client that stops reading. Its connection is cut,
// and the clone's with it.
func TestStalledDownload(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.StallTimeout = 200 * time.Millisecond })
	cut := make(chan error, 1)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.CopyN(w, zeros{}, 1<<30)
		cut <- err
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		res, err := c.Get("https://www-1." + zone + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		select {
		case err := <-cut:
			if err == nil {
				t.Error("the clone sent everything")
			}
		case <-time.After(5 * time.Second):
			t.Error("the clone still waits for the client after 5 s")
		}
	})
}

// TestQuietStreamsStay keeps an event stream and a stream both ways open for
// much longer than any deadline, without an octet.
func TestQuietStreamsStay(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) {
		l := &c.Limits
		l.StallTimeout, l.ResponseTimeout, l.HeadTimeout = 250*time.Millisecond, 250*time.Millisecond, 250*time.Millisecond
	})
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		time.Sleep(500 * time.Millisecond)
		io.WriteString(w, "awake")
		if r.Method == "POST" {
			w.(http.Flusher).Flush()
			io.Copy(w, r.Body)
		}
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		if got := b.do(c, "https://www-1."+zone+"/"); got.body != "awake" {
			t.Errorf("events: got %q", got.body)
		}
		r, w := io.Pipe()
		req, _ := http.NewRequest("POST", "https://www-1."+zone+"/", r)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		octets := make([]byte, 5)
		io.ReadFull(res.Body, octets)
		time.Sleep(500 * time.Millisecond)
		io.WriteString(w, " and well")
		w.Close()
		rest, err := io.ReadAll(res.Body)
		if string(octets)+string(rest) != "awake and well" || err != nil {
			t.Errorf("both ways: got %q, %v", string(octets)+string(rest), err)
		}
	})
}

// TestH2CStreams speaks to a service as gRPC does: HTTP/2 without TLS behind the
// gateway, messages both ways, the status in trailers.
func TestH2CStreams(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.ResponseTimeout = 100 * time.Millisecond })
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("the clone got %s with TE %q", r.Proto, r.Header.Get("Te"))
		}
		w.Header().Set("Content-Type", "application/grpc")
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			time.Sleep(150 * time.Millisecond) // the head comes with the first message
			fmt.Fprintln(w, "echo", in.Text())
			w.(http.Flusher).Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	b.register("1", map[string]registry.ServiceRegistration{"grpc": {Endpoints: []string{s.Listener.Addr().String()}, Protocol: registry.H2C}})

	r, w := io.Pipe()
	go fmt.Fprintln(w, "one")
	req, _ := http.NewRequest("POST", "https://grpc-1."+zone+"/shop.Stock/Watch", r)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, err := b.h2.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i, word := range []string{"one", "two", "three"} {
		if i > 0 {
			fmt.Fprintln(w, word)
		}
		if line, err := in.ReadString('\n'); line != "echo "+word+"\n" {
			t.Fatalf("got %q, %v; want the echo of %s", line, err, word)
		}
	}
	w.Close()
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("then %q, %v, status %q; want the end and status 0", rest, err, res.Trailer.Get("Grpc-Status"))
	}
}

// TestProtocolsOfEndpoints asks services that speak TLS, and HTTP/2 without it.
func TestProtocolsOfEndpoints(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.ResponseTimeout = 500 * time.Millisecond })
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
		}
		fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
	})
	secure := httptest.NewTLSServer(h)
	defer secure.Close()
	h2c := httptest.NewUnstartedServer(h)
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	defer h2c.Close()
	b.register("1", map[string]registry.ServiceRegistration{
		"secure": {Endpoints: []string{secure.Listener.Addr().String()}, Protocol: registry.HTTPS},
		"fast":   {Endpoints: []string{h2c.Listener.Addr().String()}, Protocol: registry.H2C},
		"wrong":  {Endpoints: []string{h2c.Listener.Addr().String()}, Protocol: registry.HTTPS},
	})
	b.each(t, func(t *testing.T, c *http.Client) {
		for service, want := range map[string]string{"secure": "HTTP/1.1 true", "fast": "HTTP/2.0 false"} {
			if got := b.do(c, "https://"+service+"-1."+zone+"/"); got.body != want {
				t.Errorf("%s: got %d %q; want %q", service, got.StatusCode, got.body, want)
			}
		}
		b.do(c, "https://wrong-1."+zone+"/").wantReason(t, 502, proxy.UpstreamBroken)
		b.do(c, "https://fast-1."+zone+"/silent").wantReason(t, 504, proxy.UpstreamTimeout)
	})
}

// TestEarlyAnswer has a clone answer before it has read the upload.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(413)
		io.WriteString(w, "too much")
	})
	for range 5 {
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: www-1."+zone+"\r\nContent-Length: 100000000\r\n\r\nonly this")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); res.StatusCode != 413 || string(body) != "too much" || err != nil {
			t.Errorf("got %d %q, %v; want the early 413", res.StatusCode, body, err)
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection still waits for the upload after 5 s")
		}
	}
}
