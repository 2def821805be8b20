package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
)

const shopOrigin = "https://www.shop.example"

// A shop is a service that knows only what it is called in production, and
// refuses to be called anything else.
type shop struct {
	t      *testing.T
	secret string // is in all that it hands out
	kept   string

	mu      sync.Mutex
	cookies []string // guarded by mu; as they came
}

// openShop runs a shop as the services www and api of a life of a clone.
func (b *bench) openShop(id registry.ID, life string) *shop {
	t := b.t.(*testing.T)
	s := &shop{t: t, secret: fmt.Sprintf("%s-%s", id, life)}
	mux := http.NewServeMux()
	mux.HandleFunc("www.shop.example/{$}", s.home)
	mux.HandleFunc("www.shop.example/login", s.login)
	mux.HandleFunc("www.shop.example/spell", s.spell)
	mux.HandleFunc("api.shop.example/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<p id=api>an API")
	})
	mux.HandleFunc("api.shop.example/me", s.me)
	mux.HandleFunc("api.shop.example/live", s.live)
	mux.HandleFunc("/favicon.ico", http.NotFound)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the shop was asked for %s%s", r.Host, r.RequestURI)
		http.NotFound(w, r)
	})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.cookies = append(s.cookies, r.Header["Cookie"]...)
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(up.Close)
	at := registry.ServiceRegistration{Endpoints: []string{up.Listener.Addr().String()}}
	b.register(id, map[string]registry.ServiceRegistration{"www": at, "api": at}, livesAs(life), func(r *registry.Registration) {
		r.Production = map[string]string{"www.shop.example": "www", "api.shop.example": "api"}
	})
	return s
}

// home is a page for those who are logged in.
func (s *shop) home(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie("session"); err != nil || c.Value != s.secret {
		http.Redirect(w, r, shopOrigin+"/login", http.StatusFound)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'; connect-src 'self' https://api.shop.example wss://api.shop.example")
	w.Header().Set("Link", `<https://api.shop.example/>; rel="api"`)
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, strings.ReplaceAll(shopPage, "SECRET", s.secret))
}

// shopPage asks the API on the page's behalf, and says what came of it.
const shopPage = `<title>shop</title><script>
(async () => {
	const api = (await fetch(location.href)).headers.get("Link").match(/<(.*)>/)[1];
	const ask = async () => (await fetch(api + "me", {credentials: "include", headers: {"X-Asked-By": "shop"}})).json();
	await ask();
	const found = await ask();
	const live = new WebSocket(api.replace("https:", "wss:") + "live");
	live.onopen = () => live.send("hello");
	live.onmessage = e => {
		found.Said = e.data;
		found.Kept = localStorage.kept ||= "SECRET";
		document.body.innerHTML = "<p id=done>" + JSON.stringify(found);
	};
})();
</script><body>`

// login logs everybody in, at all names of the shop.
func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "session", Value: s.secret, Domain: "shop.example", Path: "/", Secure: true, HttpOnly: true})
	http.Redirect(w, r, "//www.shop.example/", http.StatusSeeOther)
}

// me tells a script from the shop's page which cookies came along.
func (s *shop) me(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin != shopOrigin {
		http.Error(w, "who are you?", http.StatusForbidden)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", shopOrigin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Allow-Headers", "X-Asked-By")
	h.Set("Vary", "Origin")
	if r.Method == http.MethodOptions {
		return
	}
	value := func(name string) string {
		if c, err := r.Cookie(name); err == nil {
			return c.Value
		}
		return ""
	}
	http.SetCookie(w, &http.Cookie{Name: "seen", Value: s.secret, Path: "/", Secure: true})
	fmt.Fprintf(w, `{"Session": %q, "Seen": %q, "Origin": %q}`, value("session"), value("seen"), origin)
}

