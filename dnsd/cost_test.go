package dnsd

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fastest returns the shortest of several times that a function takes, so that
// what else the machine does counts for nothing.
func fastest(f func()) time.Duration {
	least := time.Hour
	for range 20 {
		start := time.Now()
		f()
		least = min(least, time.Since(start))
	}
	return least
}

// hostileNames are what RFC 9267 warns of, each as octets that stand where a
// name is expected, at offset 12 of a message or later.
func hostileNames(at int) map[string][]byte {
	pointer := func(to int) []byte { return []byte{0xc0 | byte(to>>8), byte(to)} }
	var chain []byte // each pointer leads to the one before
	for i := range 2000 {
		chain = append(chain, pointer(max(at, at+2*(i-1)))...)
	}
	var ladder []byte // labels and pointers, each of which leads to the one before
	for i := range 1000 {
		ladder = append(append(ladder, 1, 'a'), pointer(max(at, at+4*(i-1)))...)
	}
	return map[string][]byte{
		"pointer to itself":             pointer(at),
		"pointers to each other":        append(pointer(at+2), pointer(at)...),
		"pointer forward":               append(pointer(at+100), make([]byte, 200)...),
		"pointer past the end":          pointer(0x3fff),
		"pointer into the header":       pointer(0),
		"2,000 pointers":                chain,
		"1,000 labels with a pointer":   ladder,
		"label that leads to itself":    append([]byte{1, 'a'}, pointer(at)...),
		"label type 0x40":               {0x41, 'a', 0},
		"label type 0x80":               {0x81, 'a', 0},
		"label of 64 octets":            append(append([]byte{64}, bytes.Repeat([]byte{'a'}, 64)...), 0),
		"name of 256 octets":            append(bytes.Repeat(append([]byte{63}, bytes.Repeat([]byte{'a'}, 63)...), 4), 0),
		"name of 128 labels":            append(bytes.Repeat([]byte{1, 'a'}, 128), 0),
		"name of 60,000 octets":         bytes.Repeat([]byte{1, 'a'}, 30_000),
		"label past the end":            {63, 'a'},
		"nothing":                       {},
		"length octet alone":            {5},
		"half a pointer":                {0xc0},
		"an octet of zero in the label": {3, 'a', 0, 'b', 0},
	}
}

// TestHostileNames: a name that is none ends the reading of a packet or of a
// reply at once, wherever in the message it stands.
func TestHostileNames(t *testing.T) {
	authoritative, resolver := hitFronts(t)
	client := netip.MustParseAddrPort("127.0.0.1:4242")
	query := authoritative.upstreamQuery(question{name: "www.example.", qtype: dns.TypeA}, netip.AddrPort{}, false)
	fixed := []byte{0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 1}
	for name, octets := range hostileNames(headerLen) {
		for _, row := range []struct {
			where  string
			counts uint64 // of questions and of records
			tail   []byte
		}{
			{"as the question", 1 << 48, []byte{0, 1, 0, 1}},
			{"as the question, cut", 1 << 48, nil},
			{"as the question before as many records as can be", 1<<48 | 0xffffffffffff, []byte{0, 1, 0, 1}},
		} {
			p := binary.BigEndian.AppendUint64([]byte{0xbe, 0xef, 1, 0}, row.counts)
			p = append(append(p, octets...), row.tail...)
			for _, f := range []*front{authoritative, resolver} {
				w := f.newWorker()
				reply, waiting := w.take(p, client, true)
				if waiting == nil && reply != nil && reply[3]&0xf != dns.RcodeFormatError && !strings.Contains(name, "zero") {
					t.Errorf("%s %s: rcode %d", name, row.where, reply[3]&0xf)
				}
				if took := fastest(func() { w.take(p, client, true) }); took > time.Millisecond*slowed {
					t.Errorf("%s %s takes %v", name, row.where, took)
				}
			}
		}
	}
	for name, octets := range hostileNames(len(query)) {
		for where, tail := range map[string][]byte{"as an owner": fixed, "as an owner, cut": nil} {
			reply := append(append(bytes.Clone(query), octets...), tail...)
			reply[2], reply[7] = 0x81, 1
			try(t, name+" "+where, reply, query)
		}
		// As what an alias leads to.
		reply := append(bytes.Clone(query), 0xc0, headerLen, 0, 5, 0, 1, 0, 0, 0, 60)
		reply[2], reply[7] = 0x81, 1
		target := hostileNames(len(reply) + 2)[name]
		try(t, name+" as a target", append(binary.BigEndian.AppendUint16(reply, uint16(len(target))), target...), query)
		try(t, name+" as a target past the end", append(binary.BigEndian.AppendUint16(bytes.Clone(reply), 0xffff), target...), query)
	}
}

