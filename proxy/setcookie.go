package proxy

import (
	"bytes"

	"github.com/clonegate/clonegate/proxy/http1"
)

// hasDomain reports whether the value of a Set-Cookie field may have a Domain
// attribute.
func hasDomain(value []byte) bool {
	for i := 0; i+6 <= len(value); i++ {
		if value[i]|0x20 == 'd' && http1.EqualFold(value[i:i+6], "domain") {
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
func (g *guise) setCookie(dst, s []byte) []byte {
	pair, attributes, more := bytes.Cut(s, []byte(";"))
	dst = append(dst, pair...)
	for more {
		var a []byte
		a, attributes, more = bytes.Cut(attributes, []byte(";"))
		name, value, has := bytes.Cut(a, []byte("="))
		if !has || !http1.EqualFold(bytes.TrimSpace(name), "domain") {
			dst = append(append(dst, ';'), a...)
			continue
		}
		before := len(dst)
		dst = append(dst, "; Domain="...)
		named := len(dst)
		var stays bool
		switch dst, stays = g.domain(dst, bytes.TrimSpace(value)); {
		case stays:
			dst = append(append(dst[:before], ';'), a...)
		case len(dst) > named:
		case isHostCookie(pair):
			// It may have no Domain: clients that know the prefix refuse this
			// one as they do in production, and others keep it here.
			dst = append(dst, g.x.target.host...)
		default:
			dst = dst[:before]
		}
	}
	return dst
}

// isHostCookie reports whether a cookie's name has the prefix of those that
// have no Domain.
func isHostCookie(pair []byte) bool {
	pair = bytes.TrimSpace(pair)
	return len(pair) >= 7 && http1.EqualFold(pair[:7], "__host-")
}

// domain appends what stands for the domain of a cookie, nothing for none. stays
// says that it is harmless as it is.
func (g *guise) domain(dst, value []byte) (out []byte, stays bool) {
	d := bytes.TrimSuffix(bytes.TrimPrefix(value, []byte(".")), []byte("."))
	if len(value) == 0 {
		return dst, true
	}
	if len(d) > len(g.x.low) || !isDomain(d) {
		return g.shared(dst), false
	}
	d = http1.AppendLower(g.x.low[:0], d)
	t := &g.x.target
	if holds(d, t.host) && isBelow(d, string(t.zone)) {
		return dst, true
	}
	if g.p.isDeclared() {
		if service, below, ok := g.p.find(d); ok {
			return g.name(dst, service, below), false
		}
		if service, ok := g.p.tenants[string(d)]; ok {
			return g.name(dst, service, nil), false
		}
		if g.p.parents[string(d)] {
			return g.shared(dst), false
		}
	}
	for _, zone := range g.x.way.gateway.cfg.Zones.Hosts() {
		if isAt(d, string(zone)) || holds(d, string(zone)) {
			return g.shared(dst), false
		}
	}
	return dst, len(d) > 0 && d[0] != '.' && d[len(d)-1] != '.'
}

// shared appends the domain that all services of the clone share; there is none
// on flat names.
func (g *guise) shared(dst []byte) []byte {
	t := &g.x.target
	if !t.nested {
		return dst
	}
	return append(append(append(dst, t.base...), '.'), t.zone...)
}

// isDomain reports whether all octets are those of names.
func isDomain(s []byte) bool {
	for _, c := range s {
		if !isNameOctet(c) && c != '.' {
			return false
		}
	}
	return true
}
