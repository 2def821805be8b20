package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"github.com/clonegate/clonegate/proxy"
)

// TestAmbiguousRequestsEnd sends what two readers could read differently, and a
// second request behind it: the first is refused, nothing of either reaches the
// clone, and the connection ends.
func TestAmbiguousRequestsEnd(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { t.Errorf("the clone saw %s %s", r.Method, r.RequestURI) })
	const host = "Host: www-1." + zone + "\r\n"
	second := "GET /second HTTP/1.1\r\n" + host + "\r\n"
	post := func(fields, body string) string {
		return "POST /first HTTP/1.1\r\n" + host + fields + "\r\n\r\n" + body
	}
	for _, tt := range []struct {
		name, request string
		status        int
		reason        proxy.Reason
	}{
		{"CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"), 400, proxy.BadRequest},
		{"TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 3", "8\r\nSMUGGLED\r\n0\r\n\r\n"), 400, proxy.BadRequest},
		{"two lengths", post("Content-Length: 0\r\nContent-Length: 44", ""), 400, proxy.BadRequest},
		{"two equal lengths", post("Content-Length: 1\r\nContent-Length: 1", "x"), 400, proxy.BadRequest},
		{"list of lengths", post("Content-Length: 1, 1", "x"), 400, proxy.BadRequest},
		{"empty length", post("Content-Length:", ""), 400, proxy.BadRequest},
		{"obscured coding", post("Transfer-Encoding: xchunked", "0\r\n\r\n"), 501, proxy.CodingRefused},
		{"two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"), 400, proxy.BadRequest},
		{"space before the colon", post("Transfer-Encoding : chunked", "0\r\n\r\n"), 400, proxy.BadRequest},
		{"folded coding", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), 400, proxy.BadRequest},
		{"bare LF", strings.ReplaceAll(post("X: y", ""), "\r\n", "\n"), 400, proxy.BadRequest},
		{"CR in a value", post("X: a\rTransfer-Encoding: chunked", ""), 400, proxy.BadRequest},
		{"NUL in a value", post("X: a\x00", ""), 400, proxy.BadRequest},
		{"two hosts", post("Host: www-2."+zone, ""), 400, proxy.BadRequest},
		{"other host in the target", "GET http://www-2." + zone + "/ HTTP/1.1\r\n" + host + "\r\n", 400, proxy.BadRequest},
		{"CONNECT with an early payload", "CONNECT www-1." + zone + ":443 HTTP/1.1\r\n" + host + "\r\n" + second, 501, proxy.MethodRefused},
		{"coding in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, proxy.BadRequest},
		{"HTTP/2 without its handshake", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, proxy.VersionRefused},
		{"target without an end", "GET /" + strings.Repeat("x", 70_000) + " HTTP/1.1\r\n" + host + "\r\n", 414, proxy.TargetTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.dialTLS("www-1." + zone)
			io.WriteString(c, tt.request+second)
			in := bufio.NewReader(c)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			if res.StatusCode != tt.status || res.Header.Get("Clonegate-Reason") != string(tt.reason) || !res.Close {
				t.Errorf("got %d, reason %q, close %v; want %d, %q and the end",
					res.StatusCode, res.Header.Get("Clonegate-Reason"), res.Close, tt.status, tt.reason)
			}
			if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
				t.Errorf("then came %q, %v; want the end", rest, err)
			}
		})
	}
}

// TestBodiesEndWhereTheyEnd sends bodies that are answered before they are read,
// or not read at all, and a second request behind: it is answered as itself or
// the connection ends.
func TestBodiesEndWhereTheyEnd(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/read" {
			io.Copy(io.Discard, r.Body)
		}
		fmt.Fprint(w, r.URL.Path)
	})
	const host = "Host: www-1." + zone + "\r\n"
	smuggled := "GET /smuggled HTTP/1.1\r\n" + host + "\r\n"
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
	for _, tt := range []struct{ name, request string }{
		{"length", fmt.Sprintf("POST /read HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", host, len(smuggled), smuggled)},
		{"chunks", "POST /read HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + chunked},
		{"not read by the clone", "POST /unread HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + chunked},
		{"no clone", "POST /none HTTP/1.1\r\nHost: www-9." + zone + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked},
		{"no clone, a length", fmt.Sprintf("POST /none HTTP/1.1\r\nHost: www-9.%s\r\nContent-Length: %d\r\n\r\n%s", zone, len(smuggled), smuggled)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.dialTLS("www-1." + zone)
			io.WriteString(c, tt.request+"GET /second HTTP/1.1\r\n"+host+"\r\n")
			in := bufio.NewReader(c)
			for _, want := range []string{"first", "/second"} {
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					if want == "first" {
						t.Fatal(err)
					}
					return // the connection has ended, which is right, too
				}
				body, _ := io.ReadAll(res.Body)
				if strings.Contains(string(body), "smuggled") || want != "first" && string(body) != want {
					t.Fatalf("got %d %q; want %s", res.StatusCode, body, want)
				}
				if res.Close {
					return
				}
			}
		})
	}
}

