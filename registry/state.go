package registry

import (
	"context"
	"fmt"
	"slices"
)

// A State is where a clone stands in its life. docs/api.md shows the moves
// between them.
type State string

// The states of a clone.
const (
	Registered State = "registered" // an ID was allocated, nothing runs yet
	Starting   State = "starting"   // a provider or a startup script is bringing it up
	Ready      State = "ready"      // its services take requests
	Degraded   State = "degraded"   // it runs, but a part of it has failed
	Suspending State = "suspending"
	Suspended  State = "suspended" // asleep; a request wakes it
	Resuming   State = "resuming"
	Stopping   State = "stopping" // its names are withdrawn, its processes are ending
	Gone       State = "gone"     // ended on purpose; only this record is left
	Failed     State = "failed"   // could not be started; Reason says why
	Lost       State = "lost"     // its lease ran out
)

// States lists every state in the order of a life.
var States = []State{
	Registered, Starting, Ready, Degraded, Suspending, Suspended,
	Resuming, Stopping, Gone, Failed, Lost,
}

// Routable reports whether requests may be sent to a clone in this state. One
// that is starting keeps its visitors on a waiting page.
func (s State) Routable() bool {
	return s == Ready || s == Degraded
}

// Named reports whether DNS answers for a clone in this state. A clone that
// is stopping loses its names before it loses its routes.
func (s State) Named() bool {
	switch s {
	case Registered, Stopping, Gone, Failed, Lost:
		return false
	}
	return true
}

// Over reports whether this life has ended: another may begin under the ID,
// and other clones may claim its aliases.
func (s State) Over() bool { return s == Gone || s == Lost }

// Desired is what the owner wants a clone to be; State is what it is.
type Desired string

// What an owner can want.
const (
	WantReady Desired = "ready"
	WantGone  Desired = "gone"
)

// moves lists the states that SetState may move a clone to.
var moves = map[State][]State{
	Registered: {Starting, Failed, Stopping, Gone},
	Starting:   {Ready, Degraded, Failed, Stopping, Gone},
	Ready:      {Degraded, Failed, Suspending, Stopping, Gone},
	Degraded:   {Ready, Failed, Suspending, Stopping, Gone},
	Suspending: {Suspended, Failed, Stopping, Gone},
	Suspended:  {Resuming, Stopping, Gone},
	Resuming:   {Ready, Degraded, Failed, Stopping, Gone},
	Failed:     {Stopping, Gone},
	Lost:       {Stopping, Gone},
	Stopping:   {Failed, Gone},
}

// SetState moves the observed state of a clone, as whoever runs it sees it.
// Setting the present state again only replaces the reason. The error is
// ErrFenced if the clone has begun another life than incarnation meanwhile.
func (r *Registry) SetState(ctx context.Context, by Actor, id ID, incarnation uint64, state State, reason string) error {
	if err := by.need(RoleAdmin); err != nil {
		return err
	}
	return r.write(ctx, func(t *tx) error {
		c, err := t.clone(id)
		if err != nil {
			return err
		}
		if c == nil {
			return fmt.Errorf("clone %s: %w", id, ErrNotFound)
		}
		if c.Incarnation != incarnation {
			return fmt.Errorf("clone %s: incarnation %d is %w; incarnation %d is", id, incarnation, ErrFenced, c.Incarnation)
		}
		if c.State == state && c.Reason == reason {
			return nil
		}
		if c.State != state && !slices.Contains(moves[c.State], state) {
			return fmt.Errorf("clone %s: %w: it is %s and cannot become %s", id, ErrInvalid, c.State, state)
		}
		t.move(c, state, reason, by)
		return nil
	})
}

func (t *tx) move(c *Clone, state State, reason string, by Actor) {
	now := c.clone()
	now.State, now.Reason = state, reason
	typ := EventCloneState
	switch state {
	case Gone:
		typ = EventCloneGone
		now = now.tombstone()
		now.Desired = WantGone
		now.Ended = t.now
		if now.EndedBy == "" {
			now.EndedBy = by.Name()
		}
	case Failed:
		now.Ended = t.now
	case Stopping:
		typ = EventCloneStopping
	}
	t.put(now, by, typ, reason)
}

// Unregister ends the life of an instance: a clone of a provider is asked to
// stop and becomes gone when it has; any other is gone at once. Ending what has
// ended already succeeds. An empty instance ends whichever life is there, which
// takes more than a clone token.
func (r *Registry) Unregister(ctx context.Context, by Actor, id ID, instance string) (*Clone, error) {
	if instance != "" {
		if err := by.mayRegister(id); err != nil {
			return nil, err
		}
	}
	var now *Clone
	err := r.write(ctx, func(t *tx) error {
		c, err := t.clone(id)
		if err != nil {
			return err
		}
		if c == nil {
			return fmt.Errorf("clone %s: %w", id, ErrNotFound)
		}
		if instance == "" {
			if err := by.owns(c); err != nil {
				return err
			}
		} else if c.Instance != instance {
			return fmt.Errorf("clone %s: instance %q is %w; incarnation %d lives under another", id, clip(instance), ErrFenced, c.Incarnation)
		}
		t.end(c, by)
		now, err = t.clone(id)
		return err
	})
	return now, err
}

func (t *tx) end(c *Clone, by Actor) {
	if c.State == Gone || c.State == Stopping && c.Desired == WantGone {
		return
	}
	now := c.clone()
	now.Desired, now.EndedBy = WantGone, by.Name()
	if c.Provider == "" {
		t.move(now, Gone, "ended by "+by.Name(), by)
		return
	}
	t.move(now, Stopping, "ended by "+by.Name(), by)
}
