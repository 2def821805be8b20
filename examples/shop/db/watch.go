package db

import (
	"context"
	"iter"
	"slices"

	"github.com/clonegate/clonegate/examples/shop"
)

// Watch yields what happens after event number after, for as long as ctx
// lives; then it yields the error of ctx and ends. The first event only says
// where the feed begins. after 0, or one that has not happened yet, begins now.
func (d *DB) Watch(ctx context.Context, after uint64) iter.Seq2[shop.Event, error] {
	return func(yield func(shop.Event, error) bool) {
		d.mu.RLock()
		if last := uint64(len(d.events)); after == 0 || after > last {
			after = last
		}
		d.mu.RUnlock()
		if !yield(shop.Event{Seq: after}, nil) {
			return
		}
		for {
			d.mu.RLock()
			fresh, grown := slices.Clone(d.events[after:]), d.grown
			d.mu.RUnlock()
			for _, e := range fresh {
				if !yield(e, nil) {
					return
				}
			}
			after += uint64(len(fresh))
			select {
			case <-grown:
			case <-ctx.Done():
				yield(shop.Event{}, ctx.Err())
				return
			}
		}
	}
}
