// Package registry is the one truth about templates and clones: which exist,
// what they serve, under which names, and how long they may live without a
// word. Everybody else reads it.
//
// A Registry decides: it holds the rules, and what it acknowledges has been
// written by a Store. A View shows: it is the same records in memory, for
// readers that cannot wait. The package knows neither HTTP nor SQL nor who
// reads it; see registry/api, registry/client and registry/sqlite.
package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a Registry needs. Store and Zones are required.
type Config struct {
	Store    Store
	Zones    *Zones
	Networks *Networks    // nil: the private networks
	Log      *slog.Logger // nil discards

	// CheckRecord says whether an extra DNS record can be served.
	// Nil takes every record.
	CheckRecord func(Record) error

	// Providers names what can make clones; Create takes no other.
	Providers []string
	// CheckParams says whether a template takes these parameters.
	// Nil takes any.
	CheckParams func(*Template, map[string]string) error

	// TTL is how long a lease lives without renewal; a clone may only ask for
	// less. Zero means 120 seconds.
	TTL time.Duration
	// RenewEvery is how often clones are told to renew, at most a third of
	// the lease. Zero means 20 seconds.
	RenewEvery time.Duration
	// SweepEvery is how often ended leases are looked for. Zero means 30 seconds.
	SweepEvery time.Duration
	// FirstID is the first ID to allocate. Zero means 1000.
	FirstID uint64
	// Tombstones bounds how many clones that are over stay in memory to be
	// explained to visitors. Zero means 10,000.
	Tombstones int
}

func (cfg *Config) fill() error {
	if cfg.Store == nil || cfg.Zones == nil {
		return errors.New("registry: Store and Zones are required")
	}
	if cfg.Networks == nil {
		cfg.Networks = NewNetworks(PrivateNetworks)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.TTL = cmp.Or(cfg.TTL, 120*time.Second)
	cfg.RenewEvery = cmp.Or(cfg.RenewEvery, 20*time.Second)
	cfg.SweepEvery = cmp.Or(cfg.SweepEvery, 30*time.Second)
	cfg.FirstID = cmp.Or(cfg.FirstID, 1000)
	cfg.Tombstones = cmp.Or(cfg.Tombstones, 10_000)
	if cfg.TTL < time.Second || cfg.RenewEvery < time.Second || cfg.SweepEvery <= 0 {
		return errors.New("registry: leases and renewals take at least one second")
	}
	return nil
}

// A Registry holds the rules and makes every change. Its methods may be called
// at the same time.
type Registry struct {
	cfg       Config
	view      *View
	leases    *leases
	faultEnds *faultEnds
	tokens    *tokenUse
	ops       chan *op
	ended     chan struct{} // closed when Run returns
	fault     atomic.Pointer[error]

	// Only the writer uses the following.
	nextID uint64
	over   []ending // oldest first
}

// Open loads what the store holds and returns a Registry that answers readers
// at once. Every lease starts with one full TTL of grace, because we may have
// been away longer than clones could renew. Writes wait until Run runs.
func Open(ctx context.Context, cfg Config) (*Registry, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	kept, err := cfg.Store.Load(ctx, cfg.Tombstones)
	if err != nil {
		return nil, fmt.Errorf("registry: load: %w", err)
	}
	r := &Registry{
		cfg:       cfg,
		view:      newView(cfg.Zones),
		leases:    newLeases(),
		faultEnds: newFaultEnds(),
		tokens:    newTokenUse(),
		ops:       make(chan *op, maxBatch),
		ended:     make(chan struct{}),
		nextID:    max(kept.NextID, cfg.FirstID),
	}
	r.load(kept)
	return r, nil
}

// load fills the view. Clones that are over go in first, so that a living one
// keeps a name that both had.
func (r *Registry) load(kept *Contents) {
	slices.SortStableFunc(kept.Clones, func(a, b *Clone) int {
		if a.State.Over() != b.State.Over() {
			if a.State.Over() {
				return -1
			}
			return 1
		}
		return a.Ended.Compare(b.Ended)
	})
	for _, c := range kept.Clones {
		r.view.applyClone(c)
		r.noteOver(c)
		r.faultEnds.note(c)
		if leased(c) {
			r.leases.grant(c.ID, c.TTL.Duration(), kept.Renewed[c.ID], false)
		}
	}
	for _, t := range kept.Templates {
		r.view.templates[t.Ref()] = t
	}
	for _, c := range kept.Channels {
		r.view.channels[c.Template+"@"+c.Name] = c
	}
	for _, t := range kept.Tokens {
		r.view.tokens[t.ID] = t
	}
	r.view.changes.start(kept.Revision)
}

// Run makes writes durable and ends leases until ctx ends; it returns nil then.
func (r *Registry) Run(ctx context.Context) error {
	defer close(r.ended)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { r.runWriter(ctx); return nil })
	g.Go(func() error { r.runSweeper(ctx); return nil })
	g.Go(func() error { r.runToucher(ctx); return nil })
	return g.Wait()
}

// View returns what readers read.
func (r *Registry) View() *View { return r.view }

// Healthy returns nil if the store took the last write, and otherwise what is
// wrong with it.
func (r *Registry) Healthy() error {
	if err := r.fault.Load(); err != nil {
		return *err
	}
	return nil
}

// Events returns up to limit events after seq, oldest first.
func (r *Registry) Events(ctx context.Context, after uint64, limit int) ([]Event, error) {
	return r.cfg.Store.Events(ctx, after, limit)
}

// An ending is a change by which a clone's life was over.
type ending struct {
	id       ID
	revision uint64
}

// noteOver keeps the number of clones that are over and in memory bounded. A
// clone that has lived again since is not forgotten.
func (r *Registry) noteOver(c *Clone) {
	if !c.State.Over() {
		return
	}
	r.over = append(r.over, ending{c.ID, c.Revision})
	for len(r.over) > r.cfg.Tombstones {
		oldest := r.over[0]
		r.over = r.over[1:]
		if old, ok := r.view.Clone(oldest.id); ok && old.Revision == oldest.revision {
			r.view.forget(oldest.id)
		}
	}
}
