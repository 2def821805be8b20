package proxy

import (
	"sync"
	"time"
)

// A quota bounds how many lines a second the log gets about what went wrong in
// one place, so that a clone that fails under load does not bury what is said of
// the others. The zero value is ready.
type quota struct {
	mu     sync.Mutex
	second int64 // guarded by mu; that lines were last written in, in Unix time
	lines  int   // guarded by mu; written in it
	unsaid int   // guarded by mu; lines not written since the last one
}

// take reports whether a line may be written, and how many were not since the
// last one, which the line is to say.
func (q *quota) take(now time.Time, most int) (unsaid int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if second := now.Unix(); second > q.second {
		q.second, q.lines = second, 0
	}
	if q.lines >= most {
		q.unsaid++
		return 0, false
	}
	q.lines++
	unsaid, q.unsaid = q.unsaid, 0
	return unsaid, true
}

// quotaOf returns the quota of the clone that an exchange led to, and one of all
// that led to none.
func (g *Gateway) quotaOf(x *exchange) *quota {
	if x.tenant != nil {
		return &x.tenant.failures
	}
	return &g.strays
}
