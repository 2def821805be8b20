package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A choice is what a request says about the endpoint it wants.
type choice struct {
	member int    // by its place in the registration, from 1; 0: any, -1: not a number
	sticky bool   // the service is: the client shall stay with its endpoint
	tag    string // of the endpoint that a sticky client had before, "" if it had none
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

// tagOf returns what stands for an endpoint in cookies: enough to tell the
// endpoints of one service apart, and too little to find out their addresses.
func tagOf(p *pool, e *endpoint) string {
	sum := sha256.Sum256(fmt.Append(nil, p.life, "/", p.service, "/", e.addr))
	return hex.EncodeToString(sum[:4])
}

// stick makes an exchange with a sticky service stay with its endpoint.
func (x *exchange) stick() {
	x.choice.sticky = true
	tag, _ := cookieValue(x.request.fields, x.target.cookies.sticky)
	x.choice.tag = string(tag)
}

// newSticky returns the tag that a sticky client is to be given, because it came
// to another endpoint than it had; "" for none.
func (x *exchange) newSticky() string {
	if !x.choice.sticky || x.choice.member != 0 {
		return ""
	}
	if tag := tagOf(x.way.pool, x.endpoint); tag != x.choice.tag {
		return tag
	}
	return ""
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
