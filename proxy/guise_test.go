package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// production is what the clones of these tests know of it.
func production(r *registry.Registration) {
	r.Aliases = []string{"pr-87"}
	r.Services["api"] = r.Services["www"]
	www := r.Services["www"]
	www.Default = true
	r.Services["www"] = www
	api := r.Services["api"]
	api.Default = false
	r.Services["api"] = api
	r.Production = map[string]string{
		"www.shop.example": "www", "api.shop.example": "api", "*.tenants.shop.example": "www",
	}
	r.StripCookies = []string{"SESSION_PROD"}
}

// saying runs a clone whose answers have the header fields that a request
// names in its path, and tells the fields that it got in its body.
func (b *bench) saying(id registry.ID, change ...func(*registry.Registration)) {
	b.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add(r.Header.Get("Say-Name"), r.Header.Get("Say-Value"))
		fmt.Fprintf(w, "%s|%s|%s|%s|%s", r.Host, r.Header.Get("X-Forwarded-Host"), r.Header.Get("Origin"), r.Header.Get("Referer"), r.Header.Get("Cookie"))
	}))
	b.t.Cleanup(s.Close)
	b.register(id, www(s.Listener.Addr().String()), change...)
}

// hyphen is a zone without an underscore.
const hyphen = "test-envs.example.com"

