//go:build !race

package http2_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/clonegate/clonegate/proxy/http2"
	h2 "golang.org/x/net/http2"
)

// TestAllocations holds the steady path to what it may allocate: nothing for a
// request like the one before, its strings for one that differs.
func TestAllocations(t *testing.T) {
	const rounds, streams = 1000, 8
	paths := make([]string, rounds*streams)
	for i := range paths {
		paths[i] = fmt.Sprintf("/products/%d?page=1", i)
	}
	tests := []struct {
		name  string
		paths bool
		body  int
		most  float64
	}{
		{"the same request", false, 1024, 0.1},
		{"another path each time", true, 1024, 2},
		{"an answer of 64 KiB", false, 64 << 10, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := pair(t)
			defer client.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				newServer(t, http2.Config{}).Serve(t.Context(), server, answer1K(make([]byte, tt.body)))
			}()
			r := newReplay(client)
			run := func(n int) {
				for i := range n {
					if !tt.paths {
						r.round(t, streams)
						continue
					}
					r.round(t, streams, paths[i*streams:(i+1)*streams]...)
				}
			}
			run(100)
			n := mallocs(func() { run(rounds) }) / (rounds * streams)
			t.Logf("%.3f allocations a request", n)
			if n > tt.most {
				t.Errorf("got %.2f allocations a request, want at most %v", n, tt.most)
			}
			client.Close()
			<-done
		})
	}
}

// mallocs returns how many objects are allocated while f runs.
func mallocs(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs)
}

// TestIdleMemory tells what a connection holds between two requests.
func TestIdleMemory(t *testing.T) {
	const conns = 200
	const most = 8 << 10 // octets of heap a connection, its stack apart
	srv := newServer(t, http2.Config{})
	before := heap()
	for range conns {
		p := dial(t, srv, zeros(1<<20), h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
		p.WriteWindowUpdate(0, 1<<20)
		p.request(1, true, browserHead...)
		p.answer(1)
		p.Framer, p.enc, p.dec = nil, nil, nil // the client's memory is its own
		p.block.Reset()
	}
	n := (heap() - before) / conns
	t.Logf("%d octets a connection", n)
	if n > most {
		t.Errorf("an idle connection holds %d octets, want at most %d", n, most)
	}
}
