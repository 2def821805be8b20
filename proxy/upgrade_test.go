package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// echo is a service that returns every WebSocket message.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		kind, msg, err := c.Read(context.Background())
		if err != nil {
			return
		}
		if c.Write(context.Background(), kind, msg) != nil {
			return
		}
	}
}

func (b *bench) websocket(url string) *websocket.Conn {
	b.t.Helper()
	c, _, err := websocket.Dial(b.t.Context(), url, &websocket.DialOptions{HTTPClient: b.client})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.CloseNow() })
	return c
}

// wantEcho checks that a message makes its way there and back.
func wantEcho(t testing.TB, c *websocket.Conn, msg string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(ctx); err != nil || string(got) != msg {
		t.Fatalf("got %.100q, %v; want %.100q", got, err, msg)
	}
}

func TestWebSocket(t *testing.T) {
	b := newBench(t)
	b.serve("1", echo)
	c := b.websocket("wss://www-1." + zone + "/live?x=1")
	wantEcho(t, c, "hello")
	c.SetReadLimit(1 << 20)
	wantEcho(t, c, strings.Repeat("large ", 100_000))
	if got := b.gauge("clonegate_proxy_tunnels", "1"); got != 1 {
		t.Errorf("%v tunnels are counted; want 1", got)
	}
	if got := b.gauge("clonegate_proxy_requests_at_work", "1"); got != 0 {
		t.Errorf("%v requests are at work; a tunnel is none", got)
	}
	c.Close(websocket.StatusNormalClosure, "")
	line := b.log.requests(t, 1)[0]
	if line["status"] != 101.0 || line["path"] != "/live" || line["bytes"].(float64) < 600_000 || line["received"].(float64) < 600_000 {
		t.Errorf("access log: %v", line)
	}
}

// backend is a service that speaks to its connections octet by octet.
func (b *bench) backend(id registry.ID, talk func(*net.TCPConn, *bufio.Reader)) {
	b.t.Helper()
	ln := listen(b.t)
	b.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				in := bufio.NewReader(c)
				if _, err := http.ReadRequest(in); err == nil {
					talk(c.(*net.TCPConn), in)
				}
			}()
		}
	}()
	b.register(id, www(ln.Addr().String()))
}

const (
	wish     = "GET /live HTTP/1.1\r\nHost: www-1." + zone + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// readHead reads up to the end of an answer's head.
func readHead(t testing.TB, in *bufio.Reader) string {
	t.Helper()
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", head.String(), err)
		}
		head.WriteString(line)
	}
	return head.String()
}

// TestUpgradeMismatch has a backend switch to what nobody asked for: its
// connection must be closed (golang/go#80875), and the client's must live.
func TestUpgradeMismatch(t *testing.T) {
	b := newBench(t)
	closed := make(chan error, 1)
	b.backend("1", func(c *net.TCPConn, in *bufio.Reader) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: smtp\r\n\r\n")
		_, err := in.ReadByte()
		closed <- err
	})
	c := b.dialTLS("www-1." + zone)
	in := bufio.NewReader(c)
	for range 20 {
		for _, request := range []string{wish, "GET / HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n"} {
			io.WriteString(c, request)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			if res.StatusCode != 502 || res.Header.Get("Clonegate-Reason") != string(proxy.UpstreamBroken) {
				t.Fatalf("got %s, reason %q; want 502", res.Status, res.Header.Get("Clonegate-Reason"))
			}
			if err := <-closed; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("the backend's connection is still open: %v", err)
			}
		}
	}
}

// TestUpgradeEarlyOctets sends a message in one packet with the handshake, on
// both sides.
func TestUpgradeEarlyOctets(t *testing.T) {
	b := newBench(t)
	got := make(chan string, 1)
	b.backend("1", func(c *net.TCPConn, in *bufio.Reader) {
		io.WriteString(c, switched+"early from the backend")
		octets := make([]byte, len("early from the client"))
		io.ReadFull(in, octets)
		got <- string(octets)
	})
	c := b.dialTLS("www-1." + zone)
	io.WriteString(c, wish+"early from the client")
	in := bufio.NewReader(c)
	if head := readHead(t, in); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("got %q", head)
	}
	octets := make([]byte, len("early from the backend"))
	if io.ReadFull(in, octets); string(octets) != "early from the backend" {
		t.Errorf("the client got %q", octets)
	}
	if s := <-got; s != "early from the client" {
		t.Errorf("the backend got %q", s)
	}
}

// TestUpgradeHalfClose ends one direction and expects the other to go on.
func TestUpgradeHalfClose(t *testing.T) {
	t.Run("by the client", func(t *testing.T) {
		b := newBench(t)
		b.backend("1", func(c *net.TCPConn, in *bufio.Reader) {
			io.WriteString(c, switched)
			sent, err := io.ReadAll(in) // to the client's end
			fmt.Fprintf(c, "read %q, %v", sent, err)
		})
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, wish+"last words")
		in := bufio.NewReader(c)
		readHead(t, in)
		c.CloseWrite()
		if got, err := io.ReadAll(in); err != nil || string(got) != `read "last words", <nil>` {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("by the backend", func(t *testing.T) {
		b := newBench(t)
		got := make(chan string, 1)
		b.backend("1", func(c *net.TCPConn, in *bufio.Reader) {
			io.WriteString(c, switched+"last words")
			c.CloseWrite()
			sent, err := io.ReadAll(in)
			got <- fmt.Sprintf("read %q, %v", sent, err)
		})
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, wish)
		in := bufio.NewReader(c)
		readHead(t, in)
		if words, err := io.ReadAll(in); err != nil || string(words) != "last words" {
			t.Fatalf("got %q, %v", words, err)
		}
		io.WriteString(c, "still here")
		c.CloseWrite()
		if s := <-got; s != `read "still here", <nil>` {
			t.Errorf("the backend: %s", s)
		}
	})
}

// TestUpgradeIdle has both ends fall silent for good, as machines do that lose
// power.
func TestUpgradeIdle(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *proxy.Config) { c.Limits.TunnelIdle = time.Second })
	ended := make(chan error, 1)
	b.backend("1", func(c *net.TCPConn, in *bufio.Reader) {
		io.WriteString(c, switched)
		for range 5 { // octets keep it alive
			time.Sleep(300 * time.Millisecond)
			io.WriteString(c, ".")
		}
		_, err := in.ReadByte()
		ended <- err
	})
	c := b.dialTLS("www-1." + zone)
	io.WriteString(c, wish)
	in := bufio.NewReader(c)
	readHead(t, in)
	if got, _ := io.ReadAll(in); string(got) != "....." {
		t.Errorf("got %q before the end; want five dots", got)
	}
	if err := <-ended; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the backend's connection: %v; want it closed", err)
	}
	eventually(t, "the tunnel is gone", func() bool { return b.gauge("clonegate_proxy_tunnels", "1") == 0 })
}

