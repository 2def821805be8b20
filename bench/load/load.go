// Package load asks TLS gateways for what stands behind them: over HTTP/1.1,
// HTTP/2 and WebSockets, as fast as they answer or at a fixed rate, and checks
// every answer. It is written by hand on crypto/tls, to leave the machine to
// the gateway, and for this purpose only: it understands what the gateways of
// bench/http answer and takes everything else for a failure.
package load

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
)

// Host returns the public name of clone id.
func Host(id int) string { return "www-" + strconv.Itoa(id) + "." + lab.Zone }

// Addr returns the address behind which clone id stands; it answers with this
// address at the start of every body.
func Addr(id int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(1 + id/62500), byte(id / 250 % 250), byte(id%250 + 1)})
}

// A Plan is one measurement. Gateway, Clones, Conns and Dur are required.
type Plan struct {
	Gateway netip.AddrPort
	Clones  int // that are registered: 0 to Clones-1
	Conns   int // connections, each to a clone of its own as far as there are enough

	Path    string        // to ask for; empty: Small
	Streams int           // at the same time on a connection of HTTP/2; zero: 1
	Rate    float64       // requests per second in all; zero: as fast as they are answered
	Warm    time.Duration // before the measurement starts
	Dur     time.Duration

	Server  []int // processes of the gateway
	Helpers []int // further processes that belong to the test
}

// Paths that origins answer.
const (
	Small  = "/small" // 1 KiB
	Large  = "/large" // 1 MiB
	Socket = "/ws"    // a WebSocket that sends its address and then echoes
)

// A Result is what a measurement has found.
type Result struct {
	OK      int64
	Failed  int64            // requests that a user would have seen fail
	Cut     int64            // kept connections that the gateway ended
	Why     map[string]int64 // failures by their text, some of them
	Cost    lab.Cost
	latency []time.Duration // in ascending order
}

// Latency returns a percentile, as in Latency(99). At a fixed rate, time
// counts from when a request was due if its connection was busy then.
func (r *Result) Latency(percent float64) time.Duration {
	if len(r.latency) == 0 {
		return 0
	}
	return r.latency[min(len(r.latency)-1, int(percent/100*float64(len(r.latency))))]
}

// PerRequest returns CPU time per successful request.
func (r *Result) PerRequest(cpu time.Duration) time.Duration {
	return cpu / time.Duration(max(1, r.OK))
}

// Rate returns successful requests per second.
func (r *Result) Rate() float64 { return float64(r.OK) / r.Cost.Elapsed.Seconds() }

// Err returns an error that names the failures, nil if there are none.
func (r *Result) Err() error {
	switch {
	case r.Failed == 0 && r.OK > 0:
		return nil
	case len(r.Why) == 0:
		return errors.New("nothing was answered")
	}
	why := slices.SortedFunc(maps.Keys(r.Why), func(a, b string) int { return cmp.Compare(r.Why[b], r.Why[a]) })
	return fmt.Errorf("%d of %d failed: %s", r.Failed, r.Failed+r.OK, why[0])
}

// A phase is where a measurement stands.
const (
	warming int32 = iota
	measuring
	over
)

// A run is one measurement at work.
type run struct {
	Plan
	phase  atomic.Int32
	cut    time.Time // when every connection is given up
	source atomic.Uint32

	mu  sync.Mutex // guards why
	why map[string]int64
}

// A worker is one connection of a run, and what it has seen.
type worker struct {
	*run
	n    int // of Conns
	id   int // of its clone
	want []byte

	ok, failed, cuts int64
	latency          []time.Duration
}

// Run makes the measurement: drive, one of HTTP1, HTTP2 and so on, works on
// every connection. It is bounded by Warm + Dur and a few seconds.
func (p Plan) Run(ctx context.Context, drive Driver) (*Result, error) {
	s := p.Start(drive)
	if err := pause(ctx, p.Warm); err != nil {
		s.Stop()
		return nil, err
	}
	s.Measure()
	err := pause(ctx, p.Dur)
	return s.Stop(), err
}

// A Driver asks over one connection until the measurement is over.
type Driver func(*worker)

