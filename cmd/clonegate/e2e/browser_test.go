package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/clonegate/clonegate/registry/api"
)

// TestBrowserOnTwoClones is what the product is for: a browser on two clones of
// production at once, each at its own https address, with nothing edited on
// the machine but the trust in one root.
func TestBrowserOnTwoClones(t *testing.T) {
	need(t, map[string]string{"chromium": "chromium", "certutil": "libnss3-tools", "curl": "curl"})
	t.Parallel()
	g := newGateway(t, "leases: {ttl: 6s, renew_every: 2s, sweep: 1s}")
	g.start()
	g.publishShop()
	template := treeDigest(t, filepath.Join(g.data, "templates"))
	a := g.up("shop", "--param", "greeting=Good morning, Ada", "--owner", "ada", "--alias", "pr-87")
	b := g.up("shop@stable", "--param", "greeting=Good evening, Grace", "--owner", "grace")

	browser := openBrowser(t, filepath.Join(g.data, "ca.pem"))
	first, second, other := browser.tab("first of a"), browser.tab("second of a"), browser.tab("b")
	first.open(a.URLs["www"], 200)
	second.open(a.URLs["www"]+"/orders", 200)
	other.open(b.URLs["www"], 200)
	for _, seen := range []struct {
		tab                 *tab
		clone               *api.Clone
		greeting, elsewhere string
	}{
		{first, a, "Good morning, Ada", "Good evening, Grace"},
		{other, b, "Good evening, Grace", "Good morning, Ada"},
	} {
		seen.tab.wait(`#live.on`)               // the WebSocket
		seen.tab.wait(`#catalogue[data-host]`)  // the API, on its own origin
		seen.tab.is("#greeting", seen.greeting) // its own parameter
		seen.tab.is(".ribbon strong", "clone "+string(seen.clone.ID))
		page := g.curl(seen.clone.URLs["www"])
		has(t, "page by curl", page, seen.greeting, "clone "+string(seen.clone.ID))
		if strings.Contains(page, seen.elsewhere) {
			t.Errorf("clone %s greets as the other: %.2000s", seen.clone.ID, page)
		}
		seen.tab.shoot()
	}
	second.wait(`#live.on`)

	first.do("order",
		chromedp.SetValue("select[name=sku]", "MUG-031"),
		chromedp.SendKeys("form.order input[name=name]", "Ada Lovelace"),
		chromedp.SendKeys("form.order input[name=email]", "ada@example.com"),
		chromedp.Click("form.order button"),
		chromedp.WaitVisible(".status.placed"))
	number, ok := strings.CutPrefix(first.location(), a.URLs["www"]+"/orders/")
	if !ok {
		t.Fatalf("the order led to %s", first.location())
	}
	second.wait(`#orders tr.new[data-order="` + number + `"]`) // pushed, without a reload
	second.shoot()
	if n := other.count(`#ticker .new, [data-order="` + number + `"]`); n != 0 {
		t.Errorf("the order in clone %s shows in clone %s", a.ID, b.ID)
	}
	other.open(b.URLs["www"]+"/orders", 200)
	if n := other.count(`[data-order="` + number + `"]`); n != 0 {
		t.Errorf("clone %s has the order placed in clone %s", b.ID, a.ID)
	}
	if now := treeDigest(t, filepath.Join(g.data, "templates")); now != template {
		t.Error("the template has changed")
	}
	third := g.up("shop")
	if orders := g.curl(third.URLs["www"] + "/orders"); strings.Contains(orders, "/orders/"+number) {
		t.Errorf("a new clone has the order placed in clone %s:\n%.3000s", a.ID, orders)
	}
	g.must("down", string(third.ID))

	g.lookForNobody(browser.tab("unknown"), a, b)
	g.killClone(browser.tab("killed"), a)
	other.open(b.URLs["www"], 200)
}

// lookForNobody opens the page of a clone that does not exist.
func (g *gateway) lookForNobody(page *tab, living ...*api.Clone) {
	g.t.Helper()
	page.open(g.url("www-9999", "/"), 404)
	page.is("h1", "No clone is called www-9999")
	list := page.text(".clones")
	for _, c := range living {
		has(g.t, "list of living clones", list, string(c.ID), "www", "api", c.Owner)
	}
	page.shoot()
	page.do("follow a link", chromedp.Click(`.clones a[href="`+living[0].URLs["www"]+`/"]`), chromedp.WaitVisible("#live.on"))
	has(g.t, "title", page.title(), "clone "+string(living[0].ID))
}

