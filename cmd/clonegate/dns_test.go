package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
)

// A process is this program at work in the background.
type process struct {
	*exec.Cmd
	lines chan string // of its standard error
}

// background starts the program until the test ends.
func background(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "clonegate" // by this name the test binary is the program
	cmd.Env = append(os.Environ(), env...)
	return start(t, cmd)
}

// start starts a command until the test ends.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd, lines: make(chan string, 1000)}
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(stderr); in.Scan(); {
			select {
			case p.lines <- in.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	return p
}

// says waits for a line of the log.
func (p *process) says(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, open := <-p.lines:
			if !open {
				t.Fatalf("the program ended before it said %q", text)
			}
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			t.Fatalf("the program never said %q", text)
		}
	}
}

// ends asks the program to end and wants status 0.
func (p *process) ends(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for range p.lines {
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// freeDNSPort returns a port that is free for UDP and TCP.
func freeDNSPort(t *testing.T) string {
	t.Helper()
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	defer udp.Close()
	_, port, _ := net.SplitHostPort(udp.LocalAddr().String())
	return port
}

// resolves waits until a server at a port of this machine gives a host the
// wanted addresses; "" is none.
func resolves(t *testing.T, port, host, want string) {
	t.Helper()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, "127.0.0.1:"+port)
	}}
	var got []string
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		got, err = r.LookupHost(t.Context(), host)
		if strings.Join(got, " ") == want {
			return
		}
	}
	t.Fatalf("%s is %q (%v), want %q", host, got, err, want)
}

