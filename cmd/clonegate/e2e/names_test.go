package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNames asks a daemon with dig: as the world does, and as hosts inside a
// clone do, whose other questions a company's servers answer.
func TestNames(t *testing.T) {
	need(t, map[string]string{"dig": "dnsutils", "dnsmasq": "dnsmasq-base", "unbound": "unbound"})
	t.Parallel()
	dnsmasq, unbound := startDnsmasq(t), startUnbound(t)
	g := newGateway(t, fmt.Sprintf(`dns:
  listen: "127.0.0.1:0"
  resolvers:
    - {listen: "127.0.0.1:0", clone: "1234", upstreams: ["%s"]}
    - {listen: "127.0.0.1:0", clone: "5678", upstreams: ["%s"]}
    - {listen: "127.0.0.1:0", view: world, upstreams: ["%s"]}
`, dnsmasq, unbound, unbound))
	g.start()
	for id, host := range map[string]string{"1234": "10.80.0.30", "5678": "10.81.0.30"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "registration.json")
		text := fmt.Sprintf(`{"instance":"6f1c","owner":"ada","aliases":["pr-%[1]s"],
			"services":{"www":{"endpoints":["127.0.4.10:8080"],"default":true,"health":{"path":"/healthz"}}},
			"hosts":{"db":["%[2]s"]},
			"records":[{"name":"_shop._tcp","type":"SRV","ttl":60,"data":"0 0 8080 www"}]}`, id, host)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.must("register", id, "--file", file)
	}
	world, in1234, in5678, none := g.at.DNS.Listen, g.at.DNS.Resolvers[0].Listen, g.at.DNS.Resolvers[1].Listen, g.at.DNS.Resolvers[2].Listen
	const noName, noData = "NXDOMAIN", "NOERROR"
	for _, row := range []struct{ at, question, want string }{
		{world, "www-1234." + zone, "127.0.0.1"},
		{world, "WWW-1234." + zone, "127.0.0.1"},
		{world, "1234." + zone, "127.0.0.1"},
		{world, "pr-1234." + zone, "127.0.0.1"},
		{world, "www.1234." + zone, "127.0.0.1"},
		{world, "www-1234." + zoneAlias, "127.0.0.1"},
		{world, "www-1234." + zone + " AAAA", noData},
		{world, "db.1234." + zone, "10.80.0.30"},
		{world, "db.5678." + zone, "10.81.0.30"},
		{world, "db.pr-5678." + zone, "10.81.0.30"},
		{world, "_shop._tcp.1234." + zone + " SRV", "0 0 8080 www.1234." + zone + "."},
		{world, "www-9999." + zone, noName},
		{world, "ldap.corp.example", "REFUSED"},
		{in1234, "db", "10.80.0.30"},
		{in5678, "db", "10.81.0.30"},
		{none, "db", noName},
		{in1234, "db AAAA", noData},
		{in1234, "-x 10.80.0.30", "db.1234." + zone + "."},
		{in1234, "www-5678." + zone, "127.0.0.1"},
		{in1234, "ldap.corp.example", "198.51.100.10"}, // dnsmasq
		{in5678, "ldap.corp.example", "198.51.100.20"}, // Unbound
		{none, "ldap.corp.example", "198.51.100.20"},
		{in1234, "missing.corp.example", noName},
		{in5678, "missing.corp.example", noName},
	} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			if got := dig(t, row.at, transport+" "+row.question); got != row.want {
				t.Errorf("dig %s %s: %s, want %s", transport, row.question, got, row.want)
			}
		}
	}
	g.must("unregister", "1234", "--instance", "6f1c")
	eventually(t, 5*time.Second, "a clone that is gone has no names", func() string {
		for _, question := range []string{"www-1234." + zone, "db.1234." + zone} {
			if got := dig(t, world, question); got != noName {
				return question + " is " + got
			}
		}
		return ""
	})
	if got := dig(t, world, "www-5678."+zone); got != "127.0.0.1" {
		t.Errorf("www-5678 is %s once 1234 is gone", got)
	}
}

// dig returns the data of the answer, or the status of an empty one.
func dig(t *testing.T, at, question string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"@" + host, "-p", port, "+time=5", "+tries=1", "+noall", "+answer", "+comments"}, strings.Fields(question)...)
	status, data := "", []string{}
	for line := range strings.Lines(output(t, "dig", args...)) {
		if _, after, ok := strings.Cut(line, "status: "); ok {
			status, _, _ = strings.Cut(after, ",")
		}
		if fields := strings.Fields(line); len(fields) > 4 && !strings.HasPrefix(line, ";") {
			data = append(data, strings.Join(fields[4:], " "))
		}
	}
	if len(data) == 0 {
		return status
	}
	return strings.Join(data, ", ")
}

// startDnsmasq runs a company's server that knows ldap.corp.example.
func startDnsmasq(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	return startServer(t, "dnsmasq", port, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll",
		"--user=", "--pid-file=", "--listen-address=127.0.0.1", "--bind-interfaces", "--port="+port, "--log-facility=-",
		"--local=/corp.example/", "--host-record=ldap.corp.example,198.51.100.10")
}

// startUnbound runs another company's, which knows it at another address.
func startUnbound(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	conf := filepath.Join(t.TempDir(), "unbound.conf")
	text := fmt.Sprintf(`server:
	interface: 127.0.0.1
	port: %s
	username: ""
	chroot: ""
	directory: "%s"
	pidfile: ""
	use-syslog: no
	num-threads: 1
	module-config: "iterator"
	local-zone: "." static
	local-zone: "corp.example." static
	local-data: "ldap.corp.example. 60 IN A 198.51.100.20"
remote-control:
	control-enable: no
`, port, filepath.Dir(conf))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startServer(t, "unbound", port, "-d", "-p", "-c", conf)
}

// startServer runs a DNS server until the test ends and returns its address
// once it answers.
func startServer(t *testing.T, name, port string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	p := startProcess(t, cmd)
	eventually(t, 10*time.Second, name+" answers", func() string {
		if p.ended() {
			t.Fatalf("%s ended at once, %s:\n%s", name, p.status(), &out)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		answer, err := exec.CommandContext(ctx, "dig", "@127.0.0.1", "-p", port, "+short", "+time=1", "+tries=1", "ldap.corp.example").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(answer), "198.51.100.") {
			return fmt.Sprintf("%v: %s", err, answer)
		}
		return ""
	})
	return "127.0.0.1:" + port
}

// freePort returns a port of 127.0.0.1 that is free for TCP and UDP, and that
// the system gives to nobody who asks for any.
func freePort(t *testing.T) string {
	t.Helper()
	for range 50 {
		port := strconv.Itoa(12_000 + rand.IntN(20_000)) // below net.ipv4.ip_local_port_range
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		pc, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		ln.Close()
		if err == nil {
			pc.Close()
			return port
		}
	}
	t.Fatal("no port is free for TCP and UDP")
	return ""
}
