package registry

import (
	"context"
	"sync"
	"time"
)

// faultEnds knows which clones have faults and when the next of them ends.
// Readers of the view go by a fault's own end; this only takes it off the
// record in time.
type faultEnds struct {
	mu     sync.Mutex
	clones map[ID]time.Time // guarded by mu; when the first fault of each ends
	next   time.Time        // guarded by mu; no fault ends earlier; zero: there is none
	timer  *time.Timer      // fires then
}

func newFaultEnds() *faultEnds {
	e := &faultEnds{clones: map[ID]time.Time{}, timer: time.NewTimer(time.Hour)}
	e.timer.Stop()
	return e
}

// note remembers when the first fault of a clone ends.
func (e *faultEnds) note(c *Clone) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(c.Faults) == 0 {
		delete(e.clones, c.ID)
		return
	}
	first := c.Faults[0].Until
	for _, f := range c.Faults {
		if f.Until.Before(first) {
			first = f.Until
		}
	}
	e.clones[c.ID] = first
	e.expectLocked(first)
}

// expectLocked makes the timer fire no later than at an end.
func (e *faultEnds) expectLocked(end time.Time) {
	if e.next.IsZero() || end.Before(e.next) {
		e.next = end
		e.timer.Reset(time.Until(end))
	}
}

// take returns the clones that have a fault which has ended, and sets the timer
// for the others.
func (e *faultEnds) take(now time.Time) []ID {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ids []ID
	e.next = time.Time{}
	for id, end := range e.clones {
		if now.Before(end) {
			e.expectLocked(end)
		} else {
			ids = append(ids, id)
		}
	}
	return ids
}

// endFaults takes faults whose time has come off their clones. What cannot be
// written is tried again by the next sweep.
func (r *Registry) endFaults(ctx context.Context) error {
	now := time.Now()
	ids := r.faultEnds.take(now)
	if len(ids) == 0 {
		return nil
	}
	return r.write(ctx, func(t *tx) error {
		for _, id := range ids {
			c, err := t.clone(id)
			if err != nil {
				return err
			}
			if c != nil {
				t.dropFaults(c, endedFaults(c, now), System, EventFaultExpired)
			}
		}
		return nil
	})
}
