package dnsd

import (
	"iter"
	"maps"
	"slices"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// contents yields the records of a zone at one moment, without its SOA. A
// server that holds exactly these answers as answerZone does.
func (s *Server) contents(z *zone, m moment) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		for _, rr := range s.fixedContents(z, m) {
			if !yield(rr) {
				return
			}
		}
		for _, c := range m.clones {
			for _, rr := range s.cloneContents(z, c, m.challenges) {
				if !yield(rr) {
					return
				}
			}
		}
	}
}

// fixedContents returns the records that do not come from clones.
func (s *Server) fixedContents(z *zone, m moment) []dns.RR {
	rrs := s.nodeRecords(z.apex, z.name)
	rrs = append(rrs, s.nodeRecords(z.server, nameServerLabel+"."+z.name)...)
	if name := challengeLabel + "." + z.name; m.challenges[name] == nil {
		rrs = append(rrs, s.nodeRecords(z.challenge, name)...)
	}
	for name, n := range m.challenges {
		if _, ok := z.cut(name); ok {
			rrs = append(rrs, s.nodeRecords(n, name)...)
		}
	}
	return rrs
}

// cloneContents returns what a clone that has names adds to a zone: the same
// that zoneNode finds; nil adds nothing. No two clones that have names share a label.
func (s *Server) cloneContents(z *zone, c *registry.Clone, challenges map[string]*node) []dns.RR {
	if c == nil {
		return nil
	}
	n, _ := compile(c, z)
	var rrs []dns.RR
	add := func(sub string, at *node) {
		name := sub + "." + z.name
		if sub == nameServerLabel || challenges[name] != nil {
			return
		}
		rrs = append(rrs, s.nodeRecords(at, name)...)
	}
	for _, label := range c.PublicLabels() {
		if !isBase(c, label) {
			add(label, s.public.node)
			continue
		}
		for rel, at := range n.nodes {
			if rel == "" {
				add(label, at)
			} else {
				add(rel+"."+label, at)
			}
		}
	}
	for service := range c.Services {
		if hasTenants(c, service) {
			for _, base := range append([]string{string(c.ID)}, c.Aliases...) {
				add("*."+service+"-"+base, s.public.node)
			}
		}
	}
	return rrs
}

// nodeRecords returns everything that stands at a node, under this name.
func (s *Server) nodeRecords(n *node, owner string) []dns.RR {
	var rrs []dns.RR
	add := func(r *result) {
		for _, rr := range r.answer {
			rr = dns.Copy(rr)
			rr.Header().Name = owner
			rrs = append(rrs, rr)
		}
	}
	if n.gateway {
		for _, r := range []*result{s.public.a, s.public.aaaa} {
			if r != nil {
				add(r)
			}
		}
	}
	for _, t := range n.answers {
		if n.gateway && slices.Contains([]uint16{dns.TypeA, dns.TypeAAAA}, t.qtype) {
			continue
		}
		add(t.result)
	}
	return rrs
}

// difference returns the records that have to be taken away from a zone and
// added to it, to make one moment the other. Both hold the same clones, those
// that may differ.
func (s *Server) difference(z *zone, before, now moment) (removed, added []dns.RR) {
	gone := map[string]dns.RR{}
	for _, c := range before.clones {
		for _, rr := range s.cloneContents(z, c, before.challenges) {
			gone[rr.String()] = rr
		}
	}
	for _, c := range now.clones {
		for _, rr := range s.cloneContents(z, c, now.challenges) {
			text := rr.String()
			if _, same := gone[text]; same {
				delete(gone, text)
			} else {
				added = append(added, rr)
			}
		}
	}
	return slices.Collect(maps.Values(gone)), added
}
