package dnsmasq_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/miekg/dns"
)

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// parse reads a configuration that must be understood.
func parse(t testing.TB, lines ...string) *dnsmasq.Config {
	t.Helper()
	cfg, err := dnsmasq.ParseText("test.conf", strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestErrors: what cannot be understood is named with its file, its line and
// what would be right.
func TestErrors(t *testing.T) {
	for _, row := range []struct{ line, want string }{
		{"sever=1.2.3.4", "no such option of dnsmasq; did you mean server?"},
		{"--server=1.2.3.4", "did you mean server?"},
		{"utter-nonsense-here", "no such option of dnsmasq"},
		{"server=1.2.3", "is not the address of a server; write 192.0.2.1"},
		{"server=1.2.3.4#0", "is not a port"},
		{"server=1.2.3.4#dns", "is not a port"},
		{"server=1.2.3.4@", "is not where questions can leave from; write @eth0"},
		{"server=1.2.3.4@192.0.2.7@eth0", "is not where questions can leave from"},
		{"server=/a/1.2.3.4@eth0@192.0.2.7@eth1", "is not where questions can leave from"},
		{"server=/example.com", "the domain is not closed"},
		{"server", "needs a value"},
		{"address=/a.example/1.2.3", "is not an address; write /a.example/192.0.2.1"},
		{"address=nothing", "is not an address"},
		{"rev-server=10.0.0.0/33,1.2.3.4", "neither an address nor a network"},
		{"host-record=192.0.2.1", "a name is missing"},
		{"host-record=a..b,192.0.2.1", "1 to 63 octets long"},
		{"cname=alias", "the target is missing"},
		{"cname=a,a", "alias of itself"},
		{"srv-host=_a._b.c,d,70000", "not a number from 0 to 65535"},
		{"caa-record=a,b", "want name,flags,tag,value"},
		{"naptr-record=a,1", "want name,order"},
		{"dns-rr=a,51,xyz", "not data in hexadecimal"},
		{"dns-rr=a", "the number of the type is missing"},
		{"synth-domain=a", "the addresses are missing"},
		{"synth-domain=a,10.0.0.9,10.0.0.1", "is not the last address"},
		{"interface-name=a,lo/5", "is not a family"},
		{"domain=#", "write the domain itself"},
		{"domain=a,10.0.0.0/8,global", "only local may follow"},
		{"local-ttl=-1", "not a number"},
		{"cache-size=many", "not a number"},
		{"port=0", "switches DNS off"},
		{"listen-address=here", "is not an address"},
		{"filter-rr=NONSENSE", "is not a type of record"},
		{"bogus-nxdomain=x", "neither an address nor a network"},
		{"no-hosts=yes", "takes no value"},
		{"auth-zone=x.example", "needs the name of this server; write auth-server=ns.example.com"},
		{"auth-zone=x.example,10.0.0.0/33", "neither an address nor a network"},
		{"auth-server=ns.x.example,lo/5", "is not a family"},
		{"auth-soa=now", "is not a number"},
		{"auth-soa=1,hm.x,1,2,3,4", "nothing follows the expiry"},
		{"strict-order=yes", "takes no value"},
		{"dns-forward-max=0", "0 would let nothing through"},
		{"max-tcp-connections=few", "is not a number"},
		{"edns-packet-max=-1", "is not a number"},
		{"query-port=65536", "is not a number"},
		{"min-port=0", "0 is no port"},
		{"cache-rr=NONSENSE", "is not a type of record"},
		{"use-stale-cache=day", "is not a number"},
		{"fast-dns-retry=1,2,3", "write first,total in milliseconds"},
		{`txt-record=a,"open`, "a quote is open"},
		{"conf-file=/does/not/exist", "name a file that can be read"},
		{"conf-dir=/does/not/exist", "name a directory that can be read"},
		{"servers-file=/does/not/exist", "name a file that can be read"},
	} {
		_, err := dnsmasq.ParseText("x.conf", "# first\n\n"+row.line+"\n")
		e, ok := errors.AsType[*dnsmasq.Error](err)
		if !ok {
			t.Errorf("%s: got %v, want an error", row.line, err)
			continue
		}
		if e.Origin != (dnsmasq.Origin{File: "x.conf", Line: 3}) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want x.conf:3 and %q", row.line, err, row.want)
		}
	}
	_, err := dnsmasq.ParseText("x.conf", "port=53\nport=54\ncname=a,b\ncname=b,a\ncname=a,c\nbad\n")
	_, ranges := dnsmasq.ParseText("y.conf", "bind-dynamic\nbind-interfaces\nmin-port=5000\nmax-port=4000\n")
	for _, want := range []string{"y.conf:1: bind-dynamic: contradicts bind-interfaces at y.conf:2", "y.conf:4: max-port: 4000 is below min-port, which is 5000"} {
		if ranges == nil || !strings.Contains(ranges.Error(), want) {
			t.Errorf("got %v, want %q in it", ranges, want)
		}
	}
	for _, want := range []string{"x.conf:2: port: is given a second time, after x.conf:1", "x.conf:5: cname=a,c: a. is an alias already", "x.conf:6: bad", "leads back to itself"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestIncludes: conf-file, conf-dir with its rules of what to skip,
// servers-file, and the command line.
func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.conf", "b.conf", "c.txt", "d.conf~", ".e.conf", "#f.conf#", "sub/g.conf"} {
		write(t, dir, "conf.d/"+name, "txt-record=x,"+name+"\n")
	}
	servers := write(t, dir, "servers", "server=192.0.2.9\nserver=/corp.example/192.0.2.8\n")
	other := write(t, dir, "other.conf", "local-ttl=9\n")
	texts := func(cfg *dnsmasq.Config) string {
		var out []string
		for _, rr := range cfg.Records {
			out = append(out, rr.(*dns.TXT).Txt[0])
		}
		return strings.Join(out, " ")
	}
	for _, row := range []struct{ value, want string }{
		{"", "a.conf b.conf c.txt"},
		{",*.conf", "a.conf b.conf"},
		{",.txt", "a.conf b.conf"},
		{",*", "a.conf b.conf c.txt"},
		{",.conf,.txt", ""},
	} {
		main := write(t, dir, "main.conf", fmt.Sprintf("conf-dir=%s/conf.d%s\nconf-file=%s\nservers-file=%s\n", dir, row.value, other, servers))
		cfg, err := dnsmasq.Parse(main, []string{"--server=192.0.2.7#5353", "--no-hosts"})
		if err != nil {
			t.Fatal(err)
		}
		if got := texts(cfg); got != row.want {
			t.Errorf("conf-dir=…%s: got %q, want %q", row.value, got, row.want)
		}
		if *cfg.LocalTTL != 9 || !cfg.NoHosts || len(cfg.Domains) != 3 || cfg.Domains[0].Server.Port() != 5353 || !cfg.Domains[2].File {
			t.Errorf("ttl %d, no-hosts %t, servers %v", *cfg.LocalTTL, cfg.NoHosts, cfg.Domains)
		}
	}
	loop := write(t, dir, "loop.conf", "conf-file="+dir+"/loop.conf\n")
	if _, err := dnsmasq.Parse(loop, nil); err == nil || !strings.Contains(err.Error(), "includes itself") {
		t.Errorf("a file that includes itself: %v", err)
	}
	bad := write(t, dir, "bad", "server=192.0.2.1\nno-hosts\n")
	if _, err := dnsmasq.ParseText("m", "servers-file="+bad); err == nil || !strings.Contains(err.Error(), bad+":2") {
		t.Errorf("a servers-file with other options: %v", err)
	}
	if _, err := dnsmasq.Parse("", []string{"-S", "1.2.3.4"}); err == nil || !strings.Contains(err.Error(), "argument 1: -S: write options in their long form") {
		t.Errorf("short options: %v", err)
	}
}

// TestQuoting: quotes, escapes and comments as in dnsmasq's files.
func TestQuoting(t *testing.T) {
	cfg := parse(t,
		`txt-record=a,"one, two",three # a comment`,
		`txt-record = b , "a \"quoted\" \\ word"`,
		`txt-record=c,not#a#comment`,
		"\t txt-record=d,\"# no comment\"\t",
		`txt-record=e,`+strings.Repeat("x", 300),
	)
	var got []string
	for _, rr := range cfg.Records {
		got = append(got, strings.Join(rr.(*dns.TXT).Txt, "|"))
	}
	want := []string{"one, two|three", `a \"quoted\" \\ word`, "not#a#comment", "# no comment", strings.Repeat("x", 255) + "|" + strings.Repeat("x", 45)}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// mustAndShould is every option of dnsmasq's DNS that a clone may need, with a
// value that is right. Those in the second list are read, and clonegate has
// its own way.
const (
	mustAndShould = `server=192.0.2.1
local=/local.example/
rev-server=10.0.0.0/8,192.0.2.1
address=/a.example/192.0.2.1
host-record=h.example,192.0.2.1,2001:db8::1,60
cname=c.example,h.example
srv-host=_ldap._tcp.example,h.example,389
txt-record=t.example,text
ptr-record=p.example,h.example
mx-host=m.example,mail.example,10
hostsdir=/tmp
addn-hosts=/tmp/none
no-hosts
expand-hosts
domain=corp.example
domain-needed
bogus-priv
local-ttl=1
neg-ttl=1
max-ttl=1
max-cache-ttl=1
min-cache-ttl=1
cache-size=100
no-negcache
port=5353
listen-address=127.0.0.1
interface=lo
resolv-file=/tmp/resolv.conf
no-resolv
no-poll
log-queries
log-queries=extra
edns-packet-max=1232
stop-dns-rebind
rebind-localhost-ok
rebind-domain-ok=/a.example/b.example/
bogus-nxdomain=192.0.2.0/24
filter-A
filter-AAAA
filter-rr=TXT,65
filterwin2k
localise-queries
no-round-robin
synth-domain=s.example,10.0.0.0/24,h-
caa-record=a.example,0,issue,ca.example
bind-interfaces
mx-target=mail.example
naptr-record=a.example,1,2,U,SIP,!^.*$!x!
dns-rr=a.example,65280,0102
interface-name=i.example,lo/4
strict-order
all-servers
dns-forward-max=500
use-stale-cache
fast-dns-retry
dns-loop-detect
query-port=5353
min-port=1024
max-port=2048
max-tcp-connections=10
cache-rr=TXT
clear-on-reload
auth-server=a.example
auth-zone=a.example
auth-ttl=600
auth-soa=1
no-ident`
	ownWay = `dhcp-range=10.0.0.1,10.0.0.9
dhcp-host=aa:bb
tftp-root=/x
pxe-service=x
ra-param=x
enable-ra
ipset=/a/b
nftset=/a/b
conntrack
dnssec
user=nobody
group=nobody
pid-file=/x
enable-dbus
enable-ubus`
)

// TestCoverage: every option that a clone's DNS may use is read, and what is
// not applied says why.
func TestCoverage(t *testing.T) {
	cfg := parse(t, mustAndShould, ownWay)
	for _, n := range cfg.Notes {
		name, _, _ := strings.Cut(n.Option, "=")
		own := slices.ContainsFunc(strings.Split(ownWay, "\n"), func(line string) bool { return strings.HasPrefix(line+"=", name+"=") })
		if n.Applied == own {
			t.Errorf("%s at %v: applied %t", n.Option, n.Origin, n.Applied)
		}
		if !n.Applied && n.Why == "" {
			t.Errorf("%s is not applied, and nothing says why", n.Option)
		}
	}
	if want := strings.Count(mustAndShould+"\n"+ownWay, "\n") + 1; len(cfg.Notes) != want {
		t.Errorf("%d notes on %d lines", len(cfg.Notes), want)
	}
}

// TestEveryOption: whatever dnsmasq 2.90 has as an option is known here.
func TestEveryOption(t *testing.T) {
	help, err := exec.Command(oraclePath(t), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`--([A-Za-z0-9-]+)(=)?`).FindAllStringSubmatch(string(help), -1)
	if len(options) < 150 {
		t.Fatalf("dnsmasq lists %d options only", len(options))
	}
	for _, o := range options {
		line := o[1]
		if o[2] != "" {
			line += "=x"
		}
		if _, err := dnsmasq.ParseText("x", line); err != nil && strings.Contains(err.Error(), "no such option") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// TestRemarks: what is applied in part says which part is not.
func TestRemarks(t *testing.T) {
	cfg := parse(t, "server=/a.example/192.0.2.1#5353@192.0.2.7#99", "local-ttl=1", "conf-file=/dev/null")
	if n := cfg.Notes[0]; !n.Applied || !strings.Contains(n.Why, "but for the source port 99") || cfg.Domains[0].Server.String() != "192.0.2.1:5353" {
		t.Errorf("got %v, server %v", n, cfg.Domains[0].Server)
	}
	if n := cfg.Notes[1]; !n.Applied || n.Why != "" {
		t.Errorf("got %v", n)
	}
}

// TestSpelling: names that are shown to people keep their spelling, and those
// that are asked for are found in any.
func TestSpelling(t *testing.T) {
	r := dnsmasq.New(parse(t, "no-hosts", "no-resolv", "mx-target=Mail.Example", "mx-host=X.example",
		`ptr-record=_http._tcp.Example,"New Page._http._tcp.example"`, `txt-record="a b.example",x`, "local=/example/"), nil)
	for _, row := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"_http._tcp.example", dns.TypePTR, `NOERROR New\ Page._http._tcp.example.`},
		{"x.example", dns.TypeMX, "NOERROR 1 Mail.Example."},
		{`a\ b.example`, dns.TypeTXT, `NOERROR "x"`},
	} {
		if got := ask(r, row.name, row.qtype); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

// FuzzParse: whatever a file holds, every line is applied, noted or refused,
// and what is applied can be asked.
func FuzzParse(f *testing.F) {
	f.Add(mustAndShould)
	f.Add("address=/#/1.2.3.4\nserver=//1.2.3.4\nserver=/*x/#\nlocal=/\n")
	f.Add("auth-server=ns.x,127.0.0.1\nauth-zone=x,10.0.0.0/8,fd00::/64,exclude:10.1.1.1\nauth-soa=1,a@b,2\ncname=*.x.example,y\nhost-record=a,10.0.0.1\n")
	f.Add("txt-record=a,\"\\t\\n\",b\nsrv-host=_a._b\ndomain=x,10.0.0.0/8,local\nsynth-domain=x,fd00::/64,p-*\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, word := range []string{"conf-file", "conf-dir", "servers-file", "hostsdir", "addn-hosts", "resolv-file"} {
			if strings.Contains(text, word) {
				t.Skip("reads files")
			}
		}
		if strings.ContainsAny(text, "/") && strings.Contains(text, "rev-server") {
			t.Skip("short networks have many domains")
		}
		cfg, err := dnsmasq.ParseText("f", "no-hosts\nno-resolv\n"+text)
		if err != nil {
			return
		}
		r := dnsmasq.New(cfg, nil)
		for _, name := range []string{".", "a.", "x.example.", "p-1.x.", "1.0.0.10.in-addr.arpa."} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeTXT, dns.TypeANY} {
				q := dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
				if r.Authority().Answer(q) == nil {
					t.Errorf("%s: no answer for the world", name)
				}
				a := r.Answer(q)
				if a == nil {
					if len(r.Route(q).Servers()) == 0 {
						t.Errorf("%s: neither an answer nor a server", name)
					}
					continue
				}
				for _, rr := range a.Records {
					if _, err := dns.PackRR(rr, make([]byte, 70000), 0, nil, false); err != nil {
						t.Errorf("%v cannot be sent: %v", rr, err)
					}
				}
			}
		}
	})
}
