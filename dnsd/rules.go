package dnsd

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Rules are local data and habits of one resolver, such as those of a dnsmasq
// configuration. They are consulted after the clone and the zones, ahead of
// cache and upstreams, by many goroutines at once.
type Rules interface {
	// Answer answers a question whose name is in lower case, from what is
	// known here. Nil means that upstreams are to be asked.
	Answer(q dns.Question) *Answer

	// Route returns the upstreams to ask. Answers of one route are never
	// served for another; a new key forgets everything that was kept. A route
	// without servers leaves the choice to the resolver.
	Route(q dns.Question) Route

	// Upstreams calls yield for every route, with a domain that goes there, as
	// questions have it.
	Upstreams(yield func(domain string, r Route))

	// Amend changes what upstreams said to a question before it is passed on
	// and kept. m holds only records that answer q, or a negative answer's SOA.
	Amend(q dns.Question, m *dns.Msg)
}

// An Answer is what Rules know. Its records are not changed afterwards; their
// owners are replaced by the client's spelling where they are the name asked.
type Answer struct {
	Rcode   int
	Records []dns.RR
	Target  string // the name that Records' CNAME leads to and that is still to be asked; "" if none
	SOA     dns.RR // proves that there are no records; nil: one at the name asked is made up

	ready atomic.Pointer[result] // the answer to questions about the name of the records
}

// A Route is a group of upstream servers.
type Route struct {
	group
}

// NewRoute returns the route to servers. Key tells routes to the same servers
// apart.
func NewRoute(servers []netip.AddrPort, key string) Route {
	g := newGroup(servers)
	g.key = key + g.key
	return Route{g}
}

// Servers returns the servers of the route.
func (r Route) Servers() []netip.AddrPort { return r.servers }

// answerRules answers q by the listener's rules, nil if there are none or
// they do not know.
func (v *view) answerRules(q question) *result {
	if v.rules == nil {
		return nil
	}
	a := v.rules.Answer(q.plain())
	if a == nil {
		return nil
	}
	if r := a.ready.Load(); r != nil && (len(a.Records) == 0 || a.Records[0].Header().Name == q.name) {
		return r
	}
	r := v.rulesResult(a, q)
	a.ready.Store(r)
	return r
}

// rulesResult makes the result of what rules know.
func (v *view) rulesResult(a *Answer, q question) *result {
	aa := a.Rcode != dns.RcodeRefused
	if len(a.Records) == 0 {
		r := &result{rcode: a.Rcode, aa: aa, target: a.Target, from: "rules"}
		switch {
		case aa && a.SOA != nil:
			r.ns = []dns.RR{a.SOA}
			r.packed, _ = packNegative(a.SOA) // what cannot be packed is reported when it is packed again
		case aa:
			r.bare, r.packed = true, v.public.bare.packed
		}
		return r
	}
	r := &result{rcode: a.Rcode, aa: aa, target: a.Target, from: "rules", answer: a.Records}
	if !slices.ContainsFunc(a.Records, func(rr dns.RR) bool { return rr.Header().Name != a.Records[0].Header().Name }) &&
		a.Records[0].Header().Name == q.name {
		r.own = true
		r.packed, _ = packOwn(a.Records, nil) // what cannot be packed is reported when it is packed again
	}
	return r
}

// route returns the upstreams that the listener's rules name, if they do.
func (v *view) route(q question) (group, bool) {
	if v.rules == nil {
		return group{}, false
	}
	r := v.rules.Route(q.plain())
	return r.group, len(r.servers) > 0
}

// amend lets the listener's rules change what upstreams said.
func (v *view) amend(q question, m *dns.Msg) {
	if v.rules != nil {
		v.rules.Amend(q.plain(), m)
	}
}

// plain returns the question without what only concerns the message.
func (q question) plain() dns.Question {
	return dns.Question{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}
}
