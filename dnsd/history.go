package dnsd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A Catalog lists clones and tells how they change. *registry.View is one.
type Catalog interface {
	Directory
	// Clones returns every clone in the order of its ID, starting behind after.
	Clones(after registry.ID) iter.Seq[*registry.Clone]
	// Changes waits for changes after a revision; the error is
	// registry.ErrLagged if they are no longer kept.
	Changes(ctx context.Context, after uint64) ([]registry.Change, error)
}

// A history knows the clones that have names at one revision, and what was
// different before it. The view itself moves on while it is read; a copy of
// the zone has to be that of one serial number.
type history struct {
	catalog    Catalog
	challenges *Challenges
	changed    func() // called when the zones' contents have changed

	mu      sync.Mutex
	now     moment        // guarded by mu
	first   uint64        // guarded by mu; the oldest revision that the journal leads back to
	journal []edit        // guarded by mu; oldest first
	grown   chan struct{} // guarded by mu; closed when the revision changes
}

// A moment is what the zones hold at one revision, or a part of that.
type moment struct {
	revision   uint64
	clones     map[registry.ID]*registry.Clone // those that have names
	challenges map[string]*node
}

// An edit is one clone at one revision.
type edit struct {
	revision uint64
	id       registry.ID
	old      *registry.Clone // nil: it had no names
}

// maxJournal bounds how many changes a secondary may lie behind and still be
// sent only those.
const maxJournal = 4096

func newHistory(catalog Catalog, challenges *Challenges, changed func()) *history {
	return &history{catalog: catalog, challenges: challenges, changed: changed, grown: make(chan struct{})}
}

// run follows the catalog until ctx ends.
func (h *history) run(ctx context.Context) error {
	for {
		err := h.load(ctx)
		for err == nil {
			err = h.step(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, registry.ErrLagged) {
			return fmt.Errorf("follow the registry: %w", err)
		}
	}
}

// load reads every clone. While it does, clones change: what was read is that
// of one revision only after all changes until the end of the reading.
func (h *history) load(ctx context.Context) error {
	m := moment{revision: h.catalog.Revision(), clones: map[registry.ID]*registry.Clone{}}
	for c := range h.catalog.Clones("") {
		m.put(c)
	}
	for end := h.catalog.Revision(); m.revision < end; {
		changes, err := h.catalog.Changes(ctx, m.revision)
		if err != nil {
			return err
		}
		for _, ch := range changes {
			if ch.Clone != nil {
				m.put(ch.Clone)
			}
			m.revision = ch.Revision
		}
	}
	m.challenges = h.challenges.all()
	h.mu.Lock()
	h.now, h.first, h.journal = m, m.revision, nil
	h.growLocked()
	h.mu.Unlock()
	h.changed()
	return nil
}

// step waits for changes and takes them over.
func (h *history) step(ctx context.Context) error {
	h.mu.Lock()
	after := h.now.revision
	h.mu.Unlock()
	changes, err := h.catalog.Changes(ctx, after)
	if err != nil {
		return err
	}
	challenges := h.challenges.all()
	h.mu.Lock()
	changed := false
	for _, ch := range changes {
		h.now.revision = ch.Revision
		changed = changed || ch.Event != nil && ch.Event.Type == registry.EventZoneChanged
		if c := ch.Clone; c != nil && (h.now.clones[c.ID] != nil || c.State.Named()) {
			h.journal = append(h.journal, edit{ch.Revision, c.ID, h.now.clones[c.ID]})
			h.now.put(c)
			changed = true
		}
	}
	if !maps.Equal(challenges, h.now.challenges) {
		// These come and go with certificates, every few weeks: whoever lies
		// behind one is sent everything.
		h.now.challenges, changed = challenges, true
		h.journal, h.first = nil, h.now.revision
	}
	if drop := len(h.journal) - maxJournal; drop > 0 {
		h.first = h.journal[drop-1].revision
		h.journal = slices.Delete(h.journal, 0, drop)
	}
	h.growLocked()
	h.mu.Unlock()
	if changed {
		h.changed()
	}
	return nil
}

func (h *history) growLocked() {
	close(h.grown)
	h.grown = make(chan struct{})
}

// catchUp bounds how long a transfer waits for what has just changed.
const catchUp = 2 * time.Second

// wait returns when the history has reached a revision.
func (h *history) wait(ctx context.Context, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	for {
		h.mu.Lock()
		reached, grown := h.now.clones != nil && h.now.revision >= revision, h.grown
		h.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", revision, ctx.Err())
		}
	}
}

// whole returns everything that the zones hold now.
func (h *history) whole() moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.now
	m.clones = maps.Clone(m.clones)
	return m
}

// since returns the clones that have changed since the moment with a serial
// number, as they were then and as they are now, with nil for one that had or
// has no names. ok is false if the journal does not lead back to it.
//
// A serial number is the last 32 bits of a revision, and stands for the latest
// revision with those bits. They compare as in RFC 1982: one that lies ahead
// of ours has nothing to learn from us.
func (h *history) since(serial uint32) (before, now moment, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now = moment{revision: h.now.revision, clones: map[registry.ID]*registry.Clone{}, challenges: h.now.challenges}
	before = now
	before.clones = map[registry.ID]*registry.Clone{}
	behind := uint32(now.revision) - serial
	switch {
	case behind > 1<<31:
		return before, now, true
	case behind == 1<<31, uint64(behind) > now.revision: // neither before nor after, or never ours
		return before, now, false
	}
	before.revision = now.revision - uint64(behind)
	if before.revision < h.first {
		return before, now, false
	}
	for _, e := range h.journal {
		if _, seen := before.clones[e.id]; !seen && e.revision > before.revision {
			before.clones[e.id], now.clones[e.id] = e.old, h.now.clones[e.id]
		}
	}
	return before, now, true
}

// put takes over a clone, or its end.
func (m *moment) put(c *registry.Clone) {
	if c.State.Named() {
		m.clones[c.ID] = c
	} else {
		delete(m.clones, c.ID)
	}
}
