package dnsd

import (
	"github.com/miekg/dns"
)

// A result is what answers a question, before it becomes a message for the
// one who asked. Its records may be shared: they are copied, never changed.
type result struct {
	rcode  int
	aa     bool // from what we know ourselves
	answer []dns.RR
	ns     []dns.RR
	extra  []dns.RR
	ede    *dns.EDNS0_EDE
	from   string // who knew, for the log: "zone", "clone", "cache", "upstream"
	target string // name the answer's last CNAME leads to and that is still to be asked
	wait   bool   // nothing yet: upstreams have to be asked
}

// failed returns the result of a question nobody could answer.
func failed(code uint16, why string) *result {
	return &result{rcode: dns.RcodeServerFailure, ede: &dns.EDNS0_EDE{InfoCode: code, ExtraText: why}}
}

// refused returns the result of a question we do not take.
func refused(code uint16, why string) *result {
	return &result{rcode: dns.RcodeRefused, ede: &dns.EDNS0_EDE{InfoCode: code, ExtraText: why}}
}

// maxAliases bounds how many CNAMEs are followed for one question.
const maxAliases = 10

// follow answers q by ask, and the names its CNAMEs lead to as well. A nil
// or refusing result of ask ends the chain: the client goes on from there. The rcode is
// that of the last name (RFC 6604 §3).
func follow(q question, ask func(question) *result) *result {
	out := ask(q)
	for steps := 0; out != nil && out.target != ""; steps++ {
		if steps == maxAliases {
			return failed(dns.ExtendedErrorCodeOther, "more than 10 CNAMEs in a row")
		}
		next := ask(q.about(out.target))
		if next == nil || next.rcode == dns.RcodeRefused {
			break
		}
		if next.wait || next.rcode == dns.RcodeServerFailure {
			return next
		}
		merged := *next
		merged.answer = append(out.answer[:len(out.answer):len(out.answer)], next.answer...)
		merged.aa = out.aa
		out = &merged
	}
	return out
}

// message returns r as the reply to q.
func (q *query) message(r *result, recursion bool) *dns.Msg {
	m := &dns.Msg{
		MsgHdr: dns.MsgHdr{
			Id: q.id, Response: true, Opcode: q.opcode,
			Authoritative: r.aa, RecursionDesired: q.rd, RecursionAvailable: recursion,
			CheckingDisabled: q.cd, Rcode: r.rcode,
		},
		Compress: true,
		Answer:   r.answer, Ns: r.ns, Extra: r.extra,
	}
	if q.whole {
		m.Question = []dns.Question{{Name: q.asked, Qtype: q.qtype, Qclass: q.class}}
	}
	if q.edns {
		opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		opt.SetUDPSize(maxSize)
		opt.SetDo(q.do)
		if r.ede != nil {
			opt.Option = append(opt.Option, r.ede)
		}
		m.Extra = append(m.Extra[:len(m.Extra):len(m.Extra)], opt)
	}
	return m
}

// pack returns r as the octets that answer q. A reply that is too large for
// UDP is sent without any record and with TC, so that nobody works with half
// an answer.
func (q *query) pack(r *result, recursion, tcp bool) ([]byte, error) {
	limit := dns.MaxMsgSize
	if !tcp {
		limit = q.size
	}
	m := q.message(r, recursion)
	wire, err := m.Pack()
	if err == nil && len(wire) <= limit {
		return wire, nil
	}
	m = q.message(&result{rcode: r.rcode, aa: r.aa}, recursion)
	m.Truncated = !tcp
	if tcp {
		m.Rcode = dns.RcodeServerFailure
	}
	return m.Pack()
}
