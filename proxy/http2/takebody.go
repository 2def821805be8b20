package http2

import h2 "golang.org/x/net/http2"

// takeData acts on a DATA frame. Padding counts against the windows
// (RFC 9113 §6.1, §6.9.1).
func (c *conn) takeData(f frame) *ConnError {
	size := len(f.payload)
	if err := f.unpad(); err != nil {
		return err
	}
	s, err := c.known(f)
	if err != nil {
		return err
	}
	if size > c.recvRoom {
		return violation(h2.ErrCodeFlowControl, "more than the connection's window")
	}
	c.recvRoom -= size
	end := f.flags.Has(h2.FlagDataEndStream)
	if len(f.payload) == 0 && !end {
		if err := c.idleFrame(1); err != nil {
			return err
		}
	}
	if s == nil || s.err != nil {
		c.discard(size)
		return c.takeLateData(f.id, s)
	}
	if err := c.addBody(s, f.payload, size); err != nil {
		return err
	}
	if end && s.err == nil {
		return c.endBody(s)
	}
	return nil
}

// takeLateData judges DATA of a stream that is over: what we have reset may
// still be on its way, what the client has ended may not (RFC 9113 §5.1).
func (c *conn) takeLateData(id uint32, s *Stream) *ConnError {
	if s == nil && c.closed.hasEnded(id) || s != nil && (s.cut || s.ended) {
		return violation(h2.ErrCodeStreamClosed, "DATA on a stream that the client has closed")
	}
	return nil
}

// addBody adds octets to the body of s; size is the frame's with its padding.
func (c *conn) addBody(s *Stream, p []byte, size int) *ConnError {
	switch {
	case s.ended:
		c.discard(size)
		return c.misuse(s.id, h2.ErrCodeStreamClosed, "DATA after the end of the request")
	case size > s.recvRoom:
		c.discard(size)
		return c.misuse(s.id, h2.ErrCodeFlowControl, "more than the stream's window")
	case s.expected >= 0 && int64(len(p)) > s.expected:
		c.discard(size)
		return c.misuse(s.id, h2.ErrCodeProtocol, "more octets than content-length says")
	}
	s.recvRoom -= size
	if s.expected >= 0 {
		s.expected -= int64(len(p))
	}
	if s.unread != nil {
		c.discard(size)
		return nil
	}
	s.received.write(p, &c.srv.chunks)
	if pad := size - len(p); pad > 0 {
		c.giveBack(s, pad)
	}
	s.moved = true
	if s.reading {
		s.readable.Signal()
	}
	return nil
}

// endBody ends the request of s.
func (c *conn) endBody(s *Stream) *ConnError {
	if s.expected > 0 {
		return c.misuse(s.id, h2.ErrCodeProtocol, "fewer octets than content-length says")
	}
	s.ended = true
	if s.finished {
		c.closeLocked(s)
	}
	if s.reading {
		s.readable.Signal()
	}
	return nil
}

// giveBack lets the client send n octets more on s, and on the connection.
func (c *conn) giveBack(s *Stream, n int) {
	if s.unclaimed += n; s.unclaimed >= c.srv.cfg.StreamWindow/2 && !s.ended {
		c.out = appendWindowUpdate(c.openOut(), s.id, s.unclaimed)
		s.recvRoom += s.unclaimed
		s.unclaimed = 0
		c.urgent = true
	}
	c.discard(n)
}

// discard lets the client send n octets more on the connection.
func (c *conn) discard(n int) {
	if c.unclaimed += n; c.unclaimed >= c.srv.cfg.ConnWindow/2 {
		c.out = appendWindowUpdate(c.openOut(), 0, c.unclaimed)
		c.recvRoom += c.unclaimed
		c.unclaimed = 0
		c.urgent = true
	}
}
