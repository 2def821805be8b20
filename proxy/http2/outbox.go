package http2

import (
	"runtime"
	"slices"

	h2 "golang.org/x/net/http2"
)

const (
	// outboxSize is how full the outbox may be for a frame of an answer to be
	// appended: four TLS records. The last frame or head may go over.
	outboxSize = 64 << 10

	// dataFrame is the payload of the longest DATA frame sent: with its head it
	// fills one TLS record.
	dataFrame = maxFrame - frameHead

	// keptOut is the longest buffer that is kept for another outbox.
	keptOut = 128 << 10

	// flushRounds is how often a handler writes what others appended before it
	// leaves the rest to a goroutine.
	flushRounds = 4
)

// An outBuffer is the memory of an outbox.
type outBuffer struct{ b []byte }

// An outbox is what a connection is about to write, and who waits for room in
// it. Guarded by conn.mu.
type outbox struct {
	out      []byte // nil while there is nothing; appended to by way of openOut
	outOf    *outBuffer
	flushing bool      // somebody writes
	flushes  int       // how often
	broken   bool      // nothing can be written any more
	urgent   bool      // something was appended that must not wait, by one who may not write
	begun    bool      // a field block has been sent
	queue    []*Stream // writers that wait for their turn, first come first served
	granted  int       // writers that were given their turn and have not run since
}

// openOut returns what is to be appended to.
func (c *conn) openOut() []byte {
	if c.out == nil {
		c.outOf = c.srv.outs.Get().(*outBuffer)
		c.out = c.outOf.b
	}
	return c.out
}

// blockLead begins a field block: the first of a connection gives up the
// dynamic table.
func (c *conn) blockLead(b []byte) []byte {
	if !c.begun {
		c.begun = true
		b = append(b, tableSizeZero)
	}
	return b
}

// appendData appends a DATA frame of s, whose room has been seen to.
func (c *conn) appendData(s *Stream, p []byte, end bool) {
	flags := h2.Flags(0)
	if end {
		flags = h2.FlagDataEndStream
	}
	c.out = append(appendHead(c.openOut(), len(p), h2.FrameData, flags, s.id), p...)
	c.sendRoom -= len(p)
	s.sendRoom -= len(p)
	s.moved = true
	c.frames.earn(dataEarns + len(p)/octetsEarn)
	if end {
		s.finishLocked()
	}
}

// flushLocked writes the outbox, unless it is empty or somebody writes
// already, who will write it then. It unlocks c.mu meanwhile, and reports
// whether it did so.
func (c *conn) flushLocked() bool {
	if c.flushing || len(c.out) == 0 || c.broken {
		return false
	}
	c.flushing = true
	if len(c.streams) > 1 { // let the others append first
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	c.writeLocked()
	return true
}

// flushBeside has the outbox written by another goroutine, if there is
// something urgent: the reader must not wait for the client to read.
func (c *conn) flushBeside() {
	if c.urgent && !c.flushing && !c.broken && len(c.out) > 0 {
		c.flushing = true
		go c.flushRest()
	}
	c.urgent = false
}

// flushRest goes on with a flush that is under way.
func (c *conn) flushRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLocked()
}

// flushAll returns when the outbox is empty or broken.
func (c *conn) flushAll() {
	for c.flushing {
		c.await()
	}
	for len(c.out) > 0 && !c.broken {
		if !c.flushLocked() {
			c.await()
		}
	}
}

// writeLocked writes the outbox until it is empty. c.flushing has been set.
func (c *conn) writeLocked() {
	for range flushRounds {
		if len(c.out) == 0 || c.broken {
			c.flushing = false
			c.announce()
			return
		}
		out, of := c.out, c.outOf
		c.out, c.outOf = nil, nil
		c.flushes++
		c.grantLocked()
		c.announce()
		c.mu.Unlock()
		_, err := c.nc.Write(out)
		if cap(out) <= keptOut {
			of.b = out[:0]
			c.srv.outs.Put(of)
		}
		c.mu.Lock()
		c.flushes++
		if err != nil {
			c.broken = true
			c.stopLocked(err)
		}
	}
	go c.flushRest()
}

// room returns how long a DATA frame may be appended, as far as the connection goes.
func (c *conn) room() int {
	if len(c.out) >= outboxSize || c.broken {
		return 0
	}
	return max(0, min(c.sendRoom, dataFrame))
}

// grantLocked gives as many writers their turn as there is room for.
func (c *conn) grantLocked() {
	for len(c.queue) > 0 {
		frames := (min(outboxSize-len(c.out), c.sendRoom) + dataFrame - 1) / dataFrame
		if c.granted >= frames {
			return
		}
		s := c.queue[0]
		c.queue = slices.Delete(c.queue, 0, 1)
		s.granted = true
		c.granted++
		s.wakeLocked()
	}
}

// enqueue puts s into the queue, first if it has had its turn for nothing.
func (c *conn) enqueue(s *Stream, first bool) {
	if first {
		c.queue = slices.Insert(c.queue, 0, s)
	} else {
		c.queue = append(c.queue, s)
	}
}

// takeTurn takes s, which has waited in the queue, out of it.
func (c *conn) takeTurn(s *Stream) {
	if s.granted {
		s.granted = false
		c.granted--
	} else if i := slices.Index(c.queue, s); i >= 0 {
		c.queue = slices.Delete(c.queue, i, i+1)
	}
}
