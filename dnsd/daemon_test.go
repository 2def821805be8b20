package dnsd_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// program returns the path of a program that a test cannot do without.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, file := range []string{name, "/usr/sbin/" + name} { // servers stand where only root looks
		if path, err := exec.LookPath(file); err == nil {
			return path
		}
	}
	t.Skipf("NOT TESTED: %s is not installed; make test installs it", name)
	return ""
}

// daemon runs a DNS server of the distribution on a free port until the test
// ends. args makes its command line.
func daemon(t *testing.T, name string, args func(port uint16) []string) netip.AddrPort {
	t.Helper()
	addr := freePort(t)
	out, ended := startDaemon(t, name, args(addr.Port())...)
	c := &dns.Client{Timeout: 200 * time.Millisecond}
	m := new(dns.Msg)
	m.SetQuestion("ready.corp.example.", dns.TypeA)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r, _, err := c.Exchange(m, addr.String()); err == nil && r.Rcode != dns.RcodeServerFailure {
			return addr
		}
		select {
		case <-ended:
			t.Fatalf("%s ended at once:\n%s", name, out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer:\n%s", name, out.String())
		}
	}
}

// startDaemon runs a program until the test ends. out is what it says.
func startDaemon(t *testing.T, name string, args ...string) (out *logBuffer, ended chan struct{}) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	out = new(logBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // it may have children of its own
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.String())
		}
	})
	return out, ended
}

// dnsmasq runs Debian's dnsmasq as a corporate server.
func dnsmasq(t *testing.T) netip.AddrPort {
	t.Helper()
	return daemon(t, "dnsmasq", func(port uint16) []string {
		args := []string{
			"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll", "--user=", "--pid-file=",
			"--listen-address=127.0.0.1", "--bind-interfaces", fmt.Sprintf("--port=%d", port), "--local-ttl=60", "--log-facility=-",
			"--local=/corp.example/", "--host-record=ldap.corp.example,198.51.100.10,2001:db8:1::10", "--host-record=ready.corp.example,198.51.100.1",
			"--cname=directory.corp.example,ldap.corp.example", "--srv-host=_ldap._tcp.corp.example,ldap.corp.example,389",
			"--txt-record=corp.example,v=corp", "--mx-host=corp.example,mail.corp.example,10",
			"--cname=home.corp.example,www-1234." + zone, "--address=/www-1234." + zone + "/203.0.113.66",
		}
		for i := range 100 {
			args = append(args, fmt.Sprintf("--host-record=many.corp.example,198.51.100.%d", i))
		}
		return args
	})
}

// unbound runs Debian's Unbound as a corporate server.
func unbound(t *testing.T) netip.AddrPort {
	t.Helper()
	return daemon(t, "unbound", func(port uint16) []string {
		conf := filepath.Join(t.TempDir(), "unbound.conf")
		text := fmt.Sprintf(`server:
	interface: 127.0.0.1
	port: %d
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	do-daemonize: no
	use-syslog: no
	num-threads: 1
	module-config: "iterator"
	local-zone: "corp.example." static
	local-data: "corp.example. 60 IN SOA ns.corp.example. host.corp.example. 1 2 3 4 30"
	local-data: "corp.example. 60 IN TXT v=corp"
	local-data: "corp.example. 60 IN MX 10 mail.corp.example."
	local-data: "ready.corp.example. 60 IN A 198.51.100.1"
	local-data: "ldap.corp.example. 60 IN A 198.51.100.10"
	local-data: "ldap.corp.example. 60 IN AAAA 2001:db8:1::10"
	local-data: "_ldap._tcp.corp.example. 60 IN SRV 0 0 389 ldap.corp.example."
remote-control:
	control-enable: no
`, port, t.TempDir())
		for i := range 100 {
			text = strings.Replace(text, "remote-control:", fmt.Sprintf("\tlocal-data: \"many.corp.example. 60 IN A 198.51.100.%d\"\nremote-control:", i), 1)
		}
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"-d", "-p", "-c", conf}
	})
}

