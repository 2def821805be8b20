package proxy

import (
	"fmt"
	"math"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// Requests returns the newest records of a clone that pass a filter and come
// behind a sequence number, at most so many of them, oldest first. A request is
// recorded when it is over, WebSockets included. The error is
// registry.ErrNotFound if no such clone was ever known; a clone whose life is over
// has no records.
func (g *Gateway) Requests(id registry.ID, f RequestFilter, after uint64, most int) ([]RequestRecord, error) {
	if _, ok := g.cfg.Routes.Clone(id); !ok {
		return nil, fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	j := g.journals.find(id)
	if j == nil {
		return nil, nil
	}
	out, _, _ := j.after(after, &f, most)
	return out, nil
}

// A Follower reads the records of one life of a clone as they come. Its reader
// must call Close.
type Follower struct {
	journal *journal
	filter  RequestFilter
	seq     uint64 // up to which everything was read
}

// Follow returns a Follower that begins behind a sequence number; 0 means with
// the newest most of those that are kept.
func (g *Gateway) Follow(id registry.ID, f RequestFilter, after uint64, most int) (*Follower, []RequestRecord, error) {
	c, ok := g.cfg.Routes.Clone(id)
	switch {
	case !ok:
		return nil, nil, fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	case c.State.Over():
		return nil, nil, fmt.Errorf("clone %s: %w", id, registry.ErrEnded)
	}
	j := g.journals.of(c, time.Now())
	if j == nil {
		return nil, nil, fmt.Errorf("clone %s: there is no memory for its requests: raise gateway.limits.recorded_bytes", id)
	}
	fw := &Follower{journal: j, filter: f, seq: after}
	j.follow(1)
	if after > 0 {
		return fw, nil, nil
	}
	var old []RequestRecord
	old, fw.seq, _ = j.after(0, &f, most)
	return fw, old, nil
}

// Read returns what came since the last Read, without waiting, and how many
// requests were forgotten before it looked.
func (f *Follower) Read() (records []RequestRecord, missed uint64) {
	records, f.seq, missed = f.journal.after(f.seq, &f.filter, math.MaxInt)
	return records, missed
}

// News returns a channel that is closed when Read would return something, and
// whether nothing will ever come: the clone's life is over, or its journal was
// given up.
func (f *Follower) News() (news <-chan struct{}, over bool) { return f.journal.await(f.seq) }

// Close ends the following.
func (f *Follower) Close() { f.journal.follow(-1) }
