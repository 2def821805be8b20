package proxy

import (
	"strings"
)

// hasDomain reports whether the value of a Set-Cookie field may have a Domain
// attribute.
func hasDomain(value []byte) bool {
	for i := 0; i+6 <= len(value); i++ {
		if value[i]|0x20 == 'd' && strings.EqualFold(string(value[i:i+6]), "domain") {
			return true
		}
	}
	return false
}

// setCookie keeps a cookie with its clone: every Domain attribute, whichever of
// several a client goes by, ends up below what only this clone has (RFC 6265
// §5.3). All other octets stay.
//
//  1. a name of this clone at or above the one that was asked: it stays
//  2. a name of production: the service that stands for it
//  3. a domain above production or at, above or below a zone, and whatever is
//     spelled so that readers may differ: no Domain on flat names, so that the
//     cookie is for this host alone; the clone's own on nested ones
//  4. any other: it stays, and browsers refuse the cookie
func (g *guise) setCookie(s string) string {
	pair, attributes, ok := strings.Cut(s, ";")
	if !ok {
		return s
	}
	var out strings.Builder
	out.WriteString(pair)
	for more := true; more; {
		var a string
		a, attributes, more = strings.Cut(attributes, ";")
		name, value, has := strings.Cut(a, "=")
		if !has || !strings.EqualFold(strings.TrimSpace(name), "domain") {
			out.WriteString(";" + a)
			continue
		}
		value = strings.TrimSpace(value)
		switch domain, stays := g.domain(value); {
		case stays:
			out.WriteString(";" + a)
		case domain != "":
			out.WriteString("; Domain=" + domain)
		case isHostCookie(pair):
			// It may have no Domain: clients that know the prefix refuse this
			// one as they do in production, and others keep it here.
			out.WriteString("; Domain=" + g.x.target.host)
		}
	}
	return out.String()
}

// isHostCookie reports whether a cookie's name has the prefix of those that
// have no Domain.
func isHostCookie(pair string) bool {
	pair = strings.TrimSpace(pair)
	return len(pair) >= 7 && strings.EqualFold(pair[:7], "__host-")
}

// domain returns what stands for the domain of a cookie, "" for none. stays says
// that it is harmless as it is.
func (g *guise) domain(value string) (domain string, stays bool) {
	if value == "" {
		return "", true
	}
	t := &g.x.target
	shared := ""
	if t.nested {
		shared = t.base + "." + string(t.zone)
	}
	d := strings.ToLower(strings.TrimPrefix(value, "."))
	d = strings.TrimSuffix(d, ".")
	for i := 0; i < len(d); i++ {
		if c := d[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return shared, false
		}
	}
	if isAtOrAbove(d, t.host) && isAtOrAbove(string(t.zone), d) && d != string(t.zone) {
		return "", true
	}
	if g.p != nil {
		if service, below, ok := g.p.find(d); ok {
			return g.name(service, below), false
		}
		if service, ok := g.p.tenants[d]; ok {
			return g.name(service, ""), false
		}
		if g.p.parents[d] {
			return shared, false
		}
	}
	for _, zone := range g.x.way.gateway.cfg.Zones.Hosts() {
		if isAtOrAbove(d, string(zone)) || isAtOrAbove(string(zone), d) {
			return shared, false
		}
	}
	return "", !strings.HasPrefix(d, ".") && !strings.HasSuffix(d, ".") && d != ""
}

// isAtOrAbove reports whether a domain is a name, or holds it.
func isAtOrAbove(domain, name string) bool {
	return domain == name || len(name) > len(domain) && name[len(name)-len(domain)-1] == '.' && strings.HasSuffix(name, domain)
}