// A Session is a measurement whose end somebody else decides.
type Session struct {
	run     *run
	workers []*worker
	done    sync.WaitGroup
	meter   *lab.Meter
}

// Start starts asking. Nothing is counted yet.
func (p Plan) Start(drive Driver) *Session {
	p.Path, p.Streams = cmp.Or(p.Path, Small), max(1, p.Streams)
	s := &Session{run: &run{Plan: p, cut: time.Now().Add(p.Warm + p.Dur + 5*time.Second), why: map[string]int64{}}}
	for n := range p.Conns {
		id := n * max(1, p.Clones/p.Conns) % p.Clones
		w := &worker{run: s.run, n: n, id: id, want: answer(id), latency: make([]time.Duration, 0, 1<<12)}
		s.workers = append(s.workers, w)
		s.done.Go(func() { drive(w) })
	}
	return s
}

// answer is how the body of clone id begins.
func answer(id int) []byte { return []byte(Addr(id).String() + "\n") }

// Measure starts counting.
func (s *Session) Measure() {
	s.meter = lab.StartMeter(s.run.Server, s.run.Helpers)
	s.run.phase.Store(measuring)
}

// Stop ends the measurement and waits for its connections.
func (s *Session) Stop() *Result {
	s.run.phase.Store(over)
	r := &Result{Why: s.run.why}
	if s.meter != nil {
		r.Cost = s.meter.Stop()
	}
	s.done.Wait()
	for _, w := range s.workers {
		r.OK, r.Failed, r.Cut = r.OK+w.ok, r.Failed+w.failed, r.Cut+w.cuts
		r.latency = append(r.latency, w.latency...)
	}
	slices.Sort(r.latency)
	return r
}

// alive reports whether the worker is to go on.
func (w *worker) alive() bool { return w.phase.Load() != over && time.Now().Before(w.cut) }

// answered counts a request that was due at a time.
func (w *worker) answered(due time.Time) {
	if w.phase.Load() == measuring {
		w.ok++
		w.latency = append(w.latency, time.Since(due))
	}
}

// fail counts a request that failed. It also slows down a worker that does
// nothing but fail.
func (w *worker) fail(err error) {
	switch w.phase.Load() {
	case over:
		return
	case measuring:
		w.failed++
	}
	const kinds = 16 // texts to keep
	w.mu.Lock()
	if text := err.Error(); w.why[text] > 0 || len(w.why) < kinds {
		w.why[text]++
	}
	w.mu.Unlock()
	time.Sleep(10 * time.Millisecond)
}

// lost counts a kept connection that the gateway has ended.
func (w *worker) lost() {
	if w.phase.Load() == measuring {
		w.cuts++
	}
}

// A pacer says when requests of one connection are due.
type pacer struct {
	next time.Time
	step time.Duration // zero: at once
}

func (w *worker) pacer() pacer {
	if w.Rate == 0 {
		return pacer{}
	}
	step := time.Duration(float64(time.Second) * float64(w.Conns) / w.Rate)
	return pacer{time.Now().Add(step * time.Duration(w.n) / time.Duration(w.Conns)), step}
}

// wait waits until the next request is due and returns the time it counts
// from. If the connection was idle when it was due, that is now: that timers
// are late is no fault of the gateway.
func (p *pacer) wait() time.Time {
	now := time.Now()
	if p.step == 0 {
		return now
	}
	due := p.next
	p.next = p.next.Add(p.step)
	if early := due.Sub(now); early > 0 {
		time.Sleep(early)
		return time.Now()
	}
	return due
}

// browser is what a browser sends with a request, besides the host.
func browser() [][2]string {
	return [][2]string{
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
		{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"},
		{"accept-language", "en-GB,en;q=0.9"},
		{"accept-encoding", "gzip, deflate, br, zstd"},
		{"cookie", "session=4fdb2b6c9e1a4d0f8a7b6c5d4e3f2a1b; lang=en; theme=dark"},
		{"sec-fetch-mode", "cors"},
		{"sec-fetch-site", "same-origin"},
		{"cache-control", "max-age=0"},
	}
}

// request is a whole request of HTTP/1.1 for clone id.
func request(id int, path string, more ...[2]string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, Host(id))
	for _, h := range append(browser(), more...) {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