func TestAnswersNameTheClone(t *testing.T) {
	b := newBench(t)
	b.saying("1234", production)
	for _, tt := range []struct{ host, name, value, want string }{
		{"www-1234." + hyphen, "Location", "https://www.shop.example/a?b=https://www.shop.example/", "https://www-1234." + hyphen + "/a?b=https://www.shop.example/"},
		{"www-1234." + hyphen, "Location", "http://www.shop.example", "https://www-1234." + hyphen},
		{"www-1234." + hyphen, "Location", "HTTPS://API.Shop.Example:443/x", "https://api-1234." + hyphen + "/x"},
		{"www-1234." + hyphen, "Location", "//api.shop.example/x", "//api-1234." + hyphen + "/x"},
		{"www-1234." + hyphen, "Location", `\\api.shop.example\x`, "//api-1234." + hyphen + `\x`},
		{"www-1234." + hyphen, "Location", "http:/www.shop.example./x", "https://www-1234." + hyphen + "/x"},
		{"www-1234." + hyphen, "Location", "https://u@www.shop.example/x", "https://u@www-1234." + hyphen + "/x"},
		{"www-1234." + hyphen, "Location", "https://www.shop.example.evil.test/", "https://www.shop.example.evil.test/"},
		{"www-1234." + hyphen, "Location", "https://shop.example/", "https://shop.example/"},
		{"www-1234." + hyphen, "Location", "/www.shop.example/", "/www.shop.example/"},
		{"www-1234." + hyphen, "Location", "https://ada.tenants.shop.example/", "https://ada.www-1234." + hyphen + "/"},
		{"www-1234." + hyphen, "Location", "https://a.b.c.d.tenants.shop.example/", "https://a.b.c.d.tenants.shop.example/"},
		{"www-1234." + hyphen + ":8443", "Location", "https://api.shop.example/", "https://api-1234." + hyphen + ":8443/"},
		{"1234." + hyphen, "Location", "https://www.shop.example/", "https://1234." + hyphen + "/"},
		{"www.1234." + zone, "Location", "https://api.shop.example/", "https://api.1234." + zone + "/"},
		{"www-pr-87." + zone, "Location", "https://api.shop.example/", "https://api-pr-87." + zone + "/"},
		{"www-1234." + hyphen, "Content-Location", "https://api.shop.example/", "https://api-1234." + hyphen + "/"},
		{"www-1234." + hyphen, "Access-Control-Allow-Origin", "https://www.shop.example", "https://www-1234." + hyphen},
		{"www-1234." + hyphen, "Access-Control-Allow-Origin", "*", "*"},
		{"www-1234." + hyphen, "Refresh", "5; url=https://www.shop.example/x", "5; url=https://www-1234." + hyphen + "/x"},
		{"www-1234." + hyphen, "Refresh", "0;URL = 'http://api.shop.example/x'", "0;URL = 'https://api-1234." + hyphen + "/x'"},
		{"www-1234." + hyphen, "Refresh", "5", "5"},
		{"www-1234." + hyphen, "Link", `<https://api.shop.example/a.css>; rel=preload, <//other.example/b>; rel=x`, `<https://api-1234.` + hyphen + `/a.css>; rel=preload, <//other.example/b>; rel=x`},
		{
			"www-1234." + hyphen + ":8443", "Content-Security-Policy", "default-src 'self' api.shop.example; connect-src wss://api.shop.example/ws  https://cdn.example;report-uri https://www.shop.example/csp",
			"default-src 'self' api-1234." + hyphen + ":8443; connect-src wss://api-1234." + hyphen + ":8443/ws  https://cdn.example;report-uri https://www-1234." + hyphen + ":8443/csp",
		},
		{"www-1234." + hyphen, "Content-Security-Policy", "img-src api.shop.example:443 api.shop.example:* https://api.shop.example:8000/i/ localhost:80", "img-src api-1234." + hyphen + " api-1234." + hyphen + " https://api-1234." + hyphen + "/i/ localhost:80"},
		{"www-1234." + hyphen, "Content-Security-Policy", "img-src 'self' data: blob: https: * 'nonce-www.shop.example'", "img-src 'self' data: blob: https: * 'nonce-www.shop.example'"},
		{"www-1234." + hyphen, "Content-Security-Policy", "img-src *.shop.example", "img-src *.www-1234." + hyphen + " api-1234." + hyphen + " www-1234." + hyphen + " *.shop.example"},
		{"www.1234." + hyphen, "Content-Security-Policy", "img-src https://*.SHOP.example:8443/i", "img-src https://*.www.1234." + hyphen + "/i https://api.1234." + hyphen + "/i https://www.1234." + hyphen + "/i https://*.SHOP.example:8443/i"},
		{"www-1234." + hyphen, "Content-Security-Policy", "img-src *.tenants.shop.example *.ada.tenants.shop.example *.other.example", "img-src *.www-1234." + hyphen + " *.tenants.shop.example *.ada.www-1234." + hyphen + " *.ada.tenants.shop.example *.other.example"},
		{"www-1234." + zone, "Content-Security-Policy", "img-src *.shop.example wss://*.shop.example", "img-src https: *.shop.example wss: wss://*.shop.example"},
		{"www-1234." + zone, "Content-Security-Policy-Report-Only", "img-src api.shop.example https://www.shop.example/i wss://api.shop.example", "img-src https: https: wss:"},
		{"www-1234." + hyphen, "X-Other", "https://www.shop.example/", "https://www.shop.example/"},
	} {
		for _, client := range []*http.Client{b.client, b.h2} {
			got := b.do(client, "https://"+tt.host+"/", header("Say-Name", tt.name), header("Say-Value", tt.value))
			if got := got.Header.Get(tt.name); got != tt.want {
				t.Errorf("%s said by %s: %s\n got %s\nwant %s", tt.name, tt.host, tt.value, got, tt.want)
			}
		}
	}
}

// TestLittleBecomesNotMuch has a clone answer with lists of names that would be
// many times as long if all were mapped.
func TestLittleBecomesNotMuch(t *testing.T) {
	b := newBench(t, quiet)
	many := func(r *registry.Registration) {
		production(r)
		r.Aliases = nil
		for n := range 60 {
			r.Services[fmt.Sprintf("s%d", n)] = r.Services["api"]
			r.Production[fmt.Sprintf("s%d.shop.example", n)] = fmt.Sprintf("s%d", n)
		}
	}
	for id, field := range map[registry.ID]string{
		"1": "Content-Security-Policy: img-src" + strings.Repeat(" *.shop.example", 8000),
		"2": "Link: " + strings.Repeat("<//s1.shop.example>,", 10000),
		"3": strings.TrimSuffix(strings.Repeat("Content-Security-Policy: img-src"+strings.Repeat(" *.shop.example", 10)+"\r\n", 900), "\r\n"),
	} {
		b.bareBackend(id, "HTTP/1.1 200 OK\r\n"+field+"\r\nContent-Length: 7", "the end", many)
		for _, client := range []*http.Client{b.client, b.h2} {
			got := b.do(client, "https://www-"+string(id)+"."+hyphen+"/")
			size := 0
			for _, values := range got.Header {
				size += len(strings.Join(values, ""))
			}
			if got.StatusCode != 200 || size < len(field) || size > 3<<18 {
				t.Errorf("clone %s: %d octets became %d, with status %d", id, len(field), size, got.StatusCode)
			}
		}
	}
}

