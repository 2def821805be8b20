package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// livesAs makes a registration that of another life.
func livesAs(instance string) func(*registry.Registration) {
	return func(r *registry.Registration) { r.Instance = instance }
}

const lifeAttributes = "; Path=/; Max-Age=2592000; Secure; HttpOnly; SameSite=Lax; Priority=Low"

// markerOf returns the cookie with the life in an answer, "" if there is none.
func markerOf(t testing.TB, got reply) string {
	t.Helper()
	for _, set := range got.Header["Set-Cookie"] {
		if pair, ok := strings.CutSuffix(set, lifeAttributes); ok && strings.HasPrefix(pair, lifeCookie+"=") {
			return pair
		}
	}
	return ""
}

// TestBrowsersLearnTheLife holds that only a browser that opens a page is told
// which life it sees, once, and that no clone sees that.
func TestBrowsersLearnTheLife(t *testing.T) {
	b := newBench(t)
	b.saying("1")
	url := "https://www-1." + zone + "/"
	b.each(t, func(t *testing.T, client *http.Client) {
		first := b.do(client, url, asBrowser, header("Cookie", "a=1"))
		marker := markerOf(t, first)
		if marker == "" || len(first.Header["Set-Cookie"]) != 1 || first.Header["Clear-Site-Data"] != nil {
			t.Fatalf("the first page came with %v", first.Header)
		}
		for name, tt := range map[string]struct {
			change []func(*http.Request)
			seen   string
		}{
			"again":       {[]func(*http.Request){asBrowser, header("Cookie", "a=1; "+marker+"; b=2")}, "a=1; b=2"},
			"alone":       {[]func(*http.Request){asBrowser, header("Cookie", marker)}, ""},
			"script":      {[]func(*http.Request){header("Sec-Fetch-Mode", "no-cors"), header("Cookie", marker+";a=1")}, "a=1"},
			"fetch, old":  {[]func(*http.Request){header("Sec-Fetch-Mode", "cors"), header("Cookie", lifeCookie+"=0; a=1")}, "a=1"},
			"fetch, none": {[]func(*http.Request){header("Sec-Fetch-Mode", "cors"), header("Cookie", "a=1")}, "a=1"},
			"curl":        {[]func(*http.Request){header("Cookie", "a=1")}, "a=1"},
			"form":        {[]func(*http.Request){asBrowser, method("POST"), header("Cookie", lifeCookie+"=0; a=1")}, "a=1"},
			"other zone":  {[]func(*http.Request){header("Cookie", "__Host-clonegate-life-00000000=1")}, "__Host-clonegate-life-00000000=1"},
		} {
			got := b.do(client, url, tt.change...)
			_, seen := cutLast(got.body, "|")
			if seen != tt.seen || got.Header["Set-Cookie"] != nil || got.Header["Clear-Site-Data"] != nil {
				t.Errorf("%s: the clone saw Cookie %q, the browser %v; want %q and nothing of ours", name, seen, got.Header, tt.seen)
			}
		}
	})
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	return s[:i], s[i+len(sep):]
}

// TestNewLifeBeginsAnew opens a page with what a browser has of a life that is
// over.
func TestNewLifeBeginsAnew(t *testing.T) {
	b := newBench(t)
	b.saying("1234")
	flat, nested := "www-1234."+zone, "www.1234."+zone
	markers := map[string]string{}
	for _, host := range []string{flat, nested} {
		markers[host] = markerOf(t, b.get("https://"+host+"/", asBrowser))
	}
	b.saying("1234", livesAs("life-1")) // the same life at another address
	if got := b.get("https://"+flat+"/", asBrowser, header("Cookie", markers[flat])); got.Header["Clear-Site-Data"] != nil || markerOf(t, got) != "" {
		t.Fatalf("a life that goes on is taken for another: %v", got.Header)
	}
	b.unregister("1234")
	b.saying("1234", livesAs("life-2"))
	for _, tt := range []struct {
		host, path string
		want       []string
	}{
		{flat, "/", []string{"a=; Path=/; Max-Age=0; Secure", "a=; Path=/; Domain=" + flat + "; Max-Age=0; Secure"}},
		{flat, "/cart;x=1/y?z=/q", []string{
			"a=; Path=/; Max-Age=0; Secure", "a=; Path=/; Domain=" + flat + "; Max-Age=0; Secure",
			"a=; Path=/cart; Max-Age=0; Secure", "a=; Path=/cart; Domain=" + flat + "; Max-Age=0; Secure",
		}},
		{flat, "/a/b", []string{
			"a=; Path=/; Max-Age=0; Secure", "a=; Path=/; Domain=" + flat + "; Max-Age=0; Secure",
			"a=; Path=/a; Max-Age=0; Secure", "a=; Path=/a; Domain=" + flat + "; Max-Age=0; Secure",
			"a=; Path=/a/; Max-Age=0; Secure", "a=; Path=/a/; Domain=" + flat + "; Max-Age=0; Secure",
			"a=; Path=/a/b; Max-Age=0; Secure", "a=; Path=/a/b; Domain=" + flat + "; Max-Age=0; Secure",
		}},
		{nested, "/", []string{
			"a=; Path=/; Max-Age=0; Secure", "a=; Path=/; Domain=" + nested + "; Max-Age=0; Secure",
			"a=; Path=/; Domain=1234." + zone + "; Max-Age=0; Secure",
		}},
	} {
		for _, client := range []*http.Client{b.client, b.h2} {
			got := b.do(client, "https://"+tt.host+tt.path, asBrowser, header("Cookie", "a=1; "+markers[tt.host]),
				header("If-None-Match", `"1"`), header("Say-Name", "Set-Cookie"), header("Say-Value", "a=new"))
			marker := markerOf(t, got)
			want := append(slices.Clone(tt.want), "a=new", marker+lifeAttributes)
			if marker == "" || marker == markers[tt.host] || !slices.Equal(got.Header["Set-Cookie"], want) {
				t.Errorf("%s%s: Set-Cookie\n%s\nwant\n%s", tt.host, tt.path, strings.Join(got.Header["Set-Cookie"], "\n"), strings.Join(want, "\n"))
			}
			if clear := got.Header.Get("Clear-Site-Data"); clear != `"cache", "storage"` {
				t.Errorf("%s%s: Clear-Site-Data %s", tt.host, tt.path, clear)
			}
			if _, seen := cutLast(got.body, "|"); seen != "" {
				t.Errorf("%s%s: the new life saw the cookies of the old: %s", tt.host, tt.path, seen)
			}
			if again := b.do(client, "https://"+tt.host+"/", asBrowser, header("Cookie", "a=new; "+marker)); again.Header["Set-Cookie"] != nil || !strings.HasSuffix(again.body, "|a=new") {
				t.Errorf("%s: then %v, %s", tt.host, again.Header, again.body)
			}
		}
	}
}

