package dnsmasq

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// A domainSet finds the rules for a name: those of the longest domain that
// has one for the question.
type domainSet struct {
	whole   map[string]*domain // ends at a label
	partial map[string]*domain // ends anywhere
	noDots  *domain            // names of one label; may be nil
	all     *domain            // every name
}

// A domain is the rules of one domain.
type domain struct {
	v4, v6 []netip.Addr
	null   bool
	none   bool // names do not exist
	usual  bool // the servers without a domain are asked

	route dnsd.Route

	servers []netip.AddrPort
	isAll   bool
}

func newDomainSet(rules []DomainRule, usual []netip.AddrPort, key string) domainSet {
	s := domainSet{whole: map[string]*domain{}, partial: map[string]*domain{}, all: &domain{isAll: true}}
	for _, r := range rules {
		s.of(r).add(r)
	}
	s.all.servers = append(s.all.servers, usual...)
	if s.noDots != nil {
		s.noDots.route = dnsd.NewRoute(s.noDots.servers, key)
	}
	s.all.route = dnsd.NewRoute(s.all.servers, key)
	for _, m := range []map[string]*domain{s.whole, s.partial} {
		for _, d := range m {
			d.route = dnsd.NewRoute(d.servers, key)
		}
	}
	return s
}

// of returns the domain of a rule and makes it if need be.
func (s *domainSet) of(r DomainRule) *domain {
	if r.Domain == "" && r.NoDots {
		if s.noDots == nil {
			s.noDots = &domain{}
		}
		return s.noDots
	}
	if r.Domain == "" {
		return s.all
	}
	m := s.whole
	if r.Partial {
		m = s.partial
	}
	d := m[r.Domain]
	if d == nil {
		d = &domain{}
		m[r.Domain] = d
	}
	return d
}

func (d *domain) add(r DomainRule) {
	switch {
	case r.Addr.Is4():
		d.v4 = append(d.v4, r.Addr)
	case r.Addr.Is6():
		d.v6 = append(d.v6, r.Addr)
	case r.Null:
		d.null = true
	case r.Server.IsValid():
		d.servers = append(d.servers, r.Server)
	case r.Usual:
		d.usual = true
	default:
		d.none = true
	}
}

// has reports whether the domain has a rule for a type: a literal address of
// that type, a null address, an empty one, or servers.
func (d *domain) has(qtype uint16, serversOnly bool) bool {
	if d.none || d.usual || len(d.servers) > 0 || d.isAll {
		return true
	}
	return !serversOnly && d.literal(qtype)
}

// literal reports whether the domain answers a type with addresses.
func (d *domain) literal(qtype uint16) bool {
	switch qtype {
	case dns.TypeA:
		return d.null || len(d.v4) > 0
	case dns.TypeAAAA:
		return d.null || len(d.v6) > 0
	case dns.TypeANY:
		return d.null || len(d.v4)+len(d.v6) > 0
	}
	return false
}

// find returns the domain that decides about a question. Where one says that
// the usual servers are to be asked, literal answers for every name do not
// count any more.
func (s *domainSet) find(q dns.Question, serversOnly bool) *domain {
	name := strings.TrimSuffix(q.Name, ".")
	for i := range len(name) {
		if d := s.at(name, i); d != nil && d.has(q.Qtype, serversOnly) {
			return s.resolve(d, q)
		}
	}
	if s.noDots != nil && name != "" && !strings.Contains(name, ".") && s.noDots.has(q.Qtype, serversOnly) {
		return s.resolve(s.noDots, q)
	}
	return s.all
}

// at returns the domain that ends a name from octet i on, nil if there is none.
func (s *domainSet) at(name string, i int) *domain {
	if i == 0 || name[i-1] == '.' {
		if d := s.whole[name[i:]]; d != nil {
			return d
		}
	}
	return s.partial[name[i:]]
}

// upstreams yields every route, with a domain that goes there. Names of one
// label are asked about in none.
func (s *domainSet) upstreams(yield func(domain string, to dnsd.Route)) {
	yield(".", s.all.route)
	for _, m := range []map[string]*domain{s.whole, s.partial} {
		for name, d := range m {
			yield(dns.Fqdn(name), d.route)
		}
	}
}

