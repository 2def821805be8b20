package dnsd

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// clean returns of an upstream's reply what answers q, as a message to keep:
// the records of the name itself and of those its CNAMEs lead to, and what a
// negative answer needs. Everything else a reply may claim, above all about
// our own zones, is dropped; a chain that leads into them ends there, and the
// registry answers the rest.
func (s *Server) clean(m *dns.Msg, q question) (*dns.Msg, error) {
	out := &dns.Msg{
		MsgHdr:   dns.MsgHdr{Response: true, Rcode: m.Rcode},
		Question: m.Question,
		Compress: true,
	}
	m.Answer, m.Ns = slices.DeleteFunc(m.Answer, isHollow), slices.DeleteFunc(m.Ns, isHollow)
	at := q.name
	for steps := 0; ; steps++ {
		if _, _, ours := s.split(at); ours {
			out.Rcode = dns.RcodeSuccess
			return out, nil
		}
		rrs, target := recordsOf(m.Answer, at, q)
		out.Answer = append(out.Answer, rrs...)
		if target == "" {
			break
		}
		if steps == maxAliases {
			return nil, fmt.Errorf("more than %d CNAMEs in a row", maxAliases)
		}
		at = target
	}
	if m.Rcode == dns.RcodeNameError || !slices.ContainsFunc(out.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.qtype }) {
		out.Ns = negativeProof(m.Ns, at, q.do)
	} else if q.do {
		out.Ns = denials(m.Ns, at)
	}
	return out, nil
}

// isHollow reports whether a record has no data though its type needs some.
// The library reads it, since updates hold such records (RFC 2136 §2.4), and
// makes of it what nobody can read.
func isHollow(rr dns.RR) bool {
	switch rr.(type) {
	case *dns.RFC3597, *dns.NULL, *dns.APL:
		return false
	}
	return rr.Header().Rdlength == 0
}

// recordsOf returns the records that stand at a name and answer q, and where
// its CNAME leads, "" if it has none. A DNAME above the name comes along with
// the CNAME made of it.
func recordsOf(answer []dns.RR, name string, q question) (rrs []dns.RR, target string) {
	for _, rr := range answer {
		h := rr.Header()
		if h.Class != dns.ClassINET {
			continue
		}
		owner := canonical(h.Name)
		sig, isSig := rr.(*dns.RRSIG)
		switch {
		case h.Rrtype == dns.TypeDNAME || isSig && sig.TypeCovered == dns.TypeDNAME:
			if owner == name || !isUnder(owner, name) {
				continue
			}
		case owner != name:
			continue
		case isSig && q.qtype != dns.TypeRRSIG && !q.do:
			continue
		case !isSig && h.Rrtype != q.qtype && h.Rrtype != dns.TypeCNAME:
			continue
		}
		if owner == q.name {
			h.Name = q.name
		}
		rrs = append(rrs, rr)
		if alias, ok := rr.(*dns.CNAME); ok && target == "" && q.qtype != dns.TypeCNAME {
			target = canonical(alias.Target)
		}
	}
	return rrs, target
}

// negativeProof returns the SOA that says for how long a name is missing, and
// the records that prove it to those who asked for them. An SOA must stand at
// the name or above it.
func negativeProof(ns []dns.RR, name string, do bool) []dns.RR {
	var out []dns.RR
	for _, rr := range ns {
		if _, ok := rr.(*dns.SOA); ok && len(out) == 0 && rr.Header().Class == dns.ClassINET && isUnder(canonical(rr.Header().Name), name) {
			out = append(out, rr)
		}
	}
	if do {
		out = append(out, denials(ns, name)...)
	}
	return out
}

// denials returns the DNSSEC records of an authority section.
func denials(ns []dns.RR, name string) []dns.RR {
	var out []dns.RR
	for _, rr := range ns {
		switch rr.(type) {
		case *dns.NSEC, *dns.NSEC3, *dns.RRSIG:
			if rr.Header().Class == dns.ClassINET {
				out = append(out, rr)
			}
		}
	}
	return out
}
