package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/client"
)

const (
	zone      = "test_envs.localhost"
	zoneAlias = "test-envs.localhost"
)

// A gateway is a data directory with its configuration, on which "clonegate
// serve" runs again and again.
type gateway struct {
	t      *testing.T
	data   string
	config string
	log    string // file with what the daemons wrote, all of them
	root   string // file with the root that visitors trust

	// supervised says that the process below restarts daemons by itself.
	supervised bool

	// Of the daemon that runs now:
	*process
	at  *addresses
	api *client.Client
}

// addresses is what scripts find in addresses.json.
type addresses struct {
	PID     int
	Gateway struct{ Listen, Redirect string }
	API     struct{ Listen, URL string }
	DNS     struct {
		Listen    string
		Resolvers []struct{ Listen string }
	}
}

// newGateway writes a configuration with free ports on loopback; more is YAML
// that is appended to it.
func newGateway(t *testing.T, more ...string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{t: t, data: filepath.Join(dir, "data"), config: filepath.Join(dir, "clonegate.yaml"), log: filepath.Join(dir, "log")}
	g.root = filepath.Join(g.data, "ca.pem")
	text := fmt.Sprintf(`zone: %s
zone_aliases: [%s]
data: %s
providers: {process: {network: %s}}
log: {format: json}
`, zone, zoneAlias, g.data, freeNetwork(t))
	defaults := map[string]string{
		"api":       `{listen: "127.0.0.1:0"}`,
		"gateway":   `{listen: "127.0.0.1:0", redirect: "127.0.0.1:0", access_log: off, drain: 5s}`,
		"dns":       `{listen: "127.0.0.1:0"}`,
		"endpoints": `{allow: [127.0.0.0/8, 10.0.0.0/8]}`,
	}
	for key, value := range defaults {
		if !strings.Contains("\n"+strings.Join(more, "\n"), "\n"+key+":") {
			text += key + ": " + value + "\n"
		}
	}
	text += strings.Join(more, "\n") + "\n"
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.end)
	return g
}

// freeNetwork returns a /16 of loopback on which nothing of ours listens, for
// clones that are processes.
func freeNetwork(t *testing.T) string {
	t.Helper()
	for range 20 {
		n := 128 + rand.IntN(110)
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.255.254:7", n)); err == nil {
			t.Cleanup(func() { ln.Close() }) // keeps the others away
			return fmt.Sprintf("127.%d.0.0/17", n)
		}
	}
	t.Fatal("no network of loopback is free")
	return ""
}

// launch runs a daemon and does not wait for it.
func (g *gateway) launch() {
	g.t.Helper()
	log, err := os.OpenFile(g.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, "serve", "--config", g.config)
	cmd.Stdout, cmd.Stderr = log, log
	g.process = startProcess(g.t, cmd)
}

// start runs a daemon and waits until it is ready.
func (g *gateway) start() {
	g.t.Helper()
	g.launch()
	g.waitReady()
}

func (g *gateway) waitReady() {
	g.t.Helper()
	eventually(g.t, 30*time.Second, "the daemon is ready", func() string {
		if g.ended() {
			g.t.Fatalf("the daemon ended at once, %s:\n%s", g.status(), g.logged(4000))
		}
		return g.look()
	})
}

// look finds the running daemon and returns why it is not ready.
func (g *gateway) look() (why string) {
	text, err := os.ReadFile(filepath.Join(g.data, "addresses.json"))
	if err != nil {
		return err.Error()
	}
	var at addresses
	if err := json.Unmarshal(text, &at); err != nil {
		g.t.Fatalf("addresses.json: %v\n%s", err, text)
	}
	if at.PID != g.pid() && !g.supervised {
		return "addresses.json is of a daemon before"
	}
	if g.at != nil && g.at.PID == at.PID && g.api != nil {
		return g.askReady()
	}
	g.at = &at
	g.api = g.client(filepath.Join(g.data, "admin.token"))
	return g.askReady()
}

