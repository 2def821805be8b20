package registry

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A Lease says when a clone was last heard of and how long it may stay silent.
type Lease struct {
	Renewed   time.Time // zero: never
	Left      time.Duration
	Confirmed bool // false: not heard of since the daemon started
}

// leases counts down in memory by the monotonic clock, so that a jump of the
// wall clock ends none, and a renewal waits for no disk.
type leases struct {
	mu    sync.Mutex
	m     map[ID]*lease // guarded by mu
	dirty map[ID]time.Time
}

type lease struct {
	ttl       time.Duration
	deadline  time.Time
	renewed   time.Time
	confirmed bool
	ending    bool // the sweeper has decided; too late to renew
}

func newLeases() *leases {
	return &leases{m: map[ID]*lease{}, dirty: map[ID]time.Time{}}
}

// leased reports whether c's life depends on renewals. A clone that was only
// created, or that is stopping, asleep or over, is not waited for.
func leased(c *Clone) bool {
	return c.Incarnation > 0 && c.TTL > 0 &&
		(c.State == Starting || c.State == Ready || c.State == Degraded)
}

// grant starts a lease or starts it anew.
func (l *leases) grant(id ID, ttl time.Duration, renewed time.Time, confirmed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.m[id] = &lease{ttl: ttl, deadline: time.Now().Add(ttl), renewed: renewed, confirmed: confirmed}
	if confirmed {
		l.dirty[id] = renewed
	}
}

// renew reports false if there is no lease or it is ending.
func (l *leases) renew(id ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	le, ok := l.m[id]
	if !ok || le.ending {
		return false
	}
	now := time.Now()
	le.deadline, le.renewed, le.confirmed = now.Add(le.ttl), now, true
	l.dirty[id] = now
	return true
}

func (l *leases) get(id ID) (Lease, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	le, ok := l.m[id]
	if !ok {
		return Lease{}, false
	}
	return Lease{Renewed: le.renewed, Left: max(0, time.Until(le.deadline)), Confirmed: le.confirmed}, true
}

func (l *leases) drop(id ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, id)
	delete(l.dirty, id)
}

// grace gives every lease its full time again.
func (l *leases) grace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, le := range l.m {
		le.deadline, le.ending = now.Add(le.ttl), false
	}
}

// expired returns up to limit leases whose time has run out.
func (l *leases) expired(limit int) []ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []ID
	now := time.Now()
	for id, le := range l.m {
		if now.After(le.deadline) {
			if ids = append(ids, id); len(ids) == limit {
				break
			}
		}
	}
	return ids
}

// end marks a lease as ending, unless it was renewed meanwhile. The returned
// function takes the mark back.
func (l *leases) end(id ID) (silent time.Duration, undo func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	le, found := l.m[id]
	if !found || !time.Now().After(le.deadline) {
		return 0, nil, false
	}
	le.ending = true
	silent = time.Since(le.deadline) + le.ttl
	return silent, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		le.ending = false
	}, true
}

// takeDirty returns the renewals since the last call.
func (l *leases) takeDirty() map[ID]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.dirty
	l.dirty = map[ID]time.Time{}
	return d
}

// putBack returns renewals that could not be written, unless newer ones came.
func (l *leases) putBack(d map[ID]time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, at := range d {
		if _, newer := l.dirty[id]; !newer && l.m[id] != nil {
			l.dirty[id] = at
		}
	}
}

// Lease says how a clone's lease stands; ok is false if it has none.
func (r *Registry) Lease(id ID) (Lease, bool) { return r.leases.get(id) }

// Renew keeps the lease of the living instance of id alive. It waits for no
// disk. The error is ErrFenced if instance is not the living one, and ErrEnded
// if its life is over, so that the clone has to register anew.
func (r *Registry) Renew(_ context.Context, by Actor, id ID, instance string) (*Grant, error) {
	if err := by.mayRegister(id); err != nil {
		return nil, err
	}
	c, ok := r.view.Clone(id)
	if !ok {
		return nil, fmt.Errorf("clone %s: %w; register it with PUT", id, ErrNotFound)
	}
	if err := checkLiving(c, instance); err != nil {
		return nil, err
	}
	if !r.leases.renew(id) {
		return nil, fmt.Errorf("clone %s: %w; register it anew with PUT", id, ErrEnded)
	}
	return r.grant(c, false), nil
}

