package proxy

import (
	"bytes"
	"strings"

	"github.com/clonegate/clonegate/proxy/http1"
)

// policy maps the sources of a Content-Security-Policy.
func (g *guise) policy(dst, s []byte) []byte {
	var directive []byte
	for len(s) > 0 {
		if g.isFull(dst) {
			return append(dst, s...)
		}
		n := bytes.IndexAny(s, " \t;,")
		switch {
		case n == 0:
			if s[0] == ';' || s[0] == ',' {
				directive = nil
			}
			dst, s = append(dst, s[0]), s[1:]
			continue
		case n < 0:
			n = len(s)
		}
		switch word := s[:n]; {
		case directive == nil:
			directive = word
			dst = append(dst, word...)
		case http1.EqualFold(directive, "report-uri"):
			dst = g.url(dst, word)
		default:
			dst = g.source(dst, word)
		}
		s = s[n:]
	}
	return dst
}

// source maps a source.
func (g *guise) source(dst, s []byte) []byte {
	u := cutSource(s)
	if bytes.HasPrefix(u.host, []byte("*.")) {
		return g.wildSource(dst, s, &u)
	}
	if service, below, ok := g.find(u.host); ok {
		return g.ownSource(dst, &u, service, below)
	}
	return append(dst, s...)
}

// ownSource appends a source that names a service of the clone. Browsers ignore
// those with an underscore, so a scheme has to do for a name that has one.
func (g *guise) ownSource(dst []byte, u *cutUp, service string, below []byte) []byte {
	scheme := u.secured()
	if g.hasUnderscore() {
		if scheme == "" {
			scheme = "https:"
		}
		return append(dst, scheme...)
	}
	if scheme != "" {
		dst = append(append(dst, scheme...), "//"...)
	}
	return append(g.authority(dst, service, below), u.rest...)
}

// hasUnderscore reports whether all public names of the clone have one.
func (g *guise) hasUnderscore() bool { return strings.IndexByte(string(g.x.target.zone), '_') >= 0 }

// wildSource maps a source that stands for all names below a domain: it stays,
// for those that no service stands for, and before it come the clone's own.
func (g *guise) wildSource(dst, s []byte, u *cutUp) []byte {
	if len(u.host) > len(g.x.low) {
		return append(dst, s...)
	}
	host := http1.AppendLower(g.x.low[:0], u.host)
	for i := range g.p.names {
		n := &g.p.names[i]
		below, ok := n.matches(host)
		if !ok || n.isTwice(g.p.names[:i], host) {
			continue
		}
		dst = append(g.ownSource(dst, u, n.service, below), ' ')
		if g.hasUnderscore() {
			break // a scheme stands for all
		}
	}
	return append(dst, s...)
}
