package proxy

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/clonegate/clonegate/registry"
)

// A production is what one record of a clone says about production, ready to be
// looked up. It is never changed; a clone that says nothing has none.
type production struct {
	services map[string]string // by name of production
	tenants  map[string]string // by name of production: the service of all names below
	hosts    map[string]string // by service: the name that it is asked by
	bases    map[string]string // by service: the name that its tenants stand below
	parents  map[string]bool   // the domains above those names, down from the registrable one
	strip    map[string]bool   // cookies that the clone must not see
	declared map[string]string // as in the record
	domains  []domain          // of production: every name at or below belongs to it
}

// newProduction returns what c says about production, nil for nothing.
func newProduction(c *registry.Clone) *production {
	if len(c.Production) == 0 && len(c.StripCookies) == 0 {
		return nil
	}
	p := &production{
		services: map[string]string{}, tenants: map[string]string{},
		hosts: map[string]string{}, bases: map[string]string{},
		parents: map[string]bool{}, strip: map[string]bool{},
		declared: c.Production, domains: domainsOf(c.Production),
	}
	for _, name := range slices.Sorted(maps.Keys(c.Production)) {
		service := c.Production[name]
		if base, isBase := strings.CutPrefix(name, "*."); isBase {
			p.tenants[base] = service
			if p.bases[service] == "" {
				p.bases[service] = base
			}
			p.addParents(base)
			continue
		}
		p.services[name] = service
		if first, _, _ := strings.Cut(name, "."); p.hosts[service] == "" || first == service {
			p.hosts[service] = name
		}
		p.addParents(name)
	}
	for _, name := range c.StripCookies {
		p.strip[name] = true
	}
	return p
}

// addParents notes the domains above a name that can have cookies.
func (p *production) addParents(name string) {
	top, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return // the name is itself a suffix that many share
	}
	for name != top {
		_, name, _ = strings.Cut(name, ".")
		p.parents[name] = true
	}
}

// find returns the service that stands for a name of production, which is in
// lower case, and the labels of a tenant in front of it.
func (p *production) find(name string) (service, below string, ok bool) {
	if service, ok = p.services[name]; ok {
		return service, "", true
	}
	rest := name
	for range 3 {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			break
		}
		if service, ok = p.tenants[parent]; ok {
			below = name[:len(name)-len(parent)-1]
			return service, below, registry.IsBelow(below)
		}
		rest = parent
	}
	return "", "", false
}

// host returns the name of production by which a service is asked for; "" if
// it has none.
func (p *production) host(service, below string) string {
	if p == nil {
		return ""
	}
	if base := p.bases[service]; below != "" && base != "" {
		return below + "." + base
	}
	return p.hosts[service]
}

// hostOf returns the name by which probes ask for a service; nil if it has none.
func (p *production) hostOf(service string) *string {
	if host := p.host(service, ""); host != "" {
		return &host
	}
	return nil
}

// isDeclared reports whether there are names of production.
func (p *production) isDeclared() bool { return p != nil && len(p.declared) > 0 }

// sameNames reports whether two records name production alike.
func (p *production) sameNames(q *production) bool {
	if !p.isDeclared() || !q.isDeclared() {
		return p.isDeclared() == q.isDeclared()
	}
	return maps.Equal(p.declared, q.declared)
}
