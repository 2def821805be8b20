package dnsd_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// overTCP returns a handler that has every question asked again over TCP, and
// answers it there by h.
func overTCP(h handler) handler {
	return func(q asked, send func([]byte)) {
		if q.network == "tcp" {
			h(q, send)
			return
		}
		m := replyTo(q, 0, nil, nil)
		m.Truncated = true
		send(pack(m))
	}
}

// askAll asks so many questions at the same time and fails unless each gets
// its own answer.
func askAll(t *testing.T, addr string, n int) {
	t.Helper()
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			if got, want := short(ask(t, addr, fmt.Sprintf("n%d.example.", i), dns.TypeA)), fmt.Sprintf("NOERROR; A 198.51.100.%d", i); got != want {
				t.Errorf("question %d: %s, want %s", i, got, want)
			}
		})
	}
	clients.Wait()
}

// numbered returns the reply to the question that askAll asked.
func numbered(q asked) []byte {
	var i int
	fmt.Sscanf(dns.CanonicalName(q.msg.Question[0].Name), "n%d.", &i)
	return pack(replyTo(q, 0, []string{fmt.Sprintf(" 60 IN A 198.51.100.%d", i)}, nil))
}

// tcpSources counts the questions over TCP by the connection they came over.
func tcpSources(u *upstream) map[netip.AddrPort]int {
	sources := map[netip.AddrPort]int{}
	for _, q := range u.questions() {
		if q.network == "tcp" {
			sources[q.from]++
		}
	}
	return sources
}

// TestPipelined: questions to one server share a connection, up to a hundred
// of them, and their answers come in any order.
func TestPipelined(t *testing.T) {
	t.Parallel()
	const n = 150
	var mu sync.Mutex
	var late []func() // answers in the order of the questions
	up := newUpstream(t, overTCP(func(q asked, send func([]byte)) {
		mu.Lock()
		defer mu.Unlock()
		late = append(late, func() { send(numbered(q)) })
		if len(late) == n {
			for _, answer := range slices.Backward(late) {
				answer()
			}
		}
	}))
	s := serve(t, dnsd.Config{Directory: newWorld(t)}, to(up))
	askAll(t, s.addrs[0], n)
	sources := tcpSources(up)
	if len(sources) != 2 {
		t.Errorf("%d questions came over connections with %v of them, want two connections", n, sources)
	}
	for from, count := range sources {
		if count > 100 {
			t.Errorf("%d questions wait on the connection from %v, want 100 at most", count, from)
		}
	}
	ids := map[uint16]bool{}
	for _, q := range up.questions() {
		if q.network == "tcp" {
			ids[q.msg.Id] = true
		}
	}
	if len(ids) < n*9/10 {
		t.Errorf("%d questions had %d IDs", n, len(ids))
	}
}

// TestStreamEnds: whatever ends a connection, the questions on it and those
// after it are answered.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		handle func() func(q asked, nth int, send func([]byte)) // nth question of its connection, from 1
		idle   time.Duration
		waves  int
		n      int // questions at the same time, in each wave
	}{
		{"one answer for each", func() func(asked, int, func([]byte)) {
			return func(q asked, nth int, send func([]byte)) {
				if nth == 1 {
					send(numbered(q))
					send(nil)
				}
			}
		}, 0, 3, 20},
		{"five answers for each", func() func(asked, int, func([]byte)) {
			return func(q asked, nth int, send func([]byte)) {
				if nth <= 5 {
					send(numbered(q))
				}
				if nth == 5 {
					send(nil)
				}
			}
		}, 0, 2, 12},
		{"idle here", func() func(asked, int, func([]byte)) {
			return func(q asked, _ int, send func([]byte)) { send(numbered(q)) }
		}, 20 * time.Millisecond, 3, 5},
		{"the first one is silent", func() func(asked, int, func([]byte)) {
			var first sync.Once
			return func(q asked, _ int, send func([]byte)) {
				isFirst := false
				first.Do(func() { isFirst = true })
				if !isFirst {
					send(numbered(q))
				}
			}
		}, 0, 2, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			handle := row.handle()
			var mu sync.Mutex
			seen := map[netip.AddrPort]int{}
			up := newUpstream(t, overTCP(func(q asked, send func([]byte)) {
				mu.Lock()
				defer mu.Unlock()
				seen[q.from]++
				handle(q, seen[q.from], send)
			}))
			s := serveWith(t, dnsd.Config{Directory: newWorld(t), CacheEntries: -1}, func(s *dnsd.Server) {
				s.SetTiming(time.Second, time.Minute, 0, 0, row.idle)
			}, to(up))
			for range row.waves {
				askAll(t, s.addrs[0], row.n)
				if row.idle > 0 {
					until(t, "idle connections are closed", func() bool { return s.Streams() == 0 })
				}
			}
		})
	}
}

// TestStreamIsKept: questions one after the other share a connection as well,
// until it was idle for a while.
func TestStreamIsKept(t *testing.T) {
	t.Parallel()
	up := newUpstream(t, overTCP(func(q asked, send func([]byte)) { send(numbered(q)) }))
	s := serve(t, dnsd.Config{Directory: newWorld(t), CacheEntries: -1}, to(up))
	for range 10 {
		askAll(t, s.addrs[0], 1)
	}
	if sources := tcpSources(up); len(sources) != 1 || s.Streams() != 1 {
		t.Errorf("10 questions came over %d connections, and %d are open; want one", len(sources), s.Streams())
	}
}
