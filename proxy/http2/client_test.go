//lint:file-ignore SA1019 x/net's client is one that is served

package http2_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
)

// adapt serves streams by an http.Handler, for clients that want a whole server.
func adapt(h http.Handler) http2.HandlerFunc {
	return func(s *http2.Stream) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.Notify(notice(func(error) { cancel() }))
		r, err := http.NewRequestWithContext(ctx, s.Method, "https://"+s.Authority+s.Path, io.NopCloser(s))
		if err != nil {
			s.Abort(h2.ErrCodeInternal)
			return
		}
		r.ContentLength = s.ContentLength
		for _, f := range s.Fields {
			r.Header.Add(f.Name, f.Value)
		}
		w := &writer{s: s, header: make(http.Header)}
		h.ServeHTTP(w, r)
		w.WriteHeader(200)
		for name, values := range w.header {
			if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
				add(s, name, values[0])
			}
		}
		s.WriteTrailers()
	}
}

type writer struct {
	s      *http2.Stream
	header http.Header
	begun  bool
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun = status >= 200
	for name, values := range w.header {
		for _, v := range values {
			if !strings.HasPrefix(name, http.TrailerPrefix) {
				add(w.s, name, v)
			}
		}
	}
	w.s.WriteHead(status, false)
}

func (w *writer) Write(p []byte) (int, error) {
	w.WriteHeader(200)
	return len(p), w.s.WriteData(p, false)
}

func (w *writer) Flush() { w.WriteHeader(200); w.s.Flush() }

// A site is a server over TLS for real clients.
type site struct {
	url   string
	roots *x509.CertPool
	ca    string // a file
}

// serve starts a site, which ends with the test.
func serve(t *testing.T, cfg http2.Config, h http2.HandlerFunc) site {
	t.Helper()
	cert := selfSigned(t)
	leaf, _ := x509.ParseCertificate(cert.Certificate[0])
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := newServer(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				tc := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
				if tc.Handshake() != nil {
					nc.Close()
					return
				}
				srv.Serve(ctx, tc, h)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); cancel(); conns.Wait() })
	s := site{url: fmt.Sprintf("https://localhost:%d/", ln.Addr().(*net.TCPAddr).Port), roots: x509.NewCertPool()}
	s.roots.AddCert(leaf)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(s.ca, pemOf(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// mux is a small site of everything.
func mux() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s\n", r.Method, r.URL) })
	m.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if _, err := io.Copy(w, r.Body); err != nil {
			return
		}
		w.Header().Set(http.TrailerPrefix+"X-End", "yes")
	})
	m.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 3<<20)) })
	m.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(103)
		w.WriteHeader(404)
	})
	m.HandleFunc("/refuse", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) })
	return m
}

// clients are the Go clients of net/http and of x/net.
func clients(t *testing.T, s site) map[string]*http.Client {
	cfg := &tls.Config{RootCAs: s.roots}
	std := &http.Transport{TLSClientConfig: cfg.Clone(), ForceAttemptHTTP2: true}
	x := &h2.Transport{TLSClientConfig: cfg.Clone()}
	t.Cleanup(std.CloseIdleConnections)
	t.Cleanup(x.CloseIdleConnections)
	return map[string]*http.Client{"net/http": {Transport: std}, "x/net": {Transport: x}}
}

func TestGoClients(t *testing.T) {
	s := serve(t, http2.Config{}, adapt(mux()))
	for name, c := range clients(t, s) {
		t.Run(name, func(t *testing.T) {
			resp, err := c.Get(s.url + "a?b")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || !strings.HasPrefix(string(body), "GET https://localhost:") || resp.ProtoMajor != 2 {
				t.Errorf("got %q, %v, %s", body, err, resp.Proto)
			}
			want := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
			resp, err = c.Post(s.url+"echo", "text/plain", bytes.NewReader(want))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, want) {
				t.Errorf("echo: got %d octets, %v", len(body), err)
			}
			if resp.Trailer.Get("X-End") != "yes" {
				t.Errorf("echo: got the trailers %v", resp.Trailer)
			}
			if resp, err = c.Post(s.url+"refuse", "text/plain", bytes.NewReader(want)); err != nil || resp.StatusCode != 413 {
				t.Errorf("refuse: got %v, %v", resp, err)
			}
			if resp, err = c.Get(s.url + "hints"); err != nil || resp.StatusCode != 404 {
				t.Errorf("hints: got %v, %v", resp, err)
			}
		})
	}
}

func TestGoClientsAtOnce(t *testing.T) {
	s := serve(t, http2.Config{}, adapt(mux()))
	for name, c := range clients(t, s) {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for range 120 {
				all.Go(func() {
					resp, err := c.Get(s.url + "big")
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					if n, err := io.CopyN(io.Discard, resp.Body, 100_000); n != 100_000 {
						t.Errorf("got %d octets, %v", n, err)
					} // and the rest is cancelled
				})
			}
			all.Wait()
		})
	}
}

// A gRPC stream is a request and an answer that go on side by side.
func TestBothWays(t *testing.T) {
	s := serve(t, http2.Config{}, echo)
	c := clients(t, s)["net/http"]
	r, w := io.Pipe()
	req, _ := http.NewRequest("POST", s.url, r)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	for i := range 1000 {
		want := fmt.Sprintf("message %07d", i)
		io.WriteString(w, want)
		if n, err := io.ReadFull(resp.Body, buf[:len(want)]); err != nil || string(buf[:n]) != want {
			t.Fatalf("got %q, %v, want %q", buf[:n], err, want)
		}
	}
	w.Close()
	if n, err := resp.Body.Read(buf); err != io.EOF {
		t.Errorf("got %q, %v at the end", buf[:n], err)
	}
}

// program skips the test if a program is not there, and returns what it says.
func program(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestCurl(t *testing.T) {
	s := serve(t, http2.Config{}, adapt(mux()))
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out := program(t, "curl", "-sS", "--http2", "--cacert", s.ca, "-w", "%{http_version} %{http_code} %{size_download}\n", "-o", os.DevNull,
		"--data-binary", "@"+file, s.url+"echo")
	if out != "2 200 2097152\n" {
		t.Errorf("got %q", out)
	}
	out = program(t, "curl", "-sS", "--http2", "--cacert", s.ca, "-v", s.url+"hints")
	if !strings.Contains(out, "< HTTP/2 103") || !strings.Contains(out, "< HTTP/2 404") {
		t.Errorf("got %s", out)
	}
}

func TestNghttp(t *testing.T) {
	s := serve(t, http2.Config{}, adapt(mux()))
	out := program(t, "nghttp", "-nv", "--no-verify-peer", "-m", "20", s.url+"big")
	if n := strings.Count(out, ":status: 200"); n != 20 {
		t.Errorf("%d answers of status 200, want 20\n%s", n, out)
	}
	if strings.Contains(out, "RST_STREAM") {
		t.Errorf("a stream was reset:\n%s", out)
	}
}

func TestH2load(t *testing.T) {
	s := serve(t, http2.Config{}, adapt(mux()))
	for _, path := range []string{"a", "big"} {
		n := map[string]string{"a": "2000", "big": "24"}[path]
		for _, m := range []string{"1", "32", "100"} {
			out := program(t, "h2load", "-n", n, "-c", "4", "-m", m, "-t", "1", s.url+path)
			if ok := regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx`).FindStringSubmatch(out); ok == nil || ok[1] != n {
				t.Errorf("%s with %s streams:\n%s", path, m, out)
			}
		}
	}
}
