package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// When memory is given back to the system. A burst, as when ten thousand clones
// register or connect, leaves half of the heap to be collected; without this, a
// daemon that then has nothing to do keeps it, because nothing collects.
const (
	lookEvery  = 2 * time.Second
	quietBelow = 1 << 20 // octets allocated between two looks
	worthwhile = 4 << 20 // octets, or a quarter of what is in use
)

// memory is what the Go runtime says of its heap, in octets.
type memory struct {
	allocated uint64 // since the start
	live      uint64 // found by the last collection
	free      uint64 // neither used nor given back
}

func readMemory() memory {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	return memory{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()}
}

// isSpare reports whether much may be given back: what is free, or was allocated
// since that was done last.
func (m memory) isSpare(done memory) bool {
	return max(m.free, m.allocated-done.allocated) >= max(worthwhile, m.live/4)
}

// isQuiet reports whether little was allocated since an earlier look, so that
// what is given back will not be needed at once.
func (m memory) isQuiet(before memory) bool { return m.allocated-before.allocated < quietBelow }

// runMemory gives memory back after every burst, until ctx ends.
func runMemory(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var before, done memory
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		now := readMemory()
		if now.isQuiet(before) && now.isSpare(done) {
			debug.FreeOSMemory()
			now = readMemory()
			done = now
		}
		before = now
	}
}
