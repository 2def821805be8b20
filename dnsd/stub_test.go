//go:build linux

package dnsd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// Zones that a real installation may have: the first with an underscore.
const (
	stubZone  = "test_envs.internal.example.com"
	stubAlias = "test-envs.internal.example.com"
)

// stubDelay is how long a stub may take for a name; their own timeouts are far
// above.
const stubDelay = 50 * time.Millisecond

// stubNames is every class of name that a host inside a clone looks up, and
// what is to come of it: addresses in order, the owner of an address, or "none".
var stubNames = []struct{ class, name, want string }{
	{"host of the clone, A alone", "db.1234." + stubZone, "10.80.0.30"},
	{"host of the clone, A and AAAA", "dual.1234." + stubZone, "10.80.0.31,10.80.0.32,fd00:80::31"},
	{"host of the clone under the alias of the zone", "db.1234." + stubAlias, "10.80.0.30"},
	{"host by a name of production", "db.shop.example.com", "10.80.0.30"},
	{"single label", "db", "10.80.0.30"},
	{"single label by the search list alone", "www-1234", gateways},
	{"single label that nobody knows", "nosuch", "none"},
	{"address", "10.80.0.30", "db.1234." + stubZone},
	{"address that nobody has", "10.80.0.77", "none"},
	{"address elsewhere", "8.8.8.8", "eight.up.example"},
	{"alias of a host", "mail.1234." + stubZone, "10.80.0.30"},
	{"alias of a name elsewhere", "out.1234." + stubZone, "198.51.100.1,2001:db8::1"},
	{"alias of a missing name", "nowhere.1234." + stubZone, "none"},
	{"public name", "www-1234." + stubZone, gateways},
	{"nested public name", "api.1234." + stubZone, gateways},
	{"name elsewhere", "www.up.example", "198.51.100.1,2001:db8::1"},
	{"name elsewhere, A alone", "v4.up.example", "198.51.100.1"},
	{"no such name of the clone", "missing.1234." + stubZone, "none"},
	{"no such name in the zone", "missing-4711." + stubZone, "none"},
	{"no such name elsewhere", "nx.up.example", "none"},
	{"name of the clone without addresses", "odd.1234." + stubZone, "none"},
	{"name elsewhere without addresses", "text.up.example", "none"},
}

const gateways = "192.0.2.80,2001:db8::80"

// stubUpstream is the DNS of the world outside.
func stubUpstream(q asked, send func([]byte)) {
	question := q.msg.Question[0]
	name := strings.ToLower(question.Name)
	label, _, _ := strings.Cut(name, ".")
	var answer []string
	rcode := dns.RcodeSuccess
	switch {
	case name == "8.8.8.8.in-addr.arpa.":
		if question.Qtype == dns.TypePTR {
			answer = []string{" 60 IN PTR eight.up.example."}
		}
	case label != "www" && label != "v4" && label != "text":
		rcode = dns.RcodeNameError
	case label == "text":
	case question.Qtype == dns.TypeA:
		answer = []string{" 60 IN A 198.51.100.1"}
	case question.Qtype == dns.TypeAAAA && label == "www":
		answer = []string{" 60 IN AAAA 2001:db8::1"}
	}
	var ns []string
	if answer == nil {
		ns = []string{". 60 IN SOA ns. host. 1 2 3 4 60"}
	}
	send(pack(replyTo(q, rcode, answer, ns)))
}

// serveStubs starts the resolver of clone 1234 inside a namespace of its own.
func serveStubs(t *testing.T) (path string) {
	t.Helper()
	path, _ = namespace(t, fmt.Sprintf("clonegate-stub-%d", os.Getpid()))
	udp, tcp, err := dnsd.ListenIn(path, inside)
	if err != nil {
		t.Fatal(err)
	}
	zones, err := registry.NewZones(stubZone, stubAlias)
	if err != nil {
		t.Fatal(err)
	}
	resolver := to(newUpstream(t, stubUpstream))
	resolver.Clone = "1234"
	run(t, dnsd.Config{Directory: newWorldIn(t, zones, shop("1234"))}, nil, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: resolver, Namespace: path})
	return path
}

