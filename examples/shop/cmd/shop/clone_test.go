package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the shop itself when a test runs it as one.
func TestMain(m *testing.M) {
	if os.Getenv("SHOP_TEST_PROCESS") == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stderr))
}

// Public URLs, as the gateway would serve them.
const (
	wwwURL = "https://www-1234.test_envs.localhost:8443"
	apiURL = "https://api-1234.test_envs.localhost:8443"
)

// octets are the addresses of the hosts inside the clone's network.
var octets = map[string]int{"db": 30, "api1": 20, "api2": 21, "web": 10}

// A clone is the four processes of a shop, on a network of their own.
type clone struct {
	t     *testing.T
	www   string // its public URLs
	api   string
	net   int // 127.99.net.0/24
	dir   string
	hosts map[string]*host
}

// A host is one process.
type host struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer // read it after exit
	exit   chan struct{} // closed when the process has ended
}

// startClone starts a shop with a copy of the data and waits until it is healthy.
func startClone(t *testing.T) *clone {
	t.Helper()
	return startCloneAt(t, wwwURL, apiURL)
}

func startCloneAt(t *testing.T, www, api string) *clone {
	t.Helper()
	c := &clone{t: t, www: www, api: api, net: freeNet(t), dir: t.TempDir(), hosts: map[string]*host{}}
	if err := os.CopyFS(filepath.Join(c.dir, "data"), os.DirFS("../../data")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db", "api1", "api2", "web"} {
		c.start(name)
	}
	c.healthy("web", http.StatusOK)
	return c
}

// freeNet finds a network on which nobody runs a shop.
func freeNet(t *testing.T) int {
	t.Helper()
	for range 20 {
		n := 1 + rand.IntN(254)
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.99.%d.10:8080", n)); err == nil {
			ln.Close()
			return n
		}
	}
	t.Fatal("no network below 127.99.0.0/16 is free")
	return 0
}

func (c *clone) address(name string) string { return fmt.Sprintf("127.99.%d.%d", c.net, octets[name]) }

// url returns the URL of a path on a host itself, past the gateway.
func (c *clone) url(name, path string) string { return "http://" + c.address(name) + ":8080" + path }

func (c *clone) start(name string) {
	c.t.Helper()
	h := &host{exec.Command(os.Args[0], strings.TrimRight(name, "12")), &bytes.Buffer{}, make(chan struct{})}
	h.cmd.Stderr = h.stderr
	h.cmd.Env = []string{
		"SHOP_TEST_PROCESS=1", "LOG_LEVEL=debug",
		"CLONEGATE_ID=1234", "CLONEGATE_HOST=" + name, "CLONEGATE_ADDRESS=" + c.address(name), "CLONEGATE_DIR=" + c.dir,
		"CLONEGATE_TEMPLATE=shop@2026.11.21-1", "CLONEGATE_DEPLOY_TAG=2026.11.21-1", "CLONEGATE_OWNER=ada",
		"CLONEGATE_PARAM_GREETING=Good <evening>", "CLONEGATE_URL_WWW=" + c.www, "CLONEGATE_URL_API=" + c.api,
	}
	for other := range octets {
		h.cmd.Env = append(h.cmd.Env, "CLONEGATE_ADDRESS_"+strings.ToUpper(other)+"="+c.address(other))
	}
	if err := h.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { h.cmd.Wait(); close(h.exit) }()
	c.hosts[name] = h
	c.t.Cleanup(func() {
		h.cmd.Process.Kill()
		<-h.exit
		if c.t.Failed() || strings.Contains(h.stderr.String(), "DATA RACE") {
			c.t.Errorf("%s wrote:\n%s", name, h.stderr)
		}
	})
}

// kill ends a process without a word.
func (c *clone) kill(name string) {
	c.hosts[name].cmd.Process.Kill()
	<-c.hosts[name].exit
}

// stop asks a process to end and expects that it does, with status 0.
func (c *clone) stop(name string) {
	c.t.Helper()
	h := c.hosts[name]
	h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.exit:
		if got := h.cmd.ProcessState.ExitCode(); got != 0 {
			c.t.Errorf("%s ended with status %d after SIGTERM, want 0", name, got)
		}
	case <-time.After(10 * time.Second):
		c.t.Errorf("%s did not end after SIGTERM", name)
	}
}

// healthy waits until /healthz of a host answers with a status.
func (c *clone) healthy(name string, status int) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("/healthz of %s is %d", name, status), func() bool {
		res, err := http.Get(c.url(name, "/healthz"))
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == status
	})
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

// An answer is what came back for one request.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request that follows no redirect. headers are names and values
// in turn.
func (c *clone) ask(method, url, body string, headers ...string) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(text)}
}

func (c *clone) get(name, path string, headers ...string) answer {
	c.t.Helper()
	return c.ask("GET", c.url(name, path), "", headers...)
}

// form sends a form to the web front.
func (c *clone) form(path, values string, headers ...string) answer {
	c.t.Helper()
	return c.ask("POST", c.url("web", path), values, append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
}

// json sends JSON to an API instance.
func (c *clone) json(name, path, body string, headers ...string) answer {
	c.t.Helper()
	return c.ask("POST", c.url(name, path), body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

// has checks a status and that the body holds every text.
func (a answer) has(t *testing.T, status int, texts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d; body %.500s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("body lacks %q:\n%.3000s", text, a.body)
		}
	}
}
