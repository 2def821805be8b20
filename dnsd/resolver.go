package dnsd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// A Resolver says how questions that arrive at one listener are resolved.
// Clones share host names and addresses, so it is the listener that decides
// whose names are meant, never the address a question comes from.
type Resolver struct {
	// Clone is the clone whose hosts are known by their short names. It need
	// not exist yet. Empty: no clone's; zone and upstreams answer.
	Clone registry.ID

	// Upstreams answer what is not known here. Empty: the name servers in
	// Config.ResolvConf.
	Upstreams []netip.AddrPort

	// Clients lists the networks that may ask. Empty means loopback,
	// link-local and private networks.
	Clients []netip.Prefix

	// RefusePrivate takes addresses of private networks, and of this machine,
	// out of what upstreams say, so that no name of the outside leads inside
	// (DNS rebinding). Names in the domains of PrivateIn, and in those that the
	// clone's own forward rules name, may have them all the same.
	RefusePrivate bool
	PrivateIn     []registry.Host

	// Rules are consulted ahead of cache and upstreams. Nil: none.
	Rules Rules

	// Identity returns what the server says about itself under a name such as
	// "version.bind.", asked for as TXT in class CH; "" is nothing. Nil: class CH
	// is refused.
	Identity func(name string) string

	// Authoritative is a listener for the world: Rules answer every question,
	// anybody may ask, and no recursion is offered.
	Authoritative bool
}

// defaultClients are the networks that may use a resolver unless others are named.
var defaultClients = append([]netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
}, registry.PrivateNetworks...)

var anybody = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// A view is the world as the clients of one resolver see it.
type view struct {
	*Server
	id      int // of the listener; part of every cache key
	clone   registry.ID
	own     group // upstreams of the listener itself; empty: those in the resolv.conf
	clients []netip.Prefix
	rules   Rules // nil: none
	world   bool  // rules answer the world

	identity func(name string) string // nil: none

	refuse    bool     // private addresses of upstreams
	privateIn []string // zones in which they are fine

	compiled   atomic.Pointer[names] // of the clone as it was a moment ago
	faults     atomic.Pointer[faults]
	foreignAny *result // to ANY at other people's names
}

func (s *Server) newView(id int, r *Resolver) (*view, error) {
	if r.Clone != "" {
		if _, err := registry.ParseID(string(r.Clone)); err != nil {
			return nil, err
		}
	}
	for _, u := range r.Upstreams {
		if !u.IsValid() || u.Port() == 0 || u.Addr().IsUnspecified() || u.Addr().IsMulticast() {
			return nil, fmt.Errorf("upstream %v is not the address and port of a server", u)
		}
	}
	clients := r.Clients
	if len(clients) == 0 {
		clients = defaultClients
	}
	if r.Authoritative {
		if r.Rules == nil {
			return nil, errors.New("an authoritative resolver needs rules")
		}
		clients = anybody
	}
	foreignAny := *s.public.any
	foreignAny.aa, foreignAny.from = false, "any"
	return &view{
		Server: s, id: id, clone: r.Clone, own: newGroup(r.Upstreams), clients: clients, rules: r.Rules, world: r.Authoritative, identity: r.Identity, foreignAny: &foreignAny,
		refuse: r.RefusePrivate, privateIn: domainsOf(r.PrivateIn),
	}, nil
}

// admits reports whether a client may ask.
func (v *view) admits(client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	return slices.ContainsFunc(v.clients, func(p netip.Prefix) bool { return p.Contains(client) })
}

// answer answers q from the first that knows:
//
//  1. the clone's own hosts, records and addresses
//  2. the zones, as everybody sees them
//  3. the listener's rules
//  4. what upstreams said not long ago
//  5. upstreams: those of the clone's longest forward rule, else those that the
//     rules name, else the listener's
//
// and does so again for every name that a CNAME leads to.
func (v *view) answer(q *query, ask asker) *result {
	n := v.ownNames()
	return v.follow(q.question, func(at question) *result { return v.step(q, at, n, ask) })
}

