package proxy

import (
	"bytes"

	"github.com/clonegate/clonegate/proxy/http1"
)

// This file puts the names of a clone in place of those of production in its
// answers, and keeps what they say about cookies within the clone.

// shed returns the fields of a clone's answer with the clone's own names in
// place of those of production, and cookies that stay with the clone. Fields
// without either come back as they are; others are the exchange's until its next
// answer.
func (x *exchange) shed(in *http1.Section) *http1.Section {
	mapped := x.production.isDeclared()
	g := guise{x: x, p: x.production}
	x.shedded.Reset()
	out := in
	for i, f := range in.Fields {
		name, value := in.Name(f), in.Value(f)
		edit := editOf(name, mapped)
		if edit == editNothing || edit == editSetCookie && !hasDomain(value) {
			if out != in {
				out.Add(name, value)
			}
			continue
		}
		x.edited = g.apply(edit, x.edited[:0], value)
		if out == in && !bytes.Equal(x.edited, value) {
			out = &x.shedded
			for _, f := range in.Fields[:i] {
				out.Add(in.Name(f), in.Value(f))
			}
		}
		if out != in && (len(x.edited) > 0 || len(value) == 0) {
			out.Add(name, x.edited)
		}
	}
	if mapped {
		x.watchEscapes(out)
	}
	return out
}

// An edit is how the values of a field of an answer are changed.
type edit uint8

const (
	editNothing edit = iota
	editURL
	editOrigin
	editRefresh
	editLink
	editPolicy
	editSetCookie
	editClearing
)

// editOf returns how the values of a field are changed. mapped says whether the
// clone has names of production.
func editOf(name []byte, mapped bool) edit {
	switch name[0] | 0x20 {
	case 's':
		return editIf(name, "set-cookie", editSetCookie)
	case 'c':
		if e := editIf(name, "clear-site-data", editClearing); e != editNothing || !mapped {
			return e
		}
		return max(editIf(name, "content-location", editURL),
			editIf(name, "content-security-policy", editPolicy), editIf(name, "content-security-policy-report-only", editPolicy))
	}
	if !mapped {
		return editNothing
	}
	switch name[0] | 0x20 {
	case 'a':
		return editIf(name, "access-control-allow-origin", editOrigin)
	case 'l':
		return max(editIf(name, "location", editURL), editIf(name, "link", editLink))
	case 'r':
		return editIf(name, "refresh", editRefresh)
	}
	return editNothing
}

func editIf(name []byte, want string, e edit) edit {
	if http1.EqualFold(name, want) {
		return e
	}
	return editNothing
}

// maxShed is how many octets an answer's fields may have until no more of a list
// is mapped: a clone must not make much of little. What stays is an escape.
const maxShed = 2 * maxAnswerHead

// A guise is the public name by which a clone was asked, for the answer. Its
// methods append what stands for a value; they allocate nothing.
type guise struct {
	x *exchange
	p *production // has no names if the clone knows of none
}

func (g *guise) apply(e edit, dst, value []byte) []byte {
	switch e {
	case editURL:
		return g.url(dst, value)
	case editOrigin:
		return g.origin(dst, value)
	case editRefresh:
		return g.refresh(dst, value)
	case editLink:
		return g.link(dst, value)
	case editPolicy:
		return g.policy(dst, value)
	case editSetCookie:
		return g.setCookie(dst, value)
	case editClearing:
		return g.clearing(dst, value)
	}
	return append(dst, value...)
}

// isFull reports whether no more is to be mapped, with dst as what was so far.
func (g *guise) isFull(dst []byte) bool { return len(g.x.shedded.Buf)+len(dst) > maxShed }

// find returns the service that stands for a host, and the labels of a tenant in
// front of it, which are good until the next call.
func (g *guise) find(host []byte) (service string, below []byte, ok bool) {
	if len(host) > len(g.x.low) {
		return "", nil, false
	}
	return g.p.find(http1.AppendLower(g.x.low[:0], host))
}

// authority appends the public name of a service, in the form and with the port
// by which this request came.
func (g *guise) authority(dst []byte, service string, below []byte) []byte {
	a := g.x.request.authority
	dst = g.name(dst, service, below)
	for i := len(a) - 1; i >= 0 && a[i] != ']'; i-- {
		if a[i] == ':' {
			return append(dst, a[i:]...)
		}
	}
	return dst
}

// name appends the public name of a service.
func (g *guise) name(dst []byte, service string, below []byte) []byte {
	t := &g.x.target
	if service == t.service && string(below) == t.below {
		return append(dst, t.host...)
	}
	if len(below) > 0 {
		dst = append(append(dst, below...), '.')
	}
	dst = append(dst, service...)
	if t.nested {
		dst = append(dst, '.')
	} else {
		dst = append(dst, '-')
	}
	dst = append(append(dst, t.base...), '.')
	return append(dst, t.zone...)
}

// url maps a URL, absolute or without scheme.
func (g *guise) url(dst, s []byte) []byte {
	u := cutURL(s)
	service, below, ok := g.find(u.host)
	if !ok {
		return append(dst, s...)
	}
	dst = append(append(dst, u.secured()...), "//"...)
	dst = g.authority(append(dst, u.user...), service, below)
	return append(dst, u.rest...)
}

// origin maps the origin that an answer is for: to that of the request, in
// whatever form that names the clone, if that is meant.
func (g *guise) origin(dst, s []byte) []byte {
	begun := len(dst)
	if asked, ok := g.x.request.fields.Find("origin"); ok && !bytes.Equal(asked, s) {
		if dst = g.x.appendToProduction(dst, asked); bytes.Equal(dst[begun:], s) {
			return append(dst[:begun], asked...)
		}
	}
	return g.url(dst[:begun], s)
}

// refresh maps the URL of a Refresh field, as in "5; url=https://www.example.com/".
func (g *guise) refresh(dst, s []byte) []byte {
	i := bytes.IndexAny(s, ";,")
	if i < 0 {
		return append(dst, s...)
	}
	i += 1 + blanks(s[i+1:])
	if len(s)-i >= 3 && http1.EqualFold(s[i:i+3], "url") {
		if j := i + 3 + blanks(s[i+3:]); j < len(s) && s[j] == '=' {
			i = j + 1 + blanks(s[j+1:])
		}
	}
	end := len(s)
	if i < len(s) && (s[i] == '"' || s[i] == '\'') {
		i++
		if n := bytes.IndexByte(s[i:], s[i-1]); n >= 0 {
			end = i + n
		}
	}
	return append(g.url(append(dst, s[:i]...), s[i:end]), s[end:]...)
}

func blanks(s []byte) int { return len(s) - len(bytes.TrimLeft(s, " \t")) }

// link maps the targets of a Link field (RFC 8288 §3).
func (g *guise) link(dst, s []byte) []byte {
	for {
		i, j := bytes.IndexByte(s, '<'), bytes.IndexByte(s, '>')
		if i < 0 || j < i || g.isFull(dst) {
			return append(dst, s...)
		}
		dst = g.url(append(dst, s[:i+1]...), s[i+1:j])
		s = s[j:]
		dst, s = append(dst, s[0]), s[1:]
	}
}
