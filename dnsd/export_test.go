package dnsd

import (
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// SetTiming shortens the waits of tests that would otherwise take their full
// length. Zero leaves one as it is.
func (s *Server) SetTiming(try, hedge, total, stale, idle time.Duration) {
	for _, d := range []struct {
		of *time.Duration
		to time.Duration
	}{{&s.timing.try, try}, {&s.timing.hedge, hedge}, {&s.timing.total, total}, {&s.timing.stale, stale}, {&s.timing.idle, idle}} {
		if d.to != 0 {
			*d.of = d.to
		}
	}
}

// SetClock replaces the clock by which TTLs are counted.
func (s *Server) SetClock(now func() time.Time) { s.now = now }

// CacheSize returns how many entries are kept, and their size in octets.
func (s *Server) CacheSize() (entries, bytes int) { return s.cache.size() }

func (c *cache) size() (entries, bytes int) {
	for i := range c.parts {
		part := &c.parts[i]
		part.mu.Lock()
		entries += part.lru.Len()
		bytes += part.bytes
		part.mu.Unlock()
	}
	return entries, bytes
}

// UDPConns returns the sockets of a connection that Listen opened.
func UDPConns(conn net.PacketConn) []*net.UDPConn { return udpConns(conn) }

// Waiting returns how many questions wait for upstreams.
func (s *Server) Waiting() int {
	s.busy.mu.Lock()
	defer s.busy.mu.Unlock()
	sum := 0
	for _, n := range s.busy.n {
		sum += n
	}
	return sum
}

// Places returns how many places for questions that wait are taken.
func (s *Server) Places() int { return len(s.waiting) }

// ParseRecord returns a record as it is served.
func ParseRecord(rec registry.Record, origin string) (dns.RR, error) {
	_, rr, err := parseRecord(rec, origin)
	return rr, err
}

// A FilledCache is a cache of the default bounds with made-up entries in it.
type FilledCache struct{ c *cache }

// NewFilledCache puts n entries of size octets into a cache.
func NewFilledCache(n, size int) *FilledCache {
	f := &FilledCache{newCache(maxCacheEntries, maxCacheBytes)}
	for i := range n {
		f.Refill(i, size)
	}
	return f
}

func fillerKey(i int) cacheKey { return cacheKey{name: strconv.Itoa(i)} }

// Refill replaces entry i.
func (f *FilledCache) Refill(i, size int) {
	f.c.put(&entry{key: fillerKey(i), ready: &result{packed: &packed{body: make([]byte, size)}}})
}

// Has reports whether entry i is kept.
func (f *FilledCache) Has(i int) bool { return f.c.get(fillerKey(i)) != nil }

// Size returns how many entries are kept, and their size in octets.
func (f *FilledCache) Size() (entries, bytes int) { return f.c.size() }

// Compile compiles a clone's names.
func Compile(c *registry.Clone, zone registry.Host) { compile(c, newZone(zone)) }

// Watchers returns how many follow the query log.
func (s *Server) Watchers() int {
	if all := s.watchers.Load(); all != nil {
		return len(*all)
	}
	return 0
}

// InNamespace calls a function inside a network namespace.
func InNamespace(path string, f func() error) error { return inNamespace(path, f) }

// IsLoopProbe reports whether a question looks for loops.
func IsLoopProbe(m *dns.Msg) bool {
	return len(m.Question) == 1 && strings.Contains(strings.ToLower(m.Question[0].Name), loopMark)
}

// Listeners returns how many listeners are open.
func (s *Server) Listeners() int {
	if all := s.fronts.Load(); all != nil {
		return len(*all)
	}
	return 0
}

// ProbeNow makes the next look for loops due.
func (s *Server) ProbeNow() {
	s.loops.mu.Lock()
	defer s.loops.mu.Unlock()
	for server, p := range s.loops.probed {
		p.at = time.Time{}
		s.loops.probed[server] = p
	}
}

// SetLoop says that an upstream sends questions back, as its last probe has shown.
func (s *Server) SetLoop(server netip.AddrPort) {
	s.loops.mu.Lock()
	defer s.loops.mu.Unlock()
	s.loops.probed = map[netip.AddrPort]loopProbe{server: {at: time.Now(), back: true}}
	s.loops.looping = map[netip.AddrPort]bool{server: true}
	s.loops.found.Store(1)
}

// CountTop has one listener take so many questions within a second, and
// returns what it counted.
func CountTop(t *testing.T, n int, client netip.Addr) *Top {
	f, _ := hitFronts(t)
	now := time.Now()
	f.now = func() time.Time { return now }
	w := f.newWorker()
	packet := askedAs(1, "www-1234.test_envs.localhost.")
	for range n {
		w.take(packet, netip.AddrPortFrom(client, 53), false)
	}
	f.fronts.Store(&[]*front{f})
	top, err := f.Top("")
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// A Limiter decides about answers to networks.
type Limiter struct{ l *limiter }

// NewLimiter returns one that logs nothing.
func NewLimiter(t testing.TB, cfg RateLimit) Limiter {
	l, err := newLimiter(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return Limiter{l}
}

// Judge returns "whole", "truncated" or "nothing".
func (l Limiter) Judge(client netip.Addr, now time.Time) string {
	return [...]string{"whole", "truncated", "nothing"}[l.l.judge(client, now)]
}

// Streams returns how many TCP connections to upstreams take questions.
func (s *Server) Streams() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.streams.shared)
}

// Raced tells whether these tests look for data races.
const Raced = slowed > 1
