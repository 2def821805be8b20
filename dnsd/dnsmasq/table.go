package dnsmasq

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// A table is a configuration and its files, ready to be asked. It is never
// changed.
type table struct {
	*Config
	ttl     uint32           // of local records without their own
	nodes   map[string]*node // by name in lower case, with a trailing dot
	reverse map[string]*dns.PTR
	names   map[string]bool // names that exist, those above others included
	domains domainSet
	turns   *atomic.Uint32 // counts answers with several records

	inside, outside []*authZone // as they are seen here, and at the listeners of auth-server

	noData, noName, refused *dnsd.Answer
}

// A node is what stands at one name.
type node struct {
	rrs     []dns.RR
	isHost  bool // has an address
	alias   *dns.CNAME
	answers map[uint16][]*dnsd.Answer // by type; one answer for each turn
	other   *dnsd.Answer              // to every type but CNAME, if alias is set
}

// maxTurns bounds how many records of one name take turns to be the first.
const maxTurns = 16

// prepare makes the answers of a node, so that each is packed only once.
func (n *node) prepare(turns bool) {
	n.answers = map[uint16][]*dnsd.Answer{}
	if n.alias != nil {
		n.other = &dnsd.Answer{Records: []dns.RR{n.alias}, Target: n.alias.Target}
		n.answers[dns.TypeCNAME] = []*dnsd.Answer{{Records: []dns.RR{n.alias}}}
		return
	}
	byType := map[uint16][]dns.RR{}
	for _, rr := range n.rrs {
		rrtype := rr.Header().Rrtype
		byType[rrtype] = append(byType[rrtype], rr)
	}
	for rrtype, rrs := range byType {
		for i := range rrs {
			n.answers[rrtype] = append(n.answers[rrtype], &dnsd.Answer{Records: slices.Concat(rrs[i:], rrs[:i])})
			if !turns || i == maxTurns {
				break
			}
		}
	}
}

// pick returns the answer to a type whose turn it is, nil if there is none.
func (n *node) pick(qtype uint16, turns *atomic.Uint32) *dnsd.Answer {
	switch all := n.answers[qtype]; len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	default:
		return all[int(turns.Add(1))%len(all)]
	}
}

// minimalAny returns what answers ANY at a name that exists (RFC 8482 §4.2).
func minimalAny(name string, ttl uint32) dns.RR {
	h := dns.RR_Header{Name: strings.Clone(name), Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: ttl}
	return &dns.HINFO{Hdr: h, Cpu: "RFC8482"}
}

// defaultTTL is the TTL of local records if the configuration sets none, in
// seconds; dnsmasq's 0 would have every client ask again for every connection.
const defaultTTL = 5

// newTable makes a table. usual are the servers of the resolv.conf; key makes
// the table's routes differ from those of others.
func newTable(c *Config, lines []hostLine, usual []netip.AddrPort, key string, turns *atomic.Uint32) *table {
	t := &table{
		Config: c, ttl: defaultTTL, turns: turns,
		noData: &dnsd.Answer{}, noName: &dnsd.Answer{Rcode: dns.RcodeNameError}, refused: &dnsd.Answer{Rcode: dns.RcodeRefused},
		nodes: map[string]*node{}, reverse: map[string]*dns.PTR{}, names: map[string]bool{},
	}
	if c.LocalTTL != nil {
		t.ttl = *c.LocalTTL
	}
	t.addHosts(c, lines)
	for _, rr := range c.Records {
		rr = dns.Copy(rr)
		rr.Header().Ttl = t.ttl
		n := t.node(rr.Header().Name)
		n.rrs = append(n.rrs, rr)
	}
	for _, alias := range c.Aliases {
		rr := dns.Copy(alias).(*dns.CNAME)
		if rr.Hdr.Ttl == unsetTTL {
			rr.Hdr.Ttl = t.ttl
		}
		t.node(rr.Hdr.Name).alias = rr
	}
	for _, in := range c.Interfaces {
		t.exists(in.Name)
	}
	for _, n := range t.nodes {
		n.prepare(!c.NoRoundRobin)
	}
	t.domains = newDomainSet(c.Domains, usual, key)
	t.addZones()
	return t
}

// node returns the node at a name and makes it if need be.
func (t *table) node(name string) *node {
	n := t.nodes[name]
	if n == nil {
		n = &node{}
		t.nodes[name] = n
		t.exists(name)
	}
	return n
}

// exists notes that a name, and those above it, are there.
func (t *table) exists(name string) {
	for name != "" && name != "." && !t.names[name] {
		t.names[name] = true
		_, name, _ = strings.Cut(name, ".")
	}
}

func (t *table) ttlOr(ttl *uint32) uint32 {
	if ttl != nil {
		return *ttl
	}
	return t.ttl
}

// addressRecord returns an address as a record.
func (t *table) addressRecord(name string, a netip.Addr, ttl *uint32) dns.RR {
	h := header(name, dns.TypeA)
	h.Ttl = t.ttlOr(ttl)
	if a = a.Unmap(); a.Is4() {
		return &dns.A{Hdr: h, A: net.IP(a.AsSlice())}
	}
	h.Rrtype = dns.TypeAAAA
	return &dns.AAAA{Hdr: h, AAAA: net.IP(a.AsSlice())}
}