// TestSidecar starts the program in the place of dnsmasq.
func TestSidecar(t *testing.T) {
	dir := t.TempDir()
	port := freeDNSPort(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hosts := write("hosts", "192.0.2.1 db.x.example\n")
	conf := write("dnsmasq.conf", fmt.Sprintf("port=%s\nlisten-address=127.0.0.1\nno-resolv\nno-hosts\nlocal=/x.example/\naddn-hosts=%s\nuser=nobody\nlog-queries\ncache-size=77\n", port, hosts))
	p := background(t, nil, "dns", "--conf", conf)
	p.says(t, "user=nobody")
	resolves(t, port, "db.x.example.", "192.0.2.1")
	resolves(t, port, "web.x.example.", "")
	p.says(t, "dns query")
	identity := func(port, name string) string {
		out, _ := exec.Command("dig", "+short", "+tries=1", "@127.0.0.1", "-p", port, "-c", "CH", "-t", "TXT", name).Output()
		return strings.TrimSpace(string(out))
	}
	for name, want := range map[string]string{"version.bind": `"clonegate `, "cachesize.bind": `"77"`, "hits.bind": `"0"`, "misses.bind": `"0"`} {
		if got := identity(port, name); !strings.HasPrefix(got, want) {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	quiet := freeDNSPort(t)
	background(t, nil, "dns", "--", "--port="+quiet, "--listen-address=127.0.0.1", "--no-resolv", "--no-hosts", "--no-ident", "--host-record=db,192.0.2.1")
	resolves(t, quiet, "db.", "192.0.2.1")
	if got := identity(quiet, "version.bind"); got != "" {
		t.Errorf("with no-ident, the version is %s", got)
	}

	write("hosts", "192.0.2.2 db.x.example\n192.0.2.3 web.x.example\n")
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	resolves(t, port, "web.x.example.", "192.0.2.3")
	resolves(t, port, "db.x.example.", "192.0.2.2")
	if err := p.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	p.says(t, "queries_total")
	p.ends(t)
}

// TestSidecarOfClone takes the names of a clone from the registry, beside
// those of its file, keeps them when the daemon is killed, and takes up changes
// when it is back.
func TestSidecarOfClone(t *testing.T) {
	dir, api := t.TempDir(), "127.0.0.1:"+freeDNSPort(t)
	env := []string{
		"CLONEGATE_DATA=" + dir, "CLONEGATE_ZONE=clones.localhost", "CLONEGATE_GATEWAY_LISTEN=127.0.0.1:0", "CLONEGATE_GATEWAY_REDIRECT=127.0.0.1:0",
		"CLONEGATE_API_LISTEN=" + api, "CLONEGATE_DNS_LISTEN=127.0.0.1:0", "CLONEGATE_ENDPOINTS_ALLOW=127.0.0.0/8,10.0.0.0/8",
	}
	serve := background(t, env, "serve")
	serve.says(t, "ready")
	register := func(db string) {
		t.Helper()
		p := background(t, env, "register", "1234", "--service", "www=127.0.0.1:1", "--host", "db="+db, "--instance", "one")
		for range p.lines {
		}
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	register("10.80.0.30")
	port := freeDNSPort(t)
	sidecar := background(t, env, "dns", "--clone", "1234", "--", "--port="+port, "--listen-address=127.0.0.1", "--no-resolv", "--no-hosts",
		"--host-record=mail.corp.example,192.0.2.25")
	for name, want := range map[string]string{
		"db.": "10.80.0.30", "db.1234.clones.localhost.": "10.80.0.30", "mail.corp.example.": "192.0.2.25", "www-1234.clones.localhost.": "",
	} {
		resolves(t, port, name, want)
	}
	register("10.80.0.31")
	resolves(t, port, "db.", "10.80.0.31")

	if err := serve.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	serve.Wait()
	resolves(t, port, "db.1234.clones.localhost.", "10.80.0.31")
	serve = background(t, env, "serve")
	serve.says(t, "ready")
	resolves(t, port, "db.", "10.80.0.31")
	register("10.80.0.32")
	resolves(t, port, "db.", "10.80.0.32")
	serve.ends(t)
	resolves(t, port, "db.", "10.80.0.32")
	sidecar.ends(t)
}

// TestSidecarFollowsAddresses: addresses of an interface are listened on when
// they come, and no longer when they are gone.
func TestSidecarFollowsAddresses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: network namespaces can be made by root only; run this test as root")
	}
	name := fmt.Sprintf("clonegate-addr-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: ip %v: %v: %s", args, err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	ip("-n", name, "link", "set", "lo", "up")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sidecar := start(t, exec.Command("ip", "netns", "exec", name, "bash", "-c", `exec -a clonegate "$0" "$@"`, self,
		"dns", "--", "--interface=clone0", "--no-resolv", "--no-hosts", "--host-record=db,10.80.0.30"))
	sidecar.says(t, "interface does not exist yet")
	dig := func(at string) string {
		out, _ := exec.Command("ip", "netns", "exec", name, "dig", "+short", "+tries=1", "+time=1", "@"+at, "db").Output()
		return strings.TrimSpace(string(out))
	}
	until := func(at, want string) {
		t.Helper()
		for deadline := time.Now().Add(patience); dig(at) != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("db at %s is %q, want %q", at, dig(at), want)
			}
		}
	}
	until("127.0.0.1", "10.80.0.30")
	ip("-n", name, "link", "add", "clone0", "type", "veth")
	ip("-n", name, "link", "set", "clone0", "up")
	ip("-n", name, "address", "add", "10.80.0.53/24", "dev", "clone0")
	until("10.80.0.53", "10.80.0.30")
	ip("-n", name, "address", "del", "10.80.0.53/24", "dev", "clone0")
	sidecar.says(t, "no longer listened on")
	ip("-n", name, "address", "add", "10.80.0.53/24", "dev", "clone0")
	until("10.80.0.53", "10.80.0.30")
	sidecar.ends(t)
}

// TestResolversInNamespaces: a daemon answers inside the network namespace of
// each clone, where they all have the same addresses.
func TestResolversInNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: network namespaces can be made by root only; run this test as root")
	}
	dir := t.TempDir()
	prefix := fmt.Sprintf("clonegate-cmd-%d-", os.Getpid())
	env := []string{
		"CLONEGATE_DATA=" + dir, "CLONEGATE_ZONE=clones.localhost", "CLONEGATE_GATEWAY_LISTEN=127.0.0.1:0", "CLONEGATE_GATEWAY_REDIRECT=127.0.0.1:0",
		"CLONEGATE_API_LISTEN=127.0.0.1:0",
		"CLONEGATE_DNS_RESOLVERS=[{listen: '10.80.0.53:53', netns: '/run/netns/" + prefix + "{id}'}]",
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED: ip %v: %v: %s", args, err, out)
		}
	}
	for _, id := range []string{"7", "8"} {
		ip("netns", "add", prefix+id)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", prefix+id).Run() })
		ip("-n", prefix+id, "address", "add", "10.80.0.53/24", "dev", "lo")
		ip("-n", prefix+id, "link", "set", "lo", "up")
	}
	serve := background(t, env, "serve")
	serve.says(t, "ready")
	for _, id := range []string{"7", "8"} {
		p := background(t, env, "register", id, "--service", "www=10.80.0.30:80", "--host", "db=10.80.0.30", "--host", "only-"+id+"=10.80.0.31")
		for range p.lines {
		}
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	for id, other := range map[string]string{"7": "8", "8": "7"} {
		dig := func(name string) string {
			out, err := exec.Command("ip", "netns", "exec", prefix+id, "dig", "+short", "+tries=1", "@10.80.0.53", name).Output()
			if err != nil {
				return err.Error()
			}
			return strings.TrimSpace(string(out))
		}
		for deadline := time.Now().Add(patience); dig("db") != "10.80.0.30"; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("db of clone %s is %q", id, dig("db"))
			}
		}
		if own, others := dig("only-"+id), dig("only-"+other+"."+other+".clones.localhost"); own != "10.80.0.31" || others != "10.80.0.31" {
			t.Errorf("clone %s: its host is %q, and that of the other by its whole name %q", id, own, others)
		}
		if got := dig("only-" + other); got != "" {
			t.Errorf("clone %s knows the other's host as its own: %q", id, got)
		}
	}
	serve.ends(t)
}
