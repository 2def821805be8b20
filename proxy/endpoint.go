package proxy

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// An endpoint is one address of a service, and what traffic and probes have
// taught about it. It lives as long as the service keeps the address.
type endpoint struct {
	addr     netip.AddrPort
	protocol registry.Protocol
	key      string // keeps its connections apart from those of any other endpoint

	open    atomic.Int64 // requests and tunnels at work
	misses  atomic.Int32 // failures in a row
	benched atomic.Int64 // Unix nanoseconds until which others are preferred
	health  atomic.Int32 // a health value
	fault   atomic.Pointer[string]

	mu      sync.Mutex
	conns   map[*conn]struct{} // guarded by mu
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

func newEndpoint(addr netip.AddrPort, protocol registry.Protocol) *endpoint {
	return &endpoint{
		addr:     addr,
		protocol: protocol,
		key:      randomID(),
		conns:    map[*conn]struct{}{},
	}
}

// succeeded notes that the endpoint answered a request.
func (e *endpoint) succeeded() {
	if e.misses.Load() != 0 {
		e.misses.Store(0)
	}
}

// failed notes that the endpoint could not be reached or broke off before it
// answered. It returns whether this benched the endpoint. A client that leaves
// is no failure.
func (e *endpoint) failed(now time.Time) bool {
	if e.misses.Add(1) < missesToBench {
		return false
	}
	e.misses.Store(0)
	e.benched.Store(now.Add(benchTime).UnixNano())
	return true
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

// retire closes the endpoint's connections, those in use as soon as their
// request has ended.
func (e *endpoint) retire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retired = true
	if e.open.Load() == 0 {
		e.closeConnsLocked()
	}
}

func (e *endpoint) closeConnsLocked() {
	for c := range e.conns {
		c.Conn.Close()
	}
	clear(e.conns)
}

// keep takes note of a new connection; false means that nobody will use it.
func (e *endpoint) keep(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired && e.open.Load() == 0 {
		return false
	}
	e.conns[c] = struct{}{}
	return true
}

func (e *endpoint) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

// String describes the endpoint and its last fault for people.
func (e *endpoint) String() string {
	if fault := e.fault.Load(); fault != nil {
		return fmt.Sprintf("%s: %s", e.addr, *fault)
	}
	return e.addr.String()
}
