package dnsmasq

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// amend changes what upstream servers said: addresses that stand for "no such
// name" or that must not come from outside, types that are filtered, names
// that exist here, and TTLs.
func (t *table) amend(q dns.Question, m *dns.Msg) {
	before := m.Rcode
	switch {
	case slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return isInPrefixes(rr, t.BogusNXDomain) }):
		m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, nil
	case t.StopRebind && !t.mayRebind(q.Name) && slices.ContainsFunc(m.Answer, t.isRebind):
		m.Answer, m.Ns = nil, nil
	}
	isBogus := m.Rcode == dns.RcodeNameError && before != m.Rcode
	m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return slices.Contains(t.FilterTypes, rr.Header().Rrtype) })
	if m.Rcode == dns.RcodeNameError && !isBogus && (t.isKnown(q.Name) || t.domains.hasLiteral(q.Name)) {
		m.Rcode = dns.RcodeSuccess
	}
	t.amendTTLs(q, m)
}

// addressOf returns the address in a record.
func addressOf(rr dns.RR) (netip.Addr, bool) {
	var a netip.Addr
	var ok bool
	switch rr := rr.(type) {
	case *dns.A:
		a, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap(), ok
}

func isInPrefixes(rr dns.RR, networks []netip.Prefix) bool {
	a, ok := addressOf(rr)
	return ok && isIn(a, networks)
}

// isRebind reports whether a record points into a private network.
func (t *table) isRebind(rr dns.RR) bool { return dnsd.LeadsInside(rr, t.RebindLoopback) }

// mayRebind reports whether a name may point into private networks.
func (t *table) mayRebind(name string) bool {
	name = strings.TrimSuffix(name, ".")
	for _, d := range t.RebindDomains {
		if d == "" && !strings.Contains(name, ".") || d != "" && (name == d || strings.HasSuffix(name, "."+d)) {
			return true
		}
	}
	return false
}

// amendTTLs bounds how long an answer is kept.
func (t *table) amendTTLs(q dns.Question, m *dns.Msg) {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		h := rr.Header()
		for _, bound := range []uint32{t.MaxTTL, t.MaxCacheTTL} {
			if bound > 0 {
				h.Ttl = min(h.Ttl, bound)
			}
		}
		h.Ttl = max(h.Ttl, t.MinCacheTTL)
	}
	positive := m.Rcode == dns.RcodeSuccess && slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Qtype })
	switch {
	case positive:
	case t.NoNegCache:
		for _, rr := range m.Ns {
			rr.Header().Ttl = 0
		}
	case len(m.Ns) == 0 && t.NegTTL > 0:
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: strings.Clone(q.Name), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: t.NegTTL},
			Ns:  ".", Mbox: ".", Refresh: 1200, Retry: 180, Expire: 1209600, Minttl: t.NegTTL,
		}}
	}
}
