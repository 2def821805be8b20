package proxy

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// breaksWithin is how long a WebSocket that is to be reset may live.
const breaksWithin = 10 * time.Second

// A trouble is a fault of a clone's services at work. All that it befalls share
// it, and it stays the same while the clone's record has it.
type trouble struct {
	*registry.Fault
	over     chan struct{} // closed when it ends, if that is before its time
	up, down *pacer        // of bandwidth; nil: no limit
}

func newTrouble(f *registry.Fault) *trouble {
	t := &trouble{Fault: f, over: make(chan struct{})}
	if f.Kind == registry.FaultBandwidth {
		if f.Direction != registry.DirectionDown {
			t.up = &pacer{rate: f.Rate}
		}
		if f.Direction != registry.DirectionUp {
			t.down = &pacer{rate: f.Rate}
		}
	}
	return t
}

// troublesOf returns the faults of a clone's services at work, those that were
// there before unchanged, and ends the others of old. It is nil if there are none.
func troublesOf(c *registry.Clone, old []*trouble) []*trouble {
	var now []*trouble
	for _, f := range c.Faults {
		if f.Kind.IsDNS() {
			continue
		}
		if i := slices.IndexFunc(old, func(t *trouble) bool { return t.ID == f.ID }); i >= 0 {
			now = append(now, old[i])
		} else {
			now = append(now, newTrouble(f))
		}
	}
	for _, t := range old {
		if !slices.Contains(now, t) {
			close(t.over)
		}
	}
	return now
}

// befalls decides whether a request meets the fault.
func (t *trouble) befalls(x *exchange) bool {
	return (t.Service == "" || t.Service == x.target.service) &&
		bytes.HasPrefix(x.request.target, []byte(t.Path)) &&
		x.start.Before(t.Until) &&
		rand.IntN(100) < t.Percent
}

// left returns how much of d is left at now until the fault ends.
func (t *trouble) left(d time.Duration, now time.Time) time.Duration {
	select {
	case <-t.over:
		return 0
	default:
		return min(d, t.Until.Sub(now))
	}
}

// delay returns how long a request waits.
func (t *trouble) delay() time.Duration {
	d := t.Delay.Duration()
	if j := t.Jitter.Duration(); j > 0 {
		d += rand.N(2*j) - j
	}
	return d
}

// met is what a request has met of the faults of its clone.
type met struct {
	names   string        // for the log
	delayed time.Duration // how long it waited
	answer  *trouble      // that answers it; nil: none
	breaks  *trouble      // that breaks its connection; nil: none
	slow    []*trouble    // that limit its bandwidth
}

// suffer makes a request meet the faults of its clone's services. It waits for
// those of latency, one after the other; then the first that answers or breaks
// decides, and those of bandwidth last. The returned client is the one to go on
// with, and the refusal is that of a request which goes no further.
func (e *engine) suffer(ctx context.Context, c client, x *exchange, faults []*trouble) (client, *refusal) {
	m := &met{}
	var names []string
	var waits []*trouble
	for _, t := range faults {
		if !t.befalls(x) {
			continue
		}
		switch t.Kind {
		case registry.FaultLatency:
			waits = append(waits, t)
		case registry.FaultBandwidth:
			m.slow = append(m.slow, t)
		case registry.FaultAbort, registry.FaultReset:
			if m.answer != nil || m.breaks != nil {
				continue
			}
			if m.breaks = t; t.Kind == registry.FaultAbort {
				m.answer, m.breaks = t, nil
			}
		}
		names = append(names, fmt.Sprintf("%d %s", t.ID, t.Kind))
		e.g.metrics.faults.WithLabelValues(string(t.Kind)).Inc()
	}
	if names == nil {
		return c, nil
	}
	m.names = strings.Join(names, ", ")
	x.met = m
	for _, t := range waits {
		if !t.hold(ctx, c) {
			return c, &refusal{reason: ClientGone}
		}
	}
	m.delayed = time.Since(x.start)
	switch {
	case m.answer != nil:
		return c, &refusal{Injected, m.answer.tell()}
	case m.breaks != nil && !x.request.upgrades:
		return c, &refusal{Injected, m.breaks.tell()}
	case len(m.slow) > 0:
		return newSlowed(c, m.slow), nil
	}
	return c, nil
}

// tell describes the fault to those who meet it.
func (t *trouble) tell() string {
	return fmt.Sprintf("fault %d, which %s added, does so: %s; it ends in %s", t.ID, t.By, t, span(time.Until(t.Until)))
}

// hold lets a request wait. It returns false if its client is known to have left
// meanwhile. A client that still sends its body is not looked after: that is not
// read before it is known who takes it.
func (t *trouble) hold(ctx context.Context, c client) (stayed bool) {
	d := t.left(t.delay(), time.Now())
	if d <= 0 {
		return true
	}
	left := make(leaving)
	c.watch(left)
	defer c.unwatch()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.over:
	case <-ctx.Done():
	case <-left:
		return false
	}
	return true
}

// leaving is closed when the client leaves. It implements cutter.
type leaving chan struct{}

func (l leaving) cut() { close(l) }

// sentOn returns when a request began to go on to the clone.
func (x *exchange) sentOn() time.Time {
	if x.met == nil {
		return x.start
	}
	return x.start.Add(x.met.delayed)
}

// status returns the status of the answer in the clone's place, 0 if the
// connection breaks instead.
func (m *met) status() int {
	if m.answer == nil {
		return 0
	}
	return m.answer.Status
}

// isBroken reports whether a fault breaks the client's connection in the place
// of an answer.
func (x *exchange) isBroken() bool { return x.reason == Injected && x.status == 0 }

// befall makes a tunnel meet the faults that its request has met, and returns
// what ends that, and the sides that the tunnel goes between.
func (m *met) befall(x *exchange, tun *tunnel, client, backend side) (end func(), slowClient, slowBackend side) {
	end = func() {}
	if m == nil {
		return end, client, backend
	}
	if t := m.breaks; t != nil {
		end = t.breakLater(x, client, backend)
	}
	if len(m.slow) > 0 {
		client = &slowSide{client, upStraits(m.slow, tun.shutting)}
		backend = &slowSide{backend, downStraits(m.slow, tun.shutting)}
	}
	return end, client, backend
}

// breakLater resets the client's end of a tunnel after a random time, unless the
// fault has ended by then.
func (t *trouble) breakLater(x *exchange, client, backend side) (stop func()) {
	done := make(chan bool, 1)
	timer := time.AfterFunc(rand.N(breaksWithin), func() {
		over := t.left(time.Second, time.Now()) <= 0
		if !over {
			breakSide(client)
			backend.Close()
		}
		done <- !over
	})
	return func() {
		if !timer.Stop() && <-done {
			x.reason, x.cause = Injected, t.tell()
		}
	}
}

// breakSide ends a client's end of a tunnel by a reset.
func breakSide(s side) {
	if secure, ok := s.(interface{ NetConn() net.Conn }); ok {
		if w, ok := secure.NetConn().(*wire); ok {
			w.reset()
			return
		}
	}
	s.Close() // of a stream, that is its reset
}
