package dnsmasq_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/miekg/dns"
)

// ask returns the answer of rules as text: the rcode and the data, or
// "upstream" and the servers.
func ask(r dnsd.Rules, name string, qtype uint16) string {
	q := dns.Question{Name: dns.Fqdn(name), Qtype: qtype, Qclass: dns.ClassINET}
	a := r.Answer(q)
	if a == nil {
		return fmt.Sprint("upstream ", r.Route(q).Servers())
	}
	var out []string
	for _, rr := range a.Records {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return strings.Join(append([]string{dns.RcodeToString[a.Rcode]}, out...), " ")
}

func TestHostsFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	added := write(t, dir, "added", "192.0.2.1 one\n")
	write(t, dir, "hosts.d/first", "192.0.2.2 two\n")
	resolv := write(t, dir, "resolv.conf", "nameserver 192.0.2.53\n")
	servers := write(t, dir, "servers", "server=/corp.example/192.0.2.8\n")
	r := dnsmasq.New(parse(t, "no-hosts", "addn-hosts="+added, "hostsdir="+dir+"/hosts.d", "resolv-file="+resolv, "servers-file="+servers), nil)
	see := func(name, want string) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			got := ask(r, name, dns.TypeA)
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %s, want %s", name, got, want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	see("one", "NOERROR 192.0.2.1")
	see("two", "NOERROR 192.0.2.2")
	see("three", "upstream [192.0.2.53:53]")

	write(t, dir, "hosts.d/second", "192.0.2.3 three\n")
	see("three", "NOERROR 192.0.2.3")
	if err := os.Remove(dir + "/hosts.d/first"); err != nil {
		t.Fatal(err)
	}
	see("two", "upstream [192.0.2.53:53]")
	write(t, dir, "resolv.conf", "nameserver 192.0.2.54\nnameserver 192.0.2.55\n")
	see("two", "upstream [192.0.2.54:53 192.0.2.55:53]")

	see("x.corp.example", "upstream [192.0.2.8:53]")
	write(t, dir, "servers", "server=/corp.example/192.0.2.9\n")
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	see("x.corp.example", "upstream [192.0.2.9:53]")
	write(t, dir, "servers", "nonsense\n")
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), servers+":1") {
		t.Errorf("got %v, want the line of the servers-file", err)
	}
	see("x.corp.example", "upstream [192.0.2.9:53]")
}

// TestPrecedence is the order of rules for one domain.
func TestPrecedence(t *testing.T) {
	lines := []string{
		"address=/x.example/192.0.2.1", "address=/x.example/#", "local=/x.example/", "server=/x.example/#", "server=/x.example/192.0.2.8",
		"server=192.0.2.53",
	}
	for i, want := range []string{"NOERROR 192.0.2.1", "NOERROR 0.0.0.0", "NXDOMAIN", "upstream [192.0.2.53:53]", "upstream [192.0.2.8:53]", "upstream [192.0.2.53:53]"} {
		rules := slices.Clone(lines[i:])
		for range 2 {
			r := dnsmasq.New(parse(t, append(rules, "no-hosts", "no-resolv")...), nil)
			if got := ask(r, "a.x.example", dns.TypeA); got != want {
				t.Errorf("%q: got %s, want %s", rules, got, want)
			}
			slices.Reverse(rules)
		}
	}
	r := dnsmasq.New(parse(t, "no-hosts", "no-resolv", "host-record=a.x.example,192.0.2.7", "address=/x.example/192.0.2.1"), nil)
	if got := ask(r, "a.x.example", dns.TypeA); got != "NOERROR 192.0.2.7" {
		t.Errorf("a host record in a domain with an address: got %s", got)
	}
}

func TestRoundRobinAndLocalise(t *testing.T) {
	lines := []string{"no-hosts", "no-resolv", "host-record=a,192.0.2.1", "host-record=a,10.0.0.1", "host-record=a,192.0.2.2"}
	firsts := func(more ...string) map[string]int {
		r := dnsmasq.New(parse(t, append(more, lines...)...), nil)
		out := map[string]int{}
		for range 30 {
			out[r.Answer(dns.Question{Name: "a.", Qtype: dns.TypeA, Qclass: dns.ClassINET}).Records[0].(*dns.A).A.String()]++
		}
		return out
	}
	if got := firsts(); got["192.0.2.1"] != 10 || got["10.0.0.1"] != 10 || got["192.0.2.2"] != 10 {
		t.Errorf("with rotation, the first addresses are %v", got)
	}
	if got := firsts("no-round-robin"); len(got) != 1 {
		t.Errorf("without rotation, the first addresses are %v", got)
	}
	r := dnsmasq.New(parse(t, append(lines, "localise-queries")...), nil)
	for network, want := range map[string]string{
		"10.0.0.0/8": "NOERROR 10.0.0.1", "192.0.2.0/24": "NOERROR 192.0.2.1 192.0.2.2", "198.51.100.0/24": "NOERROR 10.0.0.1 192.0.2.1 192.0.2.2",
	} {
		if got := ask(r.At(netip.MustParsePrefix(network)), "a", dns.TypeA); got != want {
			t.Errorf("at %s: got %s, want %s", network, got, want)
		}
	}
}