// TestScriptsOfTheCloneAreAnswered holds that an origin is answered in the form
// in which it asked, whatever name of the clone that is, and no other's is.
func TestScriptsOfTheCloneAreAnswered(t *testing.T) {
	b := newBench(t)
	b.saying("1234", production)
	b.saying("1235", production, func(r *registry.Registration) { r.Aliases = nil })
	const said = "https://www.shop.example"
	for _, tt := range []struct{ host, origin, want string }{
		{"api-1234." + zone, "https://www-1234." + zone, "https://www-1234." + zone},
		{"api-1234." + zone + ":8443", "https://www-1234." + zone + ":8443", "https://www-1234." + zone + ":8443"},
		{"api-1234." + zone, "https://www-pr-87." + zone, "https://www-pr-87." + zone},
		{"api-1234." + zone, "https://www.1234." + zone, "https://www.1234." + zone},
		{"api-1234." + zone, "https://1234." + hyphen, "https://1234." + hyphen},
		{"api-1234." + zone, "https://www-1235." + zone, "https://www-1234." + zone},
		{"api-1234." + zone, "https://foreign.test", "https://www-1234." + zone},
		{"api-1234." + zone, "null", "https://www-1234." + zone},
		{"api-1234." + zone, said, "https://www-1234." + zone}, // a page of production itself
	} {
		got := b.get("https://"+tt.host+"/", header("Origin", tt.origin), header("Say-Name", "Access-Control-Allow-Origin"), header("Say-Value", said))
		if got := got.Header.Get("Access-Control-Allow-Origin"); got != tt.want {
			t.Errorf("%s asked by %s: %s may read the answer; want %s", tt.host, tt.origin, got, tt.want)
		}
	}
}

func TestRequestsNameProduction(t *testing.T) {
	b := newBench(t)
	b.saying("1234", production)
	b.saying("1235", production, func(r *registry.Registration) { r.Aliases = nil })
	b.saying("1236")
	for _, tt := range []struct{ host, origin, want string }{
		{"www-1234." + zone, "https://www-1234." + zone, "www.shop.example|https://www.shop.example|https://www.shop.example/p?q|a=1; b=2"},
		{"api-1234." + zone + ":8443", "https://www-1234." + zone + ":8443", "api.shop.example|https://www.shop.example|https://www.shop.example/p?q|a=1; b=2"},
		{"www.1234." + zone, "https://api.1234." + zone, "www.shop.example|https://api.shop.example|https://api.shop.example/p?q|a=1; b=2"},
		{"www-1234." + zone, "https://www-1235." + zone, "www.shop.example|https://www-1235." + zone + "|https://www-1235." + zone + "/p?q|a=1; b=2"},
		{"www-1234." + zone, "null", "www.shop.example|null|null/p?q|a=1; b=2"},
		{"www-1236." + zone, "https://www-1236." + zone, "www-1236." + zone + "|https://www-1236." + zone + "|https://www-1236." + zone + "/p?q|a=1; SESSION_PROD=x; b=2"},
	} {
		for _, client := range []*http.Client{b.client, b.h2} {
			got := b.do(client, "https://"+tt.host+"/", header("Origin", tt.origin), header("Referer", tt.origin+"/p?q"), header("Cookie", "a=1; SESSION_PROD=x; b=2"))
			seen, rest, _ := strings.Cut(got.body, "|")
			forwarded, rest, _ := strings.Cut(rest, "|")
			if got := seen + "|" + rest; got != tt.want || forwarded != tt.host {
				t.Errorf("%s, Origin %s: the clone saw\n     %s, X-Forwarded-Host %s\nwant %s", tt.host, tt.origin, got, forwarded, tt.want)
			}
		}
	}
}