// TestOddQueries sends queries that parsers give up on, and a request behind each on
// the same connection: the clone sees them as they were written, and each request
// gets its own answer (CVE-2022-2880, CVE-2026-39825).
func TestOddQueries(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) })
	queries := []string{
		strings.Repeat("a=1&", 10_001), strings.Repeat("&", 10_001), "a=%zz", "%", "a;b", "=&=;=", "\x80\xff", "a=b?c=d?", `a="<>\^{|}`,
	}
	c := b.dialTLS("www-1." + zone)
	f := b.frames()
	in := bufio.NewReader(c)
	for i, query := range queries {
		io.WriteString(c, "GET /?"+query+" HTTP/1.1\r\nHost: www-1."+zone+"\r\n\r\nGET /next HTTP/1.1\r\nHost: www-1."+zone+"\r\n\r\n")
		for n, want := range []string{"/?" + query, "/next"} {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(res.Body); string(got) != want {
				t.Errorf("query %.40q: the clone saw %.60q; want %.60q", query, got, want)
			}
			id := uint32(4*i + 2*n + 1)
			f.ask(id, want)
			if got := f.body(t, id); got != want {
				t.Errorf("query %.40q over HTTP/2: the clone saw %.60q; want %.60q", query, got, want)
			}
		}
	}
}

// ask sends a GET whose head may take several frames.
func (f *framer2) ask(id uint32, path string) {
	const most = 16 << 10
	block := f.head("GET", path)
	n := min(len(block), most)
	f.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: n == len(block), BlockFragment: block[:n]})
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), most)
		f.WriteContinuation(id, n == len(block), block[:n])
	}
}

// TestPipelining sends requests without waiting: answers come in their order.
func TestPipelining(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	})
	c := b.dialTLS("www-1." + zone)
	var all strings.Builder
	for i := range 50 {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: www-1.%s\r\nContent-Length: 3\r\n\r\n%03d", i, zone, i)
		fmt.Fprintf(&all, "POST /%dc HTTP/1.1\r\nHost: www-1.%s\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n%03d\r\n0\r\n\r\n\r\n", i, zone, i)
	}
	go func() { // split where nobody expects it
		for s := all.String(); s != ""; {
			n := min(len(s), 777)
			io.WriteString(c, s[:n])
			s = s[n:]
		}
	}()
	in := bufio.NewReader(c)
	for i := range 50 {
		for _, suffix := range []string{"", "c"} {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("answer %d%s: %v", i, suffix, err)
			}
			body, _ := io.ReadAll(res.Body)
			if want := fmt.Sprintf("/%d%s %03d", i, suffix, i); string(body) != want {
				t.Fatalf("got %q; want %q", body, want)
			}
		}
	}
}

// TestSlowHeads sends requests octet by octet, and stops in the middle of one.
func TestSlowHeads(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.Limits.HeadTimeout = 300 * time.Millisecond })
	b.serve("1", who("1"))
	c := b.dialTLS("www-1." + zone)
	for _, octet := range "GET / HTTP/1.1\r\nHost: www-1." + zone + "\r\n\r\n" {
		io.WriteString(c, string(octet))
	}
	if got := exchangeRaw(t, c, ""); got.body != "1 as www-1."+zone {
		t.Errorf("got %q", got.body)
	}
	for _, part := range []string{"G", "GET / HTTP/1.1\r\nHost: www-1"} {
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, part)
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q was answered", part)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%q: the connection ended after %s; want 0.3 s", part, d)
		}
	}
	f := b.frames()
	start := time.Now()
	f.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: f.head("GET", "/")}) // CONTINUATION is to follow
	if code, told := f.end(); !told || code != h2.ErrCodeNo {
		t.Errorf("half a head over HTTP/2: %v, %v; want GOAWAY without an error", code, told)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("half a head over HTTP/2: the connection ended after %s; want 0.3 s", d)
	}
}

// TestOldClients speaks HTTP/1.0.
func TestOldClients(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, "hello ", r.Proto)
	})
	for _, tt := range []struct {
		name, request string
		keeps         bool
	}{
		{"length", "GET / HTTP/1.0\r\nHost: www-1." + zone + "\r\n\r\n", false},
		{"kept", "GET / HTTP/1.0\r\nHost: www-1." + zone + "\r\nConnection: keep-alive\r\n\r\n", true},
		{"no length", "GET /stream HTTP/1.0\r\nHost: www-1." + zone + "\r\nConnection: keep-alive\r\n\r\n", false},
	} {
		c := b.dialTLS("www-1." + zone)
		io.WriteString(c, tt.request)
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if string(body) != "hello HTTP/1.1" || err != nil || res.TransferEncoding != nil {
			t.Errorf("%s: got %q, %v, coding %v; want a plain body", tt.name, body, err, res.TransferEncoding)
		}
		if keeps := strings.EqualFold(res.Header.Get("Connection"), "keep-alive"); keeps != tt.keeps {
			t.Errorf("%s: Connection %q; want it kept: %v", tt.name, res.Header.Get("Connection"), tt.keeps)
		}
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := in.ReadByte(); (err == io.EOF) == tt.keeps {
			t.Errorf("%s: the connection: %v; want it kept: %v", tt.name, err, tt.keeps)
		}
	}
}

// TestAnswersWithoutBodies holds that no octet follows where none may.
func TestAnswersWithoutBodies(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("ETag", `"a"`)
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "1000")
		}
	})
	c := b.dialTLS("www-1." + zone)
	in := bufio.NewReader(c)
	for _, tt := range []struct {
		method, path, length string
		status               int
	}{
		{"HEAD", "/", "1000", 200}, {"GET", "/204", "", 204}, {"GET", "/304", "", 304}, {"HEAD", "/", "1000", 200},
	} {
		io.WriteString(c, tt.method+" "+tt.path+" HTTP/1.1\r\nHost: www-1."+zone+"\r\n\r\n")
		req, _ := http.NewRequest(tt.method, "https://x/", nil)
		res, err := http.ReadResponse(in, req)
		if err != nil || res.StatusCode != tt.status || res.Header.Get("Content-Length") != tt.length || in.Buffered() > 0 {
			t.Fatalf("%s %s: got %v, %v; want %d, length %q, no octet behind", tt.method, tt.path, res, err, tt.status, tt.length)
		}
	}
}