// TestStubs looks every class of name up as glibc, musl, Go and c-ares do it,
// in a place with a resolv.conf of its own.
func TestStubs(t *testing.T) {
	path := serveStubs(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 10.80.0.53\nsearch 1234."+stubZone+" "+stubZone+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range stubNames {
		names = append(names, row.name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, stub := range []struct {
		name    string
		compile string // empty: this program itself
		source  string
		needs   string
	}{
		{"glibc", "gcc -O1", "getaddrinfo.c", "gcc"},
		{"musl", "musl-gcc -O1 -static", "getaddrinfo.c", "musl-tools"},
		{"c-ares", "gcc -O1", "cares.c", "libc-ares-dev"},
		{"Go", "", "", ""},
	} {
		t.Run(stub.name, func(t *testing.T) {
			t.Parallel()
			command := append([]string{self, "-test.run=^TestGoStub$"}, "-test.v")
			if stub.compile != "" {
				command = append([]string{compileStub(t, stub.compile, stub.source, stub.needs)}, names...)
			}
			args := append([]string{"netns", "exec", filepath.Base(path), "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, conf}, command...)
			cmd := exec.CommandContext(t.Context(), "ip", args...)
			cmd.Env = append(os.Environ(), "GODEBUG=netdns=go", "CLONEGATE_STUB_NAMES="+strings.Join(names, " "))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, stderr.String())
			}
			checkStub(t, string(out))
		})
	}
}

// compileStub compiles a stub of testdata.
func compileStub(t *testing.T, command, source, needs string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "stub")
	args := append(strings.Fields(command), "-o", program, filepath.Join("testdata", "stub", source))
	if source == "cares.c" {
		args = append(args, "-lcares")
	}
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		if _, missing := exec.LookPath(args[0]); missing != nil || bytes.Contains(out, []byte("ares.h: No such file")) {
			t.Skipf("NOT TESTED: %s is not installed; .ci/install installs it", needs)
		}
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return program
}

// checkStub reads what a stub has printed.
func checkStub(t *testing.T, out string) {
	t.Helper()
	type result struct {
		got         string
		first, best time.Duration
	}
	results := map[string]result{}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 {
			continue
		}
		micros := func(s string) time.Duration {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			return time.Duration(n) * time.Microsecond
		}
		parts := strings.Split(f[1], ",")
		slices.Sort(parts)
		results[f[0]] = result{strings.TrimSuffix(strings.Join(parts, ","), "."), micros(f[2]), micros(f[3])}
	}
	for _, row := range stubNames {
		r, ok := results[row.name]
		switch {
		case !ok:
			t.Errorf("%s: nothing came of %s:\n%s", row.class, row.name, out)
		case r.got != row.want:
			t.Errorf("%s: %s is %q, want %q", row.class, row.name, r.got, row.want)
		case r.best > stubDelay || r.first > time.Second:
			t.Errorf("%s: %s took %v at first and %v at best, want at most %v", row.class, row.name, r.first, r.best, stubDelay)
		}
	}
}

// TestGoStub is the stub of Go's own resolver, started by TestStubs.
func TestGoStub(t *testing.T) {
	names := os.Getenv("CLONEGATE_STUB_NAMES")
	if names == "" {
		return
	}
	for name := range strings.FieldsSeq(names) {
		var got string
		var first, best time.Duration
		for turn := range 3 {
			start := time.Now()
			got = goLookup(t.Context(), name)
			took := time.Since(start)
			if turn == 0 {
				first, best = took, took
			}
			best = min(best, took)
		}
		fmt.Printf("%s\t%s\t%d\t%d\n", name, got, first.Microseconds(), best.Microseconds())
	}
}

func goLookup(ctx context.Context, name string) string {
	var found []string
	var err error
	if _, isName := netip.ParseAddr(name); isName != nil {
		found, err = net.DefaultResolver.LookupHost(ctx, name)
	} else {
		found, err = net.DefaultResolver.LookupAddr(ctx, name)
	}
	if dnsError, ok := errors.AsType[*net.DNSError](err); ok && dnsError.IsNotFound {
		return "none"
	}
	if err != nil {
		return err.Error()
	}
	return strings.Join(found, ",")
}

