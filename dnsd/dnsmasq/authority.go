package dnsmasq

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// Authority returns rules for the listeners of auth-server: they answer for
// the zones of auth-zone alone, and refuse everything else.
func (r *Rules) Authority() dnsd.Rules { return &outside{r} }

// An outside is rules as the world sees them.
type outside struct{ *Rules }

// Answer answers every question; see dnsd.Rules.
func (o *outside) Answer(q dns.Question) *dnsd.Answer {
	t := o.table.Load()
	if z := findZone(t.outside, q.Name); z != nil {
		return z.answer(t, q)
	}
	return t.refused
}

// Route returns no servers: none is asked.
func (o *outside) Route(dns.Question) dnsd.Route { return dnsd.Route{} }

// Upstreams yields nothing.
func (o *outside) Upstreams(func(string, dnsd.Route)) {}

// Amend is never needed.
func (o *outside) Amend(dns.Question, *dns.Msg) {}

// An authZone is a zone that this server is the authority for, or the names of
// a network's addresses in it.
type authZone struct {
	domain  string                  // in lower case, with a trailing dot
	network netip.Prefix            // of a reverse zone; invalid: it is none
	owners  string                  // the zone in which owners of its addresses lie
	holds   func(a netip.Addr) bool // which addresses are shown
	nodes   map[string]*node
	ttl     uint32

	soa, ns, noData, noName *dnsd.Answer
}

// addZones makes the zones of a table, as they are seen from inside, where all
// addresses are shown, and from outside.
func (t *table) addZones() {
	a := t.Authority
	for _, z := range a.Zones {
		networks, except := z.networks()
		shown := func(addr netip.Addr) bool {
			return (len(networks) == 0 || isIn(addr, networks)) && !isIn(addr, except)
		}
		t.inside = append(t.inside, t.newZone(z.Domain+".", len(a.Listen)+len(a.Interfaces) > 0, func(netip.Addr) bool { return true }))
		t.outside = append(t.outside, t.newZone(z.Domain+".", true, shown))
		for _, network := range networks {
			reverse := t.newZone(reverseApex(network), true, shown)
			reverse.network, reverse.owners = network, z.Domain+"."
			t.outside = append(t.outside, reverse)
		}
	}
}

// newZone returns a zone with the records that stand in it. self says whether
// this server is one of its name servers.
func (t *table) newZone(domain string, self bool, shown func(netip.Addr) bool) *authZone {
	a := t.Authority
	z := &authZone{domain: domain, holds: shown, nodes: map[string]*node{}, ttl: a.TTL}
	soa := &dns.SOA{
		Hdr: z.header(domain, dns.TypeSOA), Ns: a.Server, Mbox: a.Hostmaster, Serial: a.Serial,
		Refresh: a.Refresh, Retry: a.Retry, Expire: a.Expire, Minttl: a.TTL,
	}
	if soa.Serial == 0 {
		soa.Serial = uint32(time.Now().Unix())
	}
	z.noData, z.noName = &dnsd.Answer{SOA: soa}, &dnsd.Answer{Rcode: dns.RcodeNameError, SOA: soa}
	z.soa, z.ns = &dnsd.Answer{Records: []dns.RR{soa}}, &dnsd.Answer{SOA: soa}
	servers := a.Secondaries
	if self {
		servers = append([]string{a.Server}, servers...)
	}
	for _, server := range servers {
		z.ns.Records = append(z.ns.Records, &dns.NS{Hdr: z.header(domain, dns.TypeNS), Ns: server})
	}
	for name, n := range t.nodes {
		if z.has(name) {
			z.nodes[name] = z.copyNode(n, !t.NoRoundRobin)
		}
	}
	return z
}

func (z *authZone) header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: z.ttl}
}

