package proxy

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// An endpoint is one address of a service, and what traffic and probes have
// taught about it. It lives as long as the service keeps the address.
type endpoint struct {
	addr     netip.AddrPort
	clone    registry.ID
	known    *atomic.Pointer[string] // the name of production that its service has; nil: none
	protocol registry.Protocol
	asked    registry.TLS // what its service says about its certificate
	trust    *tls.Config  // nil unless it speaks https
	key      string       // keeps its h2c connections apart from those of any other endpoint

	open    atomic.Int64 // requests and tunnels at work
	misses  atomic.Int32 // failures in a row
	benched atomic.Int64 // Unix nanoseconds until which others are preferred
	health  atomic.Int32 // a health value
	fault   atomic.Pointer[string]

	mu      sync.Mutex
	conns   map[*conn]struct{} // guarded by mu; all that are open
	dialing int                // guarded by mu; connections that may soon be open
	idle    []*backend         // guarded by mu; the one used last is at the end
	most    int                // guarded by mu; connections that may be open, once somebody asked
	queue   []chan *backend    // guarded by mu; those who wait for a connection, the first first
	swept   bool               // guarded by mu; the janitor knows of idle backends
	retired bool               // guarded by mu; no new request will use it
}

// health is what the probes of an endpoint have shown.
type health = int32

const (
	unprobed health = iota // not probed yet, or never: judged by traffic alone
	healthy
	unhealthy
)

// When traffic benches an endpoint. It then gets requests only if no other
// can take them, until the bench ends or a probe succeeds.
const (
	missesToBench = 3
	benchTime     = 10 * time.Second
)

func newEndpoint(p *pool, addr netip.AddrPort, s *registry.Service) *endpoint {
	e := &endpoint{
		addr:     addr,
		clone:    p.clone,
		known:    &p.host,
		protocol: s.Protocol,
		asked:    askedOf(s),
		key:      newRequestID().String(),
		conns:    map[*conn]struct{}{},
	}
	if s.Protocol == registry.HTTPS {
		e.trust = newTrust(s.TLS)
	}
	return e
}

// serves reports whether the endpoint is reached as a service says.
func (e *endpoint) serves(s *registry.Service) bool {
	return e.protocol == s.Protocol && e.asked == askedOf(s)
}

func askedOf(s *registry.Service) registry.TLS {
	if s.TLS == nil {
		return registry.TLS{}
	}
	return *s.TLS
}

// succeeded notes that the endpoint answered a request.
func (e *endpoint) succeeded() {
	if e.misses.Load() != 0 {
		e.misses.Store(0)
	}
}

// failed notes that the endpoint failed a request. It is benched for failures in
// a row, or at once if it is known to be of no use: nothing accepts connections
// there, or somebody else does. It returns whether this benched the endpoint,
// which it was not before. A client that leaves is no failure.
func (e *endpoint) failed(now time.Time, useless bool) (benched bool) {
	if e.misses.Add(1) < missesToBench && !useless {
		return false
	}
	e.misses.Store(0)
	return e.benched.Swap(now.Add(benchTime).UnixNano()) <= now.UnixNano()
}

func (e *endpoint) isBenched(now time.Time) bool { return e.benched.Load() > now.UnixNano() }

// release ends a use that pool.pick began.
func (e *endpoint) release() {
	if e.open.Add(-1) > 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired && e.open.Load() == 0 {
		e.closeConnsLocked()
	}
}

// retire closes the endpoint's connections: those that are idle at once, those
// in use as soon as their request has ended. Nobody dials it any more, because
// its address may be somebody else's from now on.
func (e *endpoint) retire() {
	e.mu.Lock()
	e.retired = true
	idle := e.idle
	e.idle = nil
	for _, place := range e.queue {
		e.dialing++
		place <- nil // to learn that there is nothing to dial
	}
	e.queue = nil
	if e.open.Load() == 0 {
		e.closeConnsLocked()
	}
	e.mu.Unlock()
	for _, b := range idle {
		b.Close()
	}
}

func (e *endpoint) isRetired() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.retired
}

