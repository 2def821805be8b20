package dnsd

import (
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// A Mirror is the names of one clone whose registry is elsewhere, ahead of
// other rules: what a resolver with Config.Directory answers as the clone's
// own. It answers from the last record it was given.
//
// The zone stays with its own servers: public names of the clone, and all
// names of others, are left to the rules behind.
type Mirror struct {
	log  *slog.Logger
	view atomic.Pointer[view] // nil: no record yet
}

// NewMirror returns a mirror without a record. A nil log discards.
func NewMirror(log *slog.Logger) *Mirror {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Mirror{log: log}
}

// Ahead returns the mirror ahead of other rules.
func (m *Mirror) Ahead(next Rules) Rules { return &mirrored{m, next} }

// A mirrored is a mirror and the rules behind it.
type mirrored struct {
	*Mirror
	next Rules
}

// Set replaces the record. Zones are those that the clone's names stand under.
func (m *Mirror) Set(c *registry.Clone, zones *registry.Zones) {
	s := &Server{dir: single{c, zones}, log: m.log, names: newNamesCache(), public: newPublic(nil)}
	for _, host := range zones.Hosts() {
		z := newZone(host)
		s.prepareZone(z)
		s.zones = append(s.zones, z)
	}
	m.view.Store(&view{Server: s, clone: c.ID})
}

// Answer answers from the clone's record, else from the rules behind.
func (m *mirrored) Answer(q dns.Question) *Answer {
	v := m.view.Load()
	if v == nil {
		return m.next.Answer(q)
	}
	r := v.answerOwn(question{name: q.Name, qtype: q.Qtype}, v.ownNames())
	if r == nil {
		return m.next.Answer(q)
	}
	a := &Answer{Rcode: r.rcode, Records: slices.Clone(r.answer), Target: r.target}
	if r.own {
		for i, rr := range a.Records {
			a.Records[i] = dns.Copy(rr)
			a.Records[i].Header().Name = strings.Clone(q.Name)
		}
	}
	return a
}

// Route returns the servers of the clone's longest forward rule, else those of
// the rules behind.
func (m *mirrored) Route(q dns.Question) Route {
	if v := m.view.Load(); v != nil {
		if n := v.ownNames(); n != nil {
			for _, f := range n.forward {
				if isUnder(f.zone, q.Name) {
					return Route{f.group}
				}
			}
		}
	}
	return m.next.Route(q)
}

// Upstreams yields the clone's forward rules, and the routes of the rules behind.
func (m *mirrored) Upstreams(yield func(domain string, r Route)) {
	if v := m.view.Load(); v != nil {
		if n := v.ownNames(); n != nil {
			for _, f := range n.forward {
				yield(f.zone, Route{f.group})
			}
		}
	}
	m.next.Upstreams(yield)
}

// Amend leaves answers to the rules behind.
func (m *mirrored) Amend(q dns.Question, reply *dns.Msg) { m.next.Amend(q, reply) }

// A single is a directory of one clone.
type single struct {
	clone *registry.Clone
	zones *registry.Zones
}

func (s single) Lookup(string) (registry.Target, bool)        { return registry.Target{}, false }
func (s single) Clone(id registry.ID) (*registry.Clone, bool) { return s.clone, id == s.clone.ID }
func (s single) Revision() uint64                             { return s.clone.Revision }
func (s single) Zones() *registry.Zones                       { return s.zones }
