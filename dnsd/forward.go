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

// cached answers q without asking upstreams, nil if that cannot be done: from
// an entry that is fresh, or from one that has expired if upstreams failed to
// renew it a moment ago.
func (v *view) cached(q question, g group, now time.Time) *result {
	e := v.cache.get(v.key(q, g))
	if e == nil || !e.fresh(now) && !(e.stale(now) && now.Before(e.retry)) {
		return nil
	}
	v.metrics.cacheHits.Inc()
	return e.result(q, now)
}

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

// ask asks upstreams, waiting for them. Identical questions are asked once.
// If they stay silent for too long and there is an answer that has expired,
// that is given, and the question goes on by itself.
func (v *view) ask(ctx context.Context, q question, g group) *result {
	if !v.busy.enter(g.key, maxWaitingPerGroup) {
		v.metrics.dropped("group_busy")
		return failed(dns.ExtendedErrorCodeOther, "too many questions wait for upstream "+g.key)
	}
	defer v.busy.leave(g.key)
	v.metrics.cacheMisses.Inc()
	k := v.key(q, g)
	flight := v.flights.DoChan(k.String(), func() (any, error) {
		return v.fetch(ctx, k, q, g), nil
	})
	var patience <-chan time.Time
	old := v.cache.get(k)
	if old != nil && old.stale(v.now()) {
		timer := time.NewTimer(v.timing.stale)
		defer timer.Stop()
		patience = timer.C
	}
	select {
	case done := <-flight:
		return v.from(done.Val.(*entry), q, "upstream")
	case <-patience:
		v.tasks.Go(func() { <-flight })
		return v.from(old, q, "stale")
	}
}

// fetch asks upstreams and keeps what they say.
func (v *view) fetch(ctx context.Context, k cacheKey, q question, g group) (e *entry) {
	defer func() {
		if p := recover(); p != nil {
			e = &entry{key: k, failure: v.panicked(p).Error()}
		}
	}()
	old := v.cache.get(k)
	if old != nil && old.fresh(v.now()) {
		return old // another flight has just landed
	}
	m, err := v.exchange(ctx, q, g)
	now := v.now()
	if err != nil {
		v.log.Debug("upstreams gave no answer", "name", q.name, "type", dns.Type(q.qtype), "upstreams", g.key, "err", err)
		e = &entry{key: k, failure: err.Error(), stored: now, expires: now.Add(failureTTL)}
		if old != nil && old.stale(now) {
			again := *old
			again.retry = now.Add(failureTTL)
			e = &again
		}
		if ctx.Err() == nil {
			v.cache.put(e)
		}
		return e
	}
	v.amend(q, m)
	e = v.newEntry(k, m, now)
	if e.fresh(now) {
		v.cache.put(e)
	}
	return e
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

// exchange asks the servers of a group until one answers: the next one is
// asked as soon as one has failed, and also if those before it stay silent for
// a moment. Silence may be a lost packet, so silent servers are asked again.
func (s *Server) exchange(ctx context.Context, q question, g group) (*dns.Msg, error) {
	if len(g.servers) == 0 {
		return nil, errNoUpstream
	}
	servers := slices.DeleteFunc(slices.Clone(g.servers), s.isOwn)
	if len(servers) == 0 {
		return nil, fmt.Errorf("upstream %s is this server itself", g.key)
	}
	s.health.sort(servers, s.now())
	ctx, cancel := context.WithTimeout(ctx, s.timing.total)
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
		server := servers[started%len(servers)]
		started++
		running++
		tries.Go(func() {
			m, err := s.try(ctx, server, q)
			replies <- reply{m, err}
		})
	}
	next()
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
			if started < len(servers) {
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

// health remembers which servers failed a moment ago. They are asked last, not
// left out, and first again soon: a server that returns is used within that time.
type health struct {
	mu     sync.Mutex
	failed map[netip.AddrPort]time.Time // guarded by mu
}

const (
	failureMemory    = 2 * time.Second
	maxFailedServers = 256
)

func (h *health) note(server netip.AddrPort, failed bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !failed {
		delete(h.failed, server)
		return
	}
	if h.failed == nil || len(h.failed) >= maxFailedServers {
		h.failed = map[netip.AddrPort]time.Time{}
	}
	h.failed[server] = now
}

// sort moves the servers that failed a moment ago behind the others.
func (h *health) sort(servers []netip.AddrPort, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortStableFunc(servers, func(a, b netip.AddrPort) int {
		return h.rank(a, now) - h.rank(b, now)
	})
}

func (h *health) rank(server netip.AddrPort, now time.Time) int {
	if at, ok := h.failed[server]; ok && now.Sub(at) < failureMemory {
		return 1
	}
	return 0
}
