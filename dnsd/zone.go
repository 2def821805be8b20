package dnsd

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// TTLs of what we know ourselves, in seconds. A clone comes and goes within
// seconds, so its names are not remembered for longer; the zone's own name
// servers hardly ever change.
const (
	ownTTL        = 5
	nameServerTTL = 300
	anyTTL        = 3600
)

// Labels at the apex that belong to the zone itself.
const (
	nameServerLabel = "ns"
	challengeLabel  = "_acme-challenge"
)

// hostmasterLabel makes the address of whoever runs the zone.
const hostmasterLabel = "hostmaster"

// A zone is one of the domains that public names stand under.
type zone struct {
	name    string // in lower case, with a trailing dot
	wireLen int    // of the name, in octets
	apex    *node
	server  *node // at the zone's name server
	// challenge stands at the name of DNS-01 challenges when there is none. It
	// holds a record that nobody asks for, so that the name exists in copies
	// of the zone, too.
	challenge *node
	noData    *result // there is nothing of that type at that name
	noName    *result // there is no such name
}

// newZone returns a zone whose fixed names are not there yet.
func newZone(host registry.Host) *zone {
	name := dns.Fqdn(string(host))
	return &zone{name: name, wireLen: len(name) + 1}
}

// prepareZone makes the answers of a zone's fixed names.
func (s *Server) prepareZone(z *zone) {
	negative := packSOA(z, s.soa(z), 1)
	z.noData = &result{aa: true, from: "zone", soa: z, packed: negative}
	z.noName = &result{aa: true, from: "zone", soa: z, packed: negative, rcode: dns.RcodeNameError}
	servers := s.nameServerRecords(z)
	z.server = newNode(servers...)
	z.apex = newNode(&dns.NS{Hdr: header(z.name, dns.TypeNS, nameServerTTL), Ns: nameServerLabel + "." + z.name})
	z.apex.gateway = true
	z.challenge = newNode(&dns.HINFO{Hdr: header(challengeLabel+"."+z.name, dns.TypeHINFO, nameServerTTL), Cpu: "DNS-01"})
	ns := z.apex.answers[0].result
	ns.extra = servers
	ns.packed, _ = packOwn(ns.answer, servers) // made of addresses, which can be packed
	z.apex.answers = append(z.apex.answers, typed{dns.TypeSOA, &result{
		aa: true, from: "zone", soaAnswer: z, packed: packSOA(z, s.soa(z), 0),
	}})
}

// cut returns what stands before the zone in name, "" for the zone itself.
func (z *zone) cut(name string) (sub string, ok bool) {
	if !strings.HasSuffix(name, z.name) {
		return "", false
	}
	sub = name[:len(name)-len(z.name)]
	if sub == "" {
		return "", true
	}
	if sub[len(sub)-1] != '.' {
		return "", false
	}
	return sub[:len(sub)-1], true
}

// split returns the zone that name lies in and what stands before it.
func (s *Server) split(name string) (z *zone, sub string, ok bool) {
	for _, z := range s.zones {
		if sub, ok := z.cut(name); ok {
			return z, sub, true
		}
	}
	return nil, "", false
}

// A node is what stands at one name. The zero node is a name that exists
// without data of its own: everything asked there is NODATA.
type node struct {
	answers []typed // its own data, ready to be given away
	alias   *result // answers every type but CNAME; nil if the name is no alias
	gateway bool    // A and AAAA are the gateway's
	local   bool    // a host or a record of a clone: its resolver knows it by its short name
}

// typed is the answer to questions about one type.
type typed struct {
	qtype uint16
	*result
}

// newNode returns a node with these records, which it then owns. Those that
// cannot be packed are left out.
func newNode(rrs ...dns.RR) *node {
	n := new(node)
	n.set(rrs)
	return n
}

