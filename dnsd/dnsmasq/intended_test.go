package dnsmasq_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/dnsd/dnsmasq"
	"github.com/miekg/dns"
)

// newTruncating starts an upstream server that has eight texts for every name,
// and no room for them in a datagram.
func newTruncating(t *testing.T) netip.AddrPort {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(m)
		if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
			r.Truncated = true
		} else {
			for i := range 8 {
				r.Answer = append(r.Answer, &dns.TXT{
					Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{fmt.Sprint("text ", i)},
				})
			}
		}
		w.WriteMsg(r)
	})
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: h}, {Listener: tcp, Handler: h}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			s.Shutdown()
			<-ended
		})
	}
	return netip.MustParseAddrPort(tcp.Addr().String())
}

// TestIntendedDifferences: where we differ from dnsmasq 2.90 on purpose in what
// the generated configurations do not show: each row is what both do with one
// message, and why ours is another.
func TestIntendedDifferences(t *testing.T) {
	path := oraclePath(t)
	up := newTruncating(t)
	conf := fmt.Sprintf("no-resolv\nno-hosts\nserver=%v#%d\nlocal=/x.example/\nhost-record=db.x.example,192.0.2.1\ncname=alias.x.example,away.up.test\n",
		up.Addr(), up.Port())
	oracle := startOracle(t, path, conf, t.TempDir(), 0)
	defer oracle.stop()
	cfg := parse(t, conf)
	ours, stop := serveAs(t, &dnsd.Resolver{Rules: dnsmasq.New(cfg, nil), Identity: func(string) string { return "clonegate" }}, cfg.Habits)
	defer stop()

	question := func(name string, qtype uint16, change func(*dns.Msg)) *dns.Msg {
		m := new(dns.Msg)
		m.SetQuestion(name, qtype)
		if change != nil {
			change(m)
		}
		return m
	}
	for _, row := range []struct {
		name, reason string
		ask          *dns.Msg
		see          func(*dns.Msg) string
		oracle, ours string
	}{
		{
			"absence of a local name", "Without an SOA clients ask again every few seconds (RFC 2308 §5); what is known here is said with authority.",
			question("missing.x.example.", dns.TypeA, nil),
			func(m *dns.Msg) string {
				return fmt.Sprint(dns.RcodeToString[m.Rcode], " AA ", m.Authoritative, " SOA ", len(m.Ns))
			},
			"NXDOMAIN AA false SOA 0", "NXDOMAIN AA true SOA 1",
		},
		{
			"TTL of local data", "0 has every client ask again for every connection.",
			question("db.x.example.", dns.TypeA, nil),
			func(m *dns.Msg) string { return fmt.Sprint(m.Answer[0].Header().Ttl) },
			"0", "5",
		},
		{
			"opcode other than QUERY", "NOTIMP says that it is not known (RFC 8906 §3.1.4).",
			question("db.x.example.", dns.TypeA, func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }),
			func(m *dns.Msg) string { return dns.RcodeToString[m.Rcode] },
			"nothing", "NOTIMP",
		},
		{
			"EDNS version 1", "BADVERS says which version is known (RFC 6891 §6.1.3).",
			question("db.x.example.", dns.TypeA, func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }),
			func(m *dns.Msg) string { return fmt.Sprint(m.Rcode) },
			"0", fmt.Sprint(dns.RcodeBadVers),
		},
		{
			"other names in class CH", "Nothing is known about them, nor that they have no data.",
			question("db.x.example.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
			func(m *dns.Msg) string { return fmt.Sprint(dns.RcodeToString[m.Rcode], " ", len(m.Answer)) },
			"NOERROR 0", "REFUSED 0",
		},
		{
			"version in class CH", "No difference: monitors ask for it.",
			question("version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
			func(m *dns.Msg) string { return fmt.Sprint(dns.RcodeToString[m.Rcode], " ", len(m.Answer)) },
			"NOERROR 1", "NOERROR 1",
		},
		{
			"alias of a name elsewhere", "An alias alone is no address to a stub resolver.",
			question("alias.x.example.", dns.TypeTXT, func(m *dns.Msg) { m.SetEdns0(1232, false) }),
			func(m *dns.Msg) string { return fmt.Sprint(len(m.Answer)) },
			"1", "9",
		},
		{
			"truncated answer of a server", "It is asked for over TCP, so that what is kept is whole.",
			question("large.up.test.", dns.TypeTXT, func(m *dns.Msg) { m.SetEdns0(1232, false) }),
			func(m *dns.Msg) string { return fmt.Sprint("TC ", m.Truncated, ", ", len(m.Answer)) },
			"TC true, 0", "TC false, 8",
		},
		{
			"ANY", "One record is enough (RFC 8482 §4.2).",
			question("db.x.example.", dns.TypeANY, nil),
			func(m *dns.Msg) string { return dns.Type(m.Answer[0].Header().Rrtype).String() },
			"A", "HINFO",
		},
	} {
		for who, at := range map[string]struct{ addr, want string }{"dnsmasq": {oracle.addr, row.oracle}, "we": {ours, row.ours}} {
			got := "nothing"
			r, _, err := (&dns.Client{Timeout: time.Second}).Exchange(row.ask.Copy(), at.addr)
			if err == nil {
				got = row.see(r)
			}
			if got != at.want {
				t.Errorf("%s: %s answer %s (%v), want %s (%s)\n%v", row.name, who, got, err, at.want, row.reason, r)
			}
		}
	}
}
