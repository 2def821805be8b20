package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// An engine moves the octets: it accepts connections, serves HTTP/1.1 itself and
// hands HTTP/2 on. What it decides nothing about is asked of the gateway.
type engine struct {
	g            *Gateway
	upstream     *upstream
	h2c          *h2c
	small, large *buffers
	held         *buffers // what a wire holds: a large buffer in records
	turns        sync.Pool
	dates        dates

	mu       sync.Mutex
	sessions map[*session]struct{} // guarded by mu
	draining bool                  // guarded by mu
	serving  sync.WaitGroup        // of sessions
}

func newEngine(g *Gateway) *engine {
	e := &engine{
		g: g, upstream: newUpstream(g.dialer, &g.cfg.Limits),
		small: newBuffers(smallBuffer), large: newBuffers(largeBuffer), held: newBuffers(largeBuffer + 2*smallBuffer),
		sessions: map[*session]struct{}{},
	}
	e.h2c = newH2C(e, g.dialer)
	e.turns.New = func() any { return newTurn(e) }
	return e
}

// serve accepts connections until ctx ends or a listener fails, and drains.
func (e *engine) serve(ctx context.Context, l Listeners) error {
	sources := newSources(e.g.cfg.Limits.ConnsPerSource, e.g.policy.trusts, e.g.metrics.refused.Inc)
	http2, queue := e.http2Server(), newHandover()
	config := e.tlsConfig()
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	var conns sync.WaitGroup
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { http2.Serve(queue); return nil })
	for _, ln := range l.HTTPS {
		running.Go(func() error {
			return accept(ctx, sources.listener(ln), &conns, func(c net.Conn) { e.welcome(work, c, config, queue) })
		})
	}
	for _, ln := range l.Redirect {
		running.Go(func() error {
			return accept(ctx, sources.listener(ln), &conns, func(c net.Conn) {
				w := &wire{Conn: newSocket(c)}
				e.run(work, newSession(e, w, w, false))
			})
		})
	}
	running.Go(func() error {
		<-ctx.Done()
		for _, ln := range append(l.HTTPS, l.Redirect...) {
			ln.Close()
		}
		e.drain(http2, cut)
		return nil
	})
	err := running.Wait()
	cut()
	conns.Wait()
	return err
}

// accept serves the connections of a listener, each on its own goroutine, until
// the listener is closed. That is an error unless ctx has ended.
func accept(ctx context.Context, ln net.Listener, conns *sync.WaitGroup, serve func(net.Conn)) error {
	for pause := time.Duration(0); ; {
		c, err := ln.Accept()
		if err == nil {
			pause = 0
			conns.Go(func() { serve(c) })
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if passing, ok := err.(interface{ Temporary() bool }); !ok || !passing.Temporary() {
			return err
		}
		// No descriptor is left: some connection will end.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// welcome sets up TLS and serves what the client speaks.
func (e *engine) welcome(ctx context.Context, c net.Conn, config *tls.Config, http2 *handover) {
	w := &wire{Conn: newSocket(c)}
	secure := tls.Server(w, config)
	shaking, stop := context.WithTimeout(ctx, e.g.cfg.Limits.HeadTimeout)
	err := secure.HandshakeContext(shaking)
	stop()
	switch {
	case err != nil:
		e.g.cfg.Log.Debug("handshake failed", "remote", c.RemoteAddr().String(), "err", err)
		c.Close()
	case secure.ConnectionState().NegotiatedProtocol == "h2":
		http2.hand(secure)
	default:
		e.run(ctx, newSession(e, w, secure, true))
	}
}

// run serves a session, unless the gateway has begun to drain.
func (e *engine) run(ctx context.Context, s *session) {
	e.mu.Lock()
	if e.draining {
		e.mu.Unlock()
		s.conn.Close()
		return
	}
	e.sessions[s] = struct{}{}
	e.serving.Add(1)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.sessions, s)
		e.mu.Unlock()
		e.serving.Done()
	}()
	s.serve(ctx)
}

// drain lets the requests at work end and cuts those that take too long.
func (e *engine) drain(http2 *http.Server, cut func()) {
	ctx, cancel := context.WithTimeout(context.Background(), e.g.cfg.Limits.DrainGrace)
	defer cancel()
	e.g.tenants.shutTunnels()
	e.mu.Lock()
	e.draining = true
	for s := range e.sessions {
		s.drain()
	}
	e.mu.Unlock()
	var draining sync.WaitGroup
	draining.Go(func() {
		if http2.Shutdown(ctx) != nil {
			http2.Close()
		}
	})
	draining.Go(func() {
		stop := context.AfterFunc(ctx, func() {
			cut()
			e.mu.Lock()
			defer e.mu.Unlock()
			for s := range e.sessions {
				s.reset()
			}
		})
		defer stop()
		e.serving.Wait()
	})
	draining.Wait()
}

func (e *engine) close() { e.h2c.transport.CloseIdleConnections() }

func (e *engine) http2Server() *http.Server {
	l := e.g.cfg.Limits
	return &http.Server{
		Handler:                      http.HandlerFunc(e.serveHanded),
		TLSConfig:                    e.tlsConfig(),
		ReadHeaderTimeout:            l.HeadTimeout,
		IdleTimeout:                  l.IdleTimeout,
		MaxHeaderBytes:               2 * l.HeadBytes, // the policy answers better, up to here
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(e.g.cfg.Log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: l.StreamsPerConn,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     l.StallTimeout,
		},
	}
}

func (e *engine) tlsConfig() *tls.Config {
	c := e.g.cfg.TLS.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.DynamicRecordSizingDisabled = true // whole records cost less
	return c
}

// A handover is a listener whose connections were accepted elsewhere.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// hand gives a connection to whoever accepts, or closes it.
func (h *handover) hand(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }
