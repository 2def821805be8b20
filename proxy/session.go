package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// A session is a client's connection that speaks HTTP/1.1, or waits to. One
// goroutine serves it: it reads a request, carries it, writes the answer. While
// no request has begun the session holds no buffer. It implements front.
type session struct {
	e       *engine
	wire    *wire
	conn    net.Conn // TLS over wire, or wire itself
	peer    netip.Addr
	trusted bool
	secure  bool // else it is led to https
	reads   limit
	writes  limit

	state atomic.Int32
	octet [1]byte
	free  time.Time // about when the last request ended

	// The last authority that a request named, and where it led: most name the
	// same.
	authority, host string
	way             way
}

// The states of a session.
const (
	sessionIdle int32 = iota // no request has begun
	sessionBusy
	sessionOver // it ends as soon as no request is at work
)

func newSession(e *engine, w *wire, conn net.Conn, secure bool) *session {
	s := &session{e: e, wire: w, conn: conn, secure: secure, peer: peerAddr(w.RemoteAddr().String())}
	s.trusted = e.g.policy.trusts(s.peer)
	s.reads.set, s.writes.set = conn.SetReadDeadline, conn.SetWriteDeadline
	return s
}

// serve carries requests until either side closes the connection.
func (s *session) serve(ctx context.Context) {
	defer s.conn.Close()
	for s.free = time.Now(); s.await(s.free); {
		if !s.turn(ctx) {
			return
		}
	}
}

// await waits for the first octet of a request. It looks up as often as a head
// may take to come, so that no limit need be set when one begins.
func (s *session) await(now time.Time) bool {
	limits := &s.e.g.cfg.Limits
	for since := now; ; now = time.Now() {
		left := limits.IdleTimeout - now.Sub(since)
		if left <= 0 {
			return false
		}
		s.reads.extend(now, min(left, limits.HeadTimeout))
		if s.isOver() {
			return false // that may have undone what drain did
		}
		n, err := s.conn.Read(s.octet[:])
		if n == 1 {
			return s.state.CompareAndSwap(sessionIdle, sessionBusy)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
}

// turn carries requests until none has begun. It returns whether more may come.
func (s *session) turn(ctx context.Context) (keep bool) {
	t := s.e.turns.Get().(*turn)
	t.begin(s)
	defer func() {
		if fault := recover(); fault != nil {
			s.e.tell(&t.x, fault)
			t.abort()
			return // without giving the turn to anybody else
		}
		s.free = t.trip.now
		t.release()
		s.e.turns.Put(t)
	}()
	for {
		if !t.carry(ctx) {
			return false
		}
		if t.r == t.w {
			return s.state.CompareAndSwap(sessionBusy, sessionIdle)
		}
		if s.isOver() {
			return false
		}
	}
}

// drain ends the session when no request is at work.
func (s *session) drain() {
	if s.state.Swap(sessionOver) == sessionIdle {
		s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// isOver reports whether the session is to end after the present request.
func (s *session) isOver() bool { return s.state.Load() == sessionOver }

// leftover is how long a client may take to send the rest of what was answered
// before its end, and leftoverBytes how much it may be.
const (
	leftover      = 2 * time.Second
	leftoverBytes = 256 << 10
)

// linger closes the session's sending half and reads what the client still
// sends for a while: a reset could destroy the answer on its way.
func (s *session) linger(buf []byte) {
	if closeWrite(s.conn) != nil {
		return
	}
	s.wire.CloseWrite()
	s.reads.until(time.Now().Add(leftover))
	for n := 0; n < leftoverBytes; {
		k, err := s.wire.Read(buf)
		if n += k; err != nil {
			return
		}
	}
}

// reset ends the connection in a way that cannot be taken for the end of an
// answer.
func (s *session) reset() { s.wire.reset() }
