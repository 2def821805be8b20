package dnsd

import (
	"slices"

	"github.com/miekg/dns"
)

// A result is what answers a question, before it becomes a message for the
// one who asked. What local data and the cache hold are results that many
// goroutines give away at once: neither they nor their records are changed.
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

	own bool  // answer stands at whatever name was asked about
	soa *zone // ns is the SOA of this zone, with the serial of the moment

	soaAnswer *zone // answer is that SOA

	bare   bool    // ns is an SOA at the name that was asked about
	kept   bool    // records are in packed alone
	packed *packed // the same as octets; nil: not packed yet
}

// failed returns the result of a question nobody could answer.
func failed(code uint16, why string) *result {
	return &result{rcode: dns.RcodeServerFailure, ede: &dns.EDNS0_EDE{InfoCode: code, ExtraText: clip(why)}}
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
func (s *Server) follow(q question, ask func(question) *result) *result {
	first := ask(q)
	if first == nil || first.target == "" {
		return first
	}
	out := s.records(q, first)
	for steps := 0; out.target != ""; steps++ {
		if steps == maxAliases {
			return failed(dns.ExtendedErrorCodeOther, "more than 10 CNAMEs in a row")
		}
		q = q.about(out.target)
		next := ask(q)
		if next == nil || next.rcode == dns.RcodeRefused {
			break
		}
		if next.wait || next.rcode == dns.RcodeServerFailure {
			return next
		}
		merged := s.records(q, next)
		merged.answer = slices.Concat(out.answer, merged.answer)
		merged.aa = out.aa
		out = merged
	}
	return out
}

// records returns a result as records that stand where they belong, whatever
// form it had.
func (s *Server) records(q question, r *result) *result {
	out := *r
	out.own, out.soa, out.soaAnswer, out.bare, out.kept, out.packed = false, nil, nil, false, false, nil
	switch {
	case r.kept:
		out.answer, out.ns = r.packed.unpack(q, s.now())
	case r.soaAnswer != nil:
		out.answer = []dns.RR{s.soa(r.soaAnswer)}
	case r.own:
		out.answer = make([]dns.RR, len(r.answer))
		for i, rr := range r.answer {
			rr = dns.Copy(rr)
			rr.Header().Name = q.name
			out.answer[i] = rr
		}
	}
	if r.soa != nil {
		out.ns = []dns.RR{s.soa(r.soa)}
	} else if r.bare {
		out.ns = []dns.RR{newSOA(q.name)}
	}
	return &out
}

// pack appends to b the octets that answer q with r. A reply that is too
// large for UDP is sent without any record and with TC, so that nobody works
// with half an answer.
func (s *Server) pack(b []byte, q *query, r *result, recursion, tcp bool) ([]byte, error) {
	p := r.packed
	if p == nil {
		var err error
		if p, err = pack(q.question, s.records(q.question, r)); err != nil {
			return nil, err
		}
	}
	limit := dns.MaxMsgSize
	if !tcp {
		limit = min(q.size, s.habits.EDNSSize)
	}
	size := len(q.wire) + len(p.body)
	if q.edns {
		size += optSize(r.ede)
	}
	rcode, ede, truncated := r.rcode, r.ede, false
	if size > limit {
		p, ede, truncated = &nothing, nil, !tcp
		if tcp {
			rcode = dns.RcodeServerFailure
		}
	}
	b = appendHeader(b, q, p, rcode, r.aa, truncated, recursion)
	b = p.append(b, q, s)
	if q.edns {
		b = appendOPT(b, q, s.habits.EDNSSize, rcode, ede)
	}
	return b, nil
}