// killClone kills a clone as a crash does, part by part, and reads what its
// visitors are told.
func (g *gateway) killClone(page *tab, c *api.Clone) {
	t := g.t
	t.Helper()
	hosts := hostsOf(t, g.data, string(c.ID))
	syscall.Kill(hosts["web"].pid, syscall.SIGKILL)
	eventually(t, 5*time.Second, "the web server is dead", func() string {
		if syscall.Kill(hosts["web"].pid, 0) == nil {
			return "it still takes connections"
		}
		return ""
	})
	page.open(c.URLs["www"], 503)
	has(t, "page of a clone whose web has died", page.text("main"), "www of clone "+string(c.ID), "clonegate logs "+string(c.ID))
	page.shoot()
	eventually(t, 5*time.Second, "the clone is degraded, with a reason", func() string {
		text := g.must("show", string(c.ID))
		if !strings.Contains(text, "degraded") || !strings.Contains(text, "web") {
			return text
		}
		return ""
	})
	has(t, "the API of the same clone", g.curl(c.URLs["api"]+"/products"), "MUG-031")

	for _, r := range hostsOf(t, g.data, string(c.ID)) {
		syscall.Kill(r.pid, syscall.SIGKILL)
	}
	died := time.Now()
	eventually(t, 20*time.Second, "the lease of a clone that was killed ends", func() string {
		clone, err := g.api.Clone(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !clone.State.Over() {
			return string(clone.State) + ": " + clone.Reason
		}
		return ""
	})
	page.open(c.URLs["www"], 410)
	page.is("h1", "Clone "+string(c.ID)+" is lost")
	has(t, "page of a lost clone", page.text("main"), "ran out", died.UTC().Format("2 Jan 2006"), "clonegate show "+string(c.ID))
	page.shoot()
	out := g.curl("--header", "Accept: application/json", c.URLs["www"])
	has(t, "problem of a lost clone", out, `"code": "lost"`, `"ended": "`+died.UTC().Format("2006-01-02T"))
}

// TestBrowserWithoutTrust is the other half of the proof: without the root the
// browser refuses.
func TestBrowserWithoutTrust(t *testing.T) {
	long(t)
	need(t, map[string]string{"chromium": "chromium"})
	t.Parallel()
	g := newGateway(t)
	g.start()
	g.register("1", serving("a", startBackend(t, says("hello"))))
	page := openBrowser(t, "").tab("no trust")
	err := chromedp.Do(page.ctx, chromedp.Navigate(g.url("www-1", "/")))
	if err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("a browser without the root: %v, want ERR_CERT_AUTHORITY_INVALID", err)
	}
}

// A browser is Chromium in a home of its own.
type browser struct {
	t     *testing.T
	ctx   context.Context
	shots string
}

// openBrowser starts Chromium, which trusts the root in a file as a user's
// does: by its NSS database. No check is switched off.
func openBrowser(t *testing.T, root string) *browser {
	t.Helper()
	home := t.TempDir()
	if root != "" {
		db := filepath.Join(home, ".pki/nssdb")
		if err := os.MkdirAll(db, 0o700); err != nil {
			t.Fatal(err)
		}
		output(t, "certutil", "-d", "sql:"+db, "-N", "--empty-password")
		output(t, "certutil", "-d", "sql:"+db, "-A", "-t", "C,,", "-n", "clonegate", "-i", root)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.Env("HOME="+home, "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=", "XDG_DATA_HOME="),
		chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.WindowSize(1200, 900),
		chromedp.Flag("no-sandbox", os.Geteuid() == 0), chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium does not start: %v", err)
	}
	return &browser{t, ctx, cmp.Or(os.Getenv("E2E_SCREENSHOTS"), t.TempDir())}
}

// A tab is one page that is open.
type tab struct {
	t     *testing.T
	ctx   context.Context
	name  string
	shots string
	shot  int
}

func (b *browser) tab(name string) *tab {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // it opens, for as long as ctx
		b.t.Fatalf("tab %s: %v", name, err)
	}
	return &tab{t: b.t, ctx: ctx, name: name, shots: b.shots}
}

func (p *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		html, _ := chromedp.Run(p.ctx, chromedp.OuterHTML("html"))
		p.t.Fatalf("tab %s: %s: %v\n%.3000s", p.name, what, err, html)
	}
}

// open navigates and expects a status.
func (p *tab) open(url string, status int64) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(url))
	if err != nil {
		p.t.Fatalf("tab %s: open %s: %v", p.name, url, err)
	}
	if resp.Status != status {
		p.t.Errorf("tab %s: %s answered %d, want %d", p.name, url, resp.Status, status)
	}
}

func (p *tab) wait(selector string) {
	p.t.Helper()
	p.do("wait for "+selector, chromedp.WaitVisible(selector))
}

// read returns what an action finds.
func read[T any](p *tab, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatalf("tab %s: %s: %v", p.name, what, err)
	}
	return got
}

func (p *tab) text(selector string) string {
	p.t.Helper()
	return read(p, selector, chromedp.Text(selector))
}

func (p *tab) title() string    { return read(p, "title", chromedp.Title()) }
func (p *tab) location() string { return read(p, "location", chromedp.Location()) }

func (p *tab) count(selector string) int {
	p.t.Helper()
	return read(p, selector, chromedp.Evaluate[int](fmt.Sprintf("document.querySelectorAll(%q).length", selector)))
}

func (p *tab) is(selector, want string) {
	p.t.Helper()
	if got := p.text(selector); got != want {
		p.t.Errorf("tab %s: %s is %q, want %q", p.name, selector, got, want)
	}
}

// shoot keeps a picture of the page; $E2E_SCREENSHOTS names a directory for
// those who want to look at it.
func (p *tab) shoot() {
	p.t.Helper()
	p.shot++
	picture := read(p, "screenshot", chromedp.CaptureScreenshot())
	name := filepath.Join(p.shots, fmt.Sprintf("%s-%d.png", strings.ReplaceAll(p.name, " ", "-"), p.shot))
	if err := os.WriteFile(name, picture, 0o600); err != nil {
		p.t.Error(err)
	}
}