// TestStubLikeResolved asks as systemd-resolved does: both families from one
// socket at the same time, at each of its levels of features, and over TCP on
// one connection. It goes a level down, and stays there for minutes, when a
// server fails at one.
func TestStubLikeResolved(t *testing.T) {
	path := serveStubs(t)
	levels := []struct {
		name    string
		network string
		change  func(*dns.Msg)
	}{
		{"plain UDP", "udp", func(*dns.Msg) {}},
		{"EDNS", "udp", func(m *dns.Msg) { m.SetEdns0(512, false) }},
		{"DO", "udp", func(m *dns.Msg) { m.SetEdns0(512, true) }},
		{"DO and large datagrams", "udp", func(m *dns.Msg) { m.SetEdns0(65494, true) }},
		{"TCP", "tcp", func(m *dns.Msg) { m.SetEdns0(65494, true) }},
	}
	for _, level := range levels {
		conn := dialInside(t, path, level.network)
		for _, row := range stubNames {
			name, types := dns.Fqdn(row.name), []uint16{dns.TypeA, dns.TypeAAAA}
			if a, err := netip.ParseAddr(row.name); err == nil {
				reverse, err := dns.ReverseAddr(a.String())
				if err != nil {
					t.Fatal(err)
				}
				name, types = reverse, []uint16{dns.TypePTR}
			}
			if level.name == "DO" {
				types = append(types, dns.TypeDS, dns.TypeSOA) // what it asks to see whether a zone is signed
			}
			if row.class == "single label by the search list alone" {
				name = dns.Fqdn(row.name + "." + stubZone)
			}
			got, took := together(t, conn, name, types, level.change)
			for tries := 1; took > stubDelay && tries < 3; tries++ { // the machine may be busy
				got, took = together(t, conn, name, types, level.change)
			}
			if got != row.want || took > stubDelay {
				t.Errorf("%s: %s: %s is %q after %v, want %q within %v", level.name, row.class, name, got, took, row.want, stubDelay)
			}
		}
	}
}

// dialInside connects to the resolver inside a namespace.
func dialInside(t *testing.T, path, network string) *dns.Conn {
	t.Helper()
	var conn net.Conn
	if err := dnsd.InNamespace(path, func() (err error) {
		conn, err = net.Dial(network, inside)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &dns.Conn{Conn: conn, UDPSize: 65494}
}

// together asks for several types of a name at once and returns what came of
// it as a stub would tell, and how long it took. Every reply must be whole, and
// of use to one that probes for features.
func together(t *testing.T, conn *dns.Conn, name string, types []uint16, change func(*dns.Msg)) (what string, took time.Duration) {
	t.Helper()
	waiting := map[uint16]*dns.Msg{}
	start := time.Now()
	conn.SetDeadline(start.Add(5 * time.Second))
	for _, qtype := range types {
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		change(m)
		waiting[m.Id] = m
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]bool{}
	for len(waiting) > 0 {
		r, err := conn.ReadMsg()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m := waiting[r.Id]
		if m == nil {
			t.Fatalf("%s: a reply to nothing: %v", name, r)
		}
		delete(waiting, r.Id)
		if r.Question[0] != m.Question[0] || r.Truncated || !r.RecursionAvailable || (r.IsEdns0() == nil) != (m.IsEdns0() == nil) ||
			r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
			t.Errorf("%s: a reply that a stub takes for a failure: %v", name, r)
		}
		for _, rr := range r.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				found[rr.A.String()] = true
			case *dns.AAAA:
				found[rr.AAAA.String()] = true
			case *dns.PTR:
				found[strings.TrimSuffix(rr.Ptr, ".")] = true
			}
		}
	}
	took = time.Since(start)
	if len(found) == 0 {
		return "none", took
	}
	var all []string
	for s := range found {
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, ","), took
}
