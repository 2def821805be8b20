package proxy_test

import (
	"context"
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

// TestHoldingPageGoesOn opens a clone that is starting in a real browser, and
// waits there until it is ready.
func TestHoldingPageGoesOn(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip(err)
	}
	b := newBench(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<p id="served">`+r.RequestURI)
	}))
	defer up.Close()
	starting := func(r *registry.Registration) { r.State = registry.Starting }
	b.register("1", www(up.Listener.Addr().String()), starting)
	b.setState("1", registry.Starting, "waiting for <db>")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("no-sandbox", os.Geteuid() == 0),
		chromedp.Flag("host-resolver-rules", "MAP * "+b.addr), chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	eval := func(expression string) string {
		t.Helper()
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		return got
	}
	err = chromedp.Do(ctx, chromedp.Navigate("https://www-1."+zone+"/cart?x=1"), chromedp.WaitVisible("#waited"))
	if err != nil {
		t.Fatal(err)
	}
	if got := eval(`document.title + ": " + document.getElementById("progress").textContent`); got != "Clone 1 is starting: waiting for <db>" {
		t.Errorf("the page says %q", got)
	}
	if got := eval(`getComputedStyle(document.querySelector("h1")).fontWeight`); got != "680" {
		t.Errorf("the page's style does not apply: weight %s", got)
	}
	b.setState("1", registry.Starting, "waiting for web")
	eventually(t, "progress shows", func() bool {
		return eval(`document.getElementById("progress").textContent`) == "waiting for web"
	})
	if got := eval(`document.getElementById("waited").textContent`); !strings.HasSuffix(got, " s") || got == "0 s" {
		t.Errorf("the page has waited for %q", got)
	}
	b.register("1", www(up.Listener.Addr().String()))
	if err := chromedp.Do(ctx, chromedp.WaitVisible("#served")); err != nil {
		t.Fatal(err)
	}
	if got := eval(`document.getElementById("served").textContent`); got != "/cart?x=1" {
		t.Errorf("the clone was asked for %q; want what was opened", got)
	}
}
