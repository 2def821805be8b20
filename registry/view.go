package registry

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A View is what readers see of the registry: every record, in memory, as of
// one revision. Reading it blocks on nothing but other readers of the same
// shard, allocates nothing, and costs the same with ten clones as with a
// hundred thousand; so does applying a change.
//
// One clone is one value: its routes and its names appear, change and go in
// the same step.
type View struct {
	zones    *Zones
	revision atomic.Uint64
	clones   table[*Clone]
	labels   table[ID]     // public label → the clone that owns it
	members  atomic.Uint64 // counts clones that came or went
	ids      atomic.Pointer[sortedIDs]

	mu        sync.RWMutex // guards the following
	templates map[string]*Template
	channels  map[string]*Channel
	tokens    map[string]*Token

	changes *changes
}

func newView(zones *Zones) *View {
	return &View{
		zones:     zones,
		clones:    newTable[*Clone](),
		labels:    newTable[ID](),
		templates: map[string]*Template{},
		channels:  map[string]*Channel{},
		tokens:    map[string]*Token{},
		changes:   newChanges(),
	}
}

// Zones returns the zones that public names stand under.
func (v *View) Zones() *Zones { return v.zones }

// Revision returns the revision of the newest change in the view.
func (v *View) Revision() uint64 { return v.revision.Load() }

// Clone returns the clone with this ID, in whatever state it is. The record of
// a clone long gone is no longer held.
func (v *View) Clone(id ID) (*Clone, bool) { return v.clones.get(string(id)) }

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
	if id, owned := v.labels.get(label); owned {
		if c, known := v.clones.get(string(id)); known {
			service, base := splitLabel(c, label)
			return Target{Clone: c, Service: service, Base: base}, true
		}
	}
	return Target{}, false
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

// Clones returns every clone in the order of its ID, starting behind after.
// Clones that come or go meanwhile may be missed.
func (v *View) Clones(after ID) iter.Seq[*Clone] {
	return func(yield func(*Clone) bool) {
		ids := v.sorted()
		i, found := slices.BinarySearch(ids, after)
		if found {
			i++
		}
		for _, id := range ids[i:] {
			if c, ok := v.clones.get(string(id)); ok && !yield(c) {
				return
			}
		}
	}
}

// sortedIDs is the IDs of all clones after so many had come or gone.
type sortedIDs struct {
	members uint64
	ids     []ID
}

// sorted returns the IDs of all clones, sorted anew only if clones came or
// went since the last call.
func (v *View) sorted() []ID {
	members := v.members.Load()
	if s := v.ids.Load(); s != nil && s.members == members {
		return s.ids
	}
	var ids []ID
	v.clones.each(func(key string, _ *Clone) { ids = append(ids, ID(key)) })
	slices.Sort(ids)
	v.ids.Store(&sortedIDs{members, ids})
	return ids
}

// Len returns the number of clones held, those that are over included.
func (v *View) Len() int { return v.clones.len() }

// Template returns one version of a template.
func (v *View) Template(name, version string) (*Template, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t, ok := v.templates[name+"@"+version]
	return t, ok
}

// Templates returns every version of every template, oldest first within a name.
func (v *View) Templates() []*Template {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]*Template, 0, len(v.templates))
	for _, t := range v.templates {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Template) int {
		if n := strings.Compare(a.Name, b.Name); n != 0 {
			return n
		}
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.Version, b.Version)
	})
	return out
}

// Channel returns one channel of a template.
func (v *View) Channel(template, name string) (*Channel, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c, ok := v.channels[template+"@"+name]
	return c, ok
}

// ChannelsOf returns the channels of a template in order of trust.
func (v *View) ChannelsOf(template string) []*Channel {
	var out []*Channel
	for _, name := range Channels {
		if c, ok := v.Channel(template, name); ok {
			out = append(out, c)
		}
	}
	return out
}

// Token returns what is known of a token by its ID.
func (v *View) Token(id string) (*Token, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t, ok := v.tokens[id]
	return t, ok
}

