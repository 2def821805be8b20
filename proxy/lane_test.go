package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	h2 "golang.org/x/net/http2"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// clientConn is a connection whose CONNECT may be extended.
//
//lint:ignore SA1019 net/http's client has no extended CONNECT
type clientConn = h2.ClientConn

// extended opens one.
func (b *bench) extended() *clientConn {
	b.t.Helper()
	c := b.dialTLS("www-1."+zone, "h2")
	//lint:ignore SA1019 net/http's client has no extended CONNECT
	cc, err := new(h2.Transport).NewClientConn(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cc.Close() })
	return cc
}

// A websocket2 is the client's end of a WebSocket over HTTP/2 (RFC 8441).
type websocket2 struct {
	*http.Response
	up   *io.PipeWriter
	down *bufio.Reader
}

// websocket2 asks for a WebSocket on a stream of its own.
func (b *bench) websocket2(cc *clientConn, id, path string) websocket2 {
	b.t.Helper()
	r, w := io.Pipe()
	req, _ := http.NewRequest("CONNECT", "https://www-"+id+"."+zone+path, r)
	req.Header.Set(":protocol", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Origin", "https://www-"+id+"."+zone)
	res, err := cc.RoundTrip(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { w.Close(); res.Body.Close() })
	return websocket2{res, w, bufio.NewReader(res.Body)}
}

// send sends a text message, masked with zeros.
func (ws websocket2) send(text string) {
	ws.up.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
}

// receive returns a frame's first octet and its payload.
func (ws websocket2) receive(t testing.TB) (kind byte, payload string) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(ws.down, head[:]); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, head[1])
	if _, err := io.ReadFull(ws.down, p); err != nil {
		t.Fatal(err)
	}
	return head[0], string(p)
}

// TestWebSocketOverHTTP2 has two WebSockets and a request share a connection.
func TestWebSocketOverHTTP2(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live" {
			echo(w, r)
			return
		}
		io.WriteString(w, "page")
	})
	cc := b.extended()
	one, two := b.websocket2(cc, "1", "/live?x=1"), b.websocket2(cc, "1", "/live")
	if one.StatusCode != 200 || one.Header.Get("Sec-Websocket-Accept") != "" || one.Header.Get("Connection") != "" {
		t.Fatalf("got %d with %v; want 200 without what only HTTP/1.1 has", one.StatusCode, one.Header)
	}
	for i := range 3 {
		for _, ws := range []websocket2{one, two} {
			text := fmt.Sprint("hello ", i)
			ws.send(text)
			if kind, got := ws.receive(t); kind != 0x81 || got != text {
				t.Errorf("got %x %q; want the echo of %q", kind, got, text)
			}
		}
		req, _ := http.NewRequest("GET", "https://www-1."+zone+"/", nil)
		if res, err := cc.RoundTrip(req); err != nil || res.StatusCode != 200 {
			t.Errorf("a request beside: %v", err)
		} else {
			res.Body.Close()
		}
	}
	if got := b.gauge("clonegate_proxy_tunnels", "1"); got != 2 {
		t.Errorf("%v tunnels are counted; want 2", got)
	}
	one.up.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}) // a close frame: 1000
	if kind, payload := one.receive(t); kind != 0x88 || binary.BigEndian.Uint16([]byte(payload)) != 1000 {
		t.Errorf("got %x %q; want the close frame back", kind, payload)
	}
	one.up.Close()
	if rest, err := io.ReadAll(one.down); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v; want a good end", rest, err)
	}
	eventually(t, "the tunnel is over", func() bool { return b.gauge("clonegate_proxy_tunnels", "1") == 1 })
	for _, line := range b.log.requests(t, 4) {
		if line["path"] == "/live" && (line["status"] != 101.0 || line["proto"] != "HTTP/2.0" || line["received"].(float64) < 40) {
			t.Errorf("access log: %v", line)
		}
	}
}

// TestWebSocketOverHTTP2Refused maps what stands in the way to plain answers.
func TestWebSocketOverHTTP2Refused(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		io.WriteString(w, "declined")
	})
	b.backend("2", func(c *net.TCPConn, _ *bufio.Reader) { io.WriteString(c, switched) }) // without an answer to the key
	b.register("3", www(closedPort(t)))
	cc := b.extended()
	for _, tt := range []struct {
		id     string
		status int
		reason proxy.Reason
	}{{"1", 403, ""}, {"2", 502, proxy.UpstreamBroken}, {"3", 503, proxy.Unreachable}, {"9", 404, proxy.UnknownClone}} {
		ws := b.websocket2(cc, tt.id, "/live")
		body, err := io.ReadAll(ws.Body)
		if ws.StatusCode != tt.status || ws.Header.Get("Clonegate-Reason") != string(tt.reason) || len(body) == 0 {
			t.Errorf("clone %s: got %d, reason %q, body %q, %v; want %d, %q", tt.id, ws.StatusCode, ws.Header.Get("Clonegate-Reason"), body, err, tt.status, tt.reason)
		}
	}
}

