package daemon_test

import (
	"runtime/metrics"
	"testing"
	"time"
)

// TestMemoryIsGivenBackAfterABurst leaves garbage behind and then does nothing.
func TestMemoryIsGivenBackAfterABurst(t *testing.T) {
	start(t, configure(t, t.TempDir()))
	const burst = 64 << 20
	before := heapHeld()
	kept := make([][]byte, burst/4096)
	for i := range kept {
		kept[i] = make([]byte, 4096)
		kept[i][0] = 1 // so that the system has to give it
	}
	if got := heapHeld() - before; got < burst/2 {
		t.Fatalf("a burst of %d octets took %d", burst, got)
	}
	clear(kept)
	for deadline := time.Now().Add(20 * time.Second); heapHeld() > before+burst/8; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the heap holds %d octets 20 s after a burst, and %d before", heapHeld(), before)
		}
	}
}

// heapHeld returns how many octets of the heap the system has not got back.
func heapHeld() int64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64())
}
