// Package http2 is the server's end of HTTP/2 (RFC 9113, and RFC 8441 for
// WebSocket) for a gateway: it turns the frames of one connection into streams
// and back, and defends itself against connections that cost more than they
// carry. It knows neither clones nor policy.
//
// One goroutine reads a connection, and each request's handler has a goroutine
// of its own. Nobody is only a writer: what is to be sent is appended to the
// connection's outbox, and whoever finds no flush under way lets the other
// handlers append first and then writes for all. Octets are parsed where they
// were read. HPACK and the words of the protocol are those of
// golang.org/x/net/http2; its Framer allocates for each HEADERS frame and its
// Server has three goroutines a request, so neither is here.
//
// Stream errors are those of a client that broke a rule on one stream, and
// connection errors those that end the connection; both are numbered as in
// RFC 9113 §7.
package http2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Config bounds what one connection may take. The zero value is a good one.
type Config struct {
	// Streams bounds requests at work at once on one connection. Zero means 100.
	// A stream that was reset counts until its handler has returned.
	Streams int

	// HeaderList bounds the fields of one request, in octets as RFC 9113
	// §10.5.1 counts them: names, values and 32 for each. Zero means 64 KiB.
	// What is longer reaches the handler as Oversized; beyond twice as much
	// on the wire the connection ends. Clients are told of the double, so that
	// they send what is too long and are answered, and do not give up by themselves.
	HeaderList int

	// StreamWindow and ConnWindow bound the octets of bodies that were received
	// and that no handler has read, of one stream and of all. Zero means
	// 256 KiB and 1 MiB. They are at least 65,535, with which RFC 9113 begins.
	StreamWindow int
	ConnWindow   int

	// Memory bounds what a connection holds of its client's octets: fields of
	// open requests, and ConnWindow. A request beyond it is refused, and its
	// client may send it again. Zero means 4 MiB; at least HeaderList + ConnWindow.
	Memory int

	// Idle is how long a connection without a request stays. Zero means 180 seconds.
	Idle time.Duration

	// Head is how long the head of a request may take from its first frame to
	// its last. Zero means 15 seconds.
	Head time.Duration

	// Stall is how long a client may make no progress with what it has begun:
	// its first frames, the rest of a frame, a request's body before the
	// answer has begun, the room for an answer. Zero means 60 seconds.
	// The clock is coarse: it is late by up to a quarter.
	Stall time.Duration

	// Count, if not nil, is told of what is worth counting. It must not block.
	Count func(Event)
}

// An Event is something that happens to connections and is worth counting.
type Event int

// The events.
const (
	ClientReset Event = iota // a client gave up a request
	Misuse                   // a client broke a rule on one stream
	Refused                  // a request was refused, being over a limit
	Flood                    // a connection was ended because it cost more than it carried
	Violation                // a connection was ended because its client broke another rule
	StreamStall              // a client stopped taking an answer, or sending a body
	ConnStall                // a client stopped in the middle of a head or a frame, or reading at all
	NumEvents   = iota
)

var eventNames = [NumEvents]string{"client-reset", "misuse", "refused", "flood", "violation", "stream-stall", "conn-stall"}

// String returns the event as a metric's label.
func (e Event) String() string { return eventNames[e] }

// A Handler answers the requests of one connection.
type Handler interface {
	// ServeStream answers the request s. It runs on a goroutine of its own and
	// ends the answer before it returns; what is open then is reset. Neither s
	// nor what its methods returned may be used after.
	ServeStream(s *Stream)
}

// A HandlerFunc is a Handler without state.
type HandlerFunc func(s *Stream)

// ServeStream calls f.
func (f HandlerFunc) ServeStream(s *Stream) { f(s) }

// A Server serves connections that share limits and spare memory.
type Server struct {
	cfg     Config
	readers sync.Pool // of *[readSize]byte
	chunks  sync.Pool // of *chunk
	streams sync.Pool // of *Stream
	outs    sync.Pool // of *outBuffer, empty
}

const (
	defaultStreams      = 100
	defaultHeaderList   = 64 << 10
	defaultStreamWindow = 256 << 10
	defaultConnWindow   = 1 << 20
	defaultMemory       = 4 << 20
	defaultIdle         = 180 * time.Second
	defaultHead         = 15 * time.Second
	defaultStall        = 60 * time.Second
)

// New returns a Server, or an error that names the setting out of bounds.
func New(cfg Config) (*Server, error) {
	cfg.Streams = cmp.Or(cfg.Streams, defaultStreams)
	cfg.HeaderList = cmp.Or(cfg.HeaderList, defaultHeaderList)
	cfg.StreamWindow = cmp.Or(cfg.StreamWindow, defaultStreamWindow)
	cfg.ConnWindow = cmp.Or(cfg.ConnWindow, defaultConnWindow)
	cfg.Memory = cmp.Or(cfg.Memory, max(defaultMemory, cfg.HeaderList+cfg.ConnWindow))
	cfg.Idle = cmp.Or(cfg.Idle, defaultIdle)
	cfg.Head = cmp.Or(cfg.Head, defaultHead)
	cfg.Stall = cmp.Or(cfg.Stall, defaultStall)
	if cfg.Count == nil {
		cfg.Count = func(Event) {}
	}
	switch {
	case cfg.Streams < 1:
		return nil, fmt.Errorf("http2: %d streams a connection; need at least 1", cfg.Streams)
	case cfg.HeaderList < 1:
		return nil, fmt.Errorf("http2: header list of %d octets; need at least 1", cfg.HeaderList)
	case cfg.StreamWindow < firstWindow || cfg.StreamWindow > maxWindow:
		return nil, fmt.Errorf("http2: stream window of %d octets; need %d to %d", cfg.StreamWindow, firstWindow, maxWindow)
	case cfg.ConnWindow < firstWindow || cfg.ConnWindow > maxWindow:
		return nil, fmt.Errorf("http2: connection window of %d octets; need %d to %d", cfg.ConnWindow, firstWindow, maxWindow)
	case cfg.Memory < cfg.HeaderList+cfg.ConnWindow:
		return nil, fmt.Errorf("http2: memory of %d octets a connection; need at least a header list and the connection window, %d", cfg.Memory, cfg.HeaderList+cfg.ConnWindow)
	case cfg.Idle < 0 || cfg.Head < 0 || cfg.Stall < 0:
		return nil, errors.New("http2: idle, head and stall times must not be negative")
	}
	srv := &Server{cfg: cfg}
	srv.readers.New = func() any { return new([readSize]byte) }
	srv.chunks.New = func() any { return new(chunk) }
	srv.streams.New = func() any { return newStream(srv) }
	srv.outs.New = func() any { return &outBuffer{make([]byte, 0, 4<<10)} }
	return srv, nil
}

// Serve speaks HTTP/2 over nc, on which TLS is set up and h2 agreed, until the
// connection ends, and closes it. It returns after the last handler has.
//
// When ctx is cancelled the connection drains: the client is told to open no
// more streams, those that are open finish, then the connection ends. Close nc
// to end it at once.
//
// The error is nil if the connection ended in good order, a *ConnError if it
// was ended because of what the client did, and otherwise what reading or
// writing met.
func (srv *Server) Serve(ctx context.Context, nc net.Conn, h Handler) error {
	c := newConn(srv, nc, h)
	c.greet()
	c.watchOver()
	defer c.endWatch()
	stop := context.AfterFunc(ctx, c.drain)
	defer stop()
	return c.shutdown(c.read())
}
