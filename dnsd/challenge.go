package dnsd

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

// challengeTTL is for how long a value is remembered, in seconds: it is asked
// for a few times within seconds, and never again.
const challengeTTL = 1

// Challenges holds what certificate authorities ask for at the zones'
// "_acme-challenge" names, to see that we answer for them (RFC 8555 §8.4). A
// name can have several values at once: a zone and its wildcard share one. The
// zero Challenges is empty. All methods may be called at any time.
type Challenges struct {
	mu     sync.Mutex
	values map[string][]string // guarded by mu; by absolute name in lower case

	nodes atomic.Pointer[map[string]*node] // of values
}

// Set adds a value, at most 255 octets, to an absolute name such as
// "_acme-challenge.test-envs.example.com". It is answered when Set returns.
func (c *Challenges) Set(name, value string) {
	c.change(name, func(values []string) []string {
		if slices.Contains(values, value) {
			return values
		}
		return append(values, value)
	})
}

// Unset takes a value away; one that is not there already has gone.
func (c *Challenges) Unset(name, value string) {
	c.change(name, func(values []string) []string {
		return slices.DeleteFunc(values, func(v string) bool { return v == value })
	})
}

// change shows a new set of nodes in which those at name have changed.
func (c *Challenges) change(name string, edit func([]string) []string) {
	name = dns.CanonicalName(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[string][]string{}
	}
	nodes := map[string]*node{}
	if old := c.nodes.Load(); old != nil {
		nodes = maps.Clone(*old)
	}
	values := edit(c.values[name])
	if len(values) == 0 {
		delete(c.values, name)
		delete(nodes, name)
	} else {
		c.values[name] = values
		nodes[name] = challengeNode(name, values)
	}
	c.nodes.Store(&nodes)
}

func challengeNode(name string, values []string) *node {
	rrs := make([]dns.RR, len(values))
	for i, v := range values {
		rrs[i] = &dns.TXT{Hdr: header(name, dns.TypeTXT, challengeTTL), Txt: []string{v}}
	}
	return newNode(rrs...)
}

// all returns what stands at each name that has a value. It is not changed.
func (c *Challenges) all() map[string]*node {
	if c == nil {
		return nil
	}
	if nodes := c.nodes.Load(); nodes != nil {
		return *nodes
	}
	return nil
}

// above reports whether a value stands beneath an absolute name, which exists
// for that reason (RFC 8020 §2).
func (c *Challenges) above(name string) bool {
	for at := range c.all() {
		if isUnder(name, at) {
			return true
		}
	}
	return false
}

// node returns what stands at an absolute name in lower case, nil if no value
// does. It allocates nothing.
func (c *Challenges) node(name string) *node {
	if c == nil || !strings.HasPrefix(name, challengeLabel) {
		return nil
	}
	nodes := c.nodes.Load()
	if nodes == nil {
		return nil
	}
	return (*nodes)[name]
}