// TestUpgradeRefused goes on using the client's connection.
func TestUpgradeRefused(t *testing.T) {
	b := newBench(t)
	b.register("1", www(closedPort(t)))
	b.serve("2", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Why", "not today")
		w.WriteHeader(403)
		io.WriteString(w, "declined")
	})
	c := b.dialTLS("www-1." + zone)
	in := bufio.NewReader(c)
	ask := func(request string) reply {
		io.WriteString(c, request)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Request, _ = http.NewRequest("RAW", "https://gateway/", nil)
		return reply{res, string(body)}
	}
	ask(wish).wantReason(t, 503, proxy.Unreachable)
	got := ask(strings.Replace(wish, "www-1", "www-2", 1))
	if got.StatusCode != 403 || got.body != "declined" || got.Header.Get("X-Why") != "not today" {
		t.Errorf("an endpoint that declines: got %d %q; want its own answer", got.StatusCode, got.body)
	}
	if got := ask("GET / HTTP/1.1\r\nHost: www-2." + zone + "\r\n\r\n"); got.StatusCode != 403 {
		t.Errorf("the connection afterwards: got %d; want 403", got.StatusCode)
	}
}

// TestOnlyWebSocketsUpgrade sends wishes that are not granted: they arrive as
// ordinary requests.
func TestOnlyWebSocketsUpgrade(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q %q", r.Header["Connection"], r.Header["Upgrade"], r.Header["Http2-Settings"])
	})
	for _, wish := range []string{
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
		"Connection: Upgrade\r\nUpgrade: h2c, websocket",
		"Connection: Upgrade\r\nUpgrade: TLS/1.0",
		"Connection: close\r\nUpgrade: websocket",
	} {
		got := b.raw("GET / HTTP/1.1\r\nHost: www-1." + zone + "\r\n" + wish + "\r\n\r\n")
		if got.StatusCode != 200 || got.body != "[] [] []" {
			t.Errorf("%q: got %d, the clone saw %s; want no wish", wish, got.StatusCode, got.body)
		}
	}
	got := b.raw("POST / HTTP/1.1\r\nHost: www-1." + zone + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi")
	if got.StatusCode != 200 || got.body != "[] [] []" {
		t.Errorf("a POST with a body: got %d, the clone saw %s; want no wish", got.StatusCode, got.body)
	}
}

func TestUpgradeOverTLS(t *testing.T) {
	b := newBench(t)
	cert, _ := testCertificate(t)
	ln := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{cert}})
	s := &http.Server{Handler: http.HandlerFunc(echo)}
	go s.Serve(ln)
	defer s.Close()
	b.register("1", map[string]registry.ServiceRegistration{"www": {Endpoints: []string{ln.Addr().String()}, Protocol: registry.HTTPS}})
	wantEcho(t, b.websocket("wss://www-1."+zone+"/"), "hello")
}

// TestTunnelsCloseWithTheirClone tells the ends of a tunnel that its clone has
// left, and lets others be.
func TestTunnelsCloseWithTheirClone(t *testing.T) {
	leave := map[string]func(*bench){
		"unregistered": func(b *bench) { b.unregister("1") },
		"suspended": func(b *bench) {
			b.setState("1", registry.Suspending, "")
			b.setState("1", registry.Suspended, "")
		},
		"a new life": func(b *bench) {
			c, _ := b.registry.View().Clone("1")
			b.register("1", www(c.Services["www"].Endpoints[0].String()), func(r *registry.Registration) { r.Instance = "life-2" })
		},
	}
	for name, leaves := range leave {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			heard := make(chan error, 1)
			b.serve("1", func(w http.ResponseWriter, r *http.Request) {
				c, err := websocket.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				_, _, err = c.Read(context.Background())
				heard <- err
			})
			b.serve("2", echo)
			leaving, staying := b.websocket("wss://www-1."+zone+"/"), b.websocket("wss://www-2."+zone+"/")
			leaves(b)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, _, err := leaving.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("the client heard %v; want close code 1001", err)
			}
			if err := <-heard; websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("the clone heard %v; want close code 1001", err)
			}
			wantEcho(t, staying, "still here")
		})
	}
}

func TestTunnelsAreLimited(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.TunnelsPerClone = 2 })
	b.serve("1", echo)
	b.serve("2", echo)
	for range 2 {
		wantEcho(t, b.websocket("wss://www-1."+zone+"/"), "hello")
	}
	b.raw(wish).wantReason(t, 503, proxy.Overloaded)
	wantEcho(t, b.websocket("wss://www-2."+zone+"/"), "another clone")
}
