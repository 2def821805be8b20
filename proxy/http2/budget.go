package http2

import "time"

// What a connection may cost beyond what it carries. Honest clients earn all
// they need; the time between two refills makes the rest of no use to others.
const (
	// idleFrames is how many frames that carry nothing (PING, SETTINGS,
	// WINDOW_UPDATE, PRIORITY, empty DATA, unknown ones, requests over a limit)
	// a client may send beyond those it has earned, by requests and by what it
	// was sent: clients give windows back for as little as 2 KiB. What was
	// earned may be spent late, so that it may be much.
	idleFrames   = 1000
	idleRefill   = 10 * time.Second
	idleMost     = 1 << 20
	requestEarns = 20
	dataEarns    = 3       // for a DATA frame
	octetsEarn   = 1 << 10 // one, for so many octets of data

	// cutStreams is how many requests may end by a reset, the client's before
	// the answer has begun or ours for what the client did, beyond those that
	// ended well (CVE-2023-44487 rapid reset, CVE-2025-8671 MadeYouReset).
	cutStreams = 200
	cutRefill  = 30 * time.Second

	// continuations is how many frames one field block may come in, beside the
	// bound on its octets (CVE-2024-24549 and its kin).
	continuations = 32
)

// A budget is an allowance that is earned by work and refilled by time.
type budget struct {
	left     int
	full     int // what a refill makes it
	most     int // what can be earned
	period   time.Duration
	refilled time.Time
}

func newBudget(full, most int, period time.Duration) budget {
	return budget{left: full, full: full, most: most, period: period, refilled: time.Now()}
}

// spend takes n, and reports whether there was so much. It asks for the time
// only when there is not.
func (b *budget) spend(n int) bool {
	if b.left -= n; b.left >= 0 {
		return true
	}
	now := time.Now()
	if now.Sub(b.refilled) < b.period {
		return false
	}
	b.left, b.refilled = b.full-n, now
	return b.left >= 0
}

func (b *budget) earn(n int) { b.left = min(b.left+n, b.most) }
