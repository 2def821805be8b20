package http2

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A conn is one connection.
type conn struct {
	srv     *Server
	nc      net.Conn
	handler Handler

	// Of the goroutine that reads.
	in      input
	dec     *hpack.Decoder
	head    head
	cookie  string    // the joined cookie of the request before
	block   []byte    // a field block that goes on in CONTINUATION frames
	opening opening   // the block that is being read
	pinned  bool      // dec refers to the memory of the last block
	ready   []*Stream // to be started when all that was read has been looked at

	mu sync.Mutex
	// Guarded by mu.
	streams map[uint32]*Stream // whose handlers have not returned
	counted int                // of streams, those that count against Config.Streams
	held    int                // octets of the heads of streams
	lastID  uint32             // the highest stream that the client opened
	closed  closedStreams
	frames  budget // idleFrames
	cuts    budget // cutStreams

	recvRoom     int // octets of bodies that the client may still send
	unclaimed    int // octets that were read and whose room was not given back
	sendRoom     int // octets of bodies that the client still takes
	clientWindow int // a new stream's sendRoom

	outbox
	life
}

// life is how far a connection has come. Guarded by conn.mu.
type life struct {
	stop     error     // why the connection ends: errDone, a *ConnError, or what reading or writing met
	goAways  int       // sent while draining
	refuse   uint32    // streams above are not looked at: the client was told by GOAWAY
	draining bool      // ends with the last stream
	acked    bool      // the client has acknowledged our SETTINGS
	partial  bool      // the reader waits in the middle of a frame or a field block
	changed  sync.Cond // a write has ended, or the last stream, for those that wait
	waiting  int       // how many do
	clock
}

// errDone stops a connection in good order.
var errDone = errors.New("done")

// farewell bounds the time that a client is given to read the last frames.
const farewell = time.Second

// drainPing is the payload of the PING that tells how far GOAWAY has come.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

func newConn(srv *Server, nc net.Conn, h Handler) *conn {
	c := &conn{
		srv: srv, nc: nc, handler: h,
		streams:      make(map[uint32]*Stream),
		frames:       newBudget(idleFrames, idleMost, idleRefill),
		cuts:         newBudget(cutStreams, cutStreams, cutRefill),
		recvRoom:     srv.cfg.ConnWindow,
		sendRoom:     firstWindow,
		clientWindow: firstWindow,
	}
	c.refuse = maxStreamID
	c.changed.L = &c.mu
	c.dec = hpack.NewDecoder(4096, c.takeField)
	c.dec.SetMaxStringLength(c.maxBlock())
	c.head.reset(false)
	return c
}

