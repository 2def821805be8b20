package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// dialTLS opens a connection to the gateway under a server name.
func (b *bench) dialTLS(name string, protocols ...string) *tls.Conn {
	b.t.Helper()
	c, err := tls.Dial("tcp", b.addr, &tls.Config{RootCAs: b.roots, ServerName: name, NextProtos: protocols})
	if err != nil {
		b.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b.t.Cleanup(func() { c.Close() })
	return c
}

// raw sends octets over TLS and returns the first answer.
func (b *bench) raw(request string) reply {
	b.t.Helper()
	c := b.dialTLS("www-1." + zone)
	return exchangeRaw(b.t, c, request)
}

func exchangeRaw(t testing.TB, c net.Conn, request string) reply {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.100q: %v", request, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%.100q: body: %v", request, err)
	}
	res.Request, _ = http.NewRequest("RAW", "https://gateway/", nil)
	return reply{res, string(body)}
}

// who is a clone that says its own name.
func who(id registry.ID) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s as %s", id, r.Host) }
}

func TestAuthority(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	b.serve("2", who("2"))
	for _, tt := range []struct {
		name, request string
		want          string // the body of a clone's answer
		status        int
		reason        proxy.Reason
	}{
		{name: "plain", request: "GET / HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n", want: "1 as www-1." + zone},
		{name: "never the SNI", request: "GET / HTTP/1.1\r\nHost: www-2." + zone + "\r\n\r\n", want: "2 as www-2." + zone},
		{name: "capitals", request: "GET / HTTP/1.1\r\nHost: WWW-2.Test_Envs.internal.example.com\r\n\r\n", want: "2 as WWW-2.Test_Envs.internal.example.com"},
		{name: "port and trailing dot", request: "GET / HTTP/1.1\r\nHost: www-2." + zone + ".:443\r\n\r\n", want: "2 as www-2." + zone + ".:443"},
		{name: "absolute target", request: "GET https://www-2." + zone + "/ HTTP/1.1\r\nHost: www-2." + zone + "\r\n\r\n", want: "2 as www-2." + zone},
		{name: "HTTP/1.0", request: "GET / HTTP/1.0\r\nHost: www-2." + zone + "\r\n\r\n", want: "2 as www-2." + zone},
		{name: "empty host in HTTP/1.0", request: "GET / HTTP/1.0\r\nHost: \r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "empty host", request: "GET / HTTP/1.1\r\nHost: \r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "a host of other letters", request: "GET / HTTP/1.1\r\nHost: w\u2160w-1." + zone + "\r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "a host of other letters, in ASCII", request: "GET / HTTP/1.1\r\nHost: xn--ww-1-0ra." + zone + "\r\n\r\n", status: 404, reason: proxy.UnknownClone},
		{name: "no host in HTTP/1.0", request: "GET / HTTP/1.0\r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "userinfo in the target", request: "GET https://www-1." + zone + "@www-2." + zone + "/ HTTP/1.1\r\nHost: x\r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "a list", request: "GET / HTTP/1.1\r\nHost: www-1." + zone + ",www-2." + zone + "\r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "bad port", request: "GET / HTTP/1.1\r\nHost: www-1." + zone + ":99999\r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "fragment", request: "GET /a#b HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n", status: 400, reason: proxy.BadRequest},
		{name: "CONNECT", request: "CONNECT www-1." + zone + ":443 HTTP/1.1\r\nHost: www-1." + zone + ":443\r\n\r\n", status: 501, reason: proxy.MethodRefused},
		{name: "leading zeros", request: "GET / HTTP/1.1\r\nHost: www-0001." + zone + "\r\n\r\n", status: 404, reason: proxy.UnknownClone},
		{name: "a sign", request: "GET / HTTP/1.1\r\nHost: +1." + zone + "\r\n\r\n", status: 404, reason: proxy.UnknownClone},
		{name: "percent", request: "GET / HTTP/1.1\r\nHost: %31." + zone + "\r\n\r\n", status: 404, reason: proxy.UnknownClone},
		{name: "64 octets", request: "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 64) + "." + zone + "\r\n\r\n", status: 404, reason: proxy.UnknownClone},
		{name: "below a service", request: "GET / HTTP/1.1\r\nHost: a.www.1." + zone + "\r\n\r\n", want: "1 as a.www.1." + zone},
		{name: "the zone", request: "GET / HTTP/1.1\r\nHost: " + zone + "\r\n\r\n", status: 404, reason: proxy.NoName},
		{name: "IP", request: "GET / HTTP/1.1\r\nHost: 127.0.0.1:8443\r\n\r\n", status: 404, reason: proxy.UnknownZone},
		{name: "IPv6", request: "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", status: 404, reason: proxy.UnknownZone},
		{name: "a zone that ends alike", request: "GET / HTTP/1.1\r\nHost: www-1.x" + zone + "\r\n\r\n", status: 404, reason: proxy.UnknownZone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := b.raw(tt.request)
			if tt.reason != "" {
				got.wantReason(t, tt.status, tt.reason)
				if tt.reason == proxy.UnknownZone && strings.Contains(got.body, "https://") {
					t.Errorf("a stranger's name is answered with clones: %s", got.body)
				}
			} else if got.StatusCode != 200 || got.body != tt.want {
				t.Errorf("got %d %q; want 200 %q", got.StatusCode, got.body, tt.want)
			}
		})
	}
}

func TestHostWithUserinfo(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	got := b.raw("GET / HTTP/1.1\r\nHost: www-2." + zone + "@www-1." + zone + "\r\n\r\n")
	if got.StatusCode != 400 {
		t.Errorf("got %d; want 400", got.StatusCode)
	}
}

// TestCoalescedConnection asks for one clone on a connection opened for
// another, as browsers do under one wildcard certificate.
func TestCoalescedConnection(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	b.serve("2", who("2"))
	c := b.dialTLS("www-1."+zone, "h2")
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	io.WriteString(c, http2.ClientPreface)
	framer.WriteSettings()
	for i, tt := range []struct {
		authority, host, want string
	}{
		{"www-1." + zone, "", "200"},
		{"www-2." + zone, "", "200"},
		{"www-9." + zone, "", "404"},
		{"www-1." + zone, "www-2." + zone, "400"},
		{"", "www-2." + zone, "200"},
	} {
		var block strings.Builder
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {":authority", tt.authority}, {"host", tt.host}} {
			if f[1] != "" {
				enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: []byte(block.String()), EndHeaders: true, EndStream: true})
		status, body := "", ""
		for done := false; !done; {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatalf("authority %q, host %q: %v", tt.authority, tt.host, err)
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				status, done = f.PseudoValue("status"), f.StreamEnded()
			case *http2.DataFrame:
				body += string(f.Data())
				done = f.StreamEnded()
			case *http2.RSTStreamFrame:
				t.Fatalf("authority %q, host %q: reset", tt.authority, tt.host)
			}
		}
		if want := strings.TrimPrefix(tt.authority+tt.host, "www-"); status != tt.want || status == "200" && !strings.HasPrefix(body, want[:1]) {
			t.Errorf("authority %q, host %q: got %s %q; want %s", tt.authority, tt.host, status, body, tt.want)
		}
	}
}

