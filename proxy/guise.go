package proxy

import (
	"bytes"
	"strings"

	"github.com/clonegate/clonegate/proxy/http1"
)

// This file turns the names of a clone into those of production on the way to
// it, and back.

// wear makes the request's fields what production would be sent: Origin and
// Referer name production, and its cookies are missing.
func (x *exchange) wear() {
	p := x.tenant.production.Load()
	if p == nil {
		return
	}
	in := x.request.fields
	for i, f := range in.Fields {
		if len(p.strip) > 0 && http1.EqualFold(in.Name(f), "cookie") {
			for name := range cookies(in.Value(f)) {
				if p.strip[name] {
					x.request.fields = withoutCookie(x.request.fields, name)
				}
			}
			continue
		}
		if !http1.EqualFold(in.Name(f), "origin") && !http1.EqualFold(in.Name(f), "referer") {
			continue
		}
		value := string(in.Value(f))
		if mapped := x.toProduction(p, value); mapped != value {
			x.request.fields = replaceField(x.request.fields, in.Name(in.Fields[i]), value, mapped)
		}
	}
}

// replaceField returns fields with another value for one of them.
func replaceField(in *http1.Section, name []byte, value, by string) *http1.Section {
	out := new(http1.Section)
	for _, f := range in.Fields {
		v := string(in.Value(f))
		if v == value && bytes.Equal(in.Name(f), name) {
			v = by
		}
		out.Append(string(in.Name(f)), v)
	}
	return out
}

// toProduction returns a URL with the name of production in place of one of the
// same clone's.
func (x *exchange) toProduction(p *production, url string) string {
	u := cutURL(url)
	sub, _, ok := x.way.gateway.cfg.Zones.Split(u.host)
	if !ok {
		return url
	}
	t, ok := x.way.gateway.cfg.Routes.Lookup(sub)
	if !ok || t.Clone.ID != x.target.clone.ID {
		return url
	}
	host := p.host(t.Service, t.Below)
	if host == "" {
		return url
	}
	return "https://" + u.user + host + u.rest
}

// upstreamHost is the host that the clone is asked for.
func (x *exchange) upstreamHost() string {
	if x.target.production != "" {
		return x.target.production
	}
	return x.request.authority
}

// shed returns the fields of a clone's answer with the clone's own names in
// place of those of production, and cookies that stay with the clone. Fields
// without either come back as they are.
func (x *exchange) shed(in *http1.Section) *http1.Section {
	p := x.tenant.production.Load()
	if !p.isDeclared() {
		p = nil
	}
	var out *http1.Section
	for i, f := range in.Fields {
		edit := editorOf(in.Name(f), p != nil)
		if edit == nil || edit == editSetCookie && !hasDomain(in.Value(f)) {
			if out != nil {
				out.Append(string(in.Name(f)), string(in.Value(f)))
			}
			continue
		}
		value := string(in.Value(f))
		mapped := edit.apply(&guise{x: x, p: p}, value)
		if out == nil && mapped != value {
			out = new(http1.Section)
			for _, f := range in.Fields[:i] {
				out.Append(string(in.Name(f)), string(in.Value(f)))
			}
		}
		if out != nil {
			out.Append(string(in.Name(f)), mapped)
		}
	}
	if out == nil {
		out = in
	}
	if p != nil {
		x.watchEscapes(p, out)
	}
	return out
}

// An editor maps the value of a field of an answer.
type editor struct {
	apply func(*guise, string) string
}

var (
	editURL       = &editor{(*guise).url}
	editRefresh   = &editor{(*guise).refresh}
	editLink      = &editor{(*guise).link}
	editPolicy    = &editor{(*guise).policy}
	editSetCookie = &editor{(*guise).setCookie}
)

// editorOf returns how the values of a field are mapped; nil: not at all. mapped
// says whether the clone has names of production.
func editorOf(name []byte, mapped bool) *editor {
	if len(name) == len("set-cookie") && http1.EqualFold(name, "set-cookie") {
		return editSetCookie
	}
	if !mapped {
		return nil
	}
	for _, f := range [...]struct {
		name string
		edit *editor
	}{
		{"location", editURL},
		{"content-location", editURL},
		{"access-control-allow-origin", editURL},
		{"refresh", editRefresh},
		{"link", editLink},
		{"content-security-policy", editPolicy},
		{"content-security-policy-report-only", editPolicy},
	} {
		if len(name) == len(f.name) && http1.EqualFold(name, f.name) {
			return f.edit
		}
	}
	return nil
}

// A guise is the public name by which a clone was asked, for the answer.
type guise struct {
	x *exchange
	p *production // nil if the clone has no names of production
}

// authority returns the public name of a service, in the form and with the port
// by which this request came.
func (g *guise) authority(service, below string) string {
	a := g.x.request.authority
	port := ""
	if i := strings.LastIndexByte(a, ':'); i >= 0 && !strings.HasSuffix(a, "]") {
		port = a[i:]
	}
	return g.name(service, below) + port
}

