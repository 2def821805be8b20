package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// An Escape is a name of production that the header of a clone's answer still
// held when it went to the client, so that a browser may leave the clone by it.
type Escape struct {
	Name    string    `json:"name" doc:"In lower case; *. in front if it stands for every name below."`
	Field   string    `json:"field" doc:"The header field that held it first."`
	Service string    `json:"service" doc:"That answered so first."`
	Path    string    `json:"path" doc:"Of that answer's request, without its query."`
	Count   uint64    `json:"count" doc:"How often it escaped in all."`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

const (
	// maxEscapes is how many names are told apart for one clone. More are only
	// counted.
	maxEscapes = 32
	// maxEscapePath is how many octets are kept of the path of an Escape.
	maxEscapePath = 200
	// maxName is how long a name can be in DNS (RFC 1035 §2.3.4), with *. before it.
	maxName = 255
)

// escapes are those of one life of a clone.
type escapes struct {
	total atomic.Uint64

	mu     sync.Mutex
	byName map[string]*Escape // guarded by mu; at most maxEscapes
	full   bool               // guarded by mu; it was said that there are more
}

// note counts an escape. It returns what is new to be told: the escape if the
// name is, or full once there are too many.
func (e *escapes) note(x *exchange, name, field []byte) (told *Escape, full bool) {
	e.total.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if have := e.byName[string(name)]; have != nil {
		have.Count++
		have.Last = x.start
		return nil, false
	}
	if len(e.byName) >= maxEscapes {
		full = !e.full
		e.full = true
		return nil, full
	}
	if e.byName == nil {
		e.byName = map[string]*Escape{}
	}
	path := x.request.path()
	found := Escape{
		Name: string(name), Field: string(field), Service: x.target.service, Path: path[:min(len(path), maxEscapePath)],
		Count: 1, First: x.start, Last: x.start,
	}
	e.byName[found.Name] = &found
	copied := found
	return &copied, false
}

// list returns the escapes, the one that happened most first.
func (e *escapes) list() []Escape {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]Escape, 0, len(e.byName))
	for _, one := range e.byName {
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b Escape) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// forget forgets the names, but not how often any escaped.
func (e *escapes) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byName, e.full = nil, false
}

// Escapes returns the names of production that escaped from a clone since it
// last became routable or its names of production changed, the most frequent
// first, and how often any did. The error is registry.ErrNotFound if no such
// clone was ever known.
func (g *Gateway) Escapes(id registry.ID) (names []Escape, total uint64, err error) {
	if _, ok := g.cfg.Routes.Clone(id); !ok {
		return nil, 0, fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	if t := g.tenants.find(id); t != nil {
		return t.escapes.list(), t.escapes.total.Load(), nil
	}
	return nil, 0, nil
}

// watchEscapes counts the names of production in an answer that goes to the
// client as it is. Nothing is allocated unless one is new.
func (x *exchange) watchEscapes(out *http1.Section) {
	for _, f := range out.Fields {
		value := out.Value(f)
		for {
			from, to := x.production.seek(value)
			if to == 0 {
				break
			}
			name := value[from:to]
			if value = value[to:]; len(name) > maxName {
				continue
			}
			if name = http1.AppendLower(x.low[:0], name); !x.isOurs(name) {
				x.escaped(name, out.Name(f))
			}
		}
	}
}

// escaped counts an escape, and logs it if the name is new.
func (x *exchange) escaped(name, field []byte) {
	found, full := x.tenant.escapes.note(x, name, field)
	log := x.way.gateway.cfg.Log
	switch {
	case found != nil:
		log.Warn("production name escapes", slog.String("clone", string(x.tenant.id)), slog.String("name", found.Name),
			slog.String("field", found.Field), slog.String("service", found.Service), slog.String("path", found.Path))
	case full:
		log.Warn("more production names escape than are told apart", "clone", string(x.tenant.id), "most", maxEscapes)
	}
}

// isOurs reports whether a name lies in one of the zones, which may themselves
// lie below the domain of production.
func (x *exchange) isOurs(name []byte) bool {
	for _, zone := range x.way.gateway.cfg.Zones.Hosts() {
		if isAt(name, string(zone)) {
			return true
		}
	}
	return false
}

// A domain is one that production has: a registrable one, with all names below,
// or a single name where that is not known.
type domain struct {
	name string // in lower case
	dot  int    // where its first dot is
}

// domainsOf returns the domains of names of production.
func domainsOf(names []prodName) []domain {
	found := map[string]bool{}
	for _, n := range names {
		name := n.name
		if top, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
			name = top
		} // else it is itself a suffix that many share
		found[name] = true
	}
	var out []domain
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, domain{name, strings.IndexByte(name, '.')})
	}
	return out
}

// seek finds the first name at or below a domain of production in a value: at
// value[from:to], to is 0 if there is none. It looks at dots, of which there are
// few.
func (p *production) seek(value []byte) (from, to int) {
	for at := 0; ; at++ {
		i := bytes.IndexByte(value[at:], '.')
		if i < 0 {
			return 0, 0
		}
		at += i
		for _, d := range p.domains {
			from, to := at-d.dot, at-d.dot+len(d.name)
			if from < 0 || to > len(value) || !http1.EqualFold(value[from:to], d.name) || continues(value[to:]) {
				continue
			}
			if from, ok := beginning(value, from); ok {
				return from, to
			}
		}
	}
}

// continues reports whether a name goes on with what follows.
func continues(rest []byte) bool {
	if len(rest) > 1 && rest[0] == '.' {
		rest = rest[1:]
	}
	return len(rest) > 0 && isNameOctet(rest[0])
}

// beginning returns where the name begins whose domain begins at from; ok is
// false if it is another domain that ends alike.
func beginning(value []byte, from int) (begin int, ok bool) {
	begin = from
	for begin > 0 && (isNameOctet(value[begin-1]) || value[begin-1] == '.' || value[begin-1] == '*') {
		begin--
	}
	if begin > 0 && value[begin-1] == '%' {
		begin = min(begin+2, from) // what is encoded is no part of the name
	}
	for begin < from && value[begin] == '.' {
		begin++
	}
	return begin, begin == from || value[from-1] == '.'
}

func isNameOctet(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