func TestInterimAnswersNameTheClone(t *testing.T) {
	b := newBench(t)
	b.bareBackend("1", "HTTP/1.1 103 Early Hints\r\nLink: <https://www.shop.example/a>\r\n\r\nHTTP/1.1 401 Unauthorized\r\nContent-Location: //www.shop.example/b\r\nContent-Length: 7", "the end")
	c, _ := b.registry.View().Clone("1")
	b.register("1", www(c.Services["www"].Endpoints[0].String()), func(r *registry.Registration) {
		r.Production = map[string]string{"www.shop.example": "www"}
	})
	conn := b.dialTLS("www-1." + zone)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: www-1.%s\r\nConnection: close\r\n\r\n", zone)
	got, _ := io.ReadAll(conn)
	for _, want := range []string{"Link: <https://www-1." + zone + "/a>\r\n", "Content-Location: //www-1." + zone + "/b\r\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("got %q; want %q in it", got, want)
		}
	}
}

func TestCookiesStayWithTheirClone(t *testing.T) {
	b := newBench(t)
	b.saying("1234", production)
	b.saying("1236")
	flat, nested, plain := "www-1234."+zone, "www.1234."+zone, "www-1236."+zone
	_, above, _ := strings.Cut(zone, ".")
	for _, tt := range []struct{ host, domain, want string }{
		{plain, "; Domain=" + zone, ""},
		{plain, "; Domain=." + strings.ToUpper(zone), ""},
		{plain, ";dOMAIN = ." + zone + ". ", ""},
		{plain, "; Domain=" + above, ""},
		{plain, `; Domain="` + zone + `"`, ""},
		{plain, "; Domain=%74" + zone[1:], ""},
		{plain, "; Domain=www-1234." + zone, ""},
		{plain, "; Domain=" + plain, "; Domain=" + plain},
		{plain, "; Domain=." + plain, "; Domain=." + plain},
		{plain, "; Domain=" + plain + "; Domain=" + zone, "; Domain=" + plain},
		{plain, "; Domain=" + zone + "; Domain=" + zone, ""},
		{plain, "; Domain=.." + zone, ""},
		{plain, "; Domain=foreign.example", "; Domain=foreign.example"},
		{plain, "; Domain=", "; Domain="},
		{plain, "; Domain", "; Domain"},
		{plain, "; Domain=" + hyphen, ""},
		{plain, "; Domain=.shop.example", "; Domain=.shop.example"},
		{flat, "; Domain=.shop.example", ""},
		{flat, "; Domain=www.shop.example", "; Domain=" + flat},
		{nested, "; Domain=.shop.example", "; Domain=1234." + zone},
		{nested, "; Domain=" + zone, "; Domain=1234." + zone},
		{nested, "; Domain=1234." + zone, "; Domain=1234." + zone},
		{nested, "; Domain=1235." + zone, "; Domain=1234." + zone},
		{nested, "; Domain=" + above, "; Domain=1234." + zone},
	} {
		const pair, tail = `s="d; HttpOnly`, `;  Path=/x; SameSite=none;Partitioned; oDd="v`
		got := b.get("https://"+tt.host+"/", header("Say-Name", "Set-Cookie"), header("Say-Value", pair+tt.domain+tail))
		if got, want := got.Header.Get("Set-Cookie"), pair+tt.want+tail; got != want {
			t.Errorf("%s: %s\n got %s\nwant %s", tt.host, tt.domain, got, want)
		}
	}
	got := b.get("https://"+plain+"/", header("Say-Name", "Set-Cookie"), header("Say-Value", "__Host-a=b; Domain="+zone))
	if got := got.Header.Get("Set-Cookie"); got != "__Host-a=b; Domain="+plain {
		t.Errorf("a __Host- cookie with a domain became %q; it must stay one that is refused, and stay here", got)
	}
}