// Tokens returns every token, oldest first.
func (v *View) Tokens() []*Token {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]*Token, 0, len(v.tokens))
	for _, t := range v.tokens {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Token) int {
		if n := a.Created.Compare(b.Created); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Changes waits for changes after a revision and returns them in order. It
// returns the context's error when ctx ends, and ErrLagged if changes after
// that revision are no longer kept: the reader then reads the view again and
// goes on from the revision it had before it began to read.
func (v *View) Changes(ctx context.Context, after uint64) ([]Change, error) {
	return v.changes.wait(ctx, after)
}

// apply makes one change visible. Only the registry's writer calls it.
func (v *View) apply(ch Change) {
	switch {
	case ch.Clone != nil:
		v.applyClone(ch.Clone)
	case ch.Template != nil:
		v.mu.Lock()
		v.templates[ch.Template.Ref()] = ch.Template
		v.mu.Unlock()
	case ch.Channel != nil:
		v.mu.Lock()
		v.channels[ch.Channel.Template+"@"+ch.Channel.Name] = ch.Channel
		v.mu.Unlock()
	case ch.Token != nil:
		v.mu.Lock()
		v.tokens[ch.Token.ID] = ch.Token
		v.mu.Unlock()
	case ch.NoToken != "":
		v.mu.Lock()
		delete(v.tokens, ch.NoToken)
		v.mu.Unlock()
	}
	v.revision.Store(ch.Revision)
	v.changes.add(ch)
}

// applyClone swaps the clone's value first and its labels after: a label that
// is new finds the new value, and one that is gone finds a value that no
// longer has it.
func (v *View) applyClone(c *Clone) {
	old, existed := v.clones.get(string(c.ID))
	v.clones.put(string(c.ID), c)
	if !existed {
		v.members.Add(1)
	}
	now := c.PublicLabels()
	for _, label := range now {
		if owner, owned := v.labels.get(label); !owned || owner == c.ID || !c.State.Over() {
			v.labels.put(label, c.ID)
		}
	}
	if !existed {
		return
	}
	for _, label := range old.PublicLabels() {
		if owner, owned := v.labels.get(label); owned && owner == c.ID && !slices.Contains(now, label) {
			v.labels.remove(label)
		}
	}
}

// forget drops a clone that has been gone for long from memory.
func (v *View) forget(id ID) {
	c, ok := v.clones.get(string(id))
	if !ok {
		return
	}
	for _, label := range c.PublicLabels() {
		if owner, owned := v.labels.get(label); owned && owner == id {
			v.labels.remove(label)
		}
	}
	v.clones.remove(string(id))
	v.members.Add(1)
}

// A table is a map that many goroutines read while one writes: 256 maps, each
// behind its own lock, so that readers rarely meet and a write touches one.
type table[V any] struct {
	seed   maphash.Seed
	shards *[256]shard[V]
}

type shard[V any] struct {
	mu sync.RWMutex
	m  map[string]V // guarded by mu
	_  [32]byte     // keeps neighbours off one cache line
}

func newTable[V any]() table[V] {
	t := table[V]{seed: maphash.MakeSeed(), shards: new([256]shard[V])}
	for i := range t.shards {
		t.shards[i].m = map[string]V{}
	}
	return t
}

func (t *table[V]) shard(key string) *shard[V] {
	return &t.shards[maphash.String(t.seed, key)&255]
}

func (t *table[V]) get(key string) (V, bool) {
	s := t.shard(key)
	s.mu.RLock()
	v, ok := s.m[key]
	s.mu.RUnlock()
	return v, ok
}

func (t *table[V]) put(key string, v V) {
	s := t.shard(key)
	s.mu.Lock()
	s.m[key] = v
	s.mu.Unlock()
}

func (t *table[V]) remove(key string) {
	s := t.shard(key)
	s.mu.Lock()
	delete(s.m, key)
	s.mu.Unlock()
}

func (t *table[V]) each(fn func(string, V)) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for k, v := range s.m {
			fn(k, v)
		}
		s.mu.RUnlock()
	}
}

func (t *table[V]) len() int {
	n := 0
	for i := range t.shards {
		t.shards[i].mu.RLock()
		n += len(t.shards[i].m)
		t.shards[i].mu.RUnlock()
	}
	return n
}