// set makes these records the node's own data.
func (n *node) set(rrs []dns.RR) {
	for _, rr := range rrs {
		qtype := rr.Header().Rrtype
		i := slices.IndexFunc(n.answers, func(t typed) bool { return t.qtype == qtype })
		if i < 0 {
			n.answers = append(n.answers, typed{qtype, &result{aa: true, own: true, from: "registry"}})
			i = len(n.answers) - 1
		}
		n.answers[i].answer = append(n.answers[i].answer, rr)
		if alias, ok := rr.(*dns.CNAME); ok {
			n.alias = &result{aa: true, own: true, from: "registry", answer: []dns.RR{rr}, target: alias.Target}
		}
	}
	for _, t := range n.answers {
		t.answer = uniform(t.answer)
		t.packed, _ = packOwn(t.answer, nil) // what cannot be packed is packed, and reported, when it is asked for
	}
}

// uniform makes records of one name and type a set: none twice, and all with
// the lowest TTL (RFC 2181 §5).
func uniform(rrs []dns.RR) []dns.RR {
	if len(rrs) < 2 {
		return rrs
	}
	var out []dns.RR
	for _, rr := range rrs {
		if !slices.ContainsFunc(out, func(other dns.RR) bool { return dns.IsDuplicate(rr, other) }) {
			out = append(out, rr)
		}
	}
	lowest := slices.MinFunc(out, func(a, b dns.RR) int { return cmp.Compare(a.Header().Ttl, b.Header().Ttl) }).Header().Ttl
	for _, rr := range out {
		rr.Header().Ttl = lowest
	}
	return out
}

// pick returns the node's own data of the type in question, nil if it has none.
func (n *node) pick(qtype uint16) *result {
	if n.alias != nil && qtype != dns.TypeCNAME {
		return n.alias
	}
	for _, t := range n.answers {
		if t.qtype == qtype {
			return t.result
		}
	}
	return nil
}

// A public is what the gateway's names share: its addresses, and the answer
// to ANY (RFC 8482 §4.2).
type public struct {
	node    *node // at a service's name
	nothing *node // a name without data
	a, aaaa *result
	any     *result
	bare    *result // NODATA at a name that is its own zone
}

func newPublic(gateway []netip.Addr) public {
	at := newNode(append(addressRecords(".", gateway, dns.TypeA, ownTTL), addressRecords(".", gateway, dns.TypeAAAA, ownTTL)...)...)
	p := public{
		node: &node{gateway: true}, nothing: &node{}, a: at.pick(dns.TypeA), aaaa: at.pick(dns.TypeAAAA),
		any:  newNode(minimalAny(".")).answers[0].result,
		bare: &result{aa: true, from: "clone", bare: true},
	}
	own, _ := packOwn([]dns.RR{newSOA(".")}, nil)
	own.counts = [3]uint16{0, 1, 0}
	p.bare.packed = own
	return p
}

// answerZone answers from the zones, nil outside of them.
func (s *Server) answerZone(q question) *result {
	z, sub, ok := s.split(q.name)
	if !ok {
		return nil
	}
	n := s.challenges.node(q.name)
	if n == nil {
		n = s.zoneNode(z, sub)
	}
	if n == nil && s.challenges.above(q.name) {
		n = s.public.nothing
	}
	if n == nil {
		return z.noName
	}
	return s.answerNode(q, n, z.noData)
}

// zoneNode finds what stands at a name of a zone, in this order; nil means the
// name does not exist:
//
//  1. the zone itself, its name server, and the name of DNS-01 challenges
//  2. one label: a clone, or a service of one, as the registry has it
//  3. more labels: a service, host or record of the clone that the last of
//     them names by ID or alias
//  4. below a service that has tenants, in either form: that service
func (s *Server) zoneNode(z *zone, sub string) *node {
	switch sub {
	case "":
		return z.apex
	case nameServerLabel:
		return z.server
	case challengeLabel:
		return z.challenge
	}
	rest, last := cutLast(sub)
	t, ok := s.dir.Lookup(last)
	if !ok || !t.Clone.State.Named() {
		return nil
	}
	switch {
	case isBase(t.Clone, last):
		if rest == "" && len(t.Clone.Records) == 0 && t.Clone.DefaultService() != "" {
			return s.public.node // saves compiling the names of clones that are asked for nothing else
		}
		return s.namesOf(t.Clone, z).find(rest)
	case t.Service != "" && (rest == "" || hasTenants(t.Clone, t.Service)):
		return s.public.node
	}
	return nil
}

