package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"runtime/debug"
	"strings"
	"testing"

	h2 "golang.org/x/net/http2"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

// A bareBackend answers every request with the same octets and spends nothing
// that it need not: what is measured is the gateway.
func (b *bench) bareBackend(id registry.ID, head, body string, change ...func(*registry.Registration)) {
	b.t.Helper()
	ln := listen(b.t)
	b.t.Cleanup(func() { ln.Close() })
	answer, end := []byte(head+"\r\n\r\n"+body), []byte("\r\n\r\n")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf, n := make([]byte, 64<<10), 0
				for {
					k, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += k; bytes.HasSuffix(buf[:n], end) {
						n = 0
						c.Write(answer)
					}
				}
			}()
		}
	}()
	b.register(id, www(ln.Addr().String()), change...)
}

// A bareClient sends the same request again and again.
type bareClient struct {
	conn    *tls.Conn
	request []byte
	buf     []byte
	size    int // octets of an answer
}

// bareClient returns a client that has learned how large the answers are.
func (b *bench) bareClient(request string) *bareClient {
	b.t.Helper()
	c := &bareClient{conn: b.dialTLS("www-1." + zone), request: []byte(request), buf: make([]byte, 2<<20)}
	c.conn.Write(c.request)
	got, ending := 0, []byte("the end")
	for !bytes.HasSuffix(c.buf[:got], ending) && !bytes.HasSuffix(c.buf[:got], []byte("the end\r\n0\r\n\r\n")) {
		n, err := c.conn.Read(c.buf[got:])
		if err != nil {
			b.t.Fatalf("after %.200q: %v", c.buf[:got], err)
		}
		got += n
	}
	if !bytes.HasPrefix(c.buf, []byte("HTTP/1.1 200 ")) {
		b.t.Fatalf("got %.200q", c.buf[:got])
	}
	c.size = got
	return c
}

// turn sends a request and reads the answer.
func (c *bareClient) turn(t testing.TB) {
	if _, err := c.conn.Write(c.request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c.conn, c.buf[:c.size]); err != nil {
		t.Fatal(err)
	}
}

const browserHead = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Connection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n"

// A cost is a request and what its endpoint answers, octet by octet.
type cost struct {
	request, head, body string
	change              []func(*registry.Registration)
}

func (c cost) method() string { return strings.Fields(c.request)[0] }

// sent returns the request's body.
func (c cost) sent() string {
	_, body, _ := strings.Cut(c.request, "\r\n\r\n")
	return body
}

// lifeCookie is the name of the gateway's cookie with the life of a clone in the
// zone of the tests.
const lifeCookie = "__Host-clonegate-life-68b44814"

// stage runs the endpoint of clone 1, and lets the request be of a browser that
// knows its life.
func (b *bench) stage(tt cost) cost {
	b.bareBackend("1", tt.head, tt.body, tt.change...)
	if strings.Contains(tt.request, ownCookie) {
		tt.request = strings.ReplaceAll(tt.request, ownCookie, markerOf(b.t, b.get("https://www-1."+zone+"/", asBrowser)))
	}
	return tt
}

// ownCookie stands for the gateway's own cookie in a cost.
const ownCookie = "OWN"

