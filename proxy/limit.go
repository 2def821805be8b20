package proxy

import "time"

// A limit is a deadline of one direction of a connection. Setting one costs as
// much as a short request's headers, so a limit moves only when it must.
type limit struct {
	set func(time.Time) error // of the connection
	at  time.Time             // as set; zero is none
}

// extend gives what follows a time of about d from now: never more, and no less
// than three quarters.
func (l *limit) extend(now time.Time, d time.Duration) {
	if left := l.at.Sub(now); l.at.IsZero() || left > d || left < d-d/4 {
		l.until(now.Add(d))
	}
}

// until sets the limit exactly.
func (l *limit) until(t time.Time) {
	l.at = t
	l.set(t) // fails only on closed connections, as whatever follows will
}

// lift takes the limit away.
func (l *limit) lift() {
	if !l.at.IsZero() {
		l.until(time.Time{})
	}
}

// strike makes what waits, or will wait, fail at once.
func (l *limit) strike() { l.until(time.Unix(1, 0)) }
