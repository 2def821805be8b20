package http1_test

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/proxy/http1"
)

const maxHead = 64 << 10

// parseRequest reads the head at the beginning of s.
func parseRequest(s string) (*http1.Request, bool, error) {
	r := new(http1.Request)
	done, err := r.Parse([]byte(s), maxHead)
	return r, done, err
}

// TestRequestRefused is a table of heads that somebody could read differently,
// or that no server should act upon.
func TestRequestRefused(t *testing.T) {
	const host = "Host: a\r\n"
	get := func(fields string) string { return "GET / HTTP/1.1\r\n" + host + fields + "\r\n\r\n" }
	for _, tt := range []struct {
		name, head string
		want       *http1.Error
	}{
		{"length and coding", get("Content-Length: 5\r\nTransfer-Encoding: chunked"), http1.ErrLengthAndCoded},
		{"coding and length", get("Transfer-Encoding: chunked\r\nContent-Length: 5"), http1.ErrLengthAndCoded},
		{"two lengths", get("Content-Length: 5\r\nContent-Length: 6"), http1.ErrLengths},
		{"two lengths alike", get("Content-Length: 5\r\nContent-Length: 5"), http1.ErrLengths},
		{"a list of lengths", get("Content-Length: 5, 5"), http1.ErrLength},
		{"signed length", get("Content-Length: +5"), http1.ErrLength},
		{"negative length", get("Content-Length: -5"), http1.ErrLength},
		{"hexadecimal length", get("Content-Length: 0x5"), http1.ErrLength},
		{"empty length", get("Content-Length:"), http1.ErrLength},
		{"length with a space", get("Content-Length: 5 5"), http1.ErrLength},
		{"length with an underscore", get("Content-Length: 1_0"), http1.ErrLength},
		{"length that overflows", get("Content-Length: 18446744073709551621"), http1.ErrLength},
		{"another coding", get("Transfer-Encoding: gzip"), http1.ErrCoding},
		{"a list of codings", get("Transfer-Encoding: gzip, chunked"), http1.ErrCoding},
		{"chunked twice", get("Transfer-Encoding: chunked, chunked"), http1.ErrCoding},
		{"two codings", get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), http1.ErrCodings},
		{"identity", get("Transfer-Encoding: identity"), http1.ErrCoding},
		{"quoted coding", get(`Transfer-Encoding: "chunked"`), http1.ErrCoding},
		{"coding with a parameter", get("Transfer-Encoding: chunked;a=b"), http1.ErrCoding},
		{"coding with a vertical tab", get("Transfer-Encoding: \x0bchunked"), http1.ErrFieldValue},
		{"almost chunked", get("Transfer-Encoding: xchunked"), http1.ErrCoding},
		{"empty coding", get("Transfer-Encoding:"), http1.ErrCoding},
		{"coding in HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", http1.ErrOldCoding},
		{"space before the colon", get("Content-Length : 5"), http1.ErrFieldName},
		{"tab before the colon", get("Transfer-Encoding\t: chunked"), http1.ErrFieldName},
		{"no colon", get("Content-Length 5"), http1.ErrFieldName},
		{"no name", get(": 5"), http1.ErrFieldName},
		{"NUL in a name", get("X\x00: 5"), http1.ErrFieldName},
		{"UTF-8 in a name", get("Ünder: 5"), http1.ErrFieldName},
		{"folded line", get("X: a\r\n b"), http1.ErrFolded},
		{"folded by a tab", get("X: a\r\n\tb"), http1.ErrFolded},
		{"first line folded", "GET / HTTP/1.1\r\n " + host + "\r\n", http1.ErrFolded},
		{"NUL in a value", get("X: a\x00b"), http1.ErrFieldValue},
		{"CR in a value", get("X: a\rb"), http1.ErrFieldValue},
		{"CR at the end of a value", get("X: a\r"), http1.ErrFieldValue},
		{"DEL in a value", get("X: a\x7fb"), http1.ErrFieldValue},
		{"bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", http1.ErrLineEnd},
		{"bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", http1.ErrLineEnd},
		{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", http1.ErrLineEnd},
		{"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", http1.ErrRequestLine},
		{"no host", "GET / HTTP/1.1\r\n\r\n", http1.ErrNoHost},
		{"two hosts", get(host[:7]), http1.ErrHosts},
		{"two hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" + host + host + "\r\n", http1.ErrHosts},
		{"list of hosts", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", http1.ErrHost},
		{"host with userinfo", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", http1.ErrHost},
		{"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", http1.ErrHost},
		{"host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", http1.ErrHost},
		{"host in UTF-8", "GET / HTTP/1.1\r\nHost: ü\r\n\r\n", http1.ErrHost},
		{"absolute target of another host", "GET http://b/ HTTP/1.1\r\n" + host + "\r\n", http1.ErrHostDiffers},
		{"absolute target of another port", "GET http://a:81/ HTTP/1.1\r\n" + host + "\r\n", http1.ErrHostDiffers},
		{"absolute target with userinfo", "GET http://a@b/ HTTP/1.1\r\n" + host + "\r\n", http1.ErrUserinfo},
		{"absolute target without a host", "GET http:///a HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetHost},
		{"absolute target with a bad port", "GET http://a:b/ HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetHost},
		{"absolute target, half an address", "GET http://[::1/ HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetHost},
		{"another scheme", "GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetForm},
		{"an authority", "GET a:80 HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetForm},
		{"a bare word", "GET a HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetForm},
		{"asterisk for GET", "GET * HTTP/1.1\r\n" + host + "\r\n", http1.ErrTargetForm},
		{"fragment", "GET /a#b HTTP/1.1\r\n" + host + "\r\n", http1.ErrFragment},
		{"control in the target", "GET /a\x01b HTTP/1.1\r\n" + host + "\r\n", http1.ErrTarget},
		{"tab in the target", "GET /a\tb HTTP/1.1\r\n" + host + "\r\n", http1.ErrTarget},
		{"space in the target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", http1.ErrTarget},
		{"half an escape", "GET /a%2 HTTP/1.1\r\n" + host + "\r\n", http1.ErrEscape},
		{"no escape", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", http1.ErrEscape},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", http1.ErrConnect},
		{"space before the method", " GET / HTTP/1.1\r\n" + host + "\r\n", http1.ErrRequestLine},
		{"two spaces", "GET  / HTTP/1.1\r\n" + host + "\r\n", http1.ErrTarget},
		{"tabs", "GET\t/\tHTTP/1.1\r\n" + host + "\r\n", http1.ErrRequestLine},
		{"method that is no token", "G(T / HTTP/1.1\r\n" + host + "\r\n", http1.ErrMethod},
		{"HTTP/0.9", "GET /\r\n", http1.ErrRequestLine},
		{"HTTP/1.2", "GET / HTTP/1.2\r\n" + host + "\r\n", http1.ErrVersion},
		{"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", http1.ErrVersion},
		{"HTTP/01.1", "GET / HTTP/01.1\r\n" + host + "\r\n", http1.ErrRequestLine},
		{"http/1.1", "GET / http/1.1\r\n" + host + "\r\n", http1.ErrRequestLine},
		{"space behind the version", "GET / HTTP/1.1 \r\n" + host + "\r\n", http1.ErrRequestLine},
		{"trailer that announces framing", get("Trailer: X, Content-Length"), http1.ErrTrailer},
		{"too many fields", get(strings.Repeat("a: b\r\n", 1000) + "a: b"), http1.ErrTooManyFields},
		{"too large", get("X: " + strings.Repeat("x", maxHead)), http1.ErrHeadTooLarge},
		{"target too long", "GET /" + strings.Repeat("x", maxHead), http1.ErrTargetTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, done, err := parseRequest(tt.head); err != tt.want {
				t.Errorf("got done %v, error %v; want %v", done, err, tt.want)
			}
		})
	}
}

func TestRequestParts(t *testing.T) {
	for _, tt := range []struct {
		name, head                string
		method, target, authority string
		length                    int64
		chunked, persists, cont   bool
	}{
		{"plain", "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET", "/a?b", "h", -1, false, true, false},
		{"empty line first", "\r\nGET / HTTP/1.1\r\nhost:h\r\n\r\n", "GET", "/", "h", -1, false, true, false},
		{"absolute", "GET HTTPS://H:1?b HTTP/1.1\r\nHost: h:1\r\n\r\n", "GET", "?b", "H:1", -1, false, true, false},
		{"address", "GET http://[::1]/ HTTP/1.1\r\nHost: [::1]\r\n\r\n", "GET", "/", "[::1]", -1, false, true, false},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS", "*", "h", -1, false, true, false},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "GET", "/", "", -1, false, false, false},
		{"HTTP/1.0 kept", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET", "/", "", -1, false, true, false},
		{"close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n\r\n", "GET", "/", "h", -1, false, false, false},
		{"length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \t12 \r\n\r\n", "POST", "/", "h", 12, false, true, false},
		{"chunks", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n", "POST", "/", "h", -1, true, true, false},
		{"expect", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", "POST", "/", "h", 1, false, true, true},
		{"expect in HTTP/1.0", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", "POST", "/", "", 1, false, false, false},
		{"odd target", "GET //a|b\\\"<ü>?%zz HTTP/1.1\r\nHost: h\r\n\r\n", "GET", "//a|b\\\"<ü>?%zz", "h", -1, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, done, err := parseRequest(tt.head + "behind")
			if !done || err != nil {
				t.Fatalf("got done %v, error %v", done, err)
			}
			if r.Len != len(tt.head) {
				t.Errorf("length of the head: got %d; want %d", r.Len, len(tt.head))
			}
			for what, got := range map[string][2]string{
				"method":    {string(r.Bytes(r.Method)), tt.method},
				"target":    {string(r.Bytes(r.Target)), tt.target},
				"authority": {string(r.Bytes(r.Authority)), tt.authority},
			} {
				if got[0] != got[1] {
					t.Errorf("%s: got %q; want %q", what, got[0], got[1])
				}
			}
			if r.Length != tt.length || r.Chunked != tt.chunked || r.Persists(r.Minor) != tt.persists || r.Continue != tt.cont {
				t.Errorf("got length %d, chunked %v, persists %v, continue %v; want %d, %v, %v, %v",
					r.Length, r.Chunked, r.Persists(r.Minor), r.Continue, tt.length, tt.chunked, tt.persists, tt.cont)
			}
		})
	}
}

func TestFields(t *testing.T) {
	r, done, err := parseRequest("GET / HTTP/1.1\r\nHost: h\r\nX-a:  one\ttwo \r\nempty:\r\nX-A: \xff\r\nconnection: upgrade, x-a,,\r\n\r\n")
	if !done || err != nil {
		t.Fatal(done, err)
	}
	var got []string
	for _, f := range r.Fields {
		got = append(got, string(r.Name(f))+"="+string(r.Value(f)))
	}
	if want := "Host=h X-a=one\ttwo empty= X-A=\xff connection=upgrade, x-a,,"; strings.Join(got, " ") != want {
		t.Errorf("got %q; want %q", strings.Join(got, " "), want)
	}
	if v, ok := r.Find("empty"); !ok || len(v) != 0 {
		t.Errorf("empty: got %q, %v; want an empty value", v, ok)
	}
	n := 0
	for range r.All("x-a") {
		n++
	}
	if n != 2 || !r.Switch || !r.Nominates || r.Close {
		t.Errorf("got %d x-a, switch %v, nominates %v, close %v; want 2, true, true, false", n, r.Switch, r.Nominates, r.Close)
	}
}

func TestKinds(t *testing.T) {
	for name, want := range map[string]http1.Kind{
		"Te": http1.TE, "HOST": http1.Host, "expect": http1.Expect, "Trailer": http1.Trailer, "upgrade": http1.Upgrade,
		"Connection": http1.Connection, "Keep-Alive": http1.KeepAlive, "content-Length": http1.ContentLength,
		"HTTP2-Settings": http1.HTTP2Settings, "Proxy-Connection": http1.ProxyConnection,
		"Transfer-Encoding": http1.TransferEncoding, "Proxy-Authenticate": http1.ProxyAuthenticate,
		"Proxy-Authorization": http1.ProxyAuthorization,
		"Hosts":               http1.Ordinary, "Xost": http1.Ordinary, "Cookie": http1.Ordinary, "Content_Length": http1.Ordinary,
	} {
		if got := http1.KindOf([]byte(name)); got != want {
			t.Errorf("%s: got kind %d; want %d", name, got, want)
		}
	}
}

const browser = "GET /assets/app.js?v=17 HTTP/1.1\r\nHost: www-1234.test_envs.internal.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: */*\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n" +
	"Referer: https://www-1234.test_envs.internal.example.com/\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n"

// TestNothingIsAllocated holds the zero of the package's promise.
func TestNothingIsAllocated(t *testing.T) {
	request, response, chunks := []byte(browser), []byte(answer), []byte("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n")
	var req http1.Request
	var res http1.Response
	var body http1.Body
	for what, run := range map[string]func(){
		"request": func() {
			req.Reset()
			if done, err := req.Parse(request, maxHead); !done || err != nil {
				t.Fatal(done, err)
			}
		},
		"response": func() {
			res.Reset()
			if done, err := res.Parse(response, maxHead); !done || err != nil {
				t.Fatal(done, err)
			}
		},
		"body": func() {
			body.BeginChunked()
			for p := chunks; ; {
				_, n, err := body.Next(p)
				p = p[n:]
				if err != nil {
					break
				}
			}
		},
	} {
		run() // the fields' memory
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations; want 0", what, n)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	var r http1.Request
	head := []byte(browser)
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if done, err := r.Parse(head, maxHead); !done || err != nil {
			b.Fatal(done, err)
		}
	}
}
