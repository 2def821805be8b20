package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// Stop ends the processes of a clone, those of the highest level first: each
// group is asked by SIGTERM, and killed when its leader has not ended within
// the grace. Then whatever carries the clone's instance is killed, wherever it
// has moved to, until there is nothing left.
func (p *Provider) Stop(ctx context.Context, id registry.ID) error {
	c := p.clone(id)
	if c == nil {
		return nil
	}
	for _, level := range c.levels() {
		var ends sync.WaitGroup
		for _, name := range level {
			ends.Go(func() { c.stop(ctx, name, p.cfg.Grace) })
		}
		ends.Wait()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stop clone %s: %w", id, err)
		}
	}
	c.mu.Lock()
	instance := c.state.Instance
	c.mu.Unlock()
	if err := killFound(ctx, instance, killPatience, func(found) bool { return true }); err != nil {
		return fmt.Errorf("stop clone %s: %w", id, err)
	}
	return c.settle(ctx)
}

// levels returns the processes that run, the highest level first.
func (c *clone) levels() [][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	byLevel := map[int][]string{}
	var order []int
	for name, r := range c.state.Processes {
		if r.Ended != "" {
			continue
		}
		if len(byLevel[r.Level]) == 0 {
			order = append(order, r.Level)
		}
		byLevel[r.Level] = append(byLevel[r.Level], name)
	}
	slices.Sort(order)
	slices.Reverse(order)
	levels := make([][]string, len(order))
	for i, l := range order {
		levels[i] = byLevel[l]
	}
	return levels
}

// stop ends one process and its group. That it has ended is recorded by its
// watch; a group whose leader has ended is left to the search for strays, as
// its number may be another's by now.
func (c *clone) stop(ctx context.Context, name string, grace time.Duration) {
	c.mu.Lock()
	r, w := c.state.Processes[name], c.watched[name]
	c.mu.Unlock()
	if r == nil || w == nil {
		return
	}
	patience := time.NewTimer(grace)
	defer patience.Stop()
	c.signal(r, syscall.SIGTERM)
	select {
	case <-w.ended:
		return
	case <-patience.C:
		c.signal(r, syscall.SIGKILL)
	case <-ctx.Done():
		return
	}
	select {
	case <-w.ended:
	case <-time.After(killPatience):
	case <-ctx.Done():
	}
}

// signal reaches the group of a process, if that is still alive.
func (c *clone) signal(r *recorded, sig syscall.Signal) {
	if start, alive := startTime(r.PID); alive && start == r.Start {
		killGroup(r.PID, sig)
	}
}

// settle waits until the end of every process has been recorded.
func (c *clone) settle(ctx context.Context) error {
	for name, w := range c.watches() {
		select {
		case <-w.ended:
		case <-time.After(killPatience):
			return fmt.Errorf("stop clone %s: %s does not end", c.id, name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, r := range c.state.Processes {
		if r.Ended == "" && r.PID != 0 && !c.closed {
			return fmt.Errorf("stop clone %s: %s has not been seen to end", c.id, name)
		}
		if r.PID == 0 {
			delete(c.state.Processes, name)
		}
	}
	if c.closed {
		return errors.New("the provider was closed")
	}
	return c.saveLocked()
}
