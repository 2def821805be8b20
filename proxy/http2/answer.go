package http2

// AddField adds a field to the head or the trailers to be written next. The
// name may be in any case; the octets are those of a valid field, which the
// caller has seen to, and may be used again at once. Fields that belong to an
// HTTP/1 connection are left out.
func (s *Stream) AddField(name, value []byte) {
	if !perConnection(name) {
		s.block = appendField(s.block, name, value)
	}
}

// WriteHead writes the head of the answer with the fields added before. Any
// number of heads with a status from 100 to 199 (never 101, which HTTP/2 does
// not have) may stand before the final one. end tells that there is neither
// body nor trailers.
//
// A final head leaves with what follows it: with the first WriteData, the
// trailers, Flush, or at the handler's end.
func (s *Stream) WriteHead(status int, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer s.emptyBlock()
	interim := status < 200
	if s.headSent || interim && end {
		return ErrOrder
	}
	if err := s.waitOutbox(); err != nil {
		return err
	}
	s.headSent = !interim
	var lead [8]byte
	s.appendBlockLocked(appendStatus(c.blockLead(lead[:0]), status), end)
	if end || interim {
		c.flushLocked()
	}
	return nil
}

// WriteTrailers ends the answer with the fields added since the head.
func (s *Stream) WriteTrailers() error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	defer s.emptyBlock()
	if !s.headSent {
		return ErrOrder
	}
	if err := s.waitOutbox(); err != nil {
		return err
	}
	var lead [8]byte
	s.appendBlockLocked(c.blockLead(lead[:0]), true)
	c.flushLocked()
	return nil
}

// WriteData writes octets of the answer's body, and ends the answer if end is
// true; p may be empty then. It returns when the last octet is in the
// connection's outbox, and waits for the client's flow control and for other
// streams' turns meanwhile; it may also write to the connection, for all its
// streams, and so be held up by a client that reads slowly. p may be used again at once.
func (s *Stream) WriteData(p []byte, end bool) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.appendLocked(p, end); err != nil {
		return err
	}
	s.c.flushLocked()
	return nil
}

// QueueData does what WriteData does, but leaves what it can in the outbox, for
// Flush or for what follows.
func (s *Stream) QueueData(p []byte) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.appendLocked(p, false)
}

func (s *Stream) appendLocked(p []byte, end bool) error {
	c := s.c
	if !s.headSent {
		return ErrOrder
	}
	for len(p) > 0 {
		n, err := s.waitRoom(len(p))
		if err != nil {
			return err
		}
		c.appendData(s, p[:n], end && n == len(p))
		p = p[n:]
		c.grantLocked()
	}
	if end && !s.finished {
		if err := s.usable(); err != nil {
			return err
		}
		c.appendData(s, nil, true)
	}
	return nil
}

// Flush sends what was written so far.
func (s *Stream) Flush() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.flushLocked()
	return s.err
}

func (s *Stream) emptyBlock() { s.block = s.block[:0] }

// usable returns why the answer cannot be written to, or nil.
func (s *Stream) usable() error {
	if s.err == nil && s.finished {
		return ErrOrder
	}
	return s.err
}

func (s *Stream) appendBlockLocked(lead []byte, end bool) {
	s.c.out = appendBlock(s.c.openOut(), s.id, end, lead, s.block)
	if end {
		s.finishLocked()
	}
}

// finishLocked notes that the answer is complete.
func (s *Stream) finishLocked() {
	s.finished = true
	if s.ended {
		s.c.closeLocked(s)
	}
}

// moreRoom lets a writer go on that waits for the stream's window.
func (s *Stream) moreRoom() {
	if s.writing == forStream && s.sendRoom > 0 {
		s.writable.Signal()
	}
}

// wakeLocked lets a waiting writer look again.
func (s *Stream) wakeLocked() {
	if s.writing != nothing {
		s.writable.Signal()
	}
}

// waitOutbox waits until the outbox has room for a head.
func (s *Stream) waitOutbox() error {
	c := s.c
	for {
		if err := s.usable(); err != nil {
			return err
		}
		if len(c.out) < outboxSize {
			return nil
		}
		if !c.flushLocked() {
			c.await()
		}
	}
}

// waitRoom waits until a frame of s may be appended to the outbox, and returns
// how many of n octets it may have.
func (s *Stream) waitRoom(n int) (int, error) {
	c := s.c
	turn := false // the stream was at the head of the queue
	for {
		if err := s.usable(); err != nil {
			if turn {
				c.grantLocked()
			}
			return 0, err
		}
		if s.sendRoom <= 0 {
			if turn {
				c.grantLocked() // to another
				turn = false
			}
			c.flushLocked() // the client gives room for what it has
			if s.sendRoom <= 0 && s.err == nil {
				s.waitLocked(forStream)
			}
			continue
		}
		if turn || len(c.queue) == 0 {
			if room := c.room(); room > 0 {
				return min(n, room, s.sendRoom), nil
			}
		}
		if c.flushLocked() {
			continue
		}
		c.enqueue(s, turn)
		s.waitLocked(forTurn)
		turn = s.granted
		c.takeTurn(s)
	}
}

func (s *Stream) waitLocked(what wait) {
	s.writing, s.moved = what, true
	s.writable.Wait()
	s.writing = nothing
}
