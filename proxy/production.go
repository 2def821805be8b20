package proxy

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/clonegate/clonegate/registry"
)

// A production is what one record of a clone says about production, ready to be
// looked up. It is never changed; a clone that says nothing has none.
type production struct {
	names    []prodName        // as declared, in order
	services map[string]string // by name of production
	tenants  map[string]string // by name of production: the service of all names below
	hosts    map[string]string // by service: the name that it is asked by
	bases    map[string]string // by service: the name that its tenants stand below
	parents  map[string]bool   // the domains above those names, down from the registrable one
	strip    map[string]bool   // cookies that the clone must not see
	domains  []domain          // of production: every name at or below belongs to it
}

// A prodName is a name of production and the service that stands for it.
type prodName struct {
	name, service string
	tenants       bool // the service stands for all names below the name instead
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
	}
	for _, key := range slices.Sorted(maps.Keys(c.Production)) {
		name, isBase := strings.CutPrefix(key, "*.")
		p.add(prodName{name, c.Production[key], isBase})
	}
	p.domains = domainsOf(p.names)
	for _, name := range c.StripCookies {
		p.strip[name] = true
	}
	return p
}

func (p *production) add(n prodName) {
	p.names = append(p.names, n)
	p.addParents(n.name)
	if n.tenants {
		p.tenants[n.name] = n.service
		if p.bases[n.service] == "" {
			p.bases[n.service] = n.name
		}
		return
	}
	p.services[n.name] = n.service
	if first, _, _ := strings.Cut(n.name, "."); p.hosts[n.service] == "" || first == n.service {
		p.hosts[n.service] = n.name
	}
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

// isDeclared reports whether there are names of production.
func (p *production) isDeclared() bool { return p != nil && len(p.names) > 0 }

// sameNames reports whether two records name production alike.
func (p *production) sameNames(q *production) bool {
	if !p.isDeclared() || !q.isDeclared() {
		return p.isDeclared() == q.isDeclared()
	}
	return slices.Equal(p.names, q.names)
}

// find returns the service that stands for a name of production, which is in
// lower case, and the labels of a tenant in front of it.
func (p *production) find(name []byte) (service string, below []byte, ok bool) {
	if service, ok = p.services[string(name)]; ok {
		return service, nil, true
	}
	rest := name
	for range 3 {
		_, parent, more := bytes.Cut(rest, []byte("."))
		if !more {
			break
		}
		if service, ok = p.tenants[string(parent)]; ok {
			below = name[:len(name)-len(parent)-1]
			return service, below, registry.IsBelow(string(below))
		}
		rest = parent
	}
	return "", nil, false
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

// matches reports whether a wildcard, as in *.example.com, takes the name or
// names below it, and what then stands below the name of the service: "" or a
// wildcard.
func (n *prodName) matches(wildcard []byte) (below []byte, ok bool) {
	domain := wildcard[len("*."):]
	switch {
	case !n.tenants:
		return nil, isBelow([]byte(n.name), string(domain))
	case isBelow(domain, n.name) || string(domain) == n.name:
		return wildcard[:len(wildcard)-len(n.name)-1], true
	}
	return wildcard[:1], isBelow([]byte(n.name), string(domain))
}

// isTwice reports whether one of the names before matches a wildcard for the
// same service.
func (n *prodName) isTwice(before []prodName, wildcard []byte) bool {
	for i := range before {
		b := &before[i]
		if _, ok := b.matches(wildcard); ok && b.service == n.service && b.tenants == n.tenants {
			return true
		}
	}
	return false
}

// isBelow reports whether a name lies below a domain.
func isBelow(name []byte, domain string) bool {
	at := len(name) - len(domain)
	return at > 0 && name[at-1] == '.' && string(name[at:]) == domain
}

// isAt reports whether a name is a domain or lies below it.
func isAt(name []byte, domain string) bool { return string(name) == domain || isBelow(name, domain) }

// holds reports whether a domain is a name, or the name lies below it.
func holds(domain []byte, name string) bool {
	at := len(name) - len(domain)
	return at >= 0 && name[at:] == string(domain) && (at == 0 || name[at-1] == '.')
}
