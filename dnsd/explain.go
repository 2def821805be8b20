package dnsd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// An Explanation says what a listener answers to a question, and why.
type Explanation struct {
	Listener string          `json:"listener" doc:"Address of the listener that was asked."`
	Kind     string          `json:"kind" doc:"authoritative or resolver."`
	Clone    registry.ID     `json:"clone,omitempty" doc:"Whose names the listener knows by their short form."`
	Name     string          `json:"name"`
	Type     string          `json:"type"`
	Rcode    string          `json:"rcode"`
	EDE      string          `json:"ede,omitempty" doc:"The extended error that goes with the answer (RFC 8914)."`
	Faults   []string        `json:"faults,omitempty" doc:"Troubles on purpose that clients meet with this name, in the place of the answer."`
	Answer   []string        `json:"answer,omitempty" doc:"Records, as in a zone file."`
	Steps    []ExplainedName `json:"steps" doc:"Who answered, one step for each name of a chain of aliases."`
}

// An ExplainedName is what decided about one name.
type ExplainedName struct {
	Name      string   `json:"name"`
	From      string   `json:"from" doc:"registry, zone, clone, rules, cache, upstream, stale, any or refused."`
	Owner     string   `json:"owner,omitempty" doc:"The clone that the name belongs to."`
	Upstreams string   `json:"upstreams,omitempty" doc:"Who is asked about such a name."`
	Age       string   `json:"age,omitempty" doc:"How long ago upstreams said so."`
	Ends      string   `json:"ends,omitempty" doc:"When they are asked again."`
	Records   []string `json:"records,omitempty" doc:"What stands at that name."`
}

// NoListenerError says that no listener is known by what a caller named.
type NoListenerError struct {
	View  string
	Known []string
}

func (e *NoListenerError) Error() string {
	if len(e.Known) == 0 {
		return "no DNS listener is open; configure dns.listen or dns.resolvers"
	}
	return fmt.Sprintf("no DNS listener is %q; known are %s", e.View, strings.Join(e.Known, ", "))
}

// Explain answers a question as a listener does, and says why. View names the
// listener: by its address, by the clone of a resolver, or "" for the first
// one. Upstreams are asked if a client would make the listener ask them; the
// wait ends with ctx.
func (s *Server) Explain(ctx context.Context, view, name, qtype string) (*Explanation, error) {
	f, err := s.listener(view)
	if err != nil {
		return nil, err
	}
	rrtype, known := dns.StringToType[strings.ToUpper(qtype)]
	if !known {
		return nil, fmt.Errorf("%q is not a type of record; write it as in A, AAAA or TXT", clip(qtype))
	}
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, fmt.Errorf("%q is not a domain name", clip(name))
	}
	q := &query{question: question{name: canonical(dns.Fqdn(name)), qtype: rrtype}, rd: true, start: s.now(), now: s.now()}
	out := &Explanation{Listener: f.addr.String(), Kind: f.kind, Name: q.name, Type: dns.Type(rrtype).String(), Steps: []ExplainedName{}}
	r := f.follow(q.question, func(at question) *result {
		r := f.step(ctx, q, at)
		if r != nil {
			out.Steps = append(out.Steps, f.explain(at, r))
		}
		return r
	})
	if r == nil {
		r = refused(dns.ExtendedErrorCodeNotAuthoritative, "")
		out.Steps = append(out.Steps, ExplainedName{Name: q.name, From: "refused"})
	}
	if f.view != nil {
		out.Clone = f.view.clone
		out.Faults = f.view.faultTexts(q.name, q.now)
	}
	out.Rcode = rcodeName(r.rcode)
	if r.ede != nil {
		out.EDE = strings.TrimSpace(dns.ExtendedErrorCodeToString[r.ede.InfoCode] + " " + r.ede.ExtraText)
	}
	out.Answer = texts(s.records(q.question, r).answer)
	return out, nil
}

// listener finds a listener by its address, its clone, or as the first one.
func (s *Server) listener(view string) (*front, error) {
	fronts := s.fronts.Load()
	if fronts == nil {
		return nil, &NoListenerError{View: view}
	}
	var known []string
	for _, f := range *fronts {
		if view == "" || view == f.addr.String() || f.view != nil && f.view.clone != "" && view == string(f.view.clone) {
			return f, nil
		}
		known = append(known, f.addr.String())
	}
	return nil, &NoListenerError{View: view, Known: known}
}

// step answers about one name of a chain.
func (f *front) step(ctx context.Context, q *query, at question) *result {
	if f.view == nil {
		return f.answerZone(at)
	}
	return f.view.step(q, at, f.view.ownNames(), func(q question, g group, old *entry) *result { return f.view.ask(ctx, q, g, old) })
}

// explain says where a result about one name comes from.
func (f *front) explain(at question, r *result) ExplainedName {
	step := ExplainedName{Name: at.name, From: r.from, Records: texts(f.records(at, r).answer)}
	if step.From == "" {
		step.From = "refused"
	}
	if _, sub, inZone := f.split(at.name); inZone {
		_, last := cutLast(sub)
		if t, ok := f.dir.Lookup(last); ok {
			step.Owner = string(t.Clone.ID)
		}
		return step
	}
	switch {
	case r.from == "registry", r.from == "clone":
		step.Owner = string(f.view.clone)
	case r.from == "cache", r.from == "upstream", r.from == "stale", r.rcode == dns.RcodeServerFailure:
		g := f.view.groupFor(at, f.view.ownNames())
		step.Upstreams = g.key
		if e := f.cache.get(f.view.key(at, g)); e != nil {
			now := f.now()
			step.Age = now.Sub(e.stored).Round(time.Second).String()
			step.Ends = e.expires.Sub(now).Round(time.Second).String()
		}
	}
	return step
}

func texts(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, rr.String())
	}
	return out
}

// Flush forgets what upstreams said about a name in every view, with suffix
// about all names under it as well, and returns how many answers that were.
// The name "." with suffix forgets everything.
func (s *Server) Flush(name string, suffix bool) (int, error) {
	if _, ok := dns.IsDomainName(name); !ok {
		return 0, fmt.Errorf("%q is not a domain name; write . with suffix for everything", clip(name))
	}
	name = canonical(dns.Fqdn(name))
	return s.cache.remove(func(k cacheKey) bool {
		return k.name == name || suffix && isUnder(name, k.name)
	}), nil
}

// remove drops the entries whose keys match and returns how many those were.
func (c *cache) remove(match func(cacheKey) bool) int {
	n := 0
	for i := range c.parts {
		part := &c.parts[i]
		part.mu.Lock()
		for _, k := range part.lru.Keys() {
			if match(k) {
				part.lru.Remove(k)
				n++
			}
		}
		part.mu.Unlock()
	}
	return n
}