// checkLiving returns nil if instance is the living one of c.
func checkLiving(c *Clone, instance string) error {
	switch {
	case instance != c.Instance:
		return fmt.Errorf("clone %s: instance %q is %w; incarnation %d lives under another", c.ID, clip(instance), ErrFenced, c.Incarnation)
	case c.State == Lost:
		return fmt.Errorf("clone %s: %w at %s; register it anew with PUT", c.ID, ErrEnded, c.Ended.UTC().Format(time.RFC3339))
	case c.State == Gone || c.State == Stopping || c.State == Failed || c.Desired == WantGone:
		return fmt.Errorf("clone %s: %w: it is %s%s; a new life needs a new instance", c.ID, ErrEnded, c.State, endedBy(c))
	}
	return nil
}

func endedBy(c *Clone) string {
	if c.EndedBy == "" {
		return ""
	}
	return ", ended by " + c.EndedBy
}

// sweepLimit bounds how many leases end in one write.
const sweepLimit = 500

// runSweeper ends leases and faults whose time has run out, and removes expired
// tokens.
func (r *Registry) runSweeper(ctx context.Context) {
	tick := time.NewTicker(r.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.faultEnds.timer.C:
		case <-ctx.Done():
			return
		}
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("sweep", "err", err)
		}
	}
}

// Sweep ends every lease and fault whose time has run out. Run does this by
// itself.
// While the store fails, no lease ends, and Sweep tries whether it works again
// by a write, since nothing less is proof.
func (r *Registry) Sweep(ctx context.Context) error {
	if r.Healthy() != nil {
		return r.write(ctx, func(t *tx) error {
			t.note(EventRecovered, "the store works again; every lease starts anew")
			return nil
		})
	}
	for {
		ids := r.leases.expired(sweepLimit)
		if len(ids) == 0 {
			break
		}
		if err := r.write(ctx, func(t *tx) error { return t.lose(ids) }); err != nil {
			return err
		}
	}
	if err := r.endFaults(ctx); err != nil {
		return err
	}
	return r.dropExpiredTokens(ctx)
}

func (t *tx) lose(ids []ID) error {
	for _, id := range ids {
		c, err := t.clone(id)
		if err != nil {
			return err
		}
		if c == nil || !leased(c) {
			t.r.leases.drop(id)
			continue
		}
		silent, undo, ok := t.r.leases.end(id)
		if !ok {
			continue
		}
		t.onUndo(undo)
		lost := c.clone()
		lost.State, lost.Ended, lost.EndedBy = Lost, t.now, "the end of its lease"
		lost.Reason = fmt.Sprintf("not heard of for %s; its lease was %s", silent.Round(time.Second), c.TTL.Duration())
		t.put(lost, System, EventCloneLost, lost.Reason)
	}
	return nil
}

// touchEvery is how long renewals and uses of tokens gather before they are
// written together.
const touchEvery = 2 * time.Second

func (r *Registry) runToucher(ctx context.Context) {
	tick := time.NewTicker(touchEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), touchEvery)
		if err := r.touch(attempt); err != nil {
			r.cfg.Log.Warn("renewals could not be written; they are kept in memory", "err", err)
		}
		cancel()
	}
}

func (r *Registry) touch(ctx context.Context) error {
	t := Touches{Renewed: r.leases.takeDirty(), LastUsed: r.tokens.take()}
	if len(t.Renewed) == 0 && len(t.LastUsed) == 0 {
		return nil
	}
	if err := r.cfg.Store.Touch(ctx, t); err != nil {
		r.leases.putBack(t.Renewed)
		r.tokens.putBack(t.LastUsed)
		return err
	}
	return nil
}