func (g *gateway) askReady() string {
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Second)
	defer cancel()
	if _, err := g.api.Ready(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// client returns a client of the API with the token in a file.
func (g *gateway) client(tokenFile string) *client.Client {
	g.t.Helper()
	c, err := client.New(client.Config{URL: g.at.API.URL, TokenFile: tokenFile})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

// stop asks the daemon to end and expects status 0 within a time.
func (g *gateway) stop(within time.Duration) {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	if !g.wait(within) {
		g.t.Fatalf("the daemon did not end within %s of SIGTERM:\n%s", within, g.logged(4000))
	}
	if g.status() != "exit status 0" {
		g.t.Errorf("after SIGTERM: %s, want exit status 0:\n%s", g.status(), g.logged(4000))
	}
}

// end ends the daemon and its clones when the test does.
func (g *gateway) end() {
	if g.process != nil {
		g.kill()
	}
	killClones(g.t, g.data)
	log := g.logged(-1)
	if strings.Contains(log, "DATA RACE") || strings.Contains(log, "goroutine ") && strings.Contains(log, "panic: ") {
		g.t.Errorf("the daemon wrote:\n%.8000s", log)
	} else if g.t.Failed() {
		g.t.Logf("the end of what the daemon wrote:\n%s", g.logged(6000))
	}
}

// logged returns the last octets that daemons wrote; all for a negative n.
func (g *gateway) logged(n int) string {
	text, err := os.ReadFile(g.log)
	if err != nil {
		return err.Error()
	}
	if n >= 0 && len(text) > n {
		text = text[len(text)-n:]
	}
	return string(text)
}

// cli runs a command on this data directory and returns what it printed.
func (g *gateway) cli(args ...string) (stdout, stderr string, status int) {
	g.t.Helper()
	return cli(g.t, append([]string{"--data", g.data}, args...)...)
}

// must is cli for a command that has to succeed.
func (g *gateway) must(args ...string) (stdout string) {
	g.t.Helper()
	stdout, stderr, status := g.cli(args...)
	if status != 0 {
		g.t.Fatalf("clonegate %s: exit status %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// cli runs a command as a user with an empty environment does.
func cli(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("clonegate %s: %v\n%s%s", strings.Join(args, " "), err, &out, &words)
	}
	return out.String(), words.String(), cmd.ProcessState.ExitCode()
}

// port returns the gateway's port.
func (g *gateway) port() string {
	_, port, err := net.SplitHostPort(g.at.Gateway.Listen)
	if err != nil {
		g.t.Fatal(err)
	}
	return port
}

// url returns a public URL, as in url("www-1234", "/orders").
func (g *gateway) url(label, path string) string {
	return "https://" + label + "." + zone + ":" + g.port() + path
}

// visitor returns an HTTP client that resolves every name to the gateway, trusts
// its root alone, and speaks HTTP/2.
func (g *gateway) visitor() *http.Client {
	g.t.Helper()
	transport := g.transport()
	transport.ForceAttemptHTTP2 = true
	return &http.Client{
		Transport:     transport,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// transport is a visitor's; it speaks HTTP/1.1.
func (g *gateway) transport() *http.Transport {
	g.t.Helper()
	root, err := os.ReadFile(g.root)
	if err != nil {
		g.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		g.t.Fatalf("%s holds no certificate:\n%s", g.root, root)
	}
	listen := g.at.Gateway.Listen
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, listen)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
		MaxIdleConns:    4,
	}
	g.t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// An answer is what came back for one request.
type answer struct {
	status int
	header http.Header
	body   string
}

// get sends a GET request; headers are names and values in turn.
func (g *gateway) get(c *http.Client, url string, headers ...string) answer {
	g.t.Helper()
	a, err := ask(g.t.Context(), c, http.MethodGet, url, "", headers...)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

func ask(ctx context.Context, c *http.Client, method, url, body string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

// is checks a status and that the body holds every part.
func (a answer) is(t *testing.T, what string, status int, parts ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d, want %d; body %.800s", what, a.status, status, a.body)
	}
	has(t, what, a.body, parts...)
}

// serving returns a registration of one instance with the service www at an
// endpoint.
func serving(instance, endpoint string) registry.Registration {
	return registry.Registration{Instance: instance, Services: map[string]registry.ServiceRegistration{
		"www": {Endpoints: []string{endpoint}, Default: true},
	}}
}

// register registers a clone and fails the test if it is refused.
func (g *gateway) register(id registry.ID, reg registry.Registration) {
	g.t.Helper()
	if _, _, err := g.api.Register(g.t.Context(), id, reg, false); err != nil {
		g.t.Fatalf("register %s: %v", id, err)
	}
}
