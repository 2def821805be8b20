package proxy

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync"

	"github.com/clonegate/clonegate/proxy/http2"
)

// A mux is a client's connection that speaks HTTP/2: many requests at once, each
// a call on a goroutine of its own. It implements front, and http2.Handler.
type mux struct {
	e       *engine
	wire    *wire
	conn    *recordWriter
	peer    netip.Addr
	trusted bool

	work   context.Context // of the requests, from serve on
	ending context.Context // ends when no more requests are wanted
	cancel context.CancelFunc

	// The last authority that a request named, and where it led.
	mu        sync.Mutex
	authority string // guarded by mu
	host      string // guarded by mu
	way       way    // guarded by mu
}

func newMux(e *engine, w *wire, secure *tls.Conn) *mux {
	m := &mux{e: e, wire: w, conn: &recordWriter{secure, w, e.held}, peer: peerAddr(w.RemoteAddr().String())}
	m.trusted = e.g.policy.trusts(m.peer)
	m.ending, m.cancel = context.WithCancel(context.Background())
	return m
}

// serve carries requests until either side closes the connection.
func (m *mux) serve(ctx context.Context) {
	defer m.cancel()
	m.work = ctx
	if err := m.e.http2.Serve(m.ending, m.conn, m); err != nil {
		m.e.g.cfg.Log.Debug("HTTP/2 connection ended", "remote", m.peer.String(), "err", err)
	}
}

// drain tells the client to begin no more requests, and ends the connection after
// those that are at work.
func (m *mux) drain() { m.cancel() }

// reset ends the connection at once.
func (m *mux) reset() { m.wire.reset() }

// ServeStream implements http2.Handler.
func (m *mux) ServeStream(s *http2.Stream) {
	c := m.e.calls.Get().(*call)
	defer func() {
		if fault := recover(); fault != nil {
			m.e.tell(&c.x, fault)
			return // without giving the call to anybody else
		}
		c.release()
		m.e.calls.Put(c)
	}()
	c.begin(m, s)
	c.carry(m.work)
}

// recall makes a call's way that of the last request, and returns its host if
// the authority is the same.
func (m *mux) recall(c *call, authority string) (host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.way = m.way
	if authority == m.authority {
		return m.host
	}
	return ""
}

// note keeps where a call has led for those that follow.
func (m *mux) note(c *call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rq := &c.x.request; m.authority != rq.authority || m.way.revision != c.way.revision {
		m.authority, m.host, m.way = rq.authority, rq.host, c.way
	}
}

// A recordWriter is a TLS connection whose long writes leave in one system call.
type recordWriter struct {
	*tls.Conn
	wire *wire
	held *buffers
}

// Write implements net.Conn.
func (r *recordWriter) Write(p []byte) (int, error) {
	if len(p) <= smallBuffer {
		return r.Conn.Write(p)
	}
	held := r.held.get()
	defer r.held.put(held)
	r.wire.hold(held)
	n, err := r.Conn.Write(p)
	if werr := r.wire.release(); err == nil {
		err = werr
	}
	return n, err
}

// CloseWrite ends the sending half of TLS and of the connection under it.
func (r *recordWriter) CloseWrite() error {
	if err := r.Conn.CloseWrite(); err != nil {
		return err
	}
	return r.wire.CloseWrite()
}

// http2Config is what the limits are to HTTP/2.
func http2Config(l *Limits, m *metrics) http2.Config {
	return http2.Config{
		Streams: l.StreamsPerConn, HeaderList: l.HeadBytes, Idle: l.IdleTimeout, Head: l.HeadTimeout, Stall: l.StallTimeout, Count: m.count,
	}
}
