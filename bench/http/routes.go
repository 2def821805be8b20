package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/clonegate/clonegate/bench/load"
)

// route registers clones one after another and waits until each is served.
func (b *block) route(ctx context.Context, g *gateway) error {
	var calls, firsts []time.Duration
	visitor := &load.Visitor{Gateway: g.addr}
	for start := time.Now(); len(firsts) < b.scale.changes && time.Since(start) < b.scale.bound; {
		call, first, err := b.appear(ctx, g, visitor)
		if err != nil {
			return err
		}
		calls, firsts = append(calls, call), append(firsts, first)
		time.Sleep(b.scale.gap / 2)
	}
	b.results.Add("route.call", g.name, millis(percentile(calls, 50)))
	b.results.Add("route.first", g.name, millis(percentile(firsts, 50)))
	b.results.Add("route.p99", g.name, millis(percentile(firsts, 99)))
	return nil
}

// appear registers the next clone and asks for it, over a connection of its own
// each time, until it answers. Both times run from the start of the call.
func (b *block) appear(ctx context.Context, g *gateway, visitor *load.Visitor) (call, first time.Duration, err error) {
	id := b.next
	b.next++
	start := time.Now()
	if err := g.register(ctx, id); err != nil {
		return 0, 0, fmt.Errorf("register clone %d: %w", id, err)
	}
	call = time.Since(start)
	for {
		err := visitor.Get(id)
		first = time.Since(start)
		switch {
		case err == nil:
			return call, first, nil
		case ctx.Err() != nil:
			return 0, 0, ctx.Err()
		case first > b.scale.bound/2:
			return 0, 0, fmt.Errorf("clone %d is not served %s after it was registered: %w", id, first.Round(time.Millisecond), err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// churnRoutes registers clones while others are used, and looks at these.
func (b *block) churnRoutes(ctx context.Context, g *gateway) error {
	plan := b.plan(load.Plan{Conns: b.scale.conns, Rate: b.scale.rate / 2, Dur: 3 * b.scale.bound}, g)
	others := plan.Start(load.HTTP1)
	time.Sleep(plan.Warm)
	others.Measure()
	visitor := &load.Visitor{Gateway: g.addr}
	changes := 0
	var err error
	for start := time.Now(); err == nil && changes < b.scale.churn && time.Since(start) < b.scale.bound; changes++ {
		_, _, err = b.appear(ctx, g, visitor)
		time.Sleep(b.scale.gap)
	}
	r := others.Stop()
	if err != nil {
		return err
	}
	b.results.Add("churn.changes", g.name, float64(changes))
	b.results.Add("churn.failed", g.name, float64(r.Failed))
	b.results.Add("churn.cut", g.name, float64(r.Cut))
	b.results.Add("churn.p99", g.name, millis(r.Latency(99)))
	if r.OK == 0 {
		return fmt.Errorf("nobody else was served meanwhile: %w", r.Err())
	}
	return nil
}

// percentile returns a percentile of times, 0 if there are none.
func percentile(times []time.Duration, percent float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)-1, int(percent/100*float64(len(times))))]
}
