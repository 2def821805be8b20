package dnsd

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// A question is what a client wants to know, in class IN.
type question struct {
	name   string // in lower case, with a trailing dot, odd octets escaped
	asked  string // the same in the client's spelling
	qtype  uint16
	do, cd bool // DNSSEC data is wanted; unvalidated data will do
}

// about returns the same question about another name.
func (q question) about(name string) question {
	q.name, q.asked = dns.CanonicalName(name), name
	return q
}

// A query is one packet of a client that deserves a reply.
type query struct {
	question
	id     uint16
	opcode int
	class  uint16
	whole  bool // the question was understood and can be repeated
	rd     bool
	edns   bool
	size   int // the largest UDP payload the client takes
	fault  int // rcode that says why this is not answered; 0: it is
}

// What a UDP reply may hold: 512 octets unless the client says more
// (RFC 1035 §4.2.1), and never more than passes without fragments.
const (
	plainSize = 512
	maxSize   = 1232
	headerLen = 12
)

// parseQuery reads a packet. It returns nil for what must not be answered:
// packets too short to have an ID, and replies, which could make two servers
// answer each other for ever.
//
// Everything is checked here, octet by octet, so that nothing behind it meets
// a malformed question. No part of p is kept.
func parseQuery(p []byte) *query {
	if len(p) < headerLen {
		return nil
	}
	flags := binary.BigEndian.Uint16(p[2:])
	if flags>>15 == 1 {
		return nil
	}
	q := &query{
		id:     binary.BigEndian.Uint16(p),
		opcode: int(flags >> 11 & 0xf),
		rd:     flags>>8&1 == 1,
		size:   plainSize,
	}
	q.cd = flags>>4&1 == 1
	if q.opcode != dns.OpcodeQuery {
		q.fault = dns.RcodeNotImplemented // RFC 8906 §3.1.4
		return q
	}
	if binary.BigEndian.Uint16(p[4:]) != 1 { // RFC 9619
		q.fault = dns.RcodeFormatError
		return q
	}
	off, ok := q.readQuestion(p)
	if !ok || !q.readRecords(p, off) {
		q.fault = dns.RcodeFormatError
		return q
	}
	if q.fault == 0 {
		q.fault = q.policy()
	}
	return q
}

// readQuestion reads the only question and returns the offset behind it. A
// compressed name is refused: there is nothing before it to point to.
func (q *query) readQuestion(p []byte) (off int, ok bool) {
	off = headerLen
	for {
		if off >= len(p) || p[off] > 63 {
			return 0, false
		}
		if p[off] == 0 {
			break
		}
		off += 1 + int(p[off])
	}
	off++
	if off-headerLen > 255 || off+4 > len(p) {
		return 0, false
	}
	name, _, err := dns.UnpackDomainName(p[:off], headerLen)
	if err != nil {
		return 0, false
	}
	q.asked, q.name = name, dns.CanonicalName(name)
	q.qtype = binary.BigEndian.Uint16(p[off:])
	q.class = binary.BigEndian.Uint16(p[off+2:])
	q.whole = true
	return off + 4, true
}

// readRecords walks the records behind the question for the OPT record. It
// reports false if the packet ends before its counts do, or holds two of them
// (RFC 6891 §6.1.1).
func (q *query) readRecords(p []byte, off int) bool {
	before := int(binary.BigEndian.Uint16(p[6:])) + int(binary.BigEndian.Uint16(p[8:]))
	all := before + int(binary.BigEndian.Uint16(p[10:]))
	for i := range all {
		fixed, ok := skipName(p, off)
		if !ok || fixed+10 > len(p) {
			return false
		}
		end := fixed + 10 + int(binary.BigEndian.Uint16(p[fixed+8:]))
		if end > len(p) {
			return false
		}
		if binary.BigEndian.Uint16(p[fixed:]) == dns.TypeOPT {
			if q.edns || i < before || fixed != off+1 || !q.readOPT(p[fixed:end]) {
				return false
			}
		}
		off = end
	}
	return true
}

// readOPT reads an OPT record from its type on (RFC 6891 §6.1.2).
func (q *query) readOPT(rr []byte) bool {
	q.edns = true
	q.size = min(max(int(binary.BigEndian.Uint16(rr[2:])), plainSize), maxSize)
	q.do = rr[6]>>7 == 1
	if rr[5] != 0 {
		q.fault = dns.RcodeBadVers
	}
	const cookie = 10
	for data := rr[10:]; len(data) > 0; {
		if len(data) < 4 {
			return false
		}
		n := int(binary.BigEndian.Uint16(data[2:]))
		if 4+n > len(data) {
			return false
		}
		if binary.BigEndian.Uint16(data) == cookie && n != 8 && (n < 16 || n > 40) { // RFC 7873 §5.2.2
			return false
		}
		data = data[4+n:]
	}
	return true
}

// skipName returns the offset behind the name at off. Where a compressed name
// points to does not matter here.
func skipName(p []byte, off int) (int, bool) {
	for off < len(p) {
		switch n := int(p[off]); {
		case n == 0:
			return off + 1, true
		case n >= 0xc0:
			return off + 2, off+2 <= len(p)
		case n > 63:
			return 0, false
		default:
			off += 1 + n
		}
	}
	return 0, false
}

// policy returns the rcode for what is well formed and still not answered.
func (q *query) policy() int {
	switch {
	case q.qtype == dns.TypeOPT:
		return dns.RcodeFormatError
	case q.class != dns.ClassINET:
		return dns.RcodeRefused
	case q.qtype == dns.TypeAXFR, q.qtype == dns.TypeIXFR:
		return dns.RcodeRefused
	case q.qtype >= dns.TypeTKEY && q.qtype != dns.TypeANY && q.qtype < 256: // TKEY, TSIG, MAILB, MAILA
		return dns.RcodeNotImplemented
	}
	return dns.RcodeSuccess
}
