package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxTries is how many endpoints are tried for one request.
const maxTries = 3

// An upstream keeps the backends to endpoints that no trip uses. Backends belong to
// one endpoint of one clone, so no two clones ever share one, even if they have
// shared an address.
type upstream struct {
	dialer *dialer
	limits *Limits

	mu    sync.Mutex
	known map[*endpoint]struct{} // guarded by mu; those with idle backends, and some others
}

func newUpstream(d *dialer, l *Limits) *upstream {
	return &upstream{dialer: d, limits: l, known: map[*endpoint]struct{}{}}
}

// acquire returns a backend to an endpoint that is not in use, but may be stale,
// or a new one. No
// error means that anything was sent: it is a *dialError, a *busyError, or
// errCut, if ctx ended or the client left meanwhile. Without a client it is for
// a probe.
func (u *upstream) acquire(ctx context.Context, e *endpoint, c client) (*backend, error) {
	b, place, err := e.take(u.limits, c == nil)
	if b == nil && err == nil {
		return u.connect(ctx, e, c, place)
	}
	return b, err
}

// fresh returns a new backend.
func (u *upstream) fresh(ctx context.Context, e *endpoint, c client) (*backend, error) {
	e.mu.Lock()
	e.dialing++
	e.mu.Unlock()
	return u.connect(ctx, e, c, nil)
}

// connect waits for a place in an endpoint's queue to be served, if there is one,
// and uses the permission to dial.
func (u *upstream) connect(ctx context.Context, e *endpoint, c client, place chan *backend) (*backend, error) {
	if c != nil {
		var cancel context.CancelCauseFunc
		ctx, cancel = context.WithCancelCause(ctx)
		defer cancel(nil)
		c.watch(&contextCutter{cancel})
		defer c.unwatch()
	}
	if place != nil {
		if b, err := u.wait(ctx, e, place); b != nil || err != nil {
			return b, err
		}
	}
	defer e.dialled()
	return u.dialer.dial(ctx, e)
}

// wait waits in an endpoint's queue. Without a backend and error, the caller may
// dial.
func (u *upstream) wait(ctx context.Context, e *endpoint, place chan *backend) (*backend, error) {
	timer := time.NewTimer(u.limits.QueueTimeout)
	defer timer.Stop()
	select {
	case b := <-place:
		return b, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if b, came := e.leave(place); came {
		return b, nil
	}
	if ctx.Err() != nil {
		return nil, errCut
	}
	return nil, &busyError{addr: e.addr, conns: u.limits.ConnsPerEndpoint, waited: u.limits.QueueTimeout}
}

// release takes a backend back that can carry another request.
func (u *upstream) release(b *backend, now time.Time) {
	b.idle, b.used = now, true
	kept, first := b.endpoint.give(b, u.limits.IdlePerEndpoint)
	if !kept {
		b.Close()
		return
	}
	if first {
		u.mu.Lock()
		u.known[b.endpoint] = struct{}{}
		u.mu.Unlock()
	}
}

// sweepEvery is how many times in the life of an idle backend the janitor comes.
const sweepEvery = 8

// run closes backends that are idle for too long, or are the oldest of too many,
// until ctx ends; then all.
func (u *upstream) run(ctx context.Context) {
	tick := time.NewTicker(max(time.Millisecond, u.limits.UpstreamIdle/sweepEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			u.sweep(time.Now().Add(time.Hour))
			return
		case now := <-tick.C:
			u.sweep(now.Add(-u.limits.UpstreamIdle))
			u.trim()
		}
	}
}

// sweep closes the backends that are idle since before a time.
func (u *upstream) sweep(before time.Time) {
	var old []*backend
	u.mu.Lock()
	for e := range u.known {
		backends, none := e.sweep(before)
		old = append(old, backends...)
		if none {
			delete(u.known, e)
		}
	}
	u.mu.Unlock()
	for _, b := range old {
		b.Close()
	}
}

// trim closes the oldest idle backends if there are too many of them.
func (u *upstream) trim() {
	var since []time.Time
	u.mu.Lock()
	for e := range u.known {
		e.mu.Lock()
		for _, b := range e.idle {
			since = append(since, b.idle)
		}
		e.mu.Unlock()
	}
	u.mu.Unlock()
	if over := len(since) - u.limits.IdleConns; over > 0 {
		slices.SortFunc(since, time.Time.Compare)
		u.sweep(since[over-1].Add(1))
	}
}

// errSilent says that an endpoint took a request and sent nothing in time.
var errSilent = errors.New("no answer in time")

// errCut says that a trip was cut short because its client has left.
var errCut = errors.New("the client has left")

// blame turns the error of a trip into a refusal, and says whether the endpoint
// is at fault and whether nothing was sent to it. What the client did never
// counts against an endpoint.
func blame(e *endpoint, err error) (r *refusal, fault, unsent bool) {
	var dial *dialError
	var busy *busyError
	var gone *clientError
	var stranger *strangerError
	var unwilling *refusedError
	switch {
	case errors.As(err, &gone):
		return gone.refusal, false, false
	case errors.Is(err, errCut):
		return &refusal{ClientGone, ""}, false, false
	case errors.As(err, &busy):
		return &refusal{Overloaded, busy.Error()}, false, busy.waited == 0 // who has waited waits no more
	case errors.Is(err, errRetired):
		return &refusal{NoEndpoint, ""}, false, true
	case errors.Is(err, errSilent):
		return &refusal{UpstreamTimeout, ""}, true, false
	case errors.As(err, &unwilling):
		return &refusal{Overloaded, unwilling.Error()}, false, !unwilling.spent
	case errors.As(err, &stranger):
		return &refusal{Untrusted, fmt.Sprintf("%s: %v", e.addr, err)}, true, false
	case errors.As(err, &dial) && dial.reason == AddressRefused:
		return &refusal{AddressRefused, dial.err.Error()}, true, true
	case errors.As(err, &dial):
		return &refusal{dial.reason, dial.Error()}, true, true
	}
	return &refusal{UpstreamBroken, fmt.Sprintf("%s: %v", e.addr, err)}, true, false
}

// A clientError is what a client did to end a trip.
type clientError struct{ refusal *refusal }

func (e *clientError) Error() string { return string(e.refusal.reason) }
