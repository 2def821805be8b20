package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// openBrowser returns a browser that finds the clone by its public names.
func openBrowser(t *testing.T, c *clone) context.Context {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("NOT TESTED: chromium is not installed; .ci/install installs it")
	}
	rules := fmt.Sprintf("MAP www-1234.test_envs.localhost %s,MAP api-1234.test_envs.localhost %s", c.address("web"), c.address("api2"))
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("no-sandbox", os.Geteuid() == 0),
		chromedp.Flag("host-resolver-rules", rules), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// TestBrowser uses the shop as a customer does, under names with an underscore.
func TestBrowser(t *testing.T) {
	t.Parallel()
	c := startCloneAt(t, "http://www-1234.test_envs.localhost:8080", "http://api-1234.test_envs.localhost:8080")
	browser := openBrowser(t, c)
	do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(browser, actions...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	is := func(what string, read chromedp.Action[string], want string) {
		t.Helper()
		if got, err := chromedp.Run(browser, read); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", what, got, err, want)
		}
	}
	do("front page",
		chromedp.Navigate(c.www+"/"),
		chromedp.WaitVisible("#live.on"),
		chromedp.WaitVisible(`#catalogue[data-host="api2"]`)) // across origins
	is("greeting", chromedp.Text("#greeting"), "Good <evening>")
	do("sign in",
		chromedp.Navigate(c.www+"/login"),
		chromedp.SendKeys(`input[name=email]`, "rosa.lindqvist@example.com\r"),
		chromedp.WaitVisible("#visitor"))
	is("visitor", chromedp.Text("#visitor"), "Rosa Lindqvist")
	do("order form",
		chromedp.Navigate(c.www+"/products/MUG-031"),
		chromedp.Submit(`form[action="/orders"]`),
		chromedp.WaitVisible(".status.placed"))
	is("the order led to", chromedp.Location(), c.www+"/orders/10502")
	do("orders", chromedp.Navigate(c.www+"/orders"), chromedp.WaitVisible("#live.on"))
	c.json("api1", "/orders", mug).has(t, 201)
	do("live order", chromedp.WaitVisible(`#ticker li.new[data-order="10503"]`))
	is("pushed row", chromedp.Text(`#orders tr.new[data-order="10503"]`),
		"10503\t"+time.Now().UTC().Format("2 Jan 2006")+"\tGrace Hopper\t2 × Thumb-rest mug\t€31.60\tplaced")
}
