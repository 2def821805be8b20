package proxy

import (
	"github.com/clonegate/clonegate/proxy/http1"
)

// This file makes a request's fields what production would be sent: Origin and
// Referer name production, and the cookies are those that the clone may see.

// changes reports whether more fields than cookies may go in another form.
func (x *exchange) changes() bool { return x.life == lifeOther || x.production.isDeclared() }

// wears reports whether a field of the request goes to the clone in another
// form, which wear appends, or not at all.
func (x *exchange) wears(name, value []byte, n *notes) bool {
	switch name[0] | 0x20 {
	case 'c':
		if http1.EqualFold(name, "cookie") && x.hidesIn(value) {
			n.cookies = true
			return true
		}
	case 'i':
		// What the browser has of another life is no answer of this one.
		return x.life == lifeOther && (http1.EqualFold(name, "if-none-match") || http1.EqualFold(name, "if-modified-since"))
	case 'o', 'r':
		if x.production.isDeclared() && (http1.EqualFold(name, "origin") || http1.EqualFold(name, "referer")) {
			n.origins = true
			return true
		}
	}
	return false
}

// wear appends the fields that go to the clone in another form.
func (x *exchange) wear(dst []byte, in *http1.Section, n *notes) []byte {
	if n.cookies && !isNominated(in, []byte("cookie")) {
		dst = x.appendCookies(dst, in)
	}
	if !n.origins {
		return dst
	}
	for _, f := range in.Fields {
		name := in.Name(f)
		if (http1.EqualFold(name, "origin") || http1.EqualFold(name, "referer")) && !isNominated(in, name) {
			dst = append(append(dst, name...), ": "...)
			dst = append(x.appendToProduction(dst, in.Value(f)), "\r\n"...)
		}
	}
	return dst
}

// appendToProduction appends a URL with the name of production in place of one
// of the same clone's.
func (x *exchange) appendToProduction(dst, url []byte) []byte {
	u := cutURL(url)
	host := x.productionOf(u.host)
	if host == "" {
		return append(dst, url...)
	}
	dst = append(append(append(dst, "https://"...), u.user...), host...)
	return append(dst, u.rest...)
}

// productionOf returns the name of production that stands for a public name of
// the same clone, "" if there is none.
func (x *exchange) productionOf(public []byte) string {
	var low, other [maxName]byte
	if len(public) == 0 || len(public) > maxName {
		return ""
	}
	public = http1.AppendLower(low[:0], public)
	if string(public) == x.target.host {
		return x.target.production
	}
	g := guise{x: x}
	for service, host := range x.production.hosts { // most name another service in the same form
		if string(public) == string(g.name(other[:0], service, nil)) {
			return host
		}
	}
	sub, _, ok := x.way.gateway.cfg.Zones.Split(string(public))
	if !ok {
		return ""
	}
	t, ok := x.way.gateway.cfg.Routes.Lookup(sub)
	if !ok || t.Clone.ID != x.target.clone.ID {
		return ""
	}
	return x.production.host(t.Service, t.Below)
}

// upstreamHost is the host that the clone is asked for.
func (x *exchange) upstreamHost() string {
	if x.target.production != "" {
		return x.target.production
	}
	return x.request.authority
}
