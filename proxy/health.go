package proxy

import (
	"container/heap"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// How endpoints are probed.
const (
	// maxProbes bounds how many probes are under way at once, over all clones.
	maxProbes = 128
	// hurry is the interval of probes of an endpoint that may soon be healthy.
	hurry = 200 * time.Millisecond
	// hope is how long an endpoint that is not healthy is probed in a hurry.
	hope = 30 * time.Second
	// missesToFail is how many probes in a row a healthy endpoint may miss
	// before it counts as unhealthy, so that one lost packet harms nobody.
	missesToFail = 2
)

// A check probes one endpoint for as long as it is in its pool.
type check struct {
	endpoint *endpoint
	pool     *pool
	health   registry.Health

	// Only the probe under way uses the following.
	missed int
	since  time.Time // when the endpoint's health last changed

	// Guarded by the prober.
	due     time.Time
	place   int // in the queue; -1 while a probe is under way
	removed bool
}

// asks reports whether c is the check that h calls for. A nil check is the
// one for a nil h.
func (c *check) asks(h *registry.Health) bool {
	if c == nil || h == nil {
		return c == nil && h == nil
	}
	return c.health == *h
}

// A prober asks every endpoint with a health check how it is, each at its own
// interval.
type prober struct {
	probe func(context.Context, *check) error
	log   *slog.Logger
	wake  chan struct{} // has room for one

	mu    sync.Mutex
	queue checkQueue // guarded by mu
}

func newProber(probe func(context.Context, *check) error, log *slog.Logger) *prober {
	return &prober{probe: probe, log: log, wake: make(chan struct{}, 1)}
}

// add probes a check at once and then at its interval.
func (p *prober) add(c *check) {
	p.mu.Lock()
	c.due = time.Now()
	heap.Push(&p.queue, c)
	p.mu.Unlock()
	p.nudge()
}

// remove ends a check. It may be nil.
func (p *prober) remove(c *check) {
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.removed = true
	if c.place >= 0 {
		heap.Remove(&p.queue, c.place)
	}
}

func (p *prober) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context) {
	var probes sync.WaitGroup
	defer probes.Wait()
	slots := make(chan struct{}, maxProbes)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		c, wait := p.next()
		if c == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
			case <-timer.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		probes.Go(func() {
			defer func() { <-slots }()
			p.ask(ctx, c)
		})
	}
}

// next takes the check that is due out of the queue, or says how long none
// will be.
func (p *prober) next() (*check, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		if wait := time.Until(p.queue[0].due); wait > 0 {
			return nil, wait
		}
		return heap.Pop(&p.queue).(*check), 0
	}
	return nil, time.Hour
}

// ask probes once, judges, and puts the check back into the queue.
func (p *prober) ask(ctx context.Context, c *check) {
	probeCtx, cancel := context.WithTimeout(ctx, c.health.Timeout.Duration())
	err := p.probe(probeCtx, c)
	cancel()
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	p.judge(c, err, now)
	wait := c.pause(now)
	p.mu.Lock()
	if !c.removed {
		c.due = now.Add(wait)
		heap.Push(&p.queue, c)
	}
	p.mu.Unlock()
	p.nudge()
}

// judge changes the endpoint's health by the outcome of a probe.
func (p *prober) judge(c *check, err error, now time.Time) {
	e, before := c.endpoint, c.endpoint.health.Load()
	after := before
	if err == nil {
		c.missed, after = 0, healthy
		e.fault.Store(nil)
		e.benched.Store(0)
	} else {
		c.missed++
		fault := err.Error()
		e.fault.Store(&fault)
		if before != healthy || c.missed >= missesToFail {
			after = unhealthy
		}
	}
	if after == before {
		return
	}
	e.health.Store(after)
	c.since = now
	attrs := []any{"clone", c.pool.clone, "service", c.pool.service, "addr", e.addr}
	if err != nil {
		p.log.Info("endpoint is unhealthy", append(attrs, "err", err)...)
	} else {
		p.log.Info("endpoint is healthy", attrs...)
	}
}

// pause returns how long to wait before the next probe: little while the
// answer may change soon, and otherwise the interval give or take a tenth, so
// that checks which began together do not stay together.
func (c *check) pause(now time.Time) time.Duration {
	sound := c.missed == 0
	if !sound && now.Sub(c.since) < hope || c.missed == 1 {
		return min(hurry, c.health.Interval.Duration())
	}
	interval := c.health.Interval.Duration()
	return interval*9/10 + rand.N(interval/5+1)
}

// checkQueue is a heap of checks, the one due next first.
type checkQueue []*check

func (q checkQueue) Len() int           { return len(q) }
func (q checkQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

func (q checkQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *checkQueue) Push(x any) {
	c := x.(*check)
	c.place = len(*q)
	*q = append(*q, c)
}

func (q *checkQueue) Pop() any {
	old := *q
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*q, c.place = old[:len(old)-1], -1
	return c
}