// TestCorporateServer forwards to the servers that companies run.
func TestCorporateServer(t *testing.T) {
	for name, start := range map[string]func(*testing.T) netip.AddrPort{"dnsmasq": dnsmasq, "unbound": unbound} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			corp := start(t)
			s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))},
				&dnsd.Resolver{Clone: "1234", Upstreams: []netip.AddrPort{corp}})
			for _, row := range []struct {
				name  string
				qtype uint16
				want  string
			}{
				{"ldap.corp.example.", dns.TypeA, "NOERROR; A 198.51.100.10"},
				{"LDAP.Corp.example.", dns.TypeAAAA, "NOERROR; AAAA 2001:db8:1::10"},
				{"ldap.corp.example.", dns.TypeMX, noData},
				{"missing.corp.example.", dns.TypeA, noName},
				{"_ldap._tcp.corp.example.", dns.TypeSRV, "NOERROR; SRV 0 0 389 ldap.corp.example."},
				{"corp.example.", dns.TypeMX, "NOERROR; MX 10 mail.corp.example."},
				{"corp.example.", dns.TypeTXT, `NOERROR; TXT "v=corp"`},
				{"db.", dns.TypeA, "NOERROR; A 10.80.0.30"},
				{"www-1234." + zone + ".", dns.TypeA, gatewayA},
			} {
				for _, from := range []string{"upstream", "the cache"} {
					if got := short(ask(t, s.addrs[0], row.name, row.qtype)); got != row.want {
						t.Errorf("%s %s from %s: got %s, want %s", row.name, dns.Type(row.qtype), from, got, row.want)
					}
				}
			}
			c := &dns.Client{Net: "tcp"}
			m := new(dns.Msg)
			m.SetQuestion("many.corp.example.", dns.TypeA)
			if r, _, err := c.Exchange(m, s.addrs[0]); err != nil || len(r.Answer) != 100 {
				t.Errorf("100 addresses: %v, %v", r, err)
			}
		})
	}
}

// TestDnsmasqAlias: an alias of the company's into our zone ends at the
// registry, whatever the company's server says stands there.
func TestDnsmasqAlias(t *testing.T) {
	corp := dnsmasq(t)
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, &dnsd.Resolver{Upstreams: []netip.AddrPort{corp}})
	want := "NOERROR; CNAME www-1234." + zone + ".; A 192.0.2.80"
	if got := short(ask(t, s.addrs[0], "home.corp.example.", dns.TypeA)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestBehindCorporateServer: clients ask the company's server, which asks us
// for the zone, as a conditional forwarder (RD set) and as a stub (RD not set).
func TestBehindCorporateServer(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil)
	ours := netip.MustParseAddrPort(s.addrs[0])
	forwarder := func(t *testing.T) netip.AddrPort {
		return daemon(t, "dnsmasq", func(port uint16) []string {
			return []string{
				"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=", "--pid-file=",
				"--listen-address=127.0.0.1", "--bind-interfaces", fmt.Sprintf("--port=%d", port), "--log-facility=-",
				"--host-record=ready.corp.example,198.51.100.1",
				fmt.Sprintf("--server=/%s/127.0.0.1#%d", zone, ours.Port()),
			}
		})
	}
	stub := func(t *testing.T) netip.AddrPort {
		return daemon(t, "unbound", func(port uint16) []string {
			conf := filepath.Join(t.TempDir(), "unbound.conf")
			text := fmt.Sprintf("server:\n interface: 127.0.0.1\n port: %d\n username: \"\"\n chroot: \"\"\n directory: %q\n pidfile: \"\"\n"+
				" do-daemonize: no\n use-syslog: no\n num-threads: 1\n do-not-query-localhost: no\n module-config: \"iterator\"\n"+
				" local-zone: \"localhost.\" nodefault\n local-data: \"ready.corp.example. 60 IN A 198.51.100.1\"\n"+
				"stub-zone:\n name: %q\n stub-addr: 127.0.0.1@%d\n stub-prime: no\nremote-control:\n control-enable: no\n",
				port, t.TempDir(), zone, ours.Port())
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"-d", "-p", "-c", conf}
		})
	}
	for name, start := range map[string]func(*testing.T) netip.AddrPort{"dnsmasq forwards": forwarder, "unbound as a stub": stub} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			corp := start(t).String()
			for name, want := range map[string]string{
				"www-1234": gatewayA, "WWW-1234": gatewayA, "www.1234": gatewayA, "db.1234": "NOERROR; A 10.80.0.30", "@": gatewayA,
				"www-9999": noName, "deep.1234": noData, "mail.1234": "NOERROR; CNAME db.1234." + zone + ".; A 10.80.0.30",
			} {
				if got := short(ask(t, corp, absolute(name, zone), dns.TypeA)); got != want {
					t.Errorf("%s: got %s, want %s", name, got, want)
				}
			}
		})
	}
}

