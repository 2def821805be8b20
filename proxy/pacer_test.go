package proxy

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// TestPacerIsShared: however many send, in pieces of whatever size, a link
// passes what it is to pass and not an octet more.
func TestPacerIsShared(t *testing.T) {
	for _, row := range []struct {
		rate    int64
		senders int
		octets  int // of each
	}{
		{1024, 1, 10_000},
		{1024, 50, 500},
		{64 << 10, 7, 100_000},
		{100 << 20, 3, 100 << 20},
		{1 << 30, 2, 1 << 30},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newTrouble(&registry.Fault{
				FaultSpec: registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: row.rate, Direction: registry.DirectionBoth},
				Until:     time.Now().Add(24 * time.Hour),
			})
			way := upStraits([]*trouble{f}, nil)
			start := time.Now()
			var all sync.WaitGroup
			for range row.senders {
				all.Go(func() {
					for left := row.octets; left > 0; {
						n := way.piece(left)
						if !way.pass(n) {
							t.Error("halted")
						}
						left -= n
					}
				})
			}
			all.Wait()
			want := float64(row.senders) * float64(row.octets) / float64(row.rate)
			if took := time.Since(start).Seconds(); took < want-0.06 || took > want+0.01 {
				t.Errorf("%d × %d octets at %d a second took %.3f s; want %.3f", row.senders, row.octets, row.rate, took, want)
			}
		})
	}
}

// TestPacerEnds: nobody waits for a link that is no more.
func TestPacerEnds(t *testing.T) {
	fault := func() *trouble {
		return newTrouble(&registry.Fault{
			FaultSpec: registry.FaultSpec{Kind: registry.FaultBandwidth, Rate: 1024, Direction: registry.DirectionDown},
			Until:     time.Now().Add(3 * time.Second),
		})
	}
	for _, row := range []struct {
		name   string
		end    func(f *trouble, halt func())
		took   time.Duration
		passed bool
	}{
		{"removed", func(f *trouble, _ func()) { close(f.over) }, time.Second, true},
		{"halted", func(_ *trouble, halt func()) { halt() }, time.Second, false},
		{"its time has come", func(*trouble, func()) {}, 3 * time.Second, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, halted := fault(), make(chan struct{})
			way := downStraits([]*trouble{f}, halted)
			start := time.Now()
			go func() {
				time.Sleep(time.Second)
				row.end(f, func() { close(halted) })
			}()
			passed := way.pass(100 << 10)
			if took := time.Since(start); took != row.took || passed != row.passed {
				t.Errorf("%s: %v after %s; want %v after %s", row.name, passed, took, row.passed, row.took)
			}
			if up := upStraits([]*trouble{f}, nil); up.piece(1<<20) != 1<<20 || !up.pass(1<<20) {
				t.Errorf("%s: the other way is limited", row.name)
			}
			synctest.Wait()
		})
	}
}
