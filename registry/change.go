package registry

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Change is one record at one revision, as readers of the registry see it.
// At most one of its fields beside Revision and Event is set; none is if the
// event is about the registry itself.
type Change struct {
	Revision uint64
	Event    *Event
	Clone    *Clone
	Template *Template
	Channel  *Channel
	Token    *Token
	NoToken  string // ID of a token that was removed
}

// keptChanges bounds how far a reader may fall behind before it has to read
// the whole view again.
const keptChanges = 2048

// changes is a ring of the newest changes. Readers hold no queue of their own,
// only the revision they have reached, so a slow one costs nothing. Revisions
// have no gaps, so a change's place follows from its revision.
type changes struct {
	mu    sync.Mutex
	ring  []Change      // guarded by mu
	first uint64        // guarded by mu; revision of the oldest that is kept
	next  uint64        // guarded by mu; revision of the next to come
	grown chan struct{} // guarded by mu; closed when a change is added

	// newest is next-1. It is written with mu held, so that wait knows every
	// revision that anybody has read here.
	newest atomic.Uint64
}

func newChanges() *changes {
	return &changes{ring: make([]Change, keptChanges), first: 1, next: 1, grown: make(chan struct{})}
}

// start says that the view was loaded at a revision: no change up to it is kept.
func (c *changes) start(revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first, c.next = revision+1, revision+1
	c.newest.Store(revision)
}

func (c *changes) add(ch Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ring[ch.Revision%keptChanges] = ch
	c.next = ch.Revision + 1
	c.newest.Store(ch.Revision)
	if c.next-c.first > keptChanges {
		c.first = c.next - keptChanges
	}
	close(c.grown)
	c.grown = make(chan struct{})
}

// maxChanges bounds how many changes one call hands out.
const maxChanges = 256

func (c *changes) wait(ctx context.Context, after uint64) ([]Change, error) {
	for {
		c.mu.Lock()
		switch {
		case after+1 < c.first || after >= c.next:
			c.mu.Unlock()
			return nil, ErrLagged
		case after+1 < c.next:
			n := min(c.next-after-1, maxChanges)
			out := make([]Change, 0, n)
			for rev := after + 1; rev <= after+n; rev++ {
				out = append(out, c.ring[rev%keptChanges])
			}
			c.mu.Unlock()
			return out, nil
		}
		grown := c.grown
		c.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
