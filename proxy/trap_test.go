package proxy_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// TestNothingLeadsToProduction is a table of every field that can lead a browser
// out of its clone, on answers of every kind and over both protocols. The clone
// is asked by a name with a port, which stays.
func TestNothingLeadsToProduction(t *testing.T) {
	const own, api = "www-1234." + hyphen + ":8443", "api-1234." + hyphen + ":8443"
	table := []struct{ name, value, want string }{
		{"Location", "http://www.shop.example/a?b=1#c", "https://" + own + "/a?b=1#c"},
		{"Content-Location", "//api.shop.example/x", "//" + api + "/x"},
		{"Refresh", "3; url=https://www.shop.example/", "3; url=https://" + own + "/"},
		{"Link", "<https://api.shop.example/a>; rel=preload, </b>; rel=next, <https://cdn.test/c>", "<https://" + api + "/a>; rel=preload, </b>; rel=next, <https://cdn.test/c>"},
		{"Link", "<//www.shop.example/d>; rel=x", "<//" + own + "/d>; rel=x"},
		{"Access-Control-Allow-Origin", "https://api.shop.example", "https://" + api},
		{"Content-Security-Policy", "default-src https://www.shop.example; connect-src 'self' api.shop.example wss://api.shop.example:443/x https://cdn.test", "default-src https://" + own + "; connect-src 'self' " + api + " wss://" + api + "/x https://cdn.test"},
		{"Content-Security-Policy-Report-Only", "img-src *; report-uri //api.shop.example/csp", "img-src *; report-uri //" + api + "/csp"},
		{"Set-Cookie", `a="1,2"; Domain=.shop.example; Path=/x; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly; SameSite=none; Partitioned; Priority=High; Odd`, `a="1,2"; Path=/x; Expires=Wed, 21 Oct 2026 07:28:00 GMT; HttpOnly; SameSite=none; Partitioned; Priority=High; Odd`},
		{"Set-Cookie", "b=; domain=WWW.shop.example;Max-Age=0", "b=; Domain=www-1234." + hyphen + ";Max-Age=0"},
		{"Set-Cookie", "__Host-c=3;  Secure;Path=/", "__Host-c=3;  Secure;Path=/"},
		{"Set-Cookie", "d=4; Domain=foreign.test", "d=4; Domain=foreign.test"},
		{"X-Next", "https://foreign.test/?www.shop.example.foreign.test", "https://foreign.test/?www.shop.example.foreign.test"},
		{"X-Canonical", "https://pay.shop.example/", "https://pay.shop.example/"}, // is not mapped, and told
	}
	var lines strings.Builder
	want := map[string][]string{}
	for _, f := range table {
		fmt.Fprintf(&lines, "\r\n%s: %s", f.name, f.value)
		want[f.name] = append(want[f.name], f.want)
	}
	for _, status := range []int{200, 201, 301, 302, 303, 307, 308, 401, 404, 500, 103} {
		for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				b := newBench(t, quiet)
				head := fmt.Sprintf("HTTP/1.1 %d Said%s", status, lines.String())
				if status == 103 {
					head += "\r\n\r\nHTTP/1.1 200 OK"
				}
				b.bareBackend("1234", head+"\r\nContent-Length: 7", "the end", production)
				var got http.Header
				hints := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
					got = http.Header(maps.Clone(h))
					return nil
				}})
				client := b.client
				if h2 {
					client = b.h2
				}
				answer := b.do(client, "https://"+own+"/", func(r *http.Request) { *r = *r.WithContext(hints) })
				if status != 103 {
					got = answer.Header
				}
				for name, values := range want {
					if !slices.Equal(got[name], values) {
						t.Errorf("%s:\n got %q\nwant %q", name, got[name], values)
					}
				}
				if told := b.escapesOf("1234"); len(told) != 1 || told["pay.shop.example"] != "X-Canonical" {
					t.Errorf("told to have escaped: %v; want pay.shop.example", told)
				}
			})
		}
	}
}
