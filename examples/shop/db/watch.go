package db

import (
	"context"
	"iter"
	"slices"

	"github.com/clonegate/clonegate/examples/shop"
)

// first is the number of the first event that ever happens. 0 stands for now,
// and 1 for the time before anything happened.
const first = 2

// Watch yields what happens after event number after, for as long as ctx
// lives; then it yields the error of ctx and ends. The first event only says
// where the feed begins. after 0, or one that has not happened yet, begins now.
func (d *DB) Watch(ctx context.Context, after uint64) iter.Seq2[shop.Event, error] {
	return func(yield func(shop.Event, error) bool) {
		d.mu.RLock()
		seen := len(d.events)
		d.mu.RUnlock()
		if after > 0 && after < uint64(first+seen) {
			seen = int(after) - (first - 1)
		}
		if !yield(shop.Event{Seq: uint64(first + seen - 1)}, nil) {
			return
		}
		for {
			d.mu.RLock()
			fresh, grown := slices.Clone(d.events[seen:]), d.grown
			d.mu.RUnlock()
			for _, e := range fresh {
				if !yield(e, nil) {
					return
				}
			}
			seen += len(fresh)
			select {
			case <-grown:
			case <-ctx.Done():
				yield(shop.Event{}, ctx.Err())
				return
			}
		}
	}
}