// has reports whether a name is the zone's or beneath it.
func (z *authZone) has(name string) bool {
	rest, ok := strings.CutSuffix(name, z.domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}

// copyNode returns what the zone shows of a node. An alias gives way to
// records, and a target of one label is completed by the zone.
func (z *authZone) copyNode(n *node, turns bool) *node {
	out := &node{isHost: n.isHost}
	for _, rr := range n.rrs {
		if a, ok := addressOf(rr); ok && !z.holds(a) {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Ttl = z.ttl
		out.rrs = append(out.rrs, rr)
	}
	if n.alias != nil && len(n.rrs) == 0 {
		out.alias = z.alias(n.alias.Hdr.Name, n.alias.Target)
	}
	out.prepare(turns)
	return out
}

func (z *authZone) alias(name, target string) *dns.CNAME {
	if strings.Count(target, ".") == 1 {
		target += z.domain
	}
	return &dns.CNAME{Hdr: z.header(name, dns.TypeCNAME), Target: target}
}

// findZone returns the zone that a name lies in, that with the longest domain
// if there are several, nil if there is none.
func findZone(zones []*authZone, name string) *authZone {
	var best *authZone
	for _, z := range zones {
		if !z.has(name) || best != nil && len(best.domain) >= len(z.domain) {
			continue
		}
		if z.network.IsValid() {
			if a, whole := fromReverse(name); whole && !z.network.Contains(a) {
				continue // the rest of its octet belongs to somebody else
			}
		}
		best = z
	}
	return best
}

// answer answers a question about a name in the zone, in this order:
//
//  1. the zone's own SOA and NS
//  2. records, addresses of interfaces, made-up names, owners of addresses
//  3. an alias, where there is nothing else
//  4. that there is no such data, at names that exist
//  5. a wildcard at the closest name above that exists (RFC 4592 §3.3.1)
func (z *authZone) answer(t *table, q dns.Question) *dnsd.Answer {
	switch {
	case q.Name == z.domain && q.Qtype == dns.TypeSOA:
		return z.soa
	case q.Name == z.domain && q.Qtype == dns.TypeNS:
		return z.ns
	case z.network.IsValid():
		return z.pointer(t, q)
	}
	n := z.nodes[q.Name]
	if n != nil {
		if a := n.pick(q.Qtype, t.turns); a != nil {
			return a
		}
	}
	if rrs := z.madeUp(t, q); len(rrs) > 0 {
		return &dnsd.Answer{Records: rrs}
	}
	switch {
	case n != nil && n.other != nil:
		return n.other
	case q.Qtype == dns.TypeANY && (n != nil || q.Name == z.domain):
		return &dnsd.Answer{Records: []dns.RR{minimalAny(q.Name, z.ttl)}}
	case q.Name == z.domain, t.isKnown(q.Name):
		return z.noData
	}
	return z.wildcard(t, q)
}

// madeUp returns the addresses behind names that stand for interfaces or for
// addresses themselves.
func (z *authZone) madeUp(t *table, q dns.Question) []dns.RR {
	if !isAddress(q.Qtype) {
		return nil
	}
	rrs := slices.DeleteFunc(t.interfaceAddrs(q), func(rr dns.RR) bool { a, _ := addressOf(rr); return !z.holds(a) })
	rrs = append(rrs, t.synthAddr(q)...)
	for _, rr := range rrs {
		rr.Header().Ttl = z.ttl
	}
	return rrs
}

// pointer answers about a name of a reverse zone. Owners of addresses are only
// shown if they are in the zone that the network belongs to.
func (z *authZone) pointer(t *table, q dns.Question) *dnsd.Answer {
	if _, whole := fromReverse(q.Name); !whole {
		return z.noData
	}
	for _, rr := range t.pointer(q) {
		target := strings.ToLower(rr.(*dns.PTR).Ptr)
		if target != z.owners && !strings.HasSuffix(target, "."+z.owners) {
			continue
		}
		if q.Qtype != dns.TypePTR {
			return z.noData
		}
		rr = dns.Copy(rr)
		rr.Header().Ttl = z.ttl
		return &dnsd.Answer{Records: []dns.RR{rr}}
	}
	return z.noName
}

func (z *authZone) wildcard(t *table, q dns.Question) *dnsd.Answer {
	for name := q.Name; name != z.domain; {
		_, name, _ = strings.Cut(name, ".")
		if n := z.nodes["*."+name]; n != nil && n.alias != nil {
			alias := z.alias(strings.Clone(q.Name), n.alias.Target)
			if strings.EqualFold(alias.Target, q.Name) {
				return z.noData // it would lead to itself for ever
			}
			if q.Qtype == dns.TypeCNAME {
				return &dnsd.Answer{Records: []dns.RR{alias}}
			}
			return &dnsd.Answer{Records: []dns.RR{alias}, Target: alias.Target}
		}
		if t.isKnown(name) {
			break
		}
	}
	return z.noName
}

// networks returns the networks whose addresses a zone shows, and those that
// it hides, with those of interfaces as they are now.
func (z AuthZone) networks() (shown, hidden []netip.Prefix) {
	shown = slices.Clone(z.Networks)
	for _, in := range z.Interfaces {
		for _, p := range interfacePrefixes(in.Interface) {
			if (p.Addr().Is4() && in.V4 || p.Addr().Is6() && in.V6) && !p.Addr().IsLinkLocalUnicast() {
				shown = append(shown, p.Masked())
			}
		}
	}
	return shown, z.Except
}

// reverseApex returns the zone in which the names of a network's addresses
// lie, cut where a label begins.
func reverseApex(p netip.Prefix) string {
	step := 8
	if p.Addr().Is6() {
		step = 4
	}
	name, err := dns.ReverseAddr(p.Masked().Addr().String())
	if err != nil {
		return "."
	}
	for range (p.Addr().BitLen() - max(p.Bits()/step, 1)*step) / step {
		_, name, _ = strings.Cut(name, ".")
	}
	return name
}
