package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// This file lets a browser begin anew where it has seen another life of a clone,
// or another clone under the same name: what it keeps belongs to data that are
// gone. A cookie for the one host, which only browser and gateway see, tells
// which life it was.

// What a request says of the life that its client has seen. Only a browser that
// opens a page is asked.
type seenLife uint8

const (
	lifeUnasked seenLife = iota
	lifeNone             // the browser was not here before, as far as is known
	lifeThis
	lifeOther
)

const (
	// lifeAge is for how long, in seconds, a browser keeps which life it saw.
	// Browsers have room for some 180 cookies below a registrable domain.
	lifeAge = 30 * 24 * 3600
	// maxExpired is how many fields at most expire cookies in one answer.
	maxExpired = 256
	// maxCookieName is how long the name of a cookie may be that is expired, and
	// maxCookiePath its path, in octets: browsers take no longer path.
	maxCookieName, maxCookiePath = 256, 1024
)

// lifeTag returns what stands for one life of a clone in cookies.
func lifeTag(c *registry.Clone) string {
	sum := sha256.Sum256(fmt.Append(nil, c.ID, "/", c.Incarnation, "/", c.Created.Unix()))
	return hex.EncodeToString(sum[:8])
}

// meet finds out which life a browser has seen that opens a page.
func (x *exchange) meet() {
	if x.request.method != http.MethodGet {
		return
	}
	if mode, _ := x.request.fields.Find("sec-fetch-mode"); !http1.EqualFold(mode, "navigate") {
		return
	}
	switch seen, ok := cookieValue(x.request.fields, x.target.cookies.life); {
	case !ok:
		x.life = lifeNone
	case string(seen) == x.tenant.life:
		x.life = lifeThis
	default:
		x.life = lifeOther
	}
}

// clearing appends the value of a clone's Clear-Site-Data without "cookies",
// which browsers apply to the registrable domain and so to all clones: those
// that this request has are expired one by one instead.
func (g *guise) clearing(dst, value []byte) []byte {
	begun := len(dst)
	for e := range http1.Elements(value) {
		switch string(e) {
		case `"cookies"`:
			g.x.expires = true
			continue
		case `"*"`:
			g.x.expires = true
			e = []byte(`"cache", "storage", "executionContexts", "clientHints"`)
		}
		if len(dst) > begun {
			dst = append(dst, ", "...)
		}
		dst = append(dst, e...)
	}
	return dst
}

// announce adds to the fields of an answer what the gateway itself has to say to
// a browser: first what ends a former life, so that what the clone says stands,
// and then its own cookies.
func (x *exchange) announce(in *http1.Section) *http1.Section {
	tag := x.newSticky()
	if tag == "" && !x.expires && x.life != lifeNone && x.life != lifeOther {
		return in
	}
	out := new(http1.Section)
	if x.life == lifeOther {
		out.Append("Clear-Site-Data", `"cache", "storage"`)
	}
	if x.life == lifeOther || x.expires {
		x.expireCookies(out)
	}
	for _, f := range in.Fields {
		out.Add(in.Name(f), in.Value(f))
	}
	if tag != "" {
		out.Append("Set-Cookie", x.target.cookies.sticky+"="+tag+"; Path=/; Secure; HttpOnly; SameSite=Lax")
	}
	if x.life == lifeNone || x.life == lifeOther {
		out.Append("Set-Cookie", fmt.Sprintf("%s=%s; Path=/; Max-Age=%d; Secure; HttpOnly; SameSite=Lax; Priority=Low",
			x.target.cookies.life, x.tenant.life, lifeAge))
	}
	return out
}

// expireCookies appends fields that end the cookies of the request, wherever in
// the clone they may be from: only the browser knows their domain and path.
func (x *exchange) expireCookies(out *http1.Section) {
	domains := []string{"", "; Domain=" + x.target.host} // two cookies, for a browser
	if x.target.nested {
		domains = append(domains, "; Domain="+x.target.base+"."+string(x.target.zone))
	}
	names := x.cookieNames()
	for _, path := range pathsAbove(x.request.target) {
		for _, name := range names {
			for i, domain := range domains {
				if isHostCookie([]byte(name)) && (i > 0 || path != "/") {
					break // there is no such cookie
				}
				if len(out.Fields) >= maxExpired {
					return
				}
				out.Append("Set-Cookie", name+"=; Path="+path+domain+"; Max-Age=0; Secure")
			}
		}
	}
}

// cookieNames returns the names of the request's cookies but our own.
func (x *exchange) cookieNames() []string {
	var out []string
	in := x.request.fields
	for _, f := range in.Fields {
		if !http1.EqualFold(in.Name(f), "cookie") {
			continue
		}
		for name := range cookies(in.Value(f)) {
			if len(name) == 0 || len(name) > maxCookieName || x.target.cookies.has(name) {
				continue
			}
			if len(out) < maxExpired && !slices.Contains(out, string(name)) {
				out = append(out, string(name))
			}
		}
	}
	return out
}

// pathsAbove returns the paths whose cookies a request for a target has, the
// shortest first.
func pathsAbove(target []byte) []string {
	path, _, _ := bytes.Cut(target, []byte("?"))
	if i := bytes.IndexByte(path, ';'); i >= 0 {
		path = path[:i] // no attribute can hold it
	}
	path = path[:min(len(path), maxCookiePath+1)] // one more, so that a path that is cut is known
	out := []string{"/"}
	for i := 1; i < len(path) && len(out) < maxExpired; i++ {
		if path[i] == '/' {
			out = append(out, string(path[:i]), string(path[:i+1]))
		}
	}
	if len(path) > 1 && len(path) <= maxCookiePath && path[len(path)-1] != '/' {
		out = append(out, string(path))
	}
	return out
}
