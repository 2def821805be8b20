package dnsd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// names is what one clone contributes to one zone, compiled from its record.
// It is never changed.
type names struct {
	clone *registry.Clone
	// nodes holds every name that exists, relative to the clone and in lower
	// case; "" is the clone's own. Names that exist only because there are
	// others beneath them are here too (RFC 4592 §2.2.2).
	nodes map[string]*node
	// reverse holds the name that owns each host's address, by the name that
	// is asked for to learn it.
	reverse map[string]string
	forward []forward // longest zone first
}

// A forward sends questions under a zone to a group of upstreams.
type forward struct {
	zone  string
	group group
}

// namesKey finds compiled names. Each zone has its own, because relative names
// in records stand under the zone that was asked.
type namesKey struct {
	clone registry.ID
	zone  *zone
}

// namesOf returns the names of a clone, compiled anew only if its record
// changed.
func (s *Server) namesOf(c *registry.Clone, z *zone) *names {
	key := namesKey{c.ID, z}
	if n, ok := s.names.Get(key); ok && n.clone == c {
		return n
	}
	n, ignored := compile(c, z)
	for _, why := range ignored {
		s.log.Warn("dns record of a clone is not served", "clone", c.ID, "zone", z.name, "err", why)
	}
	s.names.Add(key, n)
	return n
}

// compile returns the names of a clone under a zone, and why some of its
// records are not among them.
func compile(c *registry.Clone, z *zone) (*names, []error) {
	n := &names{clone: c, nodes: map[string]*node{"": {}}, reverse: map[string]string{}}
	origin := string(c.ID) + "." + z.name
	n.nodes[""].gateway = c.DefaultService() != ""
	for service := range c.Services {
		n.node(service).gateway = true
	}
	for host, addrs := range c.Hosts {
		at := n.node(string(host))
		at.local = true
		for _, a := range addrs {
			at.rrs = append(at.rrs, addressRecord(string(host)+"."+origin, a.Unmap(), ownTTL))
		}
	}
	ignored := n.addRecords(c.Records, origin)
	n.addReverse(c.Hosts, origin)
	for _, f := range c.Forward {
		n.forward = append(n.forward, forward{dns.Fqdn(string(f.Zone)), newGroup(f.Servers)})
	}
	slices.SortStableFunc(n.forward, func(a, b forward) int {
		return dns.CountLabel(b.zone) - dns.CountLabel(a.zone)
	})
	return n, ignored
}

// node returns the node at a relative name and makes it, and those above it,
// if need be.
func (n *names) node(rel string) *node {
	if at, ok := n.nodes[rel]; ok {
		return at
	}
	at := &node{}
	n.nodes[rel] = at
	if _, above, ok := strings.Cut(rel, "."); ok {
		n.node(above)
	}
	return at
}

// addRecords adds extra records. Hosts and services win: an alias cannot stand
// where anything else does (RFC 1034 §3.6.2), and the addresses of a service
// are the gateway's.
func (n *names) addRecords(records []registry.Record, origin string) (ignored []error) {
	aliases := map[*node]*dns.CNAME{}
	for _, rec := range records {
		rel, rr, err := parseRecord(rec, origin)
		if err != nil {
			ignored = append(ignored, err)
			continue
		}
		at := n.node(rel)
		at.local = true
		if alias, ok := rr.(*dns.CNAME); ok {
			aliases[at] = cmp.Or(aliases[at], alias)
			continue
		}
		at.rrs = append(at.rrs, rr)
	}
	for at, alias := range aliases {
		if len(at.rrs) == 0 && !at.gateway {
			at.rrs = []dns.RR{alias}
		} else {
			ignored = append(ignored, recordError(registry.Record{Name: alias.Hdr.Name, Type: "CNAME"}, "other data stands at that name"))
		}
	}
	return ignored
}

// addReverse gives every address of a host back to the host that owns it: the
// one with the fewest labels, the first in the alphabet of those.
func (n *names) addReverse(hosts map[registry.Host][]netip.Addr, origin string) {
	byRank := slices.SortedFunc(maps.Keys(hosts), func(a, b registry.Host) int {
		return cmp.Or(cmp.Compare(strings.Count(string(a), "."), strings.Count(string(b), ".")), cmp.Compare(a, b))
	})
	for _, host := range byRank {
		name := string(host) + "."
		if !strings.Contains(string(host), ".") {
			name += origin
		}
		for _, a := range hosts[host] {
			if reverse, err := dns.ReverseAddr(a.Unmap().String()); err == nil && n.reverse[reverse] == "" {
				n.reverse[reverse] = name
			}
		}
	}
}

// find returns the node for a relative name, nil if it does not exist. A
// wildcard stands for names that do not exist themselves, directly beneath
// their closest ancestor that does (RFC 4592 §3.3.1).
func (n *names) find(labels []string) *node {
	if at, ok := n.nodes[join(labels)]; ok {
		return at
	}
	for i := 1; i <= len(labels); i++ {
		encloser := labels[i:]
		if _, exists := n.nodes[join(encloser)]; exists {
			return n.nodes[join(append([]string{"*"}, encloser...))]
		}
	}
	return nil
}
