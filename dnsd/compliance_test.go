package dnsd_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestCompliance asks what RFC 8906 §8 has testers ask: whatever is unknown in
// a query is neither repeated nor a reason to be silent.
func TestCompliance(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil)
	const (
		qr, aa, tc, rd, ra, z, ad, cd = 1 << 15, 1 << 10, 1 << 9, 1 << 8, 1 << 7, 1 << 6, 1 << 5, 1 << 4
		opcode                        = 0xf << 11
	)
	none := func([]byte) {}
	set := func(bits uint16) func([]byte) {
		return func(p []byte) { binary.BigEndian.PutUint16(p[2:], binary.BigEndian.Uint16(p[2:])|bits) }
	}
	name := "www-1234." + zone + "."
	for _, row := range []struct {
		name    string
		qname   string
		qtype   uint16
		edns    func(*dns.Msg) // nil: none
		patch   func([]byte)
		rcode   int
		flags   uint16 // of the reply, beside its opcode and rcode
		answers int
	}{
		{"plain (8.1.1)", name, dns.TypeA, nil, none, 0, qr | aa | rd, 1},
		{"unknown type (8.1.2)", name, 1000, nil, none, 0, qr | aa | rd, 0},
		{"all flags but QR (8.1.3)", name, dns.TypeA, nil, set(aa | tc | rd | ra | z | ad | cd), 0, qr | aa | rd | cd, 1},
		{"reserved flag (8.1.3.1)", name, dns.TypeA, nil, set(z), 0, qr | aa | rd, 1},
		{"no recursion wanted (8.1.3.2)", name, dns.TypeA, nil, func(p []byte) { p[2] &^= 1 }, 0, qr | aa, 1},
		{"unknown opcode (8.1.4)", name, dns.TypeA, nil, set(opcode), dns.RcodeNotImplemented, qr | rd, 0},
		{"minimal EDNS (8.2.1)", name, dns.TypeA, opt(0), none, 0, qr | aa | rd, 1},
		{"EDNS version 1 (8.2.2)", name, dns.TypeA, opt(1), none, dns.RcodeBadVers, qr | rd, 0},
		{"unknown EDNS option (8.2.3)", name, dns.TypeA, opt(0, &dns.EDNS0_LOCAL{Code: 100, Data: []byte("x")}), none, 0, qr | aa | rd, 1},
		{"unknown EDNS flag (8.2.4)", name, dns.TypeA, opt(0), func(p []byte) { p[len(p)-3] |= 0x40 }, 0, qr | aa | rd, 1},
		{"version 1, option (8.2.5)", name, dns.TypeA, opt(1, &dns.EDNS0_LOCAL{Code: 100}), none, dns.RcodeBadVers, qr | rd, 0},
		{"version 1, flag (8.2.6)", name, dns.TypeA, opt(1), func(p []byte) { p[len(p)-3] |= 0x40 }, dns.RcodeBadVers, qr | rd, 0},
		{"DNSSEC wanted (8.2.7)", name, dns.TypeA, func(m *dns.Msg) { m.SetEdns0(1232, true) }, none, 0, qr | aa | rd, 1},
		{"room for nothing (RFC 6891 6.2.3)", name, dns.TypeA, func(m *dns.Msg) { m.SetEdns0(0, false) }, none, 0, qr | aa | rd, 1},
		{"NSID", name, dns.TypeA, opt(0, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}), none, 0, qr | aa | rd, 1},
		{"client subnet", name, dns.TypeA, opt(0, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(192, 0, 2, 0)}), none, 0, qr | aa | rd, 1},
		{"ANY (RFC 8482)", name, dns.TypeANY, nil, none, 0, qr | aa | rd, 1},
		{"ANY, no such name", "no." + zone + ".", dns.TypeANY, nil, none, dns.RcodeNameError, qr | aa | rd, 0},
		{"elsewhere", "example.com.", dns.TypeA, opt(0), none, dns.RcodeRefused, qr | rd, 0},
	} {
		m := new(dns.Msg).SetQuestion(row.qname, row.qtype)
		if row.edns != nil {
			row.edns(m)
		}
		query := pack(m)
		if row.edns != nil && len(m.IsEdns0().Option) == 0 {
			row.patch(query[:len(query)-1]) // the flags stand before the length, which is 0
		} else {
			row.patch(query)
		}
		for _, network := range []string{"udp", "tcp"} {
			var reply []byte
			if network == "udp" {
				reply = raw(t, s.addrs[0], query, 2*time.Second)
			} else {
				c := dialTCP(t, s.addrs[0])
				c.Write(framed(query))
				c.SetReadDeadline(time.Now().Add(2 * time.Second))
				back, err := (&dns.Conn{Conn: c}).ReadMsgHeader(nil)
				if err != nil {
					t.Fatalf("%s over tcp: %v", row.name, err)
				}
				reply = back
				c.Close()
			}
			if reply == nil {
				t.Fatalf("%s over %s: no reply", row.name, network)
			}
			got := new(dns.Msg)
			if err := got.Unpack(reply); err != nil {
				t.Fatalf("%s over %s: %v", row.name, network, err)
			}
			flags := binary.BigEndian.Uint16(reply[2:]) &^ (opcode | 0xf)
			if got.Rcode != row.rcode || flags != row.flags || len(got.Answer) != row.answers {
				t.Errorf("%s over %s: %s, flags %016b, %d answers; want %s, %016b, %d", row.name, network,
					dns.RcodeToString[got.Rcode], flags, len(got.Answer), dns.RcodeToString[row.rcode], row.flags, row.answers)
			}
			o := got.IsEdns0()
			if (o != nil) != (row.edns != nil) {
				t.Errorf("%s over %s: OPT in reply: %v", row.name, network, o)
			}
			if o != nil && (o.Version() != 0 || o.UDPSize() != 1232 || len(options(o)) > 0 || o.Z() != 0 || o.Do() != m.IsEdns0().Do()) {
				t.Errorf("%s over %s: the reply speaks %v", row.name, network, o)
			}
		}
	}
}