// TestTargetsAreNotRewritten holds that a clone sees path and query as the
// client wrote them.
func TestTargetsAreNotRewritten(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	for _, target := range []string{
		"/", "/?", "/a?a=%zz&b=%", "/a?a;b=c;d", "/a|b\\c", "/a%2Fb%2f", "/a//b", "//a//b", "/a/./../b", "/%7Euser/~user",
		`/"x"?"y"`, "/ü", "/a?q=http://x/?y", "/a:b@c", "/a?" + strings.Repeat("x&", 10_001),
	} {
		got := b.raw("GET " + target + " HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n")
		if got.StatusCode != 200 || got.body != target {
			t.Errorf("target %.60q: got %d %.60q; want it unchanged", target, got.StatusCode, got.body)
		}
	}
	got := b.raw("GET https://www-1." + zone + "?x HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n")
	if got.body != "/?x" {
		t.Errorf("absolute target without a path: got %q; want /?x", got.body)
	}
	got = b.raw("OPTIONS * HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n")
	if got.StatusCode != 200 {
		t.Errorf("OPTIONS *: got %d; want 200", got.StatusCode)
	}
}

func TestNothingIsInvented(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Accept-Encoding", "User-Agent", "Via", "Connection", "Te", "Content-Length"} {
			if v := r.Header[name]; v != nil {
				t.Errorf("the clone saw %s: %q; want it absent", name, v)
			}
		}
		w.Header()["Content-Type"], w.Header()["Date"] = nil, []string{"then"}
		io.WriteString(w, "<html>")
	})
	got := b.raw("GET / HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n")
	for _, name := range []string{"Content-Type", "Via", "Server", "Clonegate-Reason"} {
		if v := got.Header[name]; v != nil {
			t.Errorf("the client saw %s: %q; want it absent", name, v)
		}
	}
	if got.Header.Get("Date") != "then" {
		t.Errorf("Date: got %q; want the clone's", got.Header.Get("Date"))
	}
}

