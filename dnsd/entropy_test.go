package dnsd_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// TestEntropy: neither port nor ID of a question can be guessed from those
// before, and no port has two questions on their way.
func TestEntropy(t *testing.T) {
	const n, atOnce = 2000, 50
	var mu sync.Mutex
	busy := map[netip.AddrPort]int{}
	shared := 0
	up := newUpstream(t, func(q asked, send func([]byte)) {
		mu.Lock()
		if busy[q.from]++; busy[q.from] > 1 {
			shared++
		}
		mu.Unlock()
		time.Sleep(rand.N(2 * time.Millisecond))
		mu.Lock()
		busy[q.from]--
		mu.Unlock()
		send(pack(replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	var clients sync.WaitGroup
	for c := range atOnce {
		clients.Go(func() {
			for i := c; i < n; i += atOnce {
				if got := short(ask(t, s.addrs[0], fmt.Sprintf("n%d.example.", i), dns.TypeA)); got != "NOERROR; A 198.51.100.1" {
					t.Errorf("question %d: %s", i, got)
				}
			}
		})
	}
	clients.Wait()
	if shared > 0 {
		t.Errorf("%d questions left from a port at which another one waited", shared)
	}
	qs := up.questions()
	ports := map[uint16]bool{}
	near := 0
	var high, low, cases [16]int
	for i, q := range qs {
		ports[q.from.Port()] = true
		if i > 0 && q.from.Port()-qs[i-1].from.Port() < 4 {
			near++
		}
		high[q.msg.Id>>12]++
		low[q.msg.Id&15]++
		name := q.msg.Question[0].Name // ends in "example."
		spelling := 0
		for _, c := range name[len(name)-8 : len(name)-4] {
			spelling = spelling<<1 | int(c>>5&1)
		}
		cases[spelling]++
	}
	if len(ports) < len(qs)*95/100 || near > len(qs)/50 {
		t.Errorf("%d questions left from %d ports, %d of them just behind the one before", len(qs), len(ports), near)
	}
	for what, counts := range map[string][16]int{"first bits of IDs": high, "last bits of IDs": low, "spellings": cases} {
		if x := chiSquare(counts); x > 65 { // more in one run of thirty million
			t.Errorf("%s are not uniform: chi-square is %.1f of %v", what, x, counts)
		}
	}
}

// chiSquare returns how far counts are from being equal.
func chiSquare(counts [16]int) float64 {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	want := float64(sum) / float64(len(counts))
	x := 0.0
	for _, n := range counts {
		x += (float64(n) - want) * (float64(n) - want) / want
	}
	return x
}

// TestCaseIsNotKept: a server that answers in lower case, whatever was asked,
// is believed over TCP alone at first, and asked in lower case from then on.
func TestCaseIsNotKept(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, func(q asked, send func([]byte)) {
		m := replyTo(q, 0, []string{" 60 IN A 198.51.100.1"}, nil)
		m.Question[0].Name = dns.CanonicalName(m.Question[0].Name)
		send(pack(m))
	})
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	for i := range 20 {
		start := time.Now()
		if got := short(ask(t, s.addrs[0], fmt.Sprintf("a-long-name-%d.example.", i), dns.TypeA)); got != "NOERROR; A 198.51.100.1" || time.Since(start) > time.Second {
			t.Fatalf("question %d: %s after %v", i, got, time.Since(start))
		}
	}
	tcp := 0
	qs := up.questions()
	for i, q := range qs {
		if q.network == "tcp" {
			tcp++
		}
		if name := q.msg.Question[0].Name; i > 3 && name != dns.CanonicalName(name) {
			t.Errorf("question %d: %s; want lower case", i, name)
		}
	}
	if tcp > 1 || len(qs) > 22 {
		t.Errorf("%d questions, %d of them over TCP; want 20, and the first again over TCP", len(qs), tcp)
	}
}