func (g *guise) name(service, below string) string {
	t := &g.x.target
	if service == t.service && below == t.below {
		return t.host
	}
	name := service + "-" + t.base
	if t.nested {
		name = service + "." + t.base
	}
	if below != "" {
		name = below + "." + name
	}
	return name + "." + string(t.zone)
}

// url maps a URL, absolute or without scheme.
func (g *guise) url(s string) string {
	u := cutURL(s)
	if u.host == "" {
		return s
	}
	service, below, ok := g.p.find(u.host)
	if !ok {
		return s
	}
	scheme := ""
	switch u.scheme {
	case "http", "https":
		scheme = "https:"
	case "ws", "wss":
		scheme = "wss:"
	}
	return scheme + "//" + u.user + g.authority(service, below) + u.rest
}

// refresh maps the URL of a Refresh field, as in "5; url=https://www.example.com/".
func (g *guise) refresh(s string) string {
	i := strings.IndexAny(s, ";,")
	if i < 0 {
		return s
	}
	i += 1 + blanks(s[i+1:])
	if len(s)-i >= 3 && strings.EqualFold(s[i:i+3], "url") {
		if j := i + 3 + blanks(s[i+3:]); j < len(s) && s[j] == '=' {
			i = j + 1 + blanks(s[j+1:])
		}
	}
	if i < len(s) && (s[i] == '"' || s[i] == '\'') {
		if end := strings.IndexByte(s[i+1:], s[i]); end >= 0 {
			return s[:i+1] + g.url(s[i+1:i+1+end]) + s[i+1+end:]
		}
		i++
	}
	return s[:i] + g.url(s[i:])
}

func blanks(s string) int { return len(s) - len(strings.TrimLeft(s, " \t")) }

// link maps the targets of a Link field (RFC 8288 §3).
func (g *guise) link(s string) string {
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '<')
		j := strings.IndexByte(s, '>')
		if i < 0 || j < i {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:i+1])
		out.WriteString(g.url(s[i+1 : j]))
		out.WriteByte('>')
		s = s[j+1:]
	}
}

// policy maps the sources of a Content-Security-Policy.
func (g *guise) policy(s string) string {
	var out strings.Builder
	directive := ""
	for s != "" {
		n := strings.IndexAny(s, " \t;,")
		switch {
		case n == 0:
			if s[0] == ';' || s[0] == ',' {
				directive = ""
			}
			out.WriteByte(s[0])
			s = s[1:]
			continue
		case n < 0:
			n = len(s)
		}
		switch word := s[:n]; {
		case directive == "":
			directive = strings.ToLower(word)
			out.WriteString(word)
		case directive == "report-uri":
			out.WriteString(g.url(word))
		default:
			out.WriteString(g.source(word))
		}
		s = s[n:]
	}
	return out.String()
}

// source maps a source of a Content-Security-Policy. Browsers ignore those with
// an underscore, so a scheme has to do for a name that has one.
func (g *guise) source(s string) string {
	u := cutURL(s)
	if u.host == "" {
		u = cutURL("//" + s)
	}
	service, below, ok := g.p.find(u.host)
	if !ok {
		return s
	}
	scheme := ""
	switch u.scheme {
	case "http", "https":
		scheme = "https:"
	case "ws", "wss":
		scheme = "wss:"
	}
	to := g.authority(service, below)
	switch {
	case !strings.Contains(to, "_"):
		if scheme != "" {
			scheme += "//"
		}
		return scheme + to + u.rest
	case scheme == "":
		return "https:"
	}
	return scheme
}

// A cutUp is the parts of a URL. host is in lower case, "" if there is none.
type cutUp struct{ scheme, user, host, rest string }

// cutURL cuts a URL as browsers read it on a page that came by https: they take
// \ for /, and do not insist on the number of slashes.
func cutURL(s string) (u cutUp) {
	rest := s
	for _, scheme := range [...]string{"https", "http", "wss", "ws"} {
		if len(s) > len(scheme) && s[len(scheme)] == ':' && strings.EqualFold(s[:len(scheme)], scheme) {
			u.scheme, rest = scheme, s[len(scheme)+1:]
			break
		}
	}
	trimmed := strings.TrimLeft(rest, `/\`)
	if slashes := len(rest) - len(trimmed); slashes < 2 && (u.scheme == "" || u.scheme == "https") {
		return cutUp{}
	}
	end := strings.IndexAny(trimmed, `/\?#`)
	if end < 0 {
		end = len(trimmed)
	}
	authority := trimmed[:end]
	u.rest = trimmed[end:]
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		u.user, authority = authority[:i+1], authority[i+1:]
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 {
		authority = authority[:i]
	}
	u.host = strings.ToLower(strings.TrimSuffix(authority, "."))
	return u
}