// answer answers q from what is local, in this order; nil means that it is for
// upstream servers:
//
//  1. a zone that is kept here: all about it
//  2. an alias
//  3. records, hosts, addresses of interfaces, made-up names
//  4. names that a domain's rule answers
//  5. other types of a name that has addresses here
//  6. addresses of names with one label, if those are kept here
func (t *table) answer(q dns.Question) *dnsd.Answer {
	if z := findZone(t.inside, q.Name); z != nil && !t.Localise { // as dnsmasq, whose zones do not know where they are asked
		return z.answer(t, q)
	}
	n := t.nodes[q.Name]
	if a := t.local(q, n); a != nil {
		return a
	}
	if n != nil && n.isHost && slices.Contains(t.FilterTypes, q.Qtype) {
		return t.noData
	}
	if q.Qtype == dns.TypePTR && t.BogusPriv && isPrivateReverse(q.Name) && t.domains.find(q, true).isAll {
		return t.noName
	}
	d := t.domains.find(q, false)
	if a := t.byDomain(q, d); a != nil {
		return a
	}
	switch {
	case !t.Strict && (n != nil && n.isHost || t.hasInterface(q.Name)):
		return t.noData
	case t.DomainNeeded && isAddress(q.Qtype) && strings.Count(q.Name, ".") == 1 && q.Name != ".":
		return t.missing(q.Name)
	case len(d.route.Servers()) == 0:
		return t.refused
	}
	return nil
}

// missing returns the answer about data that is not there: names above others
// exist without any.
func (t *table) missing(name string) *dnsd.Answer {
	if t.isKnown(name) {
		return t.noData
	}
	return t.noName
}

// isKnown reports whether a name exists here, be it without records.
func (t *table) isKnown(name string) bool { return t.names[name] || t.isSynth(name) }

func isAddress(qtype uint16) bool { return qtype == dns.TypeA || qtype == dns.TypeAAAA }

// local answers from the records at a name and those made up for it.
func (t *table) local(q dns.Question, n *node) *dnsd.Answer {
	if isAddress(q.Qtype) && len(t.Interfaces) > 0 {
		if rrs := t.interfaceAddrs(q); len(rrs) > 0 {
			return &dnsd.Answer{Records: rrs}
		}
	}
	if n != nil {
		if a := n.pick(q.Qtype, t.turns); a != nil {
			return a
		}
		if n.other != nil {
			return n.other
		}
	}
	var rrs []dns.RR
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		rrs = t.synthAddr(q)
	case dns.TypePTR:
		rrs = t.pointer(q)
	case dns.TypeANY:
		if n != nil {
			rrs = []dns.RR{minimalAny(q.Name, t.ttl)}
		}
	}
	if len(rrs) > 0 {
		return &dnsd.Answer{Records: rrs}
	}
	if t.FilterWin2K && (q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeSRV) {
		return t.noData
	}
	return nil
}

// pointer returns the name that owns an address.
func (t *table) pointer(q dns.Question) []dns.RR {
	if rr := t.interfacePointer(q); rr != nil {
		return []dns.RR{rr}
	}
	if rr := t.reverse[q.Name]; rr != nil {
		return []dns.RR{rr}
	}
	return t.synthPointer(q)
}

// hasInterface reports whether a name stands for an interface.
func (t *table) hasInterface(name string) bool {
	return slices.ContainsFunc(t.Interfaces, func(in InterfaceName) bool { return in.Name == name })
}

// interfaceAddrs returns the addresses that the interfaces behind a name have
// now.
func (t *table) interfaceAddrs(q dns.Question) (rrs []dns.RR) {
	for _, in := range t.Interfaces {
		if in.Name != q.Name {
			continue
		}
		for _, a := range in.addrs() {
			if a.Is4() == (q.Qtype == dns.TypeA) {
				rrs = append(rrs, t.addressRecord(strings.Clone(q.Name), a, nil))
			}
		}
	}
	return rrs
}

func (t *table) interfacePointer(q dns.Question) dns.RR {
	for _, in := range t.Interfaces {
		for _, a := range in.addrs() {
			if reverse, err := dns.ReverseAddr(a.String()); err == nil && reverse == q.Name {
				rr := &dns.PTR{Hdr: header(strings.Clone(q.Name), dns.TypePTR), Ptr: in.Name}
				rr.Hdr.Ttl = t.ttl
				return rr
			}
		}
	}
	return nil
}

// addrs returns the addresses of the interface, none if there is no such one.
func (in InterfaceName) addrs() []netip.Addr {
	var out []netip.Addr
	for _, p := range interfacePrefixes(in.Interface) {
		a := p.Addr()
		if (a.Is4() && in.V4 || a.Is6() && in.V6) && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}

// interfacePrefixes returns the addresses of an interface with their networks.
func interfacePrefixes(name string) []netip.Prefix {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	addrs, err := iface.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}
