package certs

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDiskLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, ctx := newDisk(t.TempDir()), t.Context()
		holders := 0
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if err := d.Lock(ctx, "a"); err != nil {
					t.Error(err)
				}
				if holders++; holders != 1 {
					t.Errorf("%d hold one lock", holders)
				}
				time.Sleep(time.Second)
				holders--
				if err := d.Unlock(ctx, "a"); err != nil {
					t.Error(err)
				}
			})
		}
		if err := d.Lock(ctx, "b"); err != nil {
			t.Errorf("another lock: %v", err)
		}
		all.Wait()
		if got, err := d.TryLock(ctx, "b"); got || err != nil {
			t.Errorf("TryLock of one that is held: %t, %v", got, err)
		}
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := d.Lock(soon, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock until the deadline: %v", err)
		}
		if got, err := d.TryLock(ctx, "a"); !got || err != nil {
			t.Errorf("TryLock of one that is free: %t, %v", got, err)
		}
	})
}
