package registry

import (
	"slices"
	"strings"
)

// A Target is what a public name stands for. Service is "" if the clone has no
// service of that name. Member is the endpoint of the service that the name
// asks for, by its place in the registration, from 1; there may be no such one.
// It is 0 if the name leaves the choice to the gateway.
type Target struct {
	Clone   *Clone
	Service string
	Member  int
	Base    string // the ID or the alias by which the name calls the clone
	Below   string // labels in front of the service, as in "tenant.www-1234"
	Nested  bool   // service and base are labels of their own, as in "www.1234"
}

// Lookup finds what a public name stands for. sub is what stands before the
// zone, in lower case; see Zones.Split. The order of preference:
//
//  1. one label that a clone owns: "www-1234", "1234", "www-pr-87", "pr-87"
//  2. such a label and the number of one member of the pool, from 1:
//     "www-1234--1", "1234--1"
//  3. one label whose last part is the ID of a known clone: no such service,
//     or a clone whose life is over
//  4. two labels, "www.1234" or "www.pr-87": the nested form of 1 and 3
//  5. one to three labels below a service, "tenant.www-1234" or
//     "tenant.www.1234": that service
//
// ok is false if no clone is known by that name.
func (v *View) Lookup(sub string) (t Target, ok bool) {
	if i := strings.LastIndexByte(sub, '.'); i >= 0 {
		return v.lookupDeep(sub[:i], sub[i+1:])
	}
	if t, ok := v.lookupOwned(sub); ok {
		return t, true
	}
	pool, member := cutMember(sub)
	if member > 0 {
		if t, ok := v.lookupOwned(pool); ok {
			t.Member = member
			return t, true
		}
	}
	if i := strings.LastIndexByte(pool, '-'); i > 0 {
		if c, known := v.clones.get(pool[i+1:]); known {
			return Target{Clone: c, Member: member}, true
		}
	}
	return Target{}, false
}

// lookupOwned finds what a label that a clone owns stands for.
func (v *View) lookupOwned(label string) (Target, bool) {
	c, owned := v.labels.get(label)
	if !owned {
		return Target{}, false
	}
	service, base := splitLabel(c, label)
	return Target{Clone: c, Service: service, Base: base}, true
}

// lookupDeep finds what a name of several labels stands for, given the last of
// them and what stands before that.
func (v *View) lookupDeep(rest, last string) (Target, bool) {
	t, ok := v.lookupOwned(last)
	switch {
	case !ok || t.Base == "":
		return Target{}, false
	case last != t.Base:
		t.Below = rest
		return t, IsBelow(rest)
	}
	t.Nested, t.Service = true, rest
	if i := strings.LastIndexByte(rest, '.'); i >= 0 {
		t.Below, t.Service = rest[:i], rest[i+1:]
		return t, t.Clone.Services[t.Service] != nil && IsBelow(t.Below)
	}
	if t.Clone.Services[t.Service] == nil {
		t.Service = ""
	}
	return t, rest != ""
}

// IsBelow reports whether s can stand below the name of a service: one to
// three labels, such as tenants of production have.
func IsBelow(s string) bool {
	n := 0
	for label := range strings.SplitSeq(s, ".") {
		if n++; n > 3 || !isLabel(label) {
			return false
		}
	}
	return true
}

// splitLabel returns the service and the ID or alias in a label that c owns.
func splitLabel(c *Clone, label string) (service, base string) {
	if label == string(c.ID) || slices.Contains(c.Aliases, label) {
		return c.DefaultService(), label
	}
	if service, ok := cutBase(c, label, string(c.ID)); ok {
		return service, string(c.ID)
	}
	for _, alias := range c.Aliases {
		if service, ok := cutBase(c, label, alias); ok {
			return service, alias
		}
	}
	return "", ""
}

// cutBase cuts an ID or alias, and the hyphen, off a label if a service is left.
func cutBase(c *Clone, label, base string) (service string, ok bool) {
	service, ok = strings.CutSuffix(label, base)
	if !ok || !strings.HasSuffix(service, "-") {
		return "", false
	}
	service = service[:len(service)-1]
	return service, c.Services[service] != nil
}