func TestDomainSuffixes(t *testing.T) {
	dir := t.TempDir()
	hosts := write(t, dir, "hosts", "10.1.0.1 db\n192.168.3.4 cam\n")
	r := dnsmasq.New(parse(t, "no-hosts", "no-resolv", "server=192.0.2.53", "addn-hosts="+hosts, "expand-hosts",
		"domain=corp.example", "domain=lab.example,192.168.3.0/24,local", "srv-host=_x._tcp,db.corp.example,7"), nil)
	for _, row := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"db", dns.TypeA, "NOERROR 10.1.0.1"},
		{"db.corp.example", dns.TypeA, "NOERROR 10.1.0.1"},
		{"cam.lab.example", dns.TypeA, "NOERROR 192.168.3.4"},
		{"1.0.1.10.in-addr.arpa", dns.TypePTR, "NOERROR db.corp.example."},
		{"4.3.168.192.in-addr.arpa", dns.TypePTR, "NOERROR cam.lab.example."},
		{"5.3.168.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		{"other.lab.example", dns.TypeA, "NXDOMAIN"},
		{"other.corp.example", dns.TypeA, "upstream [192.0.2.53:53]"},
		{"_x._tcp.corp.example", dns.TypeSRV, "NOERROR 0 0 7 db.corp.example."},
	} {
		if got := ask(r, row.name, row.qtype); got != row.want {
			t.Errorf("%s %s: got %s, want %s", row.name, dns.Type(row.qtype), got, row.want)
		}
	}
}

// TestAmendTTLs: how long answers of upstream servers are kept.
func TestAmendTTLs(t *testing.T) {
	q := dns.Question{Name: "a.", Qtype: dns.TypeA, Qclass: dns.ClassINET}
	for _, row := range []struct {
		option string
		ttl    uint32 // of an answer of 300 seconds
		soa    uint32 // of a negative answer with an SOA of 300 seconds
		none   int    // SOAs of a negative answer that had none
	}{
		{"max-ttl=20", 20, 20, 0},
		{"max-cache-ttl=30", 30, 30, 0},
		{"min-cache-ttl=900", 900, 900, 0},
		{"min-cache-ttl=9000", 3600, 3600, 0},
		{"no-negcache", 300, 0, 0},
		{"neg-ttl=40", 300, 300, 1},
	} {
		r := dnsmasq.New(parse(t, "no-hosts", "no-resolv", row.option), nil)
		record := func(s string) []dns.RR {
			rr, err := dns.NewRR(s)
			if err != nil {
				t.Fatal(err)
			}
			return []dns.RR{rr}
		}
		m := &dns.Msg{Answer: record("a. 300 IN A 8.8.8.8")}
		r.Amend(q, m)
		if got := m.Answer[0].Header().Ttl; got != row.ttl {
			t.Errorf("%s: an answer is kept %d s, want %d", row.option, got, row.ttl)
		}
		m = &dns.Msg{Ns: record("a. 300 IN SOA . . 1 2 3 4 300")}
		r.Amend(q, m)
		if got := m.Ns[0].Header().Ttl; got != row.soa {
			t.Errorf("%s: a negative answer is kept %d s, want %d", row.option, got, row.soa)
		}
		m = &dns.Msg{}
		r.Amend(q, m)
		if len(m.Ns) != row.none {
			t.Errorf("%s: a negative answer without SOA has %d afterwards, want %d", row.option, len(m.Ns), row.none)
		}
	}
}

// TestAddresses: where to listen.
func TestAddresses(t *testing.T) {
	for _, row := range []struct {
		lines []string
		want  string
	}{
		{[]string{"listen-address=127.0.0.1", "port=5353"}, "127.0.0.1:5353"},
		{[]string{"listen-address=127.0.0.1,127.0.0.2"}, "127.0.0.1:53 127.0.0.2:53"},
		{[]string{"interface=lo"}, "127.0.0.1:53"},
	} {
		addrs, err := parse(t, row.lines...).Addresses()
		var got []string
		for _, a := range addrs {
			if a.Addr().Is4() {
				got = append(got, a.String())
			}
		}
		if err != nil || strings.Join(got, " ") != row.want {
			t.Errorf("%q: got %v, %v, want %s", row.lines, got, err, row.want)
		}
	}
	if _, err := parse(t, "interface=nothing0", "bind-interfaces").Addresses(); err == nil || !strings.Contains(err.Error(), "nothing0") {
		t.Errorf("an interface that does not exist: %v", err)
	}
	if addrs, err := parse(t, "interface=nothing0", "except-interface=lo").Addresses(); err != nil || len(addrs) != 0 {
		t.Errorf("an interface that may come: %v, %v", addrs, err)
	}
}

// TestHitsAllocateNothing: 10,000 hosts are found as fast as one, in a zone for
// the world as well.
func TestHitsAllocateNothing(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "10.%d.%d.%d host%d.x.example\n", i/65536, i/256%256, i%256, i)
	}
	hosts := "addn-hosts=" + write(t, t.TempDir(), "hosts", b.String())
	local := dnsmasq.New(parse(t, "no-hosts", "no-resolv", "local=/x.example/", hosts), nil)
	zone := dnsmasq.New(parse(t, "no-hosts", "no-resolv", "auth-server=ns.x.example,127.0.0.1", "auth-zone=x.example,10.0.0.0/8", hosts), nil)
	for who, r := range map[string]dnsd.Rules{"local data": local, "a zone here": zone, "a zone for the world": zone.Authority()} {
		for name, want := range map[string]int{"host7777.x.example.": dns.RcodeSuccess, "missing.x.example.": dns.RcodeNameError} {
			q := dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}
			if a := r.Answer(q); a == nil || a.Rcode != want {
				t.Fatalf("%s: %s: got %v", who, name, a)
			}
			if n := testing.AllocsPerRun(1000, func() { r.Answer(q) }); n != 0 {
				t.Errorf("%s: %s: %v allocations, want none", who, name, n)
			}
		}
	}
}