// step answers about one name of the chain that q began.
func (v *view) step(q *query, q2 question, n *names, ask asker) *result {
	if r := v.answerOwn(q2, n); r != nil {
		return r
	}
	if r := v.answerZone(q2); r != nil {
		return r
	}
	if r := v.answerProbe(q2); r != nil {
		return r
	}
	if r := v.answerRules(q2); r != nil {
		return r
	}
	if q2.qtype == dns.TypeANY {
		return v.foreignAny
	}
	g := v.groupFor(q2, n)
	if q.brought != nil && q.brought.key == v.key(q2, g) {
		return v.from(q.brought, q2, "upstream")
	}
	r, old := v.cached(q2, g, q.now)
	if r != nil {
		return r
	}
	if !q.rd {
		return refused(dns.ExtendedErrorCodeNotAuthoritative, "recursion was not asked for, and the answer is not known here")
	}
	return ask(q2, g, old)
}

// identify answers a question in class CH, nil if it is any other or there is
// nothing to say.
func (v *view) identify(q *query) *result {
	if v.identity == nil || q.class != dns.ClassCHAOS || q.qtype != dns.TypeTXT || q.fault != dns.RcodeRefused {
		return nil
	}
	text := v.identity(q.name)
	if text == "" {
		return nil
	}
	name := strings.Clone(q.name)
	txt := &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{text}}
	return &result{answer: []dns.RR{txt}, from: "identity"}
}

// An asker asks upstreams. old is the answer that has expired, nil if there is
// none.
type asker func(q question, g group, old *entry) *result

// waits is what the asker of those who cannot wait returns.
var waits = &result{wait: true}

// ownNames returns the names of the view's clone, nil if there is none.
func (v *view) ownNames() *names {
	if v.clone == "" {
		return nil
	}
	c, ok := v.dir.Clone(v.clone)
	if !ok {
		return nil
	}
	if n := v.compiled.Load(); n != nil && n.clone == c {
		return n
	}
	n := v.namesOf(c, v.zones[0])
	v.compiled.Store(n)
	return n
}

// answerOwn answers what the clone knows about itself, in this order: names
// it has outside of the zone, such as "db" or "db.shop.example.com", the
// addresses of its hosts, and hosts and records beneath its public names. nil
// means that it does not know.
//
// Its hosts are facts to the clone itself: they answer here whatever the
// clone's state is, even when the world no longer sees them.
func (v *view) answerOwn(q question, n *names) *result {
	if n == nil {
		return nil
	}
	z, sub, inZone := v.split(q.name)
	if !inZone {
		at := n.short(q.name)
		if at == nil {
			return nil
		}
		// The name is its own zone here: nothing above it is ours.
		return v.answerData(q, at, v.public.bare)
	}
	rest, last := cutLast(sub)
	if rest == "" || !isBase(n.clone, last) {
		return nil
	}
	at := v.namesOf(n.clone, z).nodes[rest]
	if at == nil || !at.local || at.gateway {
		return nil
	}
	return v.answerNode(q, at, z.noData)
}

// short returns what stands at a name outside of the zone, nil if the clone
// has no such name. Wildcards and the names above a host's are left to
// upstreams: a clone must not hide the rest of a domain.
func (n *names) short(name string) *node {
	if name == "." {
		return nil
	}
	if at := n.nodes[name[:len(name)-1]]; at != nil && at.local && name[0] != '*' {
		return at
	}
	return n.reverse[name]
}

// groupFor returns the upstreams for a question.
func (v *view) groupFor(q question, n *names) group {
	if n != nil {
		for _, f := range n.forward {
			if isUnder(f.zone, q.name) {
				return f.group
			}
		}
	}
	if g, ok := v.route(q); ok {
		return g
	}
	if len(v.own.servers) > 0 {
		return v.own
	}
	return v.resolvConf.group(v.now())
}

// isUnder reports whether a name is a zone or lies in it; both are as
// questions have them.
func isUnder(zone, name string) bool {
	rest, ok := strings.CutSuffix(name, zone)
	return ok && (rest == "" || rest[len(rest)-1] == '.' || zone == ".")
}
