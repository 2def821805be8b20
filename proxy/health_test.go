package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clonegate/clonegate/registry"
)

func now() time.Time { return time.Now() }

func sleep(d time.Duration) { time.Sleep(d) } // only under synctest

// A ward is a pool whose endpoints are as healthy as the test says.
type ward struct {
	pool   *pool
	mu     sync.Mutex
	sick   map[netip.AddrPort]error // guarded by mu
	probes map[netip.AddrPort]int   // guarded by mu
	slow   time.Duration            // set before the first probe
	most   int                      // guarded by mu; probes at once
	at     int                      // guarded by mu
}

// newWard probes until the test ends; it belongs into a synctest bubble.
func newWard(t *testing.T) *ward {
	w := &ward{sick: map[netip.AddrPort]error{}, probes: map[netip.AddrPort]int{}}
	p := newProber(w.probe, slog.New(slog.DiscardHandler))
	w.pool = newPool(&registry.Clone{ID: "1234"}, "www", p)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { p.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

func (w *ward) probe(ctx context.Context, c *check) error {
	w.mu.Lock()
	w.at++
	w.most = max(w.most, w.at)
	w.mu.Unlock()
	select {
	case <-time.After(w.slow):
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at--
	w.probes[c.endpoint.addr]++
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.sick[c.endpoint.addr]
}

func (w *ward) set(addr netip.AddrPort, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sick[addr] = err
}

// probesOf returns how often an endpoint was probed since the last call.
func (w *ward) probesOf(addr netip.AddrPort) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.probes[addr]
	w.probes[addr] = 0
	return n
}

func TestProbesFollowAnEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		addr := addrs("1")[0]
		broken := errors.New("GET /healthz answered 500")
		w.set(addr, broken)
		w.pool.update(&registry.Service{Endpoints: addrs("1"), Health: &registry.Health{Path: "/healthz", Interval: 10, Timeout: 2}})
		e := w.pool.endpoint(0)
		if _, reason := w.pool.pick(nil); reason != "" {
			t.Errorf("before the first probe: %s; want requests to be tried", reason)
		}
		steps := []struct {
			what   string
			err    error
			wait   time.Duration
			health health
			least  int // probes
			most   int
		}{
			{"the first probe fails", broken, time.Millisecond, unhealthy, 1, 1},
			{"it is probed in a hurry while there is hope", broken, 10 * time.Second, unhealthy, 49, 51},
			{"and then at its interval", broken, 20 * time.Second, unhealthy, 95, 101},
			{"and then at its interval, really", broken, 100 * time.Second, unhealthy, 9, 11},
			{"one success makes it healthy", nil, 11100 * time.Millisecond, healthy, 1, 2},
			{"healthy ones are left alone", nil, 100 * time.Second, healthy, 9, 11},
			{"two misses make it unhealthy", broken, 11500 * time.Millisecond, unhealthy, 2, 60},
			{"it returns within the hurry", nil, 201 * time.Millisecond, healthy, 1, 1},
		}
		w.probesOf(addr)
		for _, s := range steps {
			w.set(addr, s.err)
			time.Sleep(s.wait)
			synctest.Wait()
			if got := e.health.Load(); got != s.health {
				t.Errorf("%s: health %d; want %d", s.what, got, s.health)
			}
			if n := w.probesOf(addr); n < s.least || n > s.most {
				t.Errorf("%s: %d probes in %s; want %d to %d", s.what, n, s.wait, s.least, s.most)
			}
		}
	})
}

func TestOneMissHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		w.pool.update(&registry.Service{Endpoints: addrs("1"), Health: &registry.Health{Path: "/", Interval: 10, Timeout: 2}})
		e := w.pool.endpoint(0)
		synctest.Wait()
		for range 20 {
			w.probesOf(e.addr)
			w.set(e.addr, errors.New("lost"))
			for w.probesOf(e.addr) == 0 {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			w.set(e.addr, nil)
			if e.health.Load() != healthy {
				t.Fatal("one miss made an endpoint unhealthy")
			}
			time.Sleep(hurry)
			synctest.Wait()
		}
	})
}

func TestChecksEndWithTheirEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		check := &registry.Health{Path: "/", Interval: 1, Timeout: 1}
		w.pool.update(&registry.Service{Endpoints: addrs("1 2"), Health: check})
		kept, left := addrs("1")[0], addrs("2")[0]
		time.Sleep(5 * time.Second)
		w.pool.update(&registry.Service{Endpoints: addrs("1"), Health: check})
		synctest.Wait()
		w.probesOf(kept)
		w.probesOf(left)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := w.probesOf(left); n > 0 {
			t.Errorf("an endpoint that left was probed %d times", n)
		}
		if n := w.probesOf(kept); n < 9 || n > 11 {
			t.Errorf("an endpoint that stayed was probed %d times in 10 s; want 10", n)
		}
		w.pool.update(nil)
		synctest.Wait()
		w.pool.prober.mu.Lock()
		defer w.pool.prober.mu.Unlock()
		if n := len(w.pool.prober.queue); n > 0 {
			t.Errorf("%d checks are left of an empty pool", n)
		}
	})
}

func TestProbesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWard(t)
		w.slow = time.Hour // every probe takes its whole timeout
		var many []netip.AddrPort
		for i := range 1000 {
			many = append(many, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80))
		}
		w.pool.update(&registry.Service{Endpoints: many, Health: &registry.Health{Path: "/", Interval: 10, Timeout: 2}})
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.most != maxProbes {
			t.Errorf("%d probes at once; want %d", w.most, maxProbes)
		}
		for _, addr := range many {
			if w.probes[addr] == 0 {
				t.Fatalf("%s was never probed", addr)
			}
		}
	})
}
