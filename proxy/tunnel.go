package proxy

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// farewell is how long both ends of a tunnel have to answer a close frame.
const farewell = 2 * time.Second

// messageBuffer is the size of the buffers of a tunnel that carries messages.
// One that carries more has a larger one while it does.
const messageBuffer = 4 << 10

// A side is what a tunnel ends in: a connection, or a stream that acts as one. It
// ends one direction with CloseWrite, if it can.
type side interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// A tunnel carries a WebSocket between a client and an endpoint. Octets go
// through unchanged and unbuffered; an end that stops sending may still
// receive. The tunnel ends when both have stopped, when one breaks, when
// nothing has moved for the idle time, or when it is shut.
type tunnel struct {
	client, backend side
	up, down        stream // from the client, from the backend
	buffers         *buffers
	idle            time.Duration

	shutOnce sync.Once
	shutting chan struct{}
}

// looks is how often in its idle time a tunnel is looked at. No message pays for
// a clock; the end comes late by up to a quarter instead.
const looks = 4

// newTunnel returns a tunnel for run. It may be shut before.
func newTunnel(idle time.Duration, b *buffers) *tunnel {
	return &tunnel{idle: idle, buffers: b, shutting: make(chan struct{})}
}

// run carries octets between two sides until the tunnel ends, and closes
// them. The early octets were read from an end already and are delivered first.
func (t *tunnel) run(client, backend side, clientEarly, backendEarly []byte) {
	t.client, t.backend = client, backend
	t.up.src, t.up.dst, t.up.early, t.up.masked = client, backend, clientEarly, true
	t.down.src, t.down.dst, t.down.early = backend, client, backendEarly
	defer t.cut()
	ended := make(chan struct{}, 2)
	go t.carry(&t.up, ended)
	go t.carry(&t.down, ended)
	look := time.NewTicker(max(time.Millisecond, t.idle/looks))
	defer look.Stop()
	shutting, quiet, moved := t.shutting, 0, uint64(0)
	for open := 2; open > 0; {
		select {
		case <-ended:
			open--
		case <-look.C:
			if quiet++; t.moved() != moved {
				quiet, moved = 0, t.moved()
			}
			if quiet == looks {
				t.cut()
			}
		case <-shutting:
			t.sayGoodbye()
			shutting = nil
		}
	}
}

// shut makes run end soon, with close frames to both ends. It does not wait.
func (t *tunnel) shut() { t.shutOnce.Do(func() { close(t.shutting) }) }

// sayGoodbye sends close frames and gives both ends time to answer.
func (t *tunnel) sayGoodbye() {
	end := time.Now().Add(farewell)
	t.client.SetDeadline(end)
	t.backend.SetDeadline(end)
	t.down.finish()
	t.up.finish()
}

// moved counts what both directions have carried.
func (t *tunnel) moved() uint64 { return t.up.moved.Load() + t.down.moved.Load() }

// cut closes both connections.
func (t *tunnel) cut() {
	t.client.Close()
	t.backend.Close()
}

// carry moves one stream to its end. A stream that breaks takes the other with
// it; one that ends leaves the other open.
func (t *tunnel) carry(s *stream, ended chan<- struct{}) {
	defer func() { ended <- struct{}{} }()
	var large *[]byte
	small := make([]byte, messageBuffer)
	buf := small
	err := s.forward(s.early)
	s.early = nil
	for err == nil {
		var n int
		n, err = s.src.Read(buf)
		if n > 0 {
			if werr := s.forward(buf[:n]); werr != nil {
				err = werr
			}
		}
		switch {
		case n == len(buf) && large == nil:
			large = t.buffers.get()
			buf = *large
		case n < len(small) && large != nil:
			t.buffers.put(large)
			large, buf = nil, small
		}
	}
	if large != nil {
		t.buffers.put(large)
	}
	if err != io.EOF || closeWrite(s.dst) != nil {
		t.cut()
	}
}

// A stream is one direction of a tunnel.
type stream struct {
	src, dst side
	early    []byte
	masked   bool // frames in this direction are
	moved    atomic.Uint64
	last     atomic.Bool // the frame that is passing is the last

	mu     sync.Mutex
	frames frameScanner // guarded by mu
	over   bool         // guarded by mu; what still comes is dropped
}

// forward writes p to the other end. Once the stream is to finish, it writes no
// more than the rest of the present frame, and a close frame.
func (s *stream) forward(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || len(p) == 0 {
		return nil
	}
	n := 0
	for n < len(p) && !(s.last.Load() && s.frames.atBoundary()) {
		n += s.frames.skip(p[n:])
	}
	s.moved.Add(uint64(n))
	if _, err := s.dst.Write(p[:n]); err != nil {
		return err
	}
	return s.sayGoodbyeLocked()
}

// finish ends the stream with a close frame, at once or when the frame that is
// passing is complete.
func (s *stream) finish() {
	s.last.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayGoodbyeLocked() // an error shows in the next write
}

func (s *stream) sayGoodbyeLocked() error {
	if !s.last.Load() || s.over || !s.frames.atBoundary() {
		return nil
	}
	s.over = true
	if s.frames.closed {
		return nil
	}
	_, err := s.dst.Write(closeFrame(goingAway, s.masked))
	return err
}