// accept returns the answer to a request's key (RFC 6455 §4.2.2).
func accept(r *http.Request) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// TestWebSocketOverHTTP2Ends ends tunnels in each way there is.
func TestWebSocketOverHTTP2Ends(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.TunnelIdle = 500 * time.Millisecond })
	closed := make(chan error, 1)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		c, out, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		fmt.Fprintf(out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept(r))
		out.Flush()
		if r.URL.Path == "/half" {
			io.WriteString(c, "last words")
			c.(*net.TCPConn).CloseWrite()
		}
		sent, err := io.ReadAll(c)
		if r.URL.Path == "/half" {
			err = fmt.Errorf("read %q, %v", sent, err)
		}
		closed <- err
	})
	cc := b.extended()
	t.Run("one direction, by the clone", func(t *testing.T) {
		ws := b.websocket2(cc, "1", "/half")
		if words, err := io.ReadAll(ws.down); string(words) != "last words" || err != nil {
			t.Errorf("got %q, %v", words, err)
		}
		io.WriteString(ws.up, "still here")
		ws.up.Close()
		if err := <-closed; err.Error() != `read "still here", <nil>` {
			t.Errorf("the clone: %v", err)
		}
	})
	t.Run("by a reset", func(t *testing.T) {
		ws := b.websocket2(cc, "1", "/")
		ws.up.CloseWithError(io.ErrUnexpectedEOF)
		ws.Body.Close()
		<-closed
	})
	t.Run("by silence", func(t *testing.T) {
		ws := b.websocket2(cc, "1", "/")
		if got, err := io.ReadAll(ws.down); err == nil {
			t.Errorf("got %q and a good end", got)
		}
		<-closed
	})
	eventually(t, "all tunnels are over", func() bool { return b.gauge("clonegate_proxy_tunnels", "1") == 0 })
}

// TestWebSocketOverHTTP2Drains tells both ends that the gateway goes away.
func TestWebSocketOverHTTP2Drains(t *testing.T) {
	b := newBench(t)
	b.serve("1", echo)
	ws := b.websocket2(b.extended(), "1", "/live")
	ws.send("hello")
	ws.receive(t)
	go b.stop()
	if kind, payload := ws.receive(t); kind != 0x88 || !bytes.Equal([]byte(payload), []byte{0x03, 0xe9}) {
		t.Errorf("got %x %q; want close code 1001", kind, payload)
	}
}

// TestBrowserWebSocketOverHTTP2 has a browser, which puts a WebSocket onto the
// connection it has if the gateway offers that.
func TestBrowserWebSocketOverHTTP2(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("NOT TESTED: chromium is not installed; .ci/install installs it")
	}
	b := newBench(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live" {
			echo(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<p id="heard"></p><script>
			const ws = new WebSocket("wss://" + location.host + "/live");
			ws.onopen = () => ws.send("over HTTP/2");
			ws.onmessage = m => { document.getElementById("heard").textContent = m.data; ws.close(1000); };
			ws.onclose = () => { document.body.append(Object.assign(document.createElement("p"), {id: "closed"})); };
		</script>`)
	}))
	defer up.Close()
	b.register(registry.ID("1"), www(up.Listener.Addr().String()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("no-sandbox", os.Geteuid() == 0),
		chromedp.Flag("host-resolver-rules", "MAP * "+b.addr), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate("https://www-1."+zone+"/"), chromedp.WaitReady("#closed")); err != nil {
		t.Fatal(err)
	}
	heard, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.getElementById("heard").textContent`))
	if err != nil || heard != "over HTTP/2" {
		t.Errorf("the page heard %q, %v", heard, err)
	}
	eventually(t, "the WebSocket is in the log, over HTTP/2", func() bool {
		for _, line := range b.log.records("request") {
			if line["path"] == "/live" && line["status"] == 101.0 && strings.HasPrefix(line["proto"].(string), "HTTP/2") {
				return true
			}
		}
		return false
	})
}
