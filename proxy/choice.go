package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// A choice is what a request says about the endpoint it wants.
type choice struct {
	member int    // by its place in the registration, from 1; 0: any, -1: not a number
	sticky bool   // the service is: the client shall stay with its endpoint
	tag    string // of the endpoint that a sticky client had before, "" if it had none
	cookie string // the name of the cookie with the tag
}

// memberField is the field by which a request addresses one member of a pool.
// It goes no further than the gateway, as all fields of that name do.
const memberField = "clonegate-member"

// address reads the member that a request's fields ask for.
func (c *choice) address(in *http1.Section) {
	n, err := strconv.Atoi(single(in, memberField, ""))
	if err != nil || n < 1 {
		n = -1
	}
	c.member = n
}

// stickyCookie returns the name of the cookie that holds a client's endpoint.
// It differs from zone to zone, so gateways behind one another do not mistake
// each other's, and its prefix binds it to one host (RFC 6265bis §4.1.3.2).
func stickyCookie(zone registry.Host) string {
	sum := sha256.Sum256([]byte(zone))
	return "__Host-clonegate-" + hex.EncodeToString(sum[:4])
}

// tagOf returns what stands for an endpoint in cookies: enough to tell the
// endpoints of one service apart, and too little to find out their addresses.
func tagOf(p *pool, e *endpoint) string {
	sum := sha256.Sum256(fmt.Append(nil, p.life, "/", p.service, "/", e.addr))
	return hex.EncodeToString(sum[:4])
}

// stick makes an exchange with a sticky service stay with its endpoint: it takes
// our cookie from the request, which goes on without it.
func (x *exchange) stick() {
	c := &x.choice
	c.sticky, c.cookie = true, stickyCookie(x.target.zone)
	if c.tag = cookieValue(x.request.fields, c.cookie); c.tag != "" {
		x.request.fields = withoutCookie(x.request.fields, c.cookie)
	}
}

// setCookie adds the cookie of a sticky client that came to another endpoint
// than it had to an answer's fields.
func (x *exchange) setCookie(fields *http1.Section) *http1.Section {
	if !x.choice.sticky || x.choice.member != 0 {
		return fields
	}
	tag := tagOf(x.way.pool, x.endpoint)
	if tag == x.choice.tag {
		return fields
	}
	out := new(http1.Section)
	for _, f := range fields.Fields {
		out.Append(string(fields.Name(f)), string(fields.Value(f)))
	}
	out.Append("Set-Cookie", x.choice.cookie+"="+tag+"; Path=/; Secure; HttpOnly; SameSite=Lax")
	return out
}

// cookies returns the names of the cookies in a Cookie field, each with what is
// spelled between the semicolons.
func cookies(value []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for pair := range bytes.SplitSeq(value, []byte{';'}) {
			name, _, _ := bytes.Cut(pair, []byte{'='})
			if !yield(string(bytes.TrimSpace(name)), pair) {
				return
			}
		}
	}
}

// cookieValue returns the value of the first cookie with a name, "" if there is
// none.
func cookieValue(in *http1.Section, cookie string) string {
	for v := range in.All("cookie") {
		for name, pair := range cookies(v) {
			if _, value, ok := bytes.Cut(pair, []byte{'='}); ok && name == cookie {
				return string(bytes.TrimSpace(value))
			}
		}
	}
	return ""
}

// withoutCookie returns fields without the cookies of a name.
func withoutCookie(in *http1.Section, cookie string) *http1.Section {
	out := new(http1.Section)
	for _, f := range in.Fields {
		name, value := in.Name(f), in.Value(f)
		if http1.EqualFold(name, "cookie") {
			var kept [][]byte
			for name, pair := range cookies(value) {
				if name != cookie {
					kept = append(kept, pair)
				}
			}
			if value = bytes.TrimSpace(bytes.Join(kept, []byte{';'})); len(value) == 0 {
				continue
			}
		}
		out.Append(string(name), string(value))
	}
	return out
}

// choose returns the endpoint that a request should use, and counts it there;
// the caller releases it. The order of preference:
//
//  1. the member that the request names, in whatever health it is
//  2. the endpoint that a sticky client had before, if it can take requests
//  3. any that can; see pick
//
// The endpoints in tried are passed over.
func (p *pool) choose(c *choice, tried []*endpoint) (*endpoint, Reason) {
	switch {
	case c.member != 0:
		return p.named(c.member, tried)
	case c.tag != "" && len(tried) == 0:
		if e := p.tagged(c.tag); e != nil {
			return e, ""
		}
	}
	return p.pick(tried)
}

// named returns the nth member.
func (p *pool) named(n int, tried []*endpoint) (*endpoint, Reason) {
	members := *p.members.Load()
	switch {
	case len(members) == 0:
		return nil, NoEndpoint
	case n < 1 || n > len(members):
		return nil, UnknownMember
	case slices.Contains(tried, members[n-1].endpoint):
		return nil, Unreachable
	}
	members[n-1].open.Add(1)
	return members[n-1].endpoint, ""
}

// tagged returns the endpoint with a tag if it can take requests, else nil.
func (p *pool) tagged(tag string) *endpoint {
	now := time.Now()
	for _, m := range *p.members.Load() {
		if m.takes(nil) && !m.isBenched(now) && tagOf(p, m.endpoint) == tag {
			m.open.Add(1)
			return m.endpoint
		}
	}
	return nil
}
