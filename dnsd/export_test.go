package dnsd

import "time"

// SetTiming shortens the waits of tests that would otherwise take their full
// length. Zero leaves one as it is.
func (s *Server) SetTiming(try, total, stale, idle time.Duration) {
	for _, d := range []struct {
		of *time.Duration
		to time.Duration
	}{{&s.timing.try, try}, {&s.timing.total, total}, {&s.timing.stale, stale}, {&s.timing.idle, idle}} {
		if d.to != 0 {
			*d.of = d.to
		}
	}
}

// SetClock replaces the clock by which TTLs are counted.
func (s *Server) SetClock(now func() time.Time) { s.now = now }

// CacheSize returns how many entries are kept, and their size in octets.
func (s *Server) CacheSize() (entries, bytes int) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	return s.cache.lru.Len(), s.cache.bytes
}

// Waiting returns how many questions wait for upstreams.
func (s *Server) Waiting() int { return len(s.waiting) }
