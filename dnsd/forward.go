package dnsd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A group is upstream servers that answer alike.
type group struct {
	servers []netip.AddrPort
	key     string // names the group
}

func newGroup(servers []netip.AddrPort) group {
	text := make([]string, len(servers))
	plain := make([]netip.AddrPort, len(servers))
	for i, a := range servers {
		plain[i] = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		text[i] = plain[i].String()
	}
	return group{servers: plain, key: strings.Join(text, ",")}
}

func (v *view) key(q question, g group) cacheKey {
	return cacheKey{view: v.id, group: g.key, name: q.name, qtype: q.qtype, do: q.do, cd: q.cd}
}

// cached answers q without asking upstreams: from an entry that is fresh, or
// from one that has expired if there is no use in waiting for another. If
// neither can be done, the result is nil, and old is what has expired, if
// anything.
func (v *view) cached(q question, g group, now time.Time) (r *result, old *entry) {
	e := v.cache.get(v.key(q, g))
	if e == nil || !e.fresh(now) && !v.standsIn(e, q, g, now) {
		return nil, e
	}
	v.metrics.cacheHits.Inc()
	if e.ready != nil && e.hits.Add(1) >= 2 && e.due(now) {
		v.renew(e, q, g)
	}
	return e.result(q, now), nil
}

// standsIn reports whether an entry that has expired is given at once: if
// upstreams failed to renew it a moment ago, if they are known to be down, or
// if that is the habit here. Probes find out when upstreams are back, so that
// questions need not.
func (v *view) standsIn(e *entry, q question, g group, now time.Time) bool {
	switch {
	case !e.stale(now, v.habits.StaleFor):
		return false
	case v.habits.StaleFirst:
		v.renew(e, q, g)
		return true
	}
	return now.Before(e.retry) || v.health.areDown(g.servers, now)
}

// A renewal is an entry that is asked for again before it ends, so that nobody
// has to wait for it.
type renewal struct {
	view  *view
	q     question
	group group
}

// maxRenewals bounds how many of them wait for their turn.
const maxRenewals = 256

// renew has an entry renewed, unless there is more urgent work.
func (v *view) renew(e *entry, q question, g group) {
	e.hits.Store(0)
	q.name = e.key.name
	select {
	case v.renewals <- renewal{v, q, g}:
	default:
	}
}

// serveRenewals asks for what is to be renewed until ctx ends.
func (s *Server) serveRenewals(ctx context.Context) {
	for {
		select {
		case r := <-s.renewals:
			r.view.fly(ctx, r.q, r.group, true, nobody{})
		case <-ctx.Done():
			return
		}
	}
}

// nobody waits for what a question brings.
type nobody struct{}

func (nobody) land(context.Context, *entry, *outbox) {}

// from returns an entry as the answer to q, and says where it came from.
func (v *view) from(e *entry, q question, from string) *result {
	r := *e.result(q, v.now())
	r.from = from
	return &r
}

// leadsHome returns the name in one of our zones at which a chain of CNAMEs
// was cut, because the zone itself goes on from there; "" if it was not.
func (s *Server) leadsHome(answer []dns.RR, qtype uint16) string {
	if qtype == dns.TypeCNAME {
		return ""
	}
	for _, rr := range slices.Backward(answer) {
		if alias, ok := rr.(*dns.CNAME); ok {
			if _, _, ours := s.split(canonical(alias.Target)); ours {
				return alias.Target
			}
			return ""
		}
	}
	return ""
}

// newEntry makes an entry of a clean answer: it ends with its first TTL. A
// negative answer lives as long as its SOA says (RFC 2308 §5); without one, or
// with a TTL of 0, it is not kept at all.
func (s *Server) newEntry(k cacheKey, m *dns.Msg, now time.Time) *entry {
	isAnswer := func(rr dns.RR) bool { return rr.Header().Rrtype == k.qtype }
	e := &entry{key: k, stored: now}
	e.positive = m.Rcode == dns.RcodeSuccess && (slices.ContainsFunc(m.Answer, isAnswer) || s.leadsHome(m.Answer, k.qtype) != "")
	limit := uint32(maxNegative / time.Second)
	if e.positive {
		limit = uint32(maxPositive / time.Second)
	}
	ttl, hasSOA := limit, false
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		h := rr.Header()
		if h.Ttl>>31 == 1 { // RFC 2181 §8
			h.Ttl = 0
		}
		h.Ttl = min(h.Ttl, limit)
		if soa, ok := rr.(*dns.SOA); ok && !e.positive {
			h.Ttl = min(h.Ttl, soa.Minttl)
			hasSOA = true
		}
		ttl = min(ttl, h.Ttl)
	}
	if !e.positive && !hasSOA {
		ttl = 0
	}
	r := &result{rcode: m.Rcode, answer: m.Answer, ns: m.Ns}
	packed, err := pack(question{name: k.name}, r)
	if err != nil {
		e.failure = fmt.Sprintf("answer cannot be passed on: %v", err)
		return e
	}
	packed.stored = now
	e.ready = &result{rcode: m.Rcode, kept: true, packed: packed, from: "cache", target: s.leadsHome(m.Answer, k.qtype)}
	e.expires = now.Add(time.Duration(ttl) * time.Second)
	return e
}

var errNoUpstream = errors.New("no upstream server is known; name one for this listener or in the resolv.conf")

