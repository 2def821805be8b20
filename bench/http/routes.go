package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// route registers clones one after another and waits until each is served.
func (r *round) route(ctx context.Context, s *lab.Subject) error {
	var calls, firsts []time.Duration
	visitor := &load.Visitor{Gateway: s.Addr}
	for start := time.Now(); len(firsts) < r.scale.changes && time.Since(start) < r.scale.bound; {
		call, first, err := r.appear(ctx, s, visitor)
		if err != nil {
			return err
		}
		calls, firsts = append(calls, call), append(firsts, first)
		time.Sleep(r.scale.gap / 2)
	}
	r.Results.Add("route.call", s.Name, lab.Millis(percentile(calls, 50)))
	r.Results.Add("route.first", s.Name, lab.Millis(percentile(firsts, 50)))
	r.Results.Add("route.p99", s.Name, lab.Millis(percentile(firsts, 99)))
	return nil
}

// appear registers the next clone and asks for it, over a connection of its own
// each time, until it answers. Both times run from the start of the call.
func (r *round) appear(ctx context.Context, s *lab.Subject, visitor *load.Visitor) (call, first time.Duration, err error) {
	id := r.next
	r.next++
	start := time.Now()
	if err := s.Register(ctx, id); err != nil {
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
		case first > r.scale.bound/2:
			return 0, 0, fmt.Errorf("clone %d is not served %s after it was registered: %w", id, first.Round(time.Millisecond), err)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// churnRoutes registers clones while others are used, and looks at these.
func (r *round) churnRoutes(ctx context.Context, s *lab.Subject) error {
	plan := r.plan(load.Plan{Conns: r.scale.conns, Rate: r.scale.rate / 2, Dur: 3 * r.scale.bound}, s)
	others := plan.Start(load.HTTP1)
	time.Sleep(plan.Warm)
	others.Measure()
	visitor := &load.Visitor{Gateway: s.Addr}
	changes := 0
	var err error
	for start := time.Now(); err == nil && changes < r.scale.churn && time.Since(start) < r.scale.bound; changes++ {
		_, _, err = r.appear(ctx, s, visitor)
		time.Sleep(r.scale.gap)
	}
	met := others.Stop()
	if err != nil {
		return err
	}
	r.Results.Add("churn.changes", s.Name, float64(changes))
	r.Results.Add("churn.failed", s.Name, float64(met.Failed))
	r.Results.Add("churn.cut", s.Name, float64(met.Cut))
	r.Results.Add("churn.p99", s.Name, lab.Millis(met.Latency(99)))
	if met.OK == 0 {
		return fmt.Errorf("nobody else was served meanwhile: %w", met.Err())
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
