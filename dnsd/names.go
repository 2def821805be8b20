package dnsd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/clonegate/clonegate/registry"
	"github.com/hashicorp/golang-lru/v2/simplelru"
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
	// wild holds the wildcards by the name they stand beneath.
	wild map[string]*node
	// reverse holds the name that owns each host's address at the name that is
	// asked for to learn it.
	reverse map[string]*node
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
	if n := s.names.get(key); n != nil && n.clone == c {
		return n
	}
	n, ignored := compile(c, z)
	for _, why := range ignored {
		s.log.Warn("dns record of a clone is not served", "clone", c.ID, "zone", z.name, "err", why)
	}
	s.names.put(key, n)
	return n
}

// compile returns the names of a clone under a zone, and why some of its
// records are not among them.
func compile(c *registry.Clone, z *zone) (*names, []error) {
	n := &names{clone: c, nodes: map[string]*node{"": {}}, wild: map[string]*node{}, reverse: map[string]*node{}}
	rrs := map[*node][]dns.RR{}
	origin := string(c.ID) + "." + z.name
	n.nodes[""].gateway = c.DefaultService() != ""
	for service := range c.Services {
		n.node(service).gateway = true
		if hasTenants(c, service) {
			n.node("*." + service).gateway = true
		}
	}
	for host, addrs := range c.Hosts {
		at := n.node(string(host))
		at.local = true
		for _, a := range addrs {
			rrs[at] = append(rrs[at], addressRecord(string(host)+"."+origin, a.Unmap(), ownTTL))
		}
	}
	ignored := n.addRecords(c.Records, origin, rrs)
	for at, of := range rrs {
		at.set(of)
	}
	if root := n.nodes[""]; len(n.nodes) == 1 && !root.gateway && len(root.answers) == 0 {
		delete(n.nodes, "") // a clone without any data has no name (RFC 8020 §2)
	}
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
	if above, isWild := strings.CutPrefix(rel, "*."); isWild {
		n.wild[above] = at
	} else if rel == "*" {
		n.wild[""] = at
	}
	if _, above, ok := strings.Cut(rel, "."); ok {
		n.node(above)
	}
	return at
}

// addRecords adds extra records. Hosts and services win: an alias cannot stand
// where anything else does (RFC 1034 §3.6.2), and the addresses of a service
// are the gateway's.
func (n *names) addRecords(records []registry.Record, origin string, rrs map[*node][]dns.RR) (ignored []error) {
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
		rrs[at] = append(rrs[at], rr)
	}
	for at, alias := range aliases {
		if len(rrs[at]) == 0 && !at.gateway {
			rrs[at] = []dns.RR{alias}
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
			if reverse, err := dns.ReverseAddr(a.Unmap().String()); err == nil && n.reverse[reverse] == nil {
				n.reverse[reverse] = newNode(&dns.PTR{Hdr: header(reverse, dns.TypePTR, ownTTL), Ptr: name})
			}
		}
	}
}

// find returns the node for a relative name, nil if it does not exist. A
// wildcard stands for names that do not exist themselves, directly beneath
// their closest ancestor that does (RFC 4592 §3.3.1).
func (n *names) find(rel string) *node {
	if at, ok := n.nodes[rel]; ok {
		return at
	}
	for rel != "" {
		_, rel, _ = strings.Cut(rel, ".")
		if _, exists := n.nodes[rel]; exists {
			return n.wild[rel]
		}
	}
	return nil
}

// compiledClones bounds how many clones' names are kept ready; others are
// compiled again when they are asked for.
const compiledClones = 8192

// A namesCache keeps compiled names. It is in parts, so that those who read
// at the same time rarely meet.
type namesCache [32]struct {
	mu  sync.Mutex
	lru *simplelru.LRU[namesKey, *names] // guarded by mu
	_   [40]byte                         // keeps neighbours off one cache line
}

func newNamesCache() *namesCache {
	c := new(namesCache)
	for i := range c {
		lru, err := simplelru.NewLRU[namesKey, *names](compiledClones/len(c), nil)
		if err != nil {
			panic(err) // only for a size below one
		}
		c[i].lru = lru
	}
	return c
}

// get returns nil if nothing is kept.
func (c *namesCache) get(k namesKey) *names {
	part := &c[k.part(len(c))]
	part.mu.Lock()
	defer part.mu.Unlock()
	n, _ := part.lru.Get(k)
	return n
}

func (c *namesCache) put(k namesKey, n *names) {
	part := &c[k.part(len(c))]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.lru.Add(k, n)
}

func (c *namesCache) remove(k namesKey) {
	part := &c[k.part(len(c))]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.lru.Remove(k)
}

// Forget lets go of the names of a clone that are kept ready, because nobody
// will ask for them soon.
func (s *Server) Forget(id registry.ID) {
	for _, z := range s.zones {
		s.names.remove(namesKey{id, z})
	}
}

// part returns which of so many parts a clone belongs to. IDs that follow one
// another, as most do, spread evenly.
func (k namesKey) part(parts int) int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(k.clone) {
		h = (h ^ uint32(k.clone[i])) * 16777619
	}
	return int(h % uint32(parts))
}
