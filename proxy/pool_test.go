package proxy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/clonegate/clonegate/registry"
)

func addrs(list string) []netip.AddrPort {
	var out []netip.AddrPort
	for s := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddrPort("10.0.0."+s+":80"))
	}
	return out
}

func testPool(list string) *pool {
	p := newPool(&registry.Clone{ID: "1234"}, "www", newProber(nil, slog.New(slog.DiscardHandler)))
	p.update(&registry.Service{Endpoints: addrs(list), Protocol: registry.HTTP})
	return p
}

func (p *pool) endpoint(n int) *endpoint { return (*p.members.Load())[n].endpoint }

func TestPickPrefersTheLessBusyOfTwo(t *testing.T) {
	p := testPool("1 2 3 4 5")
	for range 1000 {
		if _, reason := p.pick(nil); reason != "" {
			t.Fatal(reason)
		}
	}
	for i := range 5 {
		if n := p.endpoint(i).open.Load(); n < 190 || n > 210 {
			t.Errorf("endpoint %d has %d of 1000 requests; want nearly 200", i, n)
		}
	}
	p.endpoint(2).open.Store(5000)
	for range 300 {
		p.pick(nil)
	}
	if n := p.endpoint(2).open.Load(); n != 5000 {
		t.Errorf("the busiest endpoint got %d more requests; want 0", n-5000)
	}
}

func TestPickPassesOver(t *testing.T) {
	p := testPool("1 2 3")
	p.endpoint(0).health.Store(unhealthy)
	for range 50 {
		if e, _ := p.pick([]*endpoint{p.endpoint(1)}); e != p.endpoint(2) {
			t.Fatalf("picked %v; want the one that is healthy and was not tried", e)
		}
	}
	if e, reason := p.pick([]*endpoint{p.endpoint(1), p.endpoint(2)}); e != nil || reason != Unhealthy {
		t.Errorf("all tried: got %v, %q; want none, %q", e, reason, Unhealthy)
	}
	p.update(&registry.Service{})
	if e, reason := p.pick(nil); e != nil || reason != NoEndpoint {
		t.Errorf("empty: got %v, %q; want none, %q", e, reason, NoEndpoint)
	}
}

func TestFailuresBenchAnEndpointForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := testPool("1 2")
		bad, good := p.endpoint(0), p.endpoint(1)
		bad.failed(now(), false)
		bad.failed(now(), false)
		bad.succeeded() // failures must be consecutive
		bad.failed(now(), false)
		if bad.failed(now(), false) {
			t.Error("benched after two failures in a row; want three")
		}
		if !bad.failed(now(), false) {
			t.Error("not benched after three failures in a row")
		}
		if bad.failed(now(), true) {
			t.Error("benched again, and that told")
		}
		good.open.Store(1000)
		for range 50 {
			if e, _ := p.pick(nil); e != good {
				t.Fatal("picked a benched endpoint while another was there")
			}
		}
		sleep(benchTime)
		if e, _ := p.pick(nil); e != bad {
			t.Error("still benched after its time")
		}
		if !bad.failed(now(), true) {
			t.Error("not benched at once, though it is of no use")
		}
	})
}

func TestBenchingNeverEmptiesAPool(t *testing.T) {
	p := testPool("1")
	for range 10 {
		p.endpoint(0).failed(now(), false)
		if e, reason := p.pick(nil); e == nil {
			t.Fatalf("the only endpoint is not picked: %s", reason)
		}
	}
}

func TestUpdateKeepsWhatStays(t *testing.T) {
	p := testPool("1 2")
	kept, left := p.endpoint(0), p.endpoint(1)
	kept.open.Store(3)
	kept.misses.Store(2)
	left.open.Store(1)
	p.update(&registry.Service{Endpoints: addrs("3 1"), Protocol: registry.HTTP})
	if p.endpoint(1) != kept || kept.open.Load() != 3 || kept.misses.Load() != 2 {
		t.Error("an endpoint that stayed lost its counters")
	}
	if kept.retired || !left.retired {
		t.Errorf("retired: kept %v, left %v; want false, true", kept.retired, left.retired)
	}
	health := &registry.Health{Path: "/", Interval: 10, Timeout: 1}
	p.update(&registry.Service{Endpoints: addrs("3 1"), Protocol: registry.HTTP, Health: health})
	if p.endpoint(1) != kept || kept.retired {
		t.Error("a new health check replaced the endpoint")
	}
	p.update(&registry.Service{Endpoints: addrs("3 1"), Protocol: registry.H2C, Health: health})
	if p.endpoint(1) == kept || !kept.retired {
		t.Error("an endpoint with another protocol was kept")
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 2, 16} {
		var list strings.Builder
		for i := range n {
			fmt.Fprintf(&list, "%d ", i+1)
		}
		p := testPool(list.String())
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e, _ := p.pick(nil)
				e.release()
			}
		})
	}
}