// live answers over a WebSocket, from the shop's page only.
func (s *shop) live(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{shopOrigin}})
	if err != nil {
		s.t.Errorf("a WebSocket from %s: %v", r.Header.Get("Origin"), err)
		return
	}
	defer c.CloseNow()
	if _, msg, err := c.Read(r.Context()); err == nil {
		c.Write(r.Context(), websocket.MessageText, []byte(string(msg)+" "+s.secret))
		c.Read(r.Context()) // until the page goes
	}
}

// spell sets cookies for domains that reach other clones if a browser takes them
// as they are.
func (s *shop) spell(w http.ResponseWriter, r *http.Request) {
	upper := strings.ToUpper(zone)
	for i, domain := range []string{
		zone, "." + zone, upper, "." + upper, zone + ".", "." + zone + ".", `"` + zone + `"`, "internal.example.com", ".internal.example.com", "example.com",
		".Example.Com", "example.com.", zone + "; Domain=" + zone, "nowhere.test; Domain=" + zone, " " + zone + " ", ".." + zone, "shop.example", ".shop.example",
		"1234." + zone, "1235." + zone, "www-1235." + zone, "%65xample.com", "test-envs.example.com",
	} {
		for _, name := range []string{"spelled", "__Secure-spelled", "__Host-spelled"} {
			w.Header().Add("Set-Cookie", fmt.Sprintf("%s%d=%s; Domain=%s; Path=/; Secure", name, i, s.secret, domain))
		}
	}
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, "<p id=spelled>done")
}

// wantNothingOf holds that no cookie of another shop has come here.
func (s *shop) wantNothingOf(other *shop) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cookies {
		if strings.Contains(c, other.secret) || strings.Contains(c, "__Host-clonegate-") {
			s.t.Errorf("shop %s was sent %q", s.secret, c)
		}
	}
}

// wantCookiesWithin holds that each cookie in the browser is for names of the
// clone whose it is, and that the browser has some of each.
func (w *browser) wantCookiesWithin(shops map[string]*shop, host func(service, id string) string) {
	w.t.Helper()
	all, err := chromedp.Call(w.ctx, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		w.t.Fatal(err)
	}
	for id, s := range shops {
		n := 0
		for _, c := range all.Cookies {
			if c.Value != s.secret {
				continue
			}
			n++
			if d := strings.TrimPrefix(c.Domain, "."); d != host("www", id) && d != host("api", id) && d != id+"."+zone {
				w.t.Errorf("cookie %s of clone %s is for %s", c.Name, id, c.Domain)
			}
		}
		if n < 3 {
			w.t.Errorf("the browser has %d cookies of clone %s; want the session, that of the API, and some more", n, id)
		}
	}
}

// wantNobodyLeft holds by the gateway's own records that every request of the
// browser was for the clone it was meant for.
func (b *bench) wantNobodyLeft(shops map[string]*shop, host func(service, id string) string) {
	b.t.Helper()
	for id := range shops {
		records, err := b.gateway.Requests(registry.ID(id), proxy.RequestFilter{}, 0, 1000)
		if err != nil || len(records) < 6 {
			b.t.Errorf("clone %s: %d requests are recorded, %v", id, len(records), err)
		}
		for _, r := range records {
			if r.Host != host(r.Service, id) || r.Reason != "" || r.Status >= 400 && !strings.HasPrefix(r.Path, "/favicon") {
				b.t.Errorf("clone %s was asked for %s%s, answered %d %s", id, r.Host, r.Path, r.Status, r.Reason)
			}
		}
		if list, total, err := b.gateway.Escapes(registry.ID(id)); total != 0 || err != nil {
			b.t.Errorf("from clone %s escaped %+v, %v", id, list, err)
		}
	}
	for _, line := range b.log.records("request") {
		if h, _ := line["host"].(string); !strings.HasSuffix(h, "."+zone) && !strings.HasSuffix(h, ".google.com") && !strings.HasSuffix(h, ".googleapis.com") {
			b.t.Errorf("the browser asked for %s%s", h, line["path"])
		}
	}
}
