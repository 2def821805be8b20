package dnsd

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// A packed is an answer as octets that follow a header and a question. It is
// made once, and patched where it is copied to.
type packed struct {
	body   []byte    // the records, without OPT
	counts [3]uint16 // of answer, authority and additional records
	stored time.Time // TTLs are lowered by the time since then
	ttls   []uint16  // where in body they stand; none if they never age

	zone     *zone    // the question's name ends in this zone, at which pointers aim
	pointers []uint16 // where in body those stand
	serial   int      // where in body the zone's serial number stands, 0 if nowhere
}

// nothing is the answer without any record.
var nothing packed

// Octets of the fixed parts of a message.
const (
	pointerToQuestion = 0xc000 | headerLen
	fixedRR           = 10 // type, class, TTL and length of the data
	fixedOPT          = 1 + fixedRR
)

// pack returns records as octets that follow this question and no other.
func pack(q question, r *result) (*packed, error) {
	size := headerLen + len(q.name) + 8
	sections := [3][]dns.RR{r.answer, r.ns, r.extra}
	for _, rrs := range sections {
		for _, rr := range rrs {
			size += dns.Len(rr)
		}
	}
	buf := make([]byte, size)
	seen := map[string]int{}
	start, err := dns.PackDomainName(q.name, buf, headerLen, seen, true)
	if err != nil {
		if len(r.answer)+len(r.ns)+len(r.extra) == 0 {
			return &nothing, nil
		}
		return nil, fmt.Errorf("name %q: %w", q.name, err)
	}
	start += 4
	p := &packed{}
	off := start
	for i, rrs := range sections {
		p.counts[i] = uint16(len(rrs))
		for _, rr := range rrs {
			at := off
			// The library notes the length of the data in the record.
			if off, err = dns.PackRR(dns.Copy(rr), buf, off, seen, true); err != nil {
				return nil, fmt.Errorf("record %v: %w", rr, err)
			}
			fixed, _ := skipName(buf, at)
			p.ttls = append(p.ttls, uint16(min(fixed+4-start, 1<<16-1)))
		}
	}
	p.body = buf[start:off:off]
	return p, nil
}

// packOwn returns records that stand at the name of the question, whatever
// that is, as octets that follow any question.
func packOwn(rrs []dns.RR, extra []dns.RR) (*packed, error) {
	p := &packed{counts: [3]uint16{uint16(len(rrs)), 0, uint16(len(extra))}}
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		rr.Header().Name = "."
		wire := make([]byte, dns.Len(rr))
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			return nil, fmt.Errorf("record %v: %w", rr, err)
		}
		p.body = binary.BigEndian.AppendUint16(p.body, pointerToQuestion)
		p.body = append(p.body, wire[1:n]...)
	}
	for _, rr := range extra {
		wire := make([]byte, dns.Len(rr))
		n, err := dns.PackRR(dns.Copy(rr), wire, 0, nil, false)
		if err != nil {
			return nil, fmt.Errorf("record %v: %w", rr, err)
		}
		p.body = append(p.body, wire[:n]...)
	}
	return p, nil
}

// packNegative returns an SOA that proves the absence of data, as octets that
// follow any question.
func packNegative(soa dns.RR) (*packed, error) {
	p, err := packOwn(nil, []dns.RR{soa})
	if err == nil {
		p.counts = [3]uint16{0, 1, 0}
	}
	return p, err
}

// packSOA returns the zone's SOA record, in the answer or as proof of a
// negative one, as octets that follow any question within the zone.
func packSOA(z *zone, soa *dns.SOA, section int) *packed {
	p := &packed{zone: z}
	p.counts[section] = 1
	pointer := func() {
		p.pointers = append(p.pointers, uint16(len(p.body)))
		p.body = append(p.body, 0, 0)
	}
	label := func(text string) {
		p.body = append(append(p.body, byte(len(text))), text...)
		pointer()
	}
	pointer()
	p.body = binary.BigEndian.AppendUint16(p.body, dns.TypeSOA)
	p.body = binary.BigEndian.AppendUint16(p.body, dns.ClassINET)
	p.body = binary.BigEndian.AppendUint32(p.body, soa.Hdr.Ttl)
	length := len(p.body)
	p.body = append(p.body, 0, 0)
	label(nameServerLabel)
	label(hostmasterLabel)
	p.serial = len(p.body)
	for _, n := range []uint32{soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minttl} {
		p.body = binary.BigEndian.AppendUint32(p.body, n)
	}
	binary.BigEndian.PutUint16(p.body[length:], uint16(len(p.body)-length-2))
	return p
}