// costs are the requests whose cost is watched: everything is on but the
// access log.
func costs() map[string]cost {
	line := " / HTTP/1.1\r\nHost: www-1." + zone + "\r\n" + browserHead
	answer := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n"
	kib := strings.Repeat("x", 1024-len("the end")) + "the end"
	mib := strings.Repeat("x", 1<<20-len("the end")) + "the end"
	own := strings.Replace(line, "Cookie: ", "Cookie: "+ownCookie+"; SESSION_PROD=x; ", 1)
	return map[string]cost{
		"1KiB":    {request: "GET" + line + "\r\n", head: answer + "Content-Length: 1024", body: kib},
		"chunked": {request: "GET" + line + "\r\n", head: answer + "Transfer-Encoding: chunked", body: "400\r\n" + kib + "\r\n0\r\n\r\n"},
		"POST":    {request: "POST" + line + "Content-Length: 4\r\n\r\n\r\n\r\n", head: answer + "Content-Length: 1024", body: kib},
		"1MiB":    {request: "GET" + line + "\r\n", head: answer + "Content-Length: 1048576", body: mib},
		"cookies": {request: "GET" + own + "\r\n", head: answer + "Content-Length: 1024", body: kib},
		"page": {
			request: strings.Replace("GET"+own+"\r\n", "Mode: no-cors", "Mode: navigate", 1),
			head:    answer + "Content-Length: 1024", body: kib,
		},
		"production": {
			request: "GET" + own + "Origin: https://api-1." + zone + "\r\nReferer: https://www-1." + zone + "/a?b\r\n\r\n",
			head: answer + "Location: https://www.shop.example/a\r\nLink: <https://api.shop.example/b>; rel=preload\r\n" +
				"Access-Control-Allow-Origin: https://api.shop.example\r\nRefresh: 5; url=https://www.shop.example/\r\n" +
				"Content-Security-Policy: default-src 'self' *.shop.example https://api.shop.example\r\n" +
				"Set-Cookie: a=b; Domain=.shop.example; Path=/\r\nX-Served-By: web-3.shop.example\r\nContent-Length: 1024",
			body: kib, change: []func(*registry.Registration){production},
		},
	}
}

func quiet(c *proxy.Config) { c.AccessLog = nil }

// allocations returns how many a request costs: client, gateway and endpoint.
// The collector stays away meanwhile, because it empties every pool.
func allocations(t testing.TB, turn func(testing.TB)) float64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 50 {
		turn(t)
	}
	return testing.AllocsPerRun(200, func() { turn(t) })
}

// TestNothingIsAllocated holds that a request on the steady path leaves nothing
// for the collector, with every feature on, but what crypto/tls leaves on either
// side: what a client spends on a server that knows one answer.
func TestNothingIsAllocated(t *testing.T) {
	if raceDetected {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	for name, tt := range costs() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, quiet)
			tt := b.stage(tt)
			c := b.bareClient(tt.request)
			got := allocations(t, c.turn)
			bare := *b
			bare.addr = bareTLS(t, c.buf[:c.size])
			if want := allocations(t, bare.bareClient(tt.request).turn); got > want {
				t.Errorf("%v allocations a request; a bare server has %v", got, want)
			}
		})
	}
}

// bareTLS runs a server over TLS that answers everything with the same octets.
func bareTLS(t testing.TB, answer []byte) (addr string) {
	t.Helper()
	cert, _ := testCertificate(t)
	ln := tls.NewListener(listen(t), tlsWith(cert))
	t.Cleanup(func() { ln.Close() })
	answer = bytes.Clone(answer)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			c.Write(answer)
		}
	}()
	return ln.Addr().String()
}

// BenchmarkRequest measures a request through the gateway, its client and its
// endpoint included.
func BenchmarkRequest(b *testing.B) {
	for name, tt := range costs() {
		b.Run(name, func(b *testing.B) {
			g := newBench(b, quiet)
			tt := g.stage(tt)
			c := g.bareClient(tt.request)
			b.ReportAllocs()
			b.SetBytes(int64(c.size))
			for b.Loop() {
				c.turn(b)
			}
		})
	}
}

// A bareClient2 sends the same request again and again over HTTP/2, and allocates
// nothing itself.
type bareClient2 struct {
	*framer2
	method, body string
	fields       []string
	out          bytes.Buffer
	in           []byte
	have         int    // octets of in
	id           uint32 // of the last stream
	taken        int    // octets of DATA whose room was not given back
	size         int    // octets of the last answer
}

func (b *bench) bareClient2(tt cost) *bareClient2 {
	c := &bareClient2{framer2: b.frames(), method: tt.method(), body: tt.sent(), in: make([]byte, 2<<20)}
	c.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1<<31 - 1})
	c.WriteWindowUpdate(0, 1<<30)
	head, _, _ := strings.Cut(tt.request, "\r\n\r\n")
	for line := range strings.SplitSeq(head, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok && name != "Connection" && name != "Host" {
			c.fields = append(c.fields, strings.ToLower(name), value)
		}
	}
	return c
}