// order returns the servers of a group in the order in which to ask them, but
// for this server itself and those that would ask it. Those that failed come
// last unless the order is strict.
func (s *Server) order(g group) []netip.AddrPort {
	servers := slices.DeleteFunc(slices.Clone(g.servers), func(a netip.AddrPort) bool { return s.isOwn(a) || s.loops.has(a) })
	if len(servers) > 1 && !s.habits.StrictOrder {
		s.health.sort(servers)
	}
	return servers
}

// first returns the server of a group that comes first in their order, false
// if there is none, or if it has failed and may need company.
func (s *Server) first(g group) (netip.AddrPort, bool) {
	for _, a := range g.servers {
		if s.isOwn(a) || s.loops.has(a) {
			continue
		}
		if !s.health.isDown(a) {
			return a, true
		}
		if s.habits.StrictOrder {
			break
		}
	}
	return netip.AddrPort{}, false
}

// exchange asks the servers of a group until one answers: the next one is
// asked as soon as one has failed, and also if those before it stay silent for
// a moment. Silence may be a lost packet, so silent servers are asked again.
// first is an attempt that has failed, or been silent for that moment; nil if
// nothing was asked yet.
func (s *Server) exchange(ctx context.Context, q question, g group, first *attempt) (*dns.Msg, error) {
	if len(g.servers) == 0 {
		return nil, errNoUpstream
	}
	servers := s.order(g)
	if len(servers) == 0 {
		return nil, fmt.Errorf("upstream %s is this server itself, or sends questions back to it", g.key)
	}
	patience := s.timing.total
	if first != nil {
		patience -= time.Since(first.start)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel()

	type reply struct {
		m   *dns.Msg
		err error
	}
	maxTries := max(3, 2*len(servers))
	replies := make(chan reply, maxTries)
	started, running := 0, 0
	next := func() {
		server, carried := servers[started%len(servers)], first
		if first != nil {
			server, first = first.server, nil
		}
		started++
		running++
		tries.Go(func() {
			m, err := s.try(ctx, server, q, carried)
			replies <- reply{m, err}
		})
	}
	silent := first != nil && !first.over()
	if first != nil { // it goes first, as it did
		servers = append([]netip.AddrPort{first.server}, slices.DeleteFunc(servers, func(a netip.AddrPort) bool { return a == first.server })...)
	}
	next()
	if len(servers) > 1 && (silent || s.health.isDown(servers[0])) {
		next()
	}
	for s.habits.AllServers && started < len(servers) {
		next()
	}
	maxHedges := len(servers)
	if s.habits.Retry > 0 {
		maxHedges = maxTries
	}
	hedge := time.NewTicker(s.timing.hedge)
	defer hedge.Stop()
	var last error
	for running > 0 {
		select {
		case r := <-replies:
			running--
			if r.err == nil {
				return r.m, nil
			}
			last = r.err
			if ctx.Err() == nil && (started < len(servers) || started < maxTries && errors.Is(r.err, errSilent)) {
				next()
			}
		case <-hedge.C:
			if started < maxHedges {
				next()
			}
		}
	}
	return nil, last
}

// busy counts questions that wait, by group.
type busy struct {
	mu sync.Mutex
	n  map[string]int // guarded by mu
}

// enter takes a place, false if limit are taken.
func (b *busy) enter(group string, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n[group] >= limit {
		return false
	}
	if b.n == nil {
		b.n = map[string]int{}
	}
	b.n[group]++
	return true
}

func (b *busy) leave(group string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n[group]--; b.n[group] == 0 {
		delete(b.n, group)
	}
}

// health remembers which servers failed. They are asked last, not left out,
// until they answer again: a question, or one of the probes that they get.
type health struct {
	mu     sync.Mutex
	failed map[netip.AddrPort]*failedServer // guarded by mu
}

type failedServer struct {
	asked   time.Time // when a client's question failed last
	probing bool
}

const maxFailedServers = 256

func (h *health) note(server netip.AddrPort, failed bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !failed {
		delete(h.failed, server)
		return
	}
	if f := h.failed[server]; f != nil {
		f.asked = now
		return
	}
	if h.failed == nil || len(h.failed) >= maxFailedServers {
		h.failed = map[netip.AddrPort]*failedServer{}
	}
	h.failed[server] = &failedServer{asked: now}
}

// toProbe returns the servers to probe now; probed is called for each.
func (h *health) toProbe(now time.Time) []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []netip.AddrPort
	for server, f := range h.failed {
		switch {
		case f.probing:
		case now.Sub(f.asked) > probeMemory:
			delete(h.failed, server) // nobody needs it; if somebody does, it is tried
		default:
			f.probing = true
			out = append(out, server)
		}
	}
	return out
}

// probed notes what came of a probe.
func (h *health) probed(server netip.AddrPort, answered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.failed[server]; f != nil {
		f.probing = false
	}
	if answered {
		delete(h.failed, server)
	}
}

// sort moves the servers that failed behind the others.
func (h *health) sort(servers []netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortStableFunc(servers, func(a, b netip.AddrPort) int { return h.rankLocked(a) - h.rankLocked(b) })
}

func (h *health) rankLocked(server netip.AddrPort) int {
	if h.failed[server] != nil {
		return 1
	}
	return 0
}

// areDown reports whether all servers of a group failed and none has answered
// since. As a client asks, they go on being probed.
func (h *health) areDown(servers []netip.AddrPort, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, server := range servers {
		f := h.failed[server]
		if f == nil {
			return false
		}
		f.asked = now
	}
	return len(servers) > 0
}

// isDown reports whether a server failed and has not answered since.
func (h *health) isDown(server netip.AddrPort) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rankLocked(server) > 0
}
