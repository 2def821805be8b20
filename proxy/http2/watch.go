package http2

import (
	"time"

	h2 "golang.org/x/net/http2"
)

// watches is how often in Config.Stall a connection is looked at. What made no
// progress between so many looks has stalled; nobody reads a clock in between.
const watches = 4

// A clock is what a connection's watch remembers from one look to the next.
// Guarded by conn.mu.
type clock struct {
	timer      *time.Timer
	heading    int         // which head the reader is in the middle of; 0: none
	late       *time.Timer // ends the connection if that takes too long; may be nil
	parked     bool        // the next look is when the connection has been idle too long
	idleSince  time.Time   // zero while it is not
	lastSeen   uint32      // conn.lastID at the last look
	framesRead int         // counts up as frames are read
	lastFrames int
	lastFlush  int // outbox.flushes at the last look
	looks      int // while the client's SETTINGS acknowledgement is missing
	readStall  int // looks without progress inside a frame
	writeStall int // looks without progress of a write
}

// watchOver begins to watch.
func (c *conn) watchOver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.srv.cfg.Stall/watches, c.watch)
}

// endWatch ends what watchOver and timeHead began.
func (c *conn) endWatch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
	c.timeHead(0)
}

// headBegun returns a number, not 0, that stands for the head of a request of
// which the reader has a part: how many frames came before it, and one.
func (c *conn) headBegun() int {
	const kind = 3 // where a frame's type is
	switch in := &c.in; {
	case c.opening.open:
		return in.frames - c.opening.frames
	case in.greeted && in.len() > 0 && (in.len() <= kind || h2.FrameType(in.buf[in.begin+kind]) == h2.FrameHeaders):
		return in.frames + 1
	}
	return 0
}

// timeHead begins the time of a head, or with 0 ends that of the last.
func (c *conn) timeHead(n int) {
	if n == c.heading {
		return
	}
	if c.late != nil {
		c.late.Stop()
		c.late = nil
	}
	if c.heading = n; n > 0 {
		c.late = time.AfterFunc(c.srv.cfg.Head, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.heading == n && c.stop == nil {
				c.srv.cfg.Count(ConnStall)
				c.stopLocked(&ConnError{h2.ErrCodeNo, "the client did not end the head of a request"})
			}
		})
	}
}

// watch looks after a connection from time to time.
func (c *conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		return
	}
	if c.watchConn() {
		return
	}
	for _, s := range c.streams {
		c.watchStream(s)
	}
	c.flushBeside()
	c.timer.Reset(c.nextLook())
}

// watchConn ends a connection that has stalled, or been idle too long, and
// reports whether it did.
func (c *conn) watchConn() bool {
	c.writeStall = count(c.flushing && c.flushes == c.lastFlush, c.writeStall)
	c.readStall = count(c.partial && c.framesRead == c.lastFrames, c.readStall)
	c.looks = count(!c.acked, c.looks)
	c.lastFlush, c.lastFrames = c.flushes, c.framesRead
	switch {
	case c.writeStall >= watches: // it would not read GOAWAY either
		c.broken = true
		c.srv.cfg.Count(ConnStall)
		c.stopLocked(&ConnError{h2.ErrCodeNo, "the client does not read"})
		c.nc.Close()
		return true
	case c.readStall >= watches:
		c.srv.cfg.Count(ConnStall)
		c.stopLocked(&ConnError{h2.ErrCodeNo, "the client stopped in the middle of a frame or a field block"})
		return true
	case c.looks > watches:
		c.srv.cfg.Count(ConnStall)
		c.stopLocked(&ConnError{h2.ErrCodeSettingsTimeout, "the client has not acknowledged SETTINGS"})
		return true
	}
	opened := c.lastID != c.lastSeen
	c.lastSeen = c.lastID
	switch {
	case len(c.streams) > 0 || !c.acked:
		c.idleSince = time.Time{}
	case c.idleSince.IsZero() || opened:
		c.idleSince = time.Now()
	case time.Since(c.idleSince) >= c.srv.cfg.Idle:
		c.stopLocked(errDone)
		return true
	}
	return false
}

// count returns how many looks in a row something has been true.
func count(still bool, so int) int {
	if still {
		return so + 1
	}
	return 0
}

// nextLook returns how long until the next look: idle connections are left
// alone.
func (c *conn) nextLook() time.Duration {
	look := c.srv.cfg.Stall / watches
	if c.parked = !c.idleSince.IsZero() && !c.partial && !c.flushing; c.parked {
		return max(c.srv.cfg.Idle-time.Since(c.idleSince), time.Millisecond)
	}
	return look
}

// watchStream ends the body of a request whose client does not go on with it,
// and resets a stream whose client does not take the answer. A body must go on
// only before the answer has begun: from then on the silence may be meant.
func (c *conn) watchStream(s *Stream) {
	body := s.reading && !s.patient && !s.headSent && s.recvRoom > 0 && c.recvRoom > 0
	s.stalls = count((body || s.writing != nothing) && !s.moved, s.stalls)
	s.moved = false
	switch {
	case s.stalls < watches:
	case body && s.writing == nothing:
		s.stalls = 0
		c.srv.cfg.Count(StreamStall)
		s.haltLocked(ErrStalled)
	default:
		c.srv.cfg.Count(StreamStall)
		s.resetLocked(&StreamError{Code: h2.ErrCodeCancel, Reason: "the client makes no progress"})
		c.urgent = true
	}
}