// frame appends a frame to what is sent next.
func (c *bareClient2) frame(kind h2.FrameType, flags h2.Flags, id uint32, payload []byte) {
	n := len(payload)
	c.out.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags)})
	c.out.Write([]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
	c.out.Write(payload)
}

// turn sends a request and reads the answer.
func (c *bareClient2) turn(t testing.TB) {
	c.out.Reset()
	if n := c.taken; n > 0 {
		c.frame(h2.FrameWindowUpdate, 0, 0, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	c.id += 2
	flags := h2.FlagHeadersEndHeaders
	if c.body == "" {
		flags |= h2.FlagHeadersEndStream
	}
	c.frame(h2.FrameHeaders, flags, c.id-1, c.head(c.method, "/", c.fields...))
	if c.body != "" {
		c.frame(h2.FrameData, h2.FlagDataEndStream, c.id-1, []byte(c.body))
	}
	if _, err := c.conn.Write(c.out.Bytes()); err != nil {
		t.Fatal(err)
	}
	c.taken, c.size = 0, 0
	for !c.read(t) {
	}
}

// read reads frames, and reports whether they end an answer.
func (c *bareClient2) read(t testing.TB) (ended bool) {
	n, err := c.conn.Read(c.in[c.have:])
	if err != nil {
		t.Fatal(err)
	}
	p := c.in[:c.have+n]
	for len(p) >= 9 {
		size := 9 + int(p[0])<<16 + int(p[1])<<8 + int(p[2])
		if len(p) < size {
			break
		}
		switch kind := h2.FrameType(p[3]); kind {
		case h2.FrameData:
			c.taken += size - 9
			fallthrough
		case h2.FrameHeaders:
			c.size += size
			ended = ended || p[4]&1 != 0
		case h2.FrameRSTStream, h2.FrameGoAway:
			t.Fatalf("%s: % x", kind, p[:size])
		}
		p = p[size:]
	}
	c.have = copy(c.in, p)
	return ended
}

// TestLittleIsAllocatedOverHTTP2 holds that a request over HTTP/2 allocates at
// most twice from the client to the endpoint and back, beside what crypto/tls
// leaves on either side: what a client spends on a server of one answer.
func TestLittleIsAllocatedOverHTTP2(t *testing.T) {
	if raceDetected {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	for name, tt := range costs() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, quiet)
			b.wantLittle(t, tt)
		})
	}
}

// wantLittle sees how often a request over HTTP/2 allocates; fields are more of
// its header than browsers send.
func (b *bench) wantLittle(t *testing.T, tt cost, fields ...string) {
	t.Helper()
	tt = b.stage(tt)
	c := b.bareClient2(tt)
	c.fields = append(c.fields, fields...)
	got := allocations(t, c.turn)
	answer := make([]byte, c.size)
	n := c.size - 9
	copy(answer, []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(h2.FrameHeaders), byte(h2.FlagHeadersEndStream)})
	bare := *b
	bare.addr = bareTLS(t, answer)
	client := bare.bareClient2(tt)
	client.fields = c.fields
	want := allocations(t, client.turn)
	t.Logf("%v allocations a request; a bare server has %v", got, want)
	if got > want+2 {
		t.Errorf("%v allocations a request; a bare server has %v", got, want)
	}
}

// BenchmarkRequestHTTP2 measures a request through the gateway over HTTP/2, its
// client and its endpoint included.
func BenchmarkRequestHTTP2(b *testing.B) {
	for name, tt := range costs() {
		b.Run(name, func(b *testing.B) {
			g := newBench(b, quiet)
			tt := g.stage(tt)
			c := g.bareClient2(tt)
			b.ReportAllocs()
			for b.Loop() {
				c.turn(b)
			}
		})
	}
}
