package dnsd

import (
	"bytes"
	"encoding/binary"
	"strings"
	"time"
	"unsafe"

	"github.com/miekg/dns"
)

// A question is what a client wants to know, in class IN.
type question struct {
	// name is in lower case, with a trailing dot and odd octets escaped; a dot
	// inside a label is written \046, so that every dot parts two labels. On
	// its way to a ready answer it lies in a buffer that the next packet
	// overwrites: whoever keeps it longer copies it.
	name   string
	qtype  uint16
	do, cd bool // DNSSEC data is wanted; unvalidated data will do
}

// about returns the same question about another name, which need not be in
// lower case.
func (q question) about(name string) question {
	q.name = canonical(name)
	return q
}

// canonical returns a name in the form that questions have it in.
func canonical(name string) string {
	name = dns.CanonicalName(name)
	if !strings.Contains(name, `\.`) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] != '\\' || i+1 == len(name):
			b.WriteByte(name[i])
		case name[i+1] == '.':
			b.WriteString(`\046`)
			i++
		default:
			b.WriteString(name[i : i+2])
			i++
		}
	}
	return b.String()
}

// maxText is the longest a name can be when each of its octets is escaped.
const maxText = 4 * 256

// A query is one packet of a client that deserves a reply.
type query struct {
	question
	wire   []byte // the packet's header and, if whole, its question
	opcode int
	class  uint16
	whole  bool // the question was understood and can be repeated
	rd     bool
	edns   bool
	size   int       // the largest UDP payload the client takes
	signed bool      // it ends in a TSIG record
	fault  int       // rcode that says why this is not answered; 0: it is
	start  time.Time // when it came
	now    time.Time // when it is answered

	signature *signature // what that was, if it was verified
	brought   *entry     // what upstreams have just said; nil: they were not asked

	text []byte // holds the name, in room that is used again
}

// kept returns a copy that stays as it is when the packet it came in is gone.
func (q *query) kept() query {
	k := *q
	k.wire, k.text = bytes.Clone(q.wire), nil
	k.name = strings.Clone(q.name)
	return k
}

// asked returns the name in the client's spelling.
func (q *query) asked() string {
	if !q.whole {
		return ""
	}
	name, _, _ := dns.UnpackDomainName(q.wire, headerLen)
	return name
}

// What a UDP reply may hold: 512 octets unless the client says more
// (RFC 1035 §4.2.1), and no more than passes without fragments unless habits
// differ.
const (
	plainSize = 512
	maxSize   = 1232
	headerLen = 12
)

// parse reads a packet. It reports false for what must not be answered:
// packets too short to have an ID, and replies, which could make two servers
// answer each other for ever.
//
// Everything is checked here, octet by octet, so that nothing behind it meets
// a malformed question. q refers to p until it is kept.
func (q *query) parse(p []byte) bool {
	if len(p) < headerLen {
		return false
	}
	flags := binary.BigEndian.Uint16(p[2:])
	if flags>>15 == 1 {
		return false
	}
	q.question = question{cd: flags>>4&1 == 1}
	q.wire, q.whole, q.edns, q.signed, q.signature, q.fault = p[:headerLen], false, false, false, nil, 0
	q.opcode = int(flags >> 11 & 0xf)
	q.rd = flags>>8&1 == 1
	q.size = plainSize
	if q.opcode != dns.OpcodeQuery {
		q.fault = dns.RcodeNotImplemented // RFC 8906 §3.1.4
		return true
	}
	if binary.BigEndian.Uint16(p[4:]) != 1 { // RFC 9619
		q.fault = dns.RcodeFormatError
		return true
	}
	off, ok := q.readQuestion(p)
	if !ok || !q.readRecords(p, off) {
		q.fault = dns.RcodeFormatError
		return true
	}
	if q.fault == 0 {
		q.fault = q.policy()
	}
	return true
}

// readQuestion reads the only question and returns the offset behind it. A
// compressed name is refused: there is nothing before it to point to.
func (q *query) readQuestion(p []byte) (off int, ok bool) {
	text := q.text[:0]
	for off = headerLen; ; {
		if off >= len(p) || p[off] > 63 {
			return 0, false
		}
		n := int(p[off])
		off++
		if n == 0 {
			break
		}
		if off+n > len(p) || off+n-headerLen > 254 {
			return 0, false
		}
		text = appendLabel(text, p[off:off+n])
		off += n
	}
	if off+4 > len(p) {
		return 0, false
	}
	if len(text) == 0 {
		text = append(text, '.')
	}
	q.name, q.text = unsafe.String(&text[0], len(text)), text
	q.qtype = binary.BigEndian.Uint16(p[off:])
	q.class = binary.BigEndian.Uint16(p[off+2:])
	q.wire, q.whole = p[:off+4], true
	return off + 4, true
}

// appendLabel appends a label and the dot behind it as text in lower case.
func appendLabel(text, label []byte) []byte {
	for _, c := range label {
		switch {
		case 'A' <= c && c <= 'Z':
			text = append(text, c+'a'-'A')
		case c < '!' || c > '~' || c == '.':
			if c == ' ' {
				text = append(text, '\\', ' ')
				continue
			}
			text = append(text, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		case c == '\'' || c == '@' || c == ';' || c == '(' || c == ')' || c == '"' || c == '\\':
			text = append(text, '\\', c)
		default:
			text = append(text, c)
		}
	}
	return append(text, '.')
}

// readRecords walks the records behind the question for the OPT record. It
// reports false if the packet ends before its counts do, holds two of them
// (RFC 6891 §6.1.1), or a TSIG record that is not its last (RFC 8945 §5.1).
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
		switch binary.BigEndian.Uint16(p[fixed:]) {
		case dns.TypeOPT:
			if q.edns || i < before || fixed != off+1 || !q.readOPT(p[fixed:end]) {
				return false
			}
		case dns.TypeTSIG:
			if i < before || i < all-1 {
				return false
			}
			q.signed = true
		}
		off = end
	}
	return true
}

// readOPT reads an OPT record from its type on (RFC 6891 §6.1.2).
func (q *query) readOPT(rr []byte) bool {
	q.edns = true
	q.size = max(int(binary.BigEndian.Uint16(rr[2:])), plainSize)
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
