package dnsmasq_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// An outcome is what can be seen of an answer: its rcode, its records with
// their TTLs, and which server was asked what for it.
type outcome struct {
	rcode  string
	answer []string
	asked  []string
}

func (o outcome) String() string {
	return fmt.Sprintf("%s %q, asked %q", o.rcode, o.answer, o.asked)
}

func (o outcome) equal(p outcome) bool {
	return o.rcode == p.rcode && slices.Equal(o.answer, p.answer) && slices.Equal(o.asked, p.asked)
}

// oraclePath returns the path of the oracle, and skips the test if there is none.
func oraclePath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/dnsmasq"); err != nil {
			t.Skip("NOT TESTED: dnsmasq is not installed; .ci/install installs it")
		}
	}
	if out, _ := exec.Command(path, "--version").Output(); !bytes.Contains(out, []byte("version 2.90")) {
		t.Skipf("NOT TESTED: the oracle is dnsmasq 2.90, not %.40s", out)
	}
	return path
}

// exchange asks one question.
func exchange(t *testing.T, addr string, q dns.Question) outcome {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Qtype)
	m.Question[0].Name = q.Name
	c := &dns.Client{Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		return outcome{rcode: err.Error()}
	}
	if r.Question[0].Name != q.Name {
		t.Errorf("%s: the question came back as %s", q.Name, r.Question[0].Name)
	}
	o := outcome{rcode: dns.RcodeToString[r.Rcode]}
	for _, rr := range r.Answer {
		text := rr.String()
		if rr.Header().Rrtype != dns.TypeTXT {
			text = strings.ToLower(text) // a compressed name takes on the spelling of the question
		}
		o.answer = append(o.answer, strings.ToLower(rr.Header().Name)+text[len(rr.Header().Name):])
	}
	slices.Sort(o.answer)
	o.answer = slices.Compact(o.answer) // dnsmasq repeats a record that is configured twice
	return o
}

// An oracle is a dnsmasq at work.
type oracle struct {
	addr string
	cmd  *exec.Cmd
}

// freePort returns an address that is free, and outside of the range from
// which the system gives ports to others until dnsmasq has taken it.
func freePort(t *testing.T, worker int) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+1000*worker+rand.IntN(1000))
		udp, tcp, err := dnsd.Listen(addr)
		if err == nil {
			udp.Close()
			tcp.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func startOracle(t *testing.T, path, conf, dir string, worker int) *oracle {
	t.Helper()
	file := filepath.Join(dir, "dnsmasq.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freePort(t, worker)
	_, port, _ := net.SplitHostPort(addr)
	o := &oracle{addr: addr}
	var log bytes.Buffer
	o.cmd = exec.Command(path, "--keep-in-foreground", "--conf-file="+file, "--user=", "--pid-file=", "--bind-interfaces",
		"--listen-address=127.0.0.1", "--port="+port, "--cache-size=0", "--log-facility=-")
	o.cmd.Stderr = &log
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	m.SetQuestion("version.bind.", dns.TypeTXT)
	m.Question[0].Qclass = dns.ClassCHAOS
	c := &dns.Client{Timeout: 100 * time.Millisecond}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(3 * time.Millisecond) {
		if _, _, err := c.Exchange(m, addr); err == nil {
			return o
		}
		if time.Now().After(deadline) {
			o.stop()
			t.Fatalf("dnsmasq does not answer:\n%s\n%s", log.String(), conf)
		}
	}
}

func (o *oracle) stop() {
	o.cmd.Process.Kill()
	o.cmd.Wait()
}

// startOurs serves a configuration with dnsd.
func startOurs(t *testing.T, conf string, strict bool) (addr string, stop func()) {
	t.Helper()
	cfg, err := dnsmasq.ParseText("dnsmasq.conf", conf)
	if err != nil {
		t.Fatalf("%v\n%s", err, conf)
	}
	cfg.Strict = strict
	rules := dnsmasq.New(cfg, nil)
	if len(cfg.Authority.Listen) > 0 {
		return serveAs(t, &dnsd.Resolver{Rules: rules.Authority(), Authoritative: true}, cfg.Habits)
	}
	return serve(t, rules.At(netip.MustParsePrefix("127.0.0.0/8")), cfg.Habits)
}

// serve runs a resolver with rules until stop is called.
func serve(t *testing.T, rules dnsd.Rules, habits dnsd.Habits) (addr string, stop func()) {
	t.Helper()
	return serveAs(t, &dnsd.Resolver{Rules: rules}, habits)
}

// serveAs runs a resolver until stop is called.
func serveAs(t *testing.T, r *dnsd.Resolver, habits dnsd.Habits) (addr string, stop func()) {
	t.Helper()
	s, err := dnsd.New(dnsd.Config{Directory: nobody{}, CacheEntries: -1, ResolvConf: filepath.Join(t.TempDir(), "none"), Habits: habits})
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp, err := dnsd.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, dnsd.Listener{UDP: udp, TCP: tcp, Resolver: r})
	}()
	return udp.LocalAddr().String(), func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// nobody is a directory without clones and zones.
type nobody struct{}

func (nobody) Lookup(string) (registry.Target, bool) { return registry.Target{}, false }

func (nobody) Clone(registry.ID) (*registry.Clone, bool) { return nil, false }

func (nobody) Revision() uint64 { return 0 }

func (nobody) Zones() *registry.Zones { return new(registry.Zones) }