// hasTenants reports whether a service stands for all names below one of
// production, so that there are names below its own as well.
func hasTenants(c *registry.Clone, service string) bool {
	for name, s := range c.Production {
		if s == service && strings.HasPrefix(name, "*.") {
			return true
		}
	}
	return false
}

// cutLast returns the last label of a name and what stands before it.
func cutLast(sub string) (rest, last string) {
	if i := strings.LastIndexByte(sub, '.'); i >= 0 {
		return sub[:i], sub[i+1:]
	}
	return "", sub
}

// isBase reports whether label is the ID or an alias of c.
func isBase(c *registry.Clone, label string) bool {
	return label == string(c.ID) || slices.Contains(c.Aliases, label)
}

// answerNode answers q from the node that stands at its name; noData is the
// answer if that has nothing of the kind (RFC 2308 §3).
func (s *Server) answerNode(q question, n *node, noData *result) *result {
	var r *result
	switch {
	case n.gateway && q.qtype == dns.TypeA:
		r = s.public.a
	case n.gateway && q.qtype == dns.TypeAAAA:
		r = s.public.aaaa
	case n.gateway && q.qtype == dns.TypeANY:
		r = s.public.any
	default:
		return s.answerData(q, n, noData)
	}
	if r == nil {
		return noData
	}
	return r
}

// answerData is answerNode for those to whom no name is the gateway's.
func (s *Server) answerData(q question, n *node, noData *result) *result {
	if q.qtype == dns.TypeANY && len(n.answers) > 0 {
		return s.public.any
	}
	if r := n.pick(q.qtype); r != nil {
		return r
	}
	return noData
}

// minimalAny is the one record that answers ANY (RFC 8482 §4.2).
func minimalAny(owner string) dns.RR {
	return &dns.HINFO{Hdr: header(owner, dns.TypeHINFO, anyTTL), Cpu: "RFC8482"}
}

// soa returns the zone's SOA record. Its minimum and its TTL decide for how
// long a name is remembered as missing, hence how soon a new clone is seen.
func (s *Server) soa(z *zone) *dns.SOA {
	soa := newSOA(z.name)
	soa.Ns = nameServerLabel + "." + z.name
	soa.Mbox = hostmasterLabel + "." + z.name
	soa.Serial = uint32(s.dir.Revision())
	return soa
}

func newSOA(owner string) *dns.SOA {
	return &dns.SOA{
		Hdr: header(owner, dns.TypeSOA, ownTTL),
		Ns:  ".", Mbox: ".",
		Refresh: 1200, Retry: 180, Expire: 1209600, Minttl: ownTTL,
	}
}

func (s *Server) nameServerRecords(z *zone) []dns.RR {
	owner := nameServerLabel + "." + z.name
	rrs := addressRecords(owner, s.nameServers, dns.TypeA, nameServerTTL)
	return append(rrs, addressRecords(owner, s.nameServers, dns.TypeAAAA, nameServerTTL)...)
}

// addressRecords returns the addresses of one family as records.
func addressRecords(owner string, addrs []netip.Addr, qtype uint16, ttl uint32) []dns.RR {
	var rrs []dns.RR
	for _, a := range addrs {
		if a.Is4() == (qtype == dns.TypeA) {
			rrs = append(rrs, addressRecord(owner, a, ttl))
		}
	}
	return rrs
}

func addressRecord(owner string, a netip.Addr, ttl uint32) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA, ttl), A: net.IP(a.AsSlice())}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: net.IP(a.AsSlice())}
}

func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}
