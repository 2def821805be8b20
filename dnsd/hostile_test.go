package dnsd_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// wire returns a packed question for www-1234 in the zone.
func wire(change func(*dns.Msg)) []byte {
	m := new(dns.Msg)
	m.SetQuestion("www-1234."+zone+".", dns.TypeA)
	m.Id = 0xbeef
	if change != nil {
		change(m)
	}
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return p
}

// header returns a message header with the given flags and counts.
func header(flags uint16, counts ...uint16) []byte {
	p := binary.BigEndian.AppendUint16([]byte{0xbe, 0xef}, flags)
	for i := range 4 {
		var n uint16
		if i < len(counts) {
			n = counts[i]
		}
		p = binary.BigEndian.AppendUint16(p, n)
	}
	return p
}

func opt(version uint8, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().SetVersion(version)
		m.IsEdns0().Option = options
	}
}

const dropped = -1

// hostileRows are packets and the rcode each is answered with, or dropped.
func hostileRows() []hostileRow {
	question := []byte("\x03www\x00\x00\x01\x00\x01")
	label64 := append([]byte{64}, bytes.Repeat([]byte{'a'}, 64)...)
	long := bytes.Repeat(append([]byte{63}, bytes.Repeat([]byte{'a'}, 63)...), 4) // 256 octets and the root
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	return []hostileRow{
		{"empty", nil, dropped},
		{"one octet", []byte{1}, dropped},
		{"eleven octets", header(0x100, 1)[:11], dropped},
		{"header alone, no counts", header(0x100), dns.RcodeFormatError},
		{"header alone, one question", header(0x100, 1), dns.RcodeFormatError},
		{"header alone, many questions", header(0x100, 0xffff, 0xffff, 0xffff, 0xffff), dns.RcodeFormatError},
		{"a reply", wire(func(m *dns.Msg) { m.Response = true }), dropped},
		{"a reply, header alone", header(0x8000), dropped},
		{"two questions", wire(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"no question, cookie", wire(func(m *dns.Msg) { m.Question = nil; m.SetEdns0(1232, false) }), dns.RcodeFormatError},
		{"opcode STATUS", wire(func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), dns.RcodeNotImplemented},
		{"opcode NOTIFY", wire(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		{"opcode UPDATE", wire(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"opcode 15, header alone", header(0x7800), dns.RcodeNotImplemented},
		{"class CH", wire(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		{"class CH, version.bind", wire(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), dns.RcodeRefused},
		{"class NONE", wire(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassNONE }), dns.RcodeRefused},
		{"class ANY", wire(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), dns.RcodeRefused},
		{"AXFR", wire(func(m *dns.Msg) { m.SetAxfr(zone + "."); m.Id = 0xbeef }), dns.RcodeRefused},
		{"IXFR", wire(func(m *dns.Msg) { m.SetIxfr(zone+".", 1, ".", "."); m.Id = 0xbeef }), dns.RcodeRefused},
		{"type OPT", wire(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }), dns.RcodeFormatError},
		{"type TSIG", wire(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTSIG }), dns.RcodeNotImplemented},
		{"type MAILB", wire(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMAILB }), dns.RcodeNotImplemented},
		{"type 65535", wire(func(m *dns.Msg) { m.Question[0].Qtype = 65535 }), dns.RcodeSuccess},
		{"type 0", wire(func(m *dns.Msg) { m.Question[0].Qtype = 0 }), dns.RcodeSuccess},
		{"EDNS version 1", wire(opt(1)), dns.RcodeBadVers},
		{"EDNS version 255", wire(opt(255)), dns.RcodeBadVers},
		{"unknown EDNS option", wire(opt(0, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")})), dns.RcodeSuccess},
		{"client cookie", wire(opt(0, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})), dns.RcodeSuccess},
		{"cookie of 7 octets", wire(opt(0, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcd"})), dns.RcodeFormatError},
		{"cookie of 41 octets", wire(opt(0, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: strings.Repeat("ab", 41)})), dns.RcodeFormatError},
		{"two OPT", wire(func(m *dns.Msg) { opt(0)(m); m.Extra = append(m.Extra, m.Extra[0]) }), dns.RcodeFormatError},
		{"OPT with a name", cat(header(0x100, 1, 0, 0, 1), question, []byte("\x01a\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00")), dns.RcodeFormatError},
		{"OPT as an answer", cat(header(0x100, 1, 1), question, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00")), dns.RcodeFormatError},
		{"OPT option past its end", cat(header(0x100, 1, 0, 0, 1), question, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x08")), dns.RcodeFormatError},
		{"RDLENGTH past the end", cat(header(0x100, 1, 0, 0, 1), question, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\xff\xff")), dns.RcodeFormatError},
		{"counts beyond the packet", cat(header(0x100, 1, 0, 0, 9), question), dns.RcodeFormatError},
		{"pointer to itself", cat(header(0x100, 1), []byte("\xc0\x0c\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"pointer into the header", cat(header(0x100, 1), []byte("\xc0\x00\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"pointer forward", cat(header(0x100, 1), []byte("\xc0\x12\x00\x01\x00\x01\x03www\x00")), dns.RcodeFormatError},
		{"pointers to each other", cat(header(0x100, 1), []byte("\xc0\x0e\xc0\x0c\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"pointer behind a label", cat(header(0x100, 1), []byte("\x03www\xc0\x0c\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"label type 0x40", cat(header(0x100, 1), []byte("\x41a\x00\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"label type 0x80", cat(header(0x100, 1), []byte("\x81a\x00\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"label of 64 octets", cat(header(0x100, 1), label64, []byte("\x00\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"name of 257 octets", cat(header(0x100, 1), long, []byte("\x00\x00\x01\x00\x01")), dns.RcodeFormatError},
		{"name of 255 octets", cat(header(0x100, 1), long[:192], []byte{61}, bytes.Repeat([]byte{'b'}, 61), []byte("\x00\x00\x01\x00\x01")), dns.RcodeRefused},
		{"name without an end", cat(header(0x100, 1), long[:192]), dns.RcodeFormatError},
		{"question without its class", cat(header(0x100, 1), question[:len(question)-1]), dns.RcodeFormatError},
		{"ten thousand empty options", cat(header(0x100, 1, 0, 0, 1), question, []byte("\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x0f\x00"), bytes.Repeat([]byte{0xfd, 0xe9, 0, 0}, 960)), dns.RcodeRefused},
		{"a question and junk behind it", cat(wire(nil), bytes.Repeat([]byte{0xff}, 100)), dns.RcodeSuccess},
		{"root", cat(header(0x100, 1), []byte("\x00\x00\x02\x00\x01")), dns.RcodeRefused},
	}
}

type hostileRow struct {
	name   string
	packet []byte
	want   int
}

func TestHostile(t *testing.T) {
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, nil)
	for _, row := range hostileRows() {
		t.Run(row.name, func(t *testing.T) {
			wait := 2 * time.Second
			if row.want == dropped {
				wait = 20 * time.Millisecond
			}
			reply := raw(t, s.addrs[0], row.packet, wait)
			if row.want == dropped {
				if reply != nil {
					t.Fatalf("got %x, want silence", reply)
				}
				return
			}
			if len(reply) < 12 || len(reply) > 512 && len(reply) > 1232 {
				t.Fatalf("reply has %d octets", len(reply))
			}
			m := new(dns.Msg)
			if err := m.Unpack(reply); err != nil {
				t.Fatalf("reply %x: %v", reply, err)
			}
			if m.Id != 0xbeef || !m.Response || m.Rcode != row.want {
				t.Errorf("got ID %x, QR %t, %s; want %s", m.Id, m.Response, dns.RcodeToString[m.Rcode], dns.RcodeToString[row.want])
			}
			if o := m.IsEdns0(); o != nil && (o.Version() != 0 || o.UDPSize() != 1232) {
				t.Errorf("reply speaks %v, want EDNS version 0 and 1232 octets", o)
			}
			if m.Rcode == dns.RcodeBadVers && m.IsEdns0() == nil {
				t.Error("BADVERS without OPT")
			}
		})
	}
	if got := short(ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)); got != gatewayA {
		t.Errorf("afterwards: %s", got)
	}
}

// TestSize: nobody is sent more than they can take, however much there is.
func TestSize(t *testing.T) {
	c := shop("1234")
	for i := range 100 {
		c.Hosts["many"] = append(c.Hosts["many"], addrs(fmt.Sprintf("10.81.0.%d", i))...)
	}
	w := newWorld(t, c)
	s := serve(t, dnsd.Config{Directory: w}, nil)
	name := "many.1234." + zone + "."
	for _, row := range []struct {
		edns    uint16
		network string
		full    bool
	}{
		{0, "udp", false},
		{100, "udp", false},
		{512, "udp", false},
		{1232, "udp", false},
		{65535, "udp", false},
		{0, "tcp", true},
	} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		if row.edns > 0 {
			m.SetEdns0(row.edns, true)
		}
		client := &dns.Client{Net: row.network, UDPSize: 65535}
		r, _, err := client.Exchange(m, s.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		if r.Truncated == row.full || (len(r.Answer) == 100) != row.full {
			t.Errorf("%s, EDNS %d: TC %t with %d of 100 records", row.network, row.edns, r.Truncated, len(r.Answer))
		}
		if o := r.IsEdns0(); (o != nil) != (row.edns > 0) || o != nil && !o.Do() {
			t.Errorf("%s, EDNS %d: reply has OPT %v", row.network, row.edns, o)
		}
	}
	// 60 addresses fit 1232 octets and not 512.
	c2 := shop("1234")
	c2.Hosts["many"] = c.Hosts["many"][:60]
	w.set(c2)
	for edns, full := range map[uint16]bool{0: false, 600: false, 1232: true, 4096: true} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		if edns > 0 {
			m.SetEdns0(edns, false)
		}
		if r := send(t, s.addrs[0], m); (len(r.Answer) == 60) != full || r.Truncated == full {
			t.Errorf("60 addresses with EDNS %d: %d records, TC %t", edns, len(r.Answer), r.Truncated)
		}
	}
}

// TestJunk: packets that mean nothing cost no goroutine and no memory that stays.
func TestJunk(t *testing.T) {
	up := newUpstream(t, silent)
	s := serveWith(t, dnsd.Config{Directory: newWorld(t, shop("1234"))}, func(s *dnsd.Server) {
		s.SetTiming(300*time.Millisecond, 0, 300*time.Millisecond, 0, 0)
	}, nil, to(up))
	ask(t, s.addrs[0], zone+".", dns.TypeSOA) // everything has started
	before := runtime.NumGoroutine()
	most := 0
	good := wire(nil)
	for _, addr := range s.addrs {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 50_000 {
			p := make([]byte, random.IntN(64))
			for j := range p {
				p[j] = byte(random.Uint32())
			}
			if i%3 == 0 { // half right is worse than wrong
				p = append([]byte(nil), good...)
				p[random.IntN(len(p))] ^= byte(1 + random.IntN(255))
			}
			conn.Write(p)
			if i%1000 == 0 {
				most = max(most, runtime.NumGoroutine())
			}
		}
		conn.Close()
		start := time.Now()
		for raw(t, addr, good, 100*time.Millisecond) == nil { // the socket may still be full
			if time.Since(start) > time.Second {
				t.Fatal("no answer a second after the flood")
			}
		}
	}
	// At most 1,000 questions of one group wait, each with a goroutine, its
	// flight's, and those of the tries, which have one more when they end.
	if most > before+1000*6 {
		t.Errorf("%d goroutines during the flood, %d before", most, before)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+10; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines after the flood, %d before", runtime.NumGoroutine(), before)
		}
	}
	if entries, size := s.CacheSize(); entries > 20_000 || size > 32<<20 {
		t.Errorf("cache holds %d entries of %d octets", entries, size)
	}
}
