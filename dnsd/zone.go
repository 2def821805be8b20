package dnsd

import (
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

// A zone is one of the domains that public names stand under.
type zone struct {
	name   string   // in lower case, with a trailing dot
	labels []string // of name
}

func newZone(host registry.Host) *zone {
	name := dns.Fqdn(string(host))
	return &zone{name: name, labels: dns.SplitDomainName(name)}
}

// split returns the zone that name lies in and the labels before it.
func (s *Server) split(name string) (z *zone, sub []string, ok bool) {
	labels := dns.SplitDomainName(name)
	for _, z := range s.zones {
		n := len(labels) - len(z.labels)
		if n >= 0 && slices.Equal(labels[n:], z.labels) {
			return z, labels[:n], true
		}
	}
	return nil, nil, false
}

// A node is what stands at one name. The zero node is a name that exists
// without data of its own: everything asked there is NODATA.
type node struct {
	rrs     []dns.RR // owners are replaced when they are handed out
	gateway bool     // A and AAAA are the gateway's
	local   bool     // a host or a record of a clone: its resolver knows it by its short name
}

// answerZone answers from the zones, nil outside of them.
func (s *Server) answerZone(q question) *result {
	z, sub, ok := s.split(q.name)
	if !ok {
		return nil
	}
	r := s.answerNode(q, s.zoneNode(z, sub), s.soa(z))
	r.from = "zone"
	if len(sub) == 0 && q.qtype == dns.TypeNS {
		r.extra = s.nameServerRecords(z)
	}
	return r
}

// zoneNode finds what stands at a name of a zone, in this order; nil means the
// name does not exist:
//
//  1. the zone itself, its name server, and the name of DNS-01 challenges
//  2. one label: a clone, or a service of one, as the registry has it
//  3. more labels: a service, host or record of the clone that the last of
//     them names by ID or alias
func (s *Server) zoneNode(z *zone, sub []string) *node {
	switch {
	case len(sub) == 0:
		return &node{gateway: true, rrs: []dns.RR{s.soa(z), &dns.NS{
			Hdr: header(z.name, dns.TypeNS, nameServerTTL),
			Ns:  nameServerLabel + "." + z.name,
		}}}
	case len(sub) == 1 && sub[0] == nameServerLabel:
		return &node{rrs: s.nameServerRecords(z)}
	case len(sub) == 1 && sub[0] == challengeLabel:
		return &node{}
	}
	last := sub[len(sub)-1]
	if _, err := registry.ParseLabel(last); err != nil {
		return nil
	}
	t, ok := s.dir.Lookup(last)
	if !ok || !t.Clone.State.Named() {
		return nil
	}
	if isBase(t.Clone, last) {
		return s.namesOf(t.Clone, z).find(sub[:len(sub)-1])
	}
	if len(sub) == 1 && t.Service != "" {
		return &node{gateway: true}
	}
	return nil
}

// isBase reports whether label is the ID or an alias of c.
func isBase(c *registry.Clone, label string) bool {
	return label == string(c.ID) || slices.Contains(c.Aliases, label)
}

// answerNode answers q from the node that stands at its name, nil if there is
// none. soa goes into negative answers (RFC 2308 §3).
func (s *Server) answerNode(q question, n *node, soa *dns.SOA) *result {
	r := &result{aa: true}
	if n == nil {
		r.rcode = dns.RcodeNameError
		r.ns = []dns.RR{soa}
		return r
	}
	switch {
	case q.qtype == dns.TypeANY && (n.gateway || len(n.rrs) > 0):
		r.answer = []dns.RR{minimalAny(q.asked)}
	case n.gateway && (q.qtype == dns.TypeA || q.qtype == dns.TypeAAAA):
		r.answer = addressRecords(q.asked, s.gateway, q.qtype, ownTTL)
	default:
		r.answer, r.target = n.pick(q)
	}
	if len(r.answer) == 0 {
		r.ns = []dns.RR{soa}
	}
	return r
}

// pick returns the node's records of the type in question, or its CNAME and
// where that leads.
func (n *node) pick(q question) (rrs []dns.RR, target string) {
	for _, rr := range n.rrs {
		h := rr.Header()
		alias, isAlias := rr.(*dns.CNAME)
		if h.Rrtype != q.qtype && !isAlias {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Name = q.asked
		rrs = append(rrs, rr)
		if isAlias && q.qtype != dns.TypeCNAME {
			return rrs, alias.Target
		}
	}
	return rrs, ""
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
	soa.Mbox = "hostmaster." + z.name
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

// join returns labels as a name relative to something.
func join(labels []string) string { return strings.Join(labels, ".") }