// TestNewLifeIsAskedAnew holds that what a browser has of another life is no
// condition for an answer of this one.
func TestNewLifeIsAskedAnew(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("If-None-Match"), r.Header.Get("If-Modified-Since"), r.Header.Get("If-Match"), r.Header.Get("Accept-Language"))
	})
	url := "https://www-1." + zone + "/"
	marker := markerOf(t, b.get(url, asBrowser))
	conditions := func(r *http.Request) {
		r.Header.Set("If-None-Match", "1")
		r.Header.Set("If-Modified-Since", "2")
		r.Header.Set("If-Match", "3")
		r.Header.Set("Accept-Language", "4")
	}
	b.each(t, func(t *testing.T, client *http.Client) {
		for cookie, want := range map[string]string{lifeCookie + "=0": "34", marker: "1234", "a=b": "1234"} {
			if got := b.do(client, url, asBrowser, conditions, header("Cookie", cookie)); got.body != want {
				t.Errorf("Cookie %s: the clone saw %s; want %s", cookie, got.body, want)
			}
		}
	})
}

// TestMovedAliasBeginsAnew gives a name to another clone.
func TestMovedAliasBeginsAnew(t *testing.T) {
	b := newBench(t)
	named := func(r *registry.Registration) { r.Aliases = []string{"pr-87"} }
	b.saying("1", named)
	url := "https://www-pr-87." + zone + "/"
	marker := markerOf(t, b.get(url, asBrowser))
	b.saying("1", func(r *registry.Registration) { r.Aliases = nil })
	b.saying("2", named)
	if got := b.get(url, asBrowser, header("Cookie", "a=1; "+marker)); got.Header.Get("Clear-Site-Data") == "" || markerOf(t, got) == marker {
		t.Errorf("another clone under the same name: %v", got.Header)
	}
}

// manyCookies returns cookies in a Cookie field, with a semicolon before each.
func manyCookies(n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "; c%d=x", i)
	}
	return s.String()
}

// TestManyCookiesEnd holds that what ends cookies has a bound.
func TestManyCookiesEnd(t *testing.T) {
	b := newBench(t)
	b.saying("1")
	for _, tt := range []struct {
		path, cookies string
		least, most   int
	}{
		{strings.Repeat("/a", 500), manyCookies(150), 250, 257},
		{"/" + strings.Repeat("a", 10_000), "; a=b", 3, 3}, // whose path no cookie has
		{"/", "; " + strings.Repeat("a", 10_000) + "=b; a=b", 3, 3},
		{strings.Repeat("/"+strings.Repeat("a", 499), 20), "; a=b", 11, 11}, // two directories
	} {
		got := b.get("https://www-1."+zone+tt.path, asBrowser, header("Cookie", lifeCookie+"=0"+tt.cookies))
		if n := len(got.Header["Set-Cookie"]); got.StatusCode != 200 || n < tt.least || n > tt.most {
			t.Errorf("%.20s, %.20s: got %d with %d fields that set cookies; want %d to %d", tt.path, tt.cookies, got.StatusCode, n, tt.least, tt.most)
		}
	}
}

// TestClearSiteDataStaysWithItsClone holds that a clone ends no cookies but its
// own: browsers apply that to the registrable domain.
func TestClearSiteDataStaysWithItsClone(t *testing.T) {
	b := newBench(t)
	b.saying("1")
	url := "https://www-1." + zone + "/"
	ends := []string{"a=; Path=/; Max-Age=0; Secure", "a=; Path=/; Domain=www-1." + zone + "; Max-Age=0; Secure"}
	for _, tt := range []struct {
		said, want string
		ends       bool
	}{
		{`"cache"`, `"cache"`, false},
		{`"cache","storage"`, `"cache", "storage"`, false},
		{`"cookies"`, "", true},
		{`"cache", "cookies", "storage"`, `"cache", "storage"`, true},
		{`"*"`, `"cache", "storage", "executionContexts", "clientHints"`, true},
	} {
		for _, client := range []*http.Client{b.client, b.h2} {
			got := b.do(client, url, header("Cookie", "a=1; "+lifeCookie+"=0"), header("Say-Name", "Clear-Site-Data"), header("Say-Value", tt.said))
			if clear, has := got.Header["Clear-Site-Data"]; strings.Join(clear, "; ") != tt.want || has != (tt.want != "") {
				t.Errorf("%s became %q; want %q", tt.said, clear, tt.want)
			}
			if set := got.Header["Set-Cookie"]; tt.ends && !slices.Equal(set, ends) || !tt.ends && set != nil {
				t.Errorf("%s: Set-Cookie %q", tt.said, set)
			}
		}
	}
}