// hasLiteral reports whether some type of a name is answered with addresses.
func (s *domainSet) hasLiteral(name string) bool {
	isLiteral := func(d *domain) bool { return d != nil && d.literal(dns.TypeANY) }
	name = strings.TrimSuffix(name, ".")
	for i := range len(name) {
		if isLiteral(s.at(name, i)) {
			return true
		}
	}
	return isLiteral(s.all) || isLiteral(s.noDots) && !strings.Contains(name, ".")
}

// resolve returns the domain itself, or the servers of every name if it sends
// questions there: for names of one label, those of such names.
func (s *domainSet) resolve(d *domain, q dns.Question) *domain {
	if !d.usual || d.none || d.literal(q.Qtype) {
		return d
	}
	usual := s.all
	if s.noDots != nil && len(s.noDots.servers) > 0 && strings.Count(q.Name, ".") == 1 {
		usual = s.noDots
	}
	return &domain{route: usual.route, servers: usual.servers, isAll: true}
}

// byDomain answers q from the literal answers of a domain, nil if it has none.
func (t *table) byDomain(q dns.Question, d *domain) *dnsd.Answer {
	addrs := d.v4
	if q.Qtype == dns.TypeAAAA {
		addrs = d.v6
	}
	if len(addrs) == 0 && d.null {
		addrs = []netip.Addr{nullAddr(q.Qtype)}
	}
	switch {
	case isAddress(q.Qtype) && len(addrs) > 0:
		a := &dnsd.Answer{}
		for _, addr := range addrs {
			a.Records = append(a.Records, t.addressRecord(strings.Clone(q.Name), addr, nil))
		}
		return a
	case d.none && (len(d.v4)+len(d.v6) > 0 || d.null):
		return t.noData
	case d.none:
		return t.missing(q.Name)
	}
	return nil
}

func nullAddr(qtype uint16) netip.Addr {
	if qtype == dns.TypeA {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// isPrivateReverse reports whether a name is that of a private address, or of
// a network that begins with one.
func isPrivateReverse(name string) bool {
	whole := name
	switch missing := 6 - dns.CountLabel(name); {
	case strings.HasSuffix(name, ".in-addr.arpa.") && missing > 0:
		whole = strings.Repeat("0.", missing) + name
	case strings.HasSuffix(name, ".ip6.arpa."):
		whole = strings.Repeat("0.", max(0, 34-dns.CountLabel(name))) + name
	}
	a, ok := fromReverse(whole)
	return ok && isPrivate(a)
}

// fromReverse returns the address that a name asks about. It must be whole.
func fromReverse(name string) (netip.Addr, bool) {
	labels := dns.SplitDomainName(name)
	switch {
	case strings.HasSuffix(name, ".in-addr.arpa.") && len(labels) == 6:
		a, err := netip.ParseAddr(fmt.Sprintf("%s.%s.%s.%s", labels[3], labels[2], labels[1], labels[0]))
		return a, err == nil
	case strings.HasSuffix(name, ".ip6.arpa.") && len(labels) == 34:
		ip := make(net.IP, 16)
		for i, l := range labels[:32] {
			var digit int
			if _, err := fmt.Sscanf(l, "%1x", &digit); err != nil || len(l) != 1 {
				return netip.Addr{}, false
			}
			ip[15-i/2] |= byte(digit << (4 * (i % 2)))
		}
		a, _ := netip.AddrFromSlice(ip)
		return a, true
	}
	return netip.Addr{}, false
}

// privateNetworks have addresses without a meaning elsewhere; some are only
// treated alike by dnsmasq.
var privateNetworks = prefixes("0.0.0.0/8 10.0.0.0/8 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 255.255.255.255/32 " +
	"192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 ::/128 ::1/128 fe80::/10 fc00::/7 2001:db8::/32")

func prefixes(s string) []netip.Prefix {
	var out []netip.Prefix
	for f := range strings.FieldsSeq(s) {
		out = append(out, netip.MustParsePrefix(f))
	}
	return out
}

func isIn(a netip.Addr, networks []netip.Prefix) bool {
	for _, p := range networks {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

func isPrivate(a netip.Addr) bool { return isIn(a, privateNetworks) }
