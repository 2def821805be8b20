package proxy_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/clonegate/clonegate/registry"
)

// A browser is one tab of a real Chromium, which finds every name in the world
// at the gateway.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func (b *bench) openBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("NOT TESTED: nothing was opened in a browser: %v; install chromium", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("no-sandbox", os.Geteuid() == 0),
		chromedp.Flag("host-resolver-rules", "MAP * "+b.addr), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // it starts, for as long as ctx
		t.Fatalf("chromium does not start: %v", err)
	}
	return &browser{t, ctx}
}

// tab returns another tab of the same browser.
func (w *browser) tab() *browser {
	w.t.Helper()
	ctx, cancel := chromedp.NewContext(w.ctx)
	w.t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // it opens, for as long as ctx
		w.t.Fatalf("another tab: %v", err)
	}
	return &browser{w.t, ctx}
}

// open opens a page and waits until an element shows.
func (w *browser) open(url, selector string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url), chromedp.WaitVisible(selector)); err != nil {
		html, _ := chromedp.Run(w.ctx, chromedp.OuterHTML("html"))
		w.t.Fatalf("%s: %s: %v\n%.2000s", url, selector, err, html)
	}
}

func (w *browser) eval(expression string) string {
	w.t.Helper()
	got, err := chromedp.Run(w.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		w.t.Fatalf("%s: %v", expression, err)
	}
	return got
}

// TestHoldingPageGoesOn opens a clone that is starting in a real browser, and
// waits there until it is ready.
func TestHoldingPageGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<p id="served">`+r.RequestURI)
	}))
	defer up.Close()
	starting := func(r *registry.Registration) { r.State = registry.Starting }
	b.register("1", www(up.Listener.Addr().String()), starting)
	b.setState("1", registry.Starting, "waiting for <db>")

	w := b.openBrowser(t)
	w.open("https://www-1."+zone+"/cart?x=1", "#waited")
	if got := w.eval(`document.title + ": " + document.getElementById("progress").textContent`); got != "Clone 1 is starting: waiting for <db>" {
		t.Errorf("the page says %q", got)
	}
	if got := w.eval(`getComputedStyle(document.querySelector("h1")).fontWeight`); got != "680" {
		t.Errorf("the page's style does not apply: weight %s", got)
	}
	b.setState("1", registry.Starting, "waiting for web")
	eventually(t, "progress shows", func() bool {
		return w.eval(`document.getElementById("progress").textContent`) == "waiting for web"
	})
	if got := w.eval(`document.getElementById("waited").textContent`); !strings.HasSuffix(got, " s") || got == "0 s" {
		t.Errorf("the page has waited for %q", got)
	}
	b.register("1", www(up.Listener.Addr().String()))
	if err := chromedp.Do(w.ctx, chromedp.WaitVisible("#served")); err != nil {
		t.Fatal(err)
	}
	if got := w.eval(`document.getElementById("served").textContent`); got != "/cart?x=1" {
		t.Errorf("the clone was asked for %q; want what was opened", got)
	}
}

// TestBrowserStaysInItsClone opens two clones at once of a shop that knows
// nothing but its names in production: it redirects there to log in, sets cookies
// for production's domain, answers no script from elsewhere, and checks where
// WebSockets come from.
func TestBrowserStaysInItsClone(t *testing.T) {
	for name, host := range map[string]func(service, id string) string{
		"flat":   func(service, id string) string { return service + "-" + id + "." + zone },
		"nested": func(service, id string) string { return service + "." + id + "." + zone },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			w := b.openBrowser(t)
			shops := map[string]*shop{"1234": b.openShop("1234", "life-1"), "1235": b.openShop("1235", "life-1")}
			tabs := map[string]*browser{"1234": w, "1235": w.tab()} // each stays where it was
			visit := func(id string, s *shop) {
				t.Helper()
				w := tabs[id]
				w.open("https://"+host("www", id)+"/", "#done")
				var got struct{ Session, Seen, Origin, Said, Kept string }
				if err := json.Unmarshal([]byte(w.eval(`document.getElementById("done").textContent`)), &got); err != nil {
					t.Fatal(err)
				}
				shared := s.secret
				if name == "flat" {
					shared = "" // its services have no domain of their own
				}
				if got.Session != shared || got.Seen != s.secret || got.Origin != shopOrigin || got.Said != "hello "+s.secret {
					t.Errorf("clone %s: the page found %+v; want session %q, and all else of %s", id, got, shared, s.secret)
				}
				if at := w.eval("location.href"); at != "https://"+host("www", id)+"/" {
					t.Errorf("clone %s: the browser is at %s", id, at)
				}
				if s.kept = got.Kept; got.Kept != s.secret {
					t.Errorf("clone %s: the page has kept %q from %s", id, got.Kept, s.secret)
				}
			}
			for id, s := range shops {
				visit(id, s)
				tabs[id].open("https://"+host("www", id)+"/spell", "#spelled")
				tabs[id].open("https://"+host("api", id)+"/", "#api")
			}
			for id, s := range shops {
				visit(id, s)
			}
			w.wantCookiesWithin(shops, host)

			b.unregister("1234")
			old := shops["1234"]
			shops["1234"] = b.openShop("1234", "life-2")
			w.open("https://"+host("api", "1234")+"/", "#api") // has storage of its own
			visit("1234", shops["1234"])
			visit("1235", shops["1235"]) // which kept what it had
			shops["1234"].wantNothingOf(old)
			shops["1234"].wantNothingOf(shops["1235"])
			shops["1235"].wantNothingOf(old)
			b.wantNobodyLeft(shops, host)
		})
	}
}