// TestDig runs the commands of the documentation.
func TestDig(t *testing.T) {
	dig := program(t, "dig")
	corp := dnsmasq(t)
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil, &dnsd.Resolver{Clone: "1234", Upstreams: []netip.AddrPort{corp}})
	run := func(listener int, args ...string) string {
		t.Helper()
		host, port, _ := net.SplitHostPort(s.addrs[listener])
		out, err := exec.Command(dig, append([]string{"@" + host, "-p", port, "+time=5", "+tries=1"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("dig %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	const authoritative, resolver = 0, 1
	for _, row := range []struct {
		listener int
		args     string
		want     []string
	}{
		{authoritative, "+short www-1234." + zone, []string{"192.0.2.80\n"}},
		{authoritative, "+short db.1234." + zone, []string{"10.80.0.30\n"}},
		{authoritative, "www-1234." + zone, []string{"status: NOERROR", "flags: qr aa rd;", "WARNING: recursion requested but not available"}},
		{authoritative, "www-9999." + zone, []string{"status: NXDOMAIN", "AUTHORITY: 1", "SOA\tns." + zone + ". hostmaster." + zone + "."}},
		{authoritative, "example.com", []string{"status: REFUSED"}},
		{authoritative, "axfr " + zone, []string{"Transfer failed."}},
		{authoritative, "+notcp +edns=1 +noednsnegotiation " + zone, []string{"status: BADVERS", "EDNS: version: 0", "udp: 1232"}},
		{authoritative, "+opcode=2 " + zone, []string{"status: NOTIMP"}},
		{authoritative, "ch txt version.bind", []string{"status: REFUSED"}},
		{authoritative, "+tcp +short 1234." + zone, []string{"192.0.2.80\n"}},
		{authoritative, "+short any 1234." + zone, []string{`"RFC8482" ""`}},
		{resolver, "+short db", []string{"10.80.0.30\n"}},
		{resolver, "db aaaa", []string{"status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "flags: qr aa rd ra;"}},
		{resolver, "+short -x 10.80.0.30", []string{"db.1234." + zone + ".\n"}},
		{resolver, "+short ldap.corp.example", []string{"198.51.100.10\n"}},
		{resolver, "ldap.corp.example", []string{"flags: qr rd ra;", "status: NOERROR"}},
		{resolver, "+short www-1234." + zone, []string{"192.0.2.80\n"}},
		{resolver, "+cookie +nsid +subnet=10.0.0.0/8 db", []string{"status: NOERROR"}},
	} {
		out := run(row.listener, strings.Fields(row.args)...)
		for _, want := range row.want {
			if !strings.Contains(out, want) {
				t.Errorf("dig %s: want %q in\n%s", row.args, want, out)
			}
		}
		if strings.Contains(out, "malformed") || strings.Contains(out, "Warning: ID mismatch") {
			t.Errorf("dig %s complains:\n%s", row.args, out)
		}
	}
}