// options returns what an OPT record holds beside extended errors, which
// nobody has to ask for.
func options(o *dns.OPT) []dns.EDNS0 {
	var out []dns.EDNS0
	for _, e := range o.Option {
		if _, ede := e.(*dns.EDNS0_EDE); !ede {
			out = append(out, e)
		}
	}
	return out
}

// TestNobodyReads: connections that ask and never read lose their places, and
// those who ask by UDP do not notice.
func TestNobodyReads(t *testing.T) {
	c := shop("1234")
	for i := range 200 {
		c.Hosts["many"] = append(c.Hosts["many"], addrs(net.IPv4(10, 81, 0, byte(i)).String())...)
	}
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, c)}, func(s *dnsd.Server) { s.SetTiming(0, 0, 0, 0, 500*time.Millisecond) }, nil)
	question := framed(pack(new(dns.Msg).SetQuestion("many.1234."+zone+".", dns.TypeA)))
	for range 16 {
		conn := dialTCP(t, s.addrs[0])
		conn.(*net.TCPConn).SetReadBuffer(4096)
		go func() {
			for {
				if _, err := conn.Write(question); err != nil {
					return
				}
			}
		}()
	}
	for range 200 {
		start := time.Now()
		if got := short(ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)); got != gatewayA || time.Since(start) > time.Second {
			t.Fatalf("UDP meanwhile: %s after %v", got, time.Since(start))
		}
	}
	eventually(t, 10*time.Second, "a place free again", func() bool {
		m := new(dns.Msg).SetQuestion("www-1234."+zone+".", dns.TypeA)
		r, _, err := (&dns.Client{Net: "tcp", Timeout: time.Second}).Exchange(m, s.addrs[0])
		return err == nil && short(r) == gatewayA
	})
}