// try reads a reply that is either none or has a name that can be sent on.
func try(t *testing.T, name string, reply, query []byte) {
	t.Helper()
	var m *dns.Msg
	var ok bool
	if took := fastest(func() { m, ok = readReply(bytes.Clone(reply), dns.MaxMsgSize+1, query) }); took > time.Millisecond*slowed {
		t.Errorf("%s takes %v", name, took)
	}
	if ok {
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s is taken for %v, which cannot be sent: %v", name, m, err)
		}
	}
}

// TestHeavyReplyCost: 64 KiB of signatures and keys, which would keep whoever
// validates them busy for minutes (CVE-2023-50387), cost what it takes to read
// them: less than 5 ms.
func TestHeavyReplyCost(t *testing.T) {
	authoritative, _ := hitFronts(t)
	s := authoritative.Server
	q := question{name: "h.example.", qtype: dns.TypeDNSKEY, do: true}
	query := s.upstreamQuery(q, netip.AddrPort{}, true)
	lowerName(query[headerLen:])
	m := new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		t.Fatal(err)
	}
	m.Response, m.AuthenticatedData, m.Compress, m.Extra = true, true, true, nil
	for i := range 3000 {
		h := dns.RR_Header{Name: q.name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 60}
		if i%3 == 0 {
			h.Rrtype = dns.TypeRRSIG
			m.Answer = append(m.Answer, &dns.RRSIG{Hdr: h, TypeCovered: dns.TypeDNSKEY, Algorithm: 8, KeyTag: uint16(i), SignerName: "."})
		} else {
			m.Answer = append(m.Answer, &dns.DNSKEY{Hdr: h, Flags: uint16(i), Protocol: 3, Algorithm: 8})
		}
	}
	reply, err := m.Pack()
	if err != nil || len(reply) < 50_000 || len(reply) > dns.MaxMsgSize {
		t.Fatalf("%d octets, %v", len(reply), err)
	}
	var e *entry
	took := fastest(func() {
		read, ok := readReply(bytes.Clone(reply), dns.MaxMsgSize+1, query)
		if !ok {
			t.Fatal("not taken for a reply")
		}
		clean, err := s.clean(read, q)
		if err != nil || clean.AuthenticatedData {
			t.Fatalf("AD %t, %v", clean.AuthenticatedData, err)
		}
		e = s.newEntry(cacheKey{name: q.name, qtype: q.qtype, do: true}, clean, s.now())
	})
	t.Logf("%d octets in %v", len(reply), took)
	if took > 5*time.Millisecond*slowed {
		t.Errorf("reading and packing %d octets took %v", len(reply), took)
	}
	if e.ready == nil || e.ready.packed.counts[0] != 3000 {
		t.Errorf("kept: %+v", e)
	}
}

// TestManyOptions: what an OPT record holds is read once from its beginning to
// its end, and nothing of it comes back.
func TestManyOptions(t *testing.T) {
	authoritative, _ := hitFronts(t)
	client := netip.MustParseAddrPort("127.0.0.1:4242")
	cost := func(n int) time.Duration {
		p := wireQuestion(t, "www-1234.test_envs.localhost.")
		p[11] = 1
		p = append(p, 0, 0, byte(dns.TypeOPT), 0x04, 0xd0, 0, 0, 0, 0)
		p = binary.BigEndian.AppendUint16(p, uint16(4*n))
		p = append(p, bytes.Repeat([]byte{0xfd, 0xe9, 0, 0}, n)...)
		w := authoritative.newWorker()
		reply, _ := w.take(p, client, true)
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil || m.Rcode != 0 || m.IsEdns0() == nil || len(m.IsEdns0().Option) > 0 {
			t.Errorf("%d options: %v, %v", n, m, err)
		}
		return fastest(func() { w.take(p, client, true) })
	}
	few, many := cost(1000), cost(10_000)
	if many > 30*few+100*time.Microsecond || many > time.Millisecond*slowed {
		t.Errorf("1,000 options take %v, 10,000 take %v", few, many)
	}
}

func wireQuestion(t *testing.T, name string) []byte {
	p, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