// TestSpoofedHeaders asks the clone what it sees, over every way in.
func TestSpoofedHeaders(t *testing.T) {
	b := newBench(t)
	seen := make(chan http.Header, 1)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })
	spoof := func(r *http.Request) {
		for name, value := range map[string]string{
			"X-Forwarded-For": "1.1.1.1", "X_Forwarded_For": "1.1.1.1", "X.Forwarded.For": "1.1.1.1",
			"Clonegate-Clone": "9", "X-Real-Ip": "1.1.1.1", "X_App": "kept",
		} {
			r.Header[name] = []string{value}
		}
	}
	url := "https://www-1." + zone + "/"
	ways := map[string]func(){
		"h1": func() { b.get(url, spoof, header("Connection", "X-Forwarded-For, Clonegate-Clone")) },
		"h2": func() { b.do(b.h2, url, spoof) },
		"upgrade": func() {
			b.get(url, spoof, header("Connection", "Upgrade, X-Forwarded-For"), header("Upgrade", "websocket"))
		},
	}
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			send()
			h := <-seen
			for name, want := range map[string]string{
				"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "Clonegate-Clone": "1",
				"X-Forwarded-Proto": "https", "Clonegate-Template": "shop@7", "X_app": "kept",
			} {
				if v := h[name]; len(v) != 1 || v[0] != want {
					t.Errorf("%s: got %q; want exactly %q", name, v, want)
				}
			}
			for name := range h {
				if strings.ContainsAny(name, "._") && !strings.EqualFold(name, "X_App") {
					t.Errorf("a look-alike came through: %s", name)
				}
			}
		})
	}
}

// TestLoopEnds has a clone send its requests back to the gateway.
func TestLoopEnds(t *testing.T) {
	b := newBench(t)
	var passes int
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		passes++
		got := b.get("https://alias-of-1."+zone+"/", func(again *http.Request) { again.Header = r.Header.Clone() })
		w.WriteHeader(got.StatusCode)
		io.WriteString(w, got.Header.Get("Clonegate-Reason"))
	})
	c, _ := b.registry.View().Clone("1")
	b.register("1", www(c.Services["www"].Endpoints[0].String()), func(r *registry.Registration) { r.Aliases = []string{"alias-of-1"} })
	got := b.get("https://www-1." + zone + "/")
	if got.StatusCode != 508 || got.body != string(proxy.Loop) || passes != 1 {
		t.Errorf("got %d %q after %d passes; want 508 %q after 1", got.StatusCode, got.body, passes, proxy.Loop)
	}
}

func TestHeadTooLarge(t *testing.T) {
	b := newBench(t)
	b.serve("1", who("1"))
	url := "https://www-1." + zone + "/"
	for _, client := range []*http.Client{b.client, b.h2} {
		got := b.do(client, url, header("X-Big", strings.Repeat("x", 70_000)))
		got.wantReason(t, 431, proxy.HeadTooLarge)
		if got := b.do(client, url, header("X-Big", strings.Repeat("x", 60_000))); got.StatusCode != 200 {
			t.Errorf("60,000 octets: got %d; want 200", got.StatusCode)
		}
	}
}