func (e *endpoint) closeConnsLocked() {
	for c := range e.conns {
		c.Conn.Close()
	}
	clear(e.conns)
	e.idle = nil
}

// keep takes note of a new connection; false means that nobody may use it.
func (e *endpoint) keep(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired {
		return false
	}
	e.conns[c] = struct{}{}
	return true
}

func (e *endpoint) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	e.inviteLocked()
}

// A busyError says that a request got no connection to an endpoint, because
// that has as many as it may have.
type busyError struct {
	addr    netip.AddrPort
	conns   int           // how many it may have
	waiting int           // how many requests wait already, if that was why
	waited  time.Duration // how long this one has waited, else
}

func (e *busyError) Error() string {
	if e.waited > 0 {
		return fmt.Sprintf("%s: all %d connections are in use, and none came free in %s", e.addr, e.conns, e.waited)
	}
	return fmt.Sprintf("%s: all %d connections are in use, and %d requests wait for one", e.addr, e.conns, e.waiting)
}

// take returns an idle backend; or a place in the queue, in which a backend comes, or
// nil for the permission to dial; or neither, which is that permission, too.
// Whoever may dial says so with dialled afterwards. The error is a *busyError.
// A probe may always dial: a busy endpoint is not an ill one.
func (e *endpoint) take(l *Limits, probe bool) (*backend, chan *backend, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.idle) - 1; n >= 0 {
		b := e.idle[n]
		e.idle[n] = nil
		e.idle = e.idle[:n]
		return b, nil, nil
	}
	if e.most = l.ConnsPerEndpoint; probe || e.retired || len(e.conns)+e.dialing < e.most {
		e.dialing++
		return nil, nil, nil
	}
	if len(e.queue) >= l.QueuePerEndpoint {
		return nil, nil, &busyError{addr: e.addr, conns: e.most, waiting: len(e.queue)}
	}
	place := make(chan *backend, 1)
	e.queue = append(e.queue, place)
	return nil, place, nil
}

// dialled says that the permission to dial was used.
func (e *endpoint) dialled() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialing--
	e.inviteLocked()
}

// inviteLocked lets the first in the queue dial, if a connection has gone or did
// not come about.
func (e *endpoint) inviteLocked() {
	if len(e.queue) > 0 && len(e.conns)+e.dialing < e.most {
		e.dialing++
		e.queue[0] <- nil
		e.queue = e.queue[1:]
	}
}

// load returns how many connections are open, and how many requests wait for one.
func (e *endpoint) load() (conns, waiting int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns), len(e.queue)
}

// give takes a backend back that may carry another request, for whoever is first
// in the queue or among at most so many idle ones. False means that nobody wants
// it and it must be closed. first reports that the janitor knows of none here.
func (e *endpoint) give(b *backend, most int) (kept, first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.retired:
		return false, false
	case len(e.queue) > 0:
		e.queue[0] <- b
		e.queue = e.queue[1:]
		return true, false
	case len(e.idle) >= most:
		return false, false
	}
	e.idle = append(e.idle, b)
	first = !e.swept
	e.swept = true
	return true, first
}

// leave gives up a place in the queue. It returns what came there meanwhile.
func (e *endpoint) leave(place chan *backend) (b *backend, came bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.queue, place); i >= 0 {
		e.queue = slices.Delete(e.queue, i, i+1)
		return nil, false
	}
	return <-place, true
}

// sweep takes out the backends that are idle since before a time. none reports
// that no other is idle, so the janitor may forget the endpoint.
func (e *endpoint) sweep(before time.Time) (old []*backend, none bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for n < len(e.idle) && e.idle[n].idle.Before(before) {
		n++
	}
	old = slices.Clone(e.idle[:n])
	e.idle = slices.Delete(e.idle, 0, n)
	e.swept = len(e.idle) > 0
	return old, !e.swept
}

// String describes the endpoint and its last fault for people.
func (e *endpoint) String() string {
	if fault := e.fault.Load(); fault != nil {
		return fmt.Sprintf("%s: %s", e.addr, *fault)
	}
	return e.addr.String()
}
