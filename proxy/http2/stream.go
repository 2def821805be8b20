package http2

import (
	"io"
	"sync"

	h2 "golang.org/x/net/http2"
)

// A Stream is one request and its answer.
//
// The request's side (Read, Trailers) and the answer's side (the others) may be
// used by two goroutines at once, each side by one. Abort and Err may be called by anybody.
type Stream struct {
	Request
	srv  *Server
	c    *conn
	id   uint32
	size int    // of the head, as Config.Memory counts
	run  func() // serve, made once so that starting it allocates nothing

	block []byte // fields of the answer added since the last head, encoded; of the answer's side

	// Guarded by c.mu.
	err       error    // why nothing can be read or written any more
	canceler  Canceler // told of err
	received  body
	unread    error // why the body is not read any more, or nil: ErrHalted or ErrStalled
	expected  int64 // octets of body still to come by content-length, or -1
	recvRoom  int   // octets that the client may still send
	unclaimed int   // octets that were read and whose room was not given back
	sendRoom  int   // octets that the client still takes; below zero after some SETTINGS
	trailers  []Field
	ended     bool // by the client: nothing more comes
	headSent  bool // the final one
	finished  bool // by the handler: nothing more goes
	reset     bool // by us: RST_STREAM has been sent
	cut       bool // by the client: RST_STREAM has been received
	counted   bool // against Config.Streams
	patient   bool // the body may be waited for without end

	readable sync.Cond
	writable sync.Cond
	reading  bool // a reader waits
	writing  wait // what a writer waits for
	granted  bool // a writer that waited in the queue may go on
	moved    bool // one of them made progress since the last watch
	stalls   int  // watches without
}

// wait is what a writer waits for.
type wait uint8

const (
	nothing   wait = iota
	forStream      // its own window
	forTurn        // its turn in the queue for the connection's window and the outbox
)

// A Canceler is told that a stream has no client any more.
type Canceler interface {
	// Cancel is called once, with the stream's error. It must be quick and must
	// not call methods of the stream, whose connection is locked.
	Cancel(err error)
}

func newStream(srv *Server) *Stream {
	s := &Stream{srv: srv}
	s.run = s.serve
	return s
}

// begin makes s the stream id of c, its request being complete. c.mu is held.
func (s *Stream) begin(c *conn, id uint32, end bool) {
	s.c, s.id = c, id
	s.readable.L, s.writable.L = &c.mu, &c.mu
	s.expected = s.ContentLength
	s.recvRoom, s.sendRoom = c.srv.cfg.StreamWindow, c.clientWindow
	s.ended, s.counted = end, true
}

// recycle makes s ready for another request. Nobody else knows it any more.
func (s *Stream) recycle() {
	block := s.block[:0]
	if cap(block) > 8<<10 {
		block = nil
	}
	clear(s.Fields)
	fields := s.Fields[:0]
	*s = Stream{srv: s.srv, run: s.run, block: block}
	s.Fields = fields
	s.srv.streams.Put(s)
}

// serve answers the request.
func (s *Stream) serve() {
	c := s.c
	c.handler.ServeStream(s)
	c.leave(s)
	s.recycle()
}

// ID returns the stream's number, for logs.
func (s *Stream) ID() uint32 { return s.id }

// Read reads the request's body. It waits for at least one octet and returns
// io.EOF after the last. As it is read, the client is given room for more. A
// client that makes it wait for too long ends the body with ErrStalled, and can
// still be answered.
func (s *Stream) Read(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.unread != nil:
			return 0, s.unread
		case s.received.len > 0:
			n := s.received.read(p, &s.srv.chunks)
			c.giveBack(s, n)
			if c.urgent {
				c.urgent = false
				c.flushLocked()
			}
			return n, nil
		case s.ended:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		s.reading, s.moved = true, true
		s.readable.Wait()
		s.reading = false
	}
}

// Arrived returns how many octets of the request's body wait to be read, and
// whether the last one is among them, so that Read will not wait.
func (s *Stream) Arrived() (octets int, whole bool) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.received.len, s.ended
}

// Halt makes Read fail with ErrHalted, at once and from now on: nobody wants the
// rest of the body. It may be called by anybody.
func (s *Stream) Halt() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.haltLocked(ErrHalted)
}

func (s *Stream) haltLocked(why error) {
	if s.unread == nil {
		s.unread = why
		s.c.discard(s.received.clear(&s.srv.chunks))
		s.readable.Signal()
	}
}

// Patient lifts Config.Stall from the request's body, for protocols in which a
// client's silence is meant before the answer has begun.
func (s *Stream) Patient() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.patient = true
}

// Trailers returns the fields that followed the body, once Read has returned
// io.EOF.
func (s *Stream) Trailers() []Field {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailers
}

// Notify has k told when the stream is reset or its client is gone before both
// sides have ended; at once, if that has happened. Nobody but k is told, and with nil nobody; after Notify
// has returned, the one before is not told any more.
func (s *Stream) Notify(k Canceler) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.canceler = k
	if s.err != nil {
		s.cancelLocked()
	}
}

// Err returns why the stream can no longer be used, or nil: a *StreamError
// or ErrGone.
func (s *Stream) Err() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.err
}

// over reports whether both sides of the stream have ended.
func (s *Stream) over() bool { return s.finished && s.ended }

// failLocked ends both sides of the stream.
func (s *Stream) failLocked(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.c.discard(s.received.clear(&s.srv.chunks))
	s.readable.Signal()
	s.wakeLocked()
	s.c.announce()
	s.cancelLocked()
}

func (s *Stream) cancelLocked() {
	if k := s.canceler; k != nil {
		s.canceler = nil
		k.Cancel(s.err)
	}
}

// resetLocked sends RST_STREAM and ends the stream.
func (s *Stream) resetLocked(err *StreamError) {
	if !s.reset && !s.cut {
		s.reset = true
		s.c.out = appendReset(s.c.openOut(), s.id, err.Code)
	}
	s.failLocked(err)
}

// Abort resets the stream with a code, unless it is over.
func (s *Stream) Abort(code h2.ErrCode) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err == nil && !s.over() {
		s.resetLocked(&StreamError{Code: code})
		c.flushLocked()
	}
}
