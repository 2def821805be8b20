package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A pool is the endpoints of one service of one clone. It is changed in place:
// an endpoint that stays keeps its connections, its counters and its health.
type pool struct {
	clone   registry.ID
	service string
	life    string // tells the tags of one life of the clone from those of any other
	prober  *prober
	sticky  atomic.Bool
	host    atomic.Pointer[string] // the name of production that probes ask for; nil: the public one
	traffic traffic
	members atomic.Pointer[[]*member] // immutable; replaced by update
}

// A member is an endpoint in a pool, and the check that probes it, if any.
type member struct {
	*endpoint
	check *check
}

func newPool(c *registry.Clone, service string, p *prober) *pool {
	pl := &pool{
		clone: c.ID, service: service, prober: p,
		life: fmt.Sprintf("%s/%d/%s", c.ID, c.Incarnation, c.Instance),
	}
	pl.members.Store(new([]*member))
	return pl
}

// update makes the pool what the registry says. A nil service empties it. Only
// one update may run at a time.
func (p *pool) update(s *registry.Service) {
	old := *p.members.Load()
	var now []*member
	p.sticky.Store(s != nil && s.Sticky)
	if s != nil {
		for _, addr := range s.Endpoints {
			now = append(now, p.member(old, addr, s))
		}
	}
	p.members.Store(&now)
	for _, m := range old {
		if !slices.ContainsFunc(now, func(n *member) bool { return n.check == m.check }) {
			p.prober.remove(m.check)
		}
		if !slices.ContainsFunc(now, func(n *member) bool { return n.endpoint == m.endpoint }) {
			m.endpoint.retire()
		}
	}
}

// member returns the member of a service with an address: the old one if
// nothing about it changed, its endpoint with another check if only the health
// check did, or a new one.
func (p *pool) member(old []*member, addr netip.AddrPort, s *registry.Service) *member {
	m := new(member)
	for _, o := range old {
		if o.addr == addr && o.serves(s) {
			if o.check.asks(s.Health) {
				return o
			}
			m.endpoint = o.endpoint
		}
	}
	if m.endpoint == nil {
		m.endpoint = newEndpoint(p, addr, s)
	}
	if s.Health == nil {
		m.health.Store(unprobed)
		m.fault.Store(nil)
		return m
	}
	m.check = &check{endpoint: m.endpoint, pool: p, health: *s.Health}
	p.prober.add(m.check)
	return m
}

// pick returns the endpoint that the next request should use, and counts it
// there; the caller releases it. Of two random ones that can take requests, it
// is the one with fewer at work. Benched endpoints are picked only if there is
// no other. Without an endpoint left, the reason says why.
//
// The endpoints in tried are passed over.
func (p *pool) pick(tried []*endpoint) (*endpoint, Reason) {
	members := *p.members.Load()
	if len(members) == 0 {
		return nil, NoEndpoint
	}
	if len(members) == 1 && len(tried) == 0 && members[0].health.Load() != unhealthy {
		members[0].open.Add(1)
		return members[0].endpoint, ""
	}
	now := time.Now()
	e := twoOf(members, func(m *member) bool {
		return m.takes(tried) && !m.isBenched(now)
	})
	if e == nil {
		e = twoOf(members, func(m *member) bool { return m.takes(tried) })
	}
	if e == nil {
		return nil, Unhealthy
	}
	e.open.Add(1)
	return e, ""
}

// protocol returns what all endpoints of the pool speak, "" if there are none.
func (p *pool) protocol() registry.Protocol {
	if members := *p.members.Load(); len(members) > 0 {
		return members[0].endpoint.protocol
	}
	return ""
}

// takes reports whether requests may be sent to a member: if it is not known
// to be unhealthy, and was not tried.
func (m *member) takes(tried []*endpoint) bool {
	return m.health.Load() != unhealthy && !slices.Contains(tried, m.endpoint)
}

// twoOf draws two different members that are fit, if there are as many, and
// returns the endpoint with fewer requests at work; nil if none is fit.
func twoOf(members []*member, fit func(*member) bool) *endpoint {
	var a, b *member
	n := 0
	for _, m := range members {
		if !fit(m) {
			continue
		}
		n++
		switch i := rand.IntN(n); { // keeps every pair equally likely
		case n == 1:
			a = m
		case n == 2:
			b = m
			if i == 0 {
				a, b = b, a
			}
		case i == 0:
			a = m
		case i == 1:
			b = m
		}
	}
	switch {
	case a == nil:
		return nil
	case b == nil || a.open.Load() <= b.open.Load():
		return a.endpoint
	}
	return b.endpoint
}

// faults describes what is wrong with each endpoint, for people.
func (p *pool) faults() []string {
	var out []string
	for _, m := range *p.members.Load() {
		out = append(out, m.String())
	}
	return out
}
