package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/proxy/http2"
)

// An engine moves the octets: it accepts connections, and gives each a front that
// speaks what its client does. What it decides nothing about is asked of the gateway.
type engine struct {
	g            *Gateway
	upstream     *upstream
	h2c          *h2c
	small, large *buffers
	held         *buffers // what a wire holds: a large buffer in records
	turns, calls sync.Pool
	http2        *http2.Server
	dates        dates

	mu       sync.Mutex
	fronts   map[front]struct{} // guarded by mu
	draining bool               // guarded by mu
	serving  sync.WaitGroup     // of fronts
}

// A front speaks HTTP with the client of one connection.
type front interface {
	// serve carries requests until either side closes the connection.
	serve(context.Context)
	// drain makes serve end when the requests at work have. It does not wait.
	drain()
	// reset makes serve end at once.
	reset()
}

func newEngine(g *Gateway) (*engine, error) {
	e := &engine{
		g: g, upstream: newUpstream(g.dialer, &g.cfg.Limits),
		small: newBuffers(smallBuffer), large: newBuffers(largeBuffer), held: newBuffers(largeBuffer + 2*smallBuffer),
		fronts: map[front]struct{}{},
	}
	e.h2c = newH2C(e, g.dialer)
	e.turns.New = func() any { return newTurn(e) }
	e.calls.New = func() any { return newCall(e) }
	var err error
	e.http2, err = http2.New(http2Config(&g.cfg.Limits, g.metrics))
	return e, err
}

// serve accepts connections until ctx ends or a listener fails, and drains.
func (e *engine) serve(ctx context.Context, l Listeners) error {
	sources := newSources(e.g.cfg.Limits.ConnsPerSource, e.g.policy.trusts, e.g.metrics.refused.Inc)
	in := &porter{peers: e.g.cfg.ProxyPeers, sources: sources, log: e.g.cfg.Log}
	config := e.tlsConfig()
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	var conns sync.WaitGroup
	running, ctx := errgroup.WithContext(ctx)
	for _, ln := range l.HTTPS {
		running.Go(func() error {
			return accept(ctx, in.listener(ln), &conns, func(c net.Conn) {
				if c = in.introduce(c); c != nil {
					e.welcome(work, c, config)
				}
			})
		})
	}
	for _, ln := range l.Redirect {
		running.Go(func() error {
			return accept(ctx, in.listener(ln), &conns, func(c net.Conn) {
				if c = in.introduce(c); c != nil {
					w := &wire{Conn: newSocket(c)}
					e.run(work, newSession(e, w, w, false))
				}
			})
		})
	}
	running.Go(func() error {
		<-ctx.Done()
		for _, ln := range append(l.HTTPS, l.Redirect...) {
			ln.Close()
		}
		e.drain(cut)
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
func (e *engine) welcome(ctx context.Context, c net.Conn, config *tls.Config) {
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
		e.run(ctx, newMux(e, w, secure))
	default:
		e.run(ctx, newSession(e, w, secure, true))
	}
}

// run serves a connection, unless the gateway has begun to drain.
func (e *engine) run(ctx context.Context, f front) {
	e.mu.Lock()
	if e.draining {
		e.mu.Unlock()
		f.reset()
		return
	}
	e.fronts[f] = struct{}{}
	e.serving.Add(1)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.fronts, f)
		e.mu.Unlock()
		e.serving.Done()
	}()
	f.serve(ctx)
}

// drain lets the requests at work end and cuts those that take too long.
func (e *engine) drain(cut func()) {
	ctx, cancel := context.WithTimeout(context.Background(), e.g.cfg.Limits.DrainGrace)
	defer cancel()
	e.g.tenants.shutTunnels()
	e.mu.Lock()
	e.draining = true
	for f := range e.fronts {
		f.drain()
	}
	e.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		cut()
		e.mu.Lock()
		defer e.mu.Unlock()
		for f := range e.fronts {
			f.reset()
		}
	})
	defer stop()
	e.serving.Wait()
}

func (e *engine) close() { e.h2c.transport.CloseIdleConnections() }

func (e *engine) tlsConfig() *tls.Config {
	c := e.g.cfg.TLS.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.DynamicRecordSizingDisabled = true // whole records cost less
	return c
}