// read takes frames until the connection ends, and returns why.
func (c *conn) read() error {
	defer c.in.release(&c.srv.readers)
	for !c.in.greeted {
		if err := c.fill(); err != nil {
			return err
		}
		if err := c.in.preface(); err != nil {
			return err
		}
	}
	for {
		for {
			f, ok, err := c.in.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := c.take(f); err != nil {
				return err
			}
		}
		c.dispatch()
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// greet puts our first frames into the outbox; they leave with the answer to
// the client's.
func (c *conn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	cfg := &c.srv.cfg
	c.out = appendSettings(c.openOut(),
		h2.Setting{ID: h2.SettingMaxConcurrentStreams, Val: uint32(cfg.Streams)},
		h2.Setting{ID: h2.SettingInitialWindowSize, Val: uint32(cfg.StreamWindow)},
		h2.Setting{ID: h2.SettingMaxHeaderListSize, Val: uint32(2 * cfg.HeaderList)},
		h2.Setting{ID: h2.SettingEnableConnectProtocol, Val: 1},
		h2.Setting{ID: settingNoPriorities, Val: 1},
	)
	if cfg.ConnWindow > firstWindow {
		c.out = appendWindowUpdate(c.out, 0, cfg.ConnWindow-firstWindow)
	}
}

// fill reads more. It holds no memory while it waits between two frames.
func (c *conn) fill() error {
	partial, heading := c.in.len() > 0 || c.opening.open, c.headBegun()
	if partial != c.in.partial || heading != c.in.heading {
		c.in.partial, c.in.heading = partial, heading
		c.mu.Lock()
		c.partial = partial
		c.timeHead(heading)
		c.mu.Unlock()
	}
	if !c.in.partial && c.pinned {
		c.unpin()
	}
	return c.in.fill(c.nc, &c.srv.readers)
}

// dispatch starts the handlers of the requests that were read, and sends what
// the reader has to say.
func (c *conn) dispatch() {
	ready := c.ready[:0]
	c.mu.Lock()
	c.framesRead = c.in.frames
	for _, s := range c.ready {
		if s.err == nil {
			ready = append(ready, s)
		} else { // reset before it began
			c.removeLocked(s)
			s.recycle()
		}
	}
	if c.parked && len(ready) > 0 {
		c.parked = false
		c.timer.Reset(c.srv.cfg.Stall / watches)
	}
	c.flushBeside()
	c.mu.Unlock()
	for _, s := range ready {
		go s.run()
	}
	clear(c.ready)
	c.ready = c.ready[:0]
}

// leave takes out a stream whose handler has returned.
func (c *conn) leave(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.canceler = nil
	if s.err == nil {
		switch {
		case !s.finished:
			s.resetLocked(&StreamError{Code: h2.ErrCodeInternal})
		case !s.ended: // the rest of the request is of no use (RFC 9113 §8.1)
			s.resetLocked(&StreamError{Code: h2.ErrCodeNo})
		}
	}
	c.removeLocked(s)
	c.flushLocked()
}

// removeLocked forgets a stream.
func (c *conn) removeLocked(s *Stream) {
	c.discard(s.received.clear(&c.srv.chunks))
	c.uncount(s)
	delete(c.streams, s.id)
	c.held -= s.size
	if !s.over() {
		c.closed.add(s.id, s.reset && !s.ended && !s.cut)
	}
	if len(c.streams) > 0 {
		return
	}
	c.announce()
	if c.draining {
		c.stopLocked(errDone)
	}
}

// closeLocked notes that a stream is over, though its handler may have
// something left to do.
func (c *conn) closeLocked(s *Stream) {
	c.uncount(s)
	c.closed.add(s.id, false)
}

// open returns a stream that is not over, or nil.
func (c *conn) open(id uint32) *Stream {
	if s := c.streams[id]; s != nil && !s.over() {
		return s
	}
	return nil
}

// uncount ends a stream's counting against the limit.
func (c *conn) uncount(s *Stream) {
	if s.counted {
		s.counted = false
		c.counted--
		if s.err == nil {
			c.cuts.earn(1)
		}
	}
}

// await waits for a change.
func (c *conn) await() {
	c.waiting++
	c.changed.Wait()
	c.waiting--
}

// announce tells those who wait.
func (c *conn) announce() {
	if c.waiting > 0 {
		c.changed.Broadcast()
	}
}

// drain ends the connection once its requests are answered: GOAWAY first
// without a limit, and with one when the client has had time to read it
// (RFC 9113 §6.8).
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil || c.goAways > 0 {
		return
	}
	c.goAways = 1
	c.out = appendGoAway(c.openOut(), maxStreamID, h2.ErrCodeNo, "")
	c.out = appendPing(c.out, 0, drainPing[:])
	time.AfterFunc(farewell, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.drained()
		c.flushLocked()
	})
	c.flushLocked()
}

// drained sends the last GOAWAY.
func (c *conn) drained() {
	if c.stop != nil || c.goAways != 1 {
		return
	}
	c.goAways, c.draining, c.refuse = 2, true, c.lastID
	if len(c.streams) == 0 {
		c.stopLocked(errDone)
		return
	}
	c.out = appendGoAway(c.openOut(), c.lastID, h2.ErrCodeNo, "")
}

// stopLocked makes the reader end the connection, for the first reason given.
func (c *conn) stopLocked(why error) {
	if c.stop == nil {
		c.stop = why
		c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// shutdown ends the connection after its reader has met err, and returns what
// Serve is to return.
func (c *conn) shutdown(err error) error {
	c.mu.Lock()
	if c.stop == nil {
		c.stop = err
	}
	why := c.stop
	fault, told := errors.AsType[*ConnError](why)
	switch {
	case told:
		c.out = appendGoAway(c.openOut(), c.lastID, fault.Code, fault.Reason)
	case why == errDone:
		c.out = appendGoAway(c.openOut(), c.lastID, h2.ErrCodeNo, "")
	default:
		c.broken = true // nobody listens
	}
	for _, s := range c.streams {
		if !s.over() {
			s.failLocked(ErrGone)
		}
	}
	c.announce()
	c.dropReady()
	if !c.broken {
		c.nc.SetDeadline(time.Now().Add(farewell))
		c.flushAll()
	}
	broken := c.broken
	c.mu.Unlock()

	if !broken {
		c.linger()
	}
	c.nc.Close()
	c.mu.Lock()
	for len(c.streams) > 0 || c.flushing {
		c.await()
	}
	c.mu.Unlock()
	if why == errDone || errors.Is(why, io.EOF) {
		return nil
	}
	return why
}

// dropReady takes out the streams that were not started.
func (c *conn) dropReady() {
	for _, s := range c.ready {
		c.removeLocked(s)
		s.recycle()
	}
}

// linger reads on for a moment, because to close a socket that has unread
// octets takes back what was written to it.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	}
	var some [512]byte
	for range 1 << 11 { // ends by the client's leaving, the deadline, or patience
		if _, err := c.nc.Read(some[:]); err != nil {
			return
		}
	}
}
