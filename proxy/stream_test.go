package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	const clients = 170 // a thousand in all
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
	for _, chunk := range []string{"0x5", "+5", "", "10000000000000000", "5;\n", "5\n"} {
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