// append copies the answer behind the question that b ends in.
func (p *packed) append(b []byte, q *query, s *Server) []byte {
	start := len(b)
	b = append(b, p.body...)
	body := b[start:]
	if len(p.ttls) > 0 && !p.stored.IsZero() {
		if age := uint32(max(0, q.now.Sub(p.stored)/time.Second)); age > 0 {
			for _, at := range p.ttls {
				ttl := binary.BigEndian.Uint32(body[at:])
				binary.BigEndian.PutUint32(body[at:], ttl-min(ttl, age))
			}
		}
	}
	if p.zone != nil {
		to := uint16(0xc000 | (len(q.wire) - 4 - p.zone.wireLen))
		for _, at := range p.pointers {
			binary.BigEndian.PutUint16(body[at:], to)
		}
	}
	if p.serial > 0 {
		binary.BigEndian.PutUint32(body[p.serial:], uint32(s.dir.Revision()))
	}
	return b
}

// unpack returns the records of an answer that pack made for q.
func (p *packed) unpack(q question, now time.Time) (answer, ns []dns.RR) {
	asked := &query{question: q, now: now, whole: true}
	asked.wire = make([]byte, headerLen+len(q.name)+8)
	off, err := dns.PackDomainName(q.name, asked.wire, headerLen, nil, false)
	if err != nil {
		return nil, nil
	}
	asked.wire = asked.wire[:off+4]
	m := new(dns.Msg)
	if m.Unpack(p.append(appendHeader(nil, asked, p, 0, false, false, false), asked, nil)) != nil { // we packed it ourselves
		return nil, nil
	}
	return m.Answer, m.Ns
}

// Flags of a message's header.
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagCD = 1 << 4
)

// appendHeader appends the header of a reply and the question it answers.
func appendHeader(b []byte, q *query, p *packed, rcode int, aa, truncated, recursion bool) []byte {
	start := len(b)
	b = append(b, q.wire...)
	flags := uint16(flagQR | q.opcode<<11 | rcode&0xf)
	for _, f := range [...]struct {
		set bool
		bit uint16
	}{{aa, flagAA}, {truncated, flagTC}, {q.rd, flagRD}, {recursion, flagRA}, {q.cd, flagCD}} {
		if f.set {
			flags |= f.bit
		}
	}
	h := b[start:]
	binary.BigEndian.PutUint16(h[2:], flags)
	var questions, opts uint16
	if q.whole {
		questions = 1
	}
	if q.edns {
		opts = 1
	}
	binary.BigEndian.PutUint16(h[4:], questions)
	binary.BigEndian.PutUint16(h[6:], p.counts[0])
	binary.BigEndian.PutUint16(h[8:], p.counts[1])
	binary.BigEndian.PutUint16(h[10:], p.counts[2]+opts)
	return b
}

// optSize returns the octets of the OPT record with an extended error.
func optSize(ede *dns.EDNS0_EDE) int {
	if ede == nil {
		return fixedOPT
	}
	return fixedOPT + 6 + len(ede.ExtraText)
}

// appendOPT appends the OPT record of a message whose sender takes so many
// octets (RFC 6891 §6.1.2), with an extended error if there is one (RFC 8914
// §2).
func appendOPT(b []byte, q *query, size, rcode int, ede *dns.EDNS0_EDE) []byte {
	b = append(b, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), byte(rcode>>4), 0, 0, 0)
	if q.do {
		b[len(b)-2] = 0x80
	}
	if ede == nil {
		return append(b, 0, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(optSize(ede)-fixedOPT))
	b = binary.BigEndian.AppendUint16(b, dns.EDNS0EDE)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(ede.ExtraText)))
	b = binary.BigEndian.AppendUint16(b, ede.InfoCode)
	return append(b, ede.ExtraText...)
}
