package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
)

// A test measures one server.
type test struct {
	key      string
	main     string // the figure that failures are noted with
	oursOnly bool
	run      func(b *block, ctx context.Context, s *server) error
}

// tests are all of them, in the order of a round.
func tests() []test {
	all := []test{{key: "memory", main: "memory", run: (*block).memory}}
	for _, f := range floods() {
		all = append(all, test{key: f.key, main: f.key + ".cpu", run: func(b *block, ctx context.Context, s *server) error {
			return b.flood(ctx, f, s)
		}})
	}
	return append(all,
		test{key: "rate", main: "rate.p99", run: (*block).rate},
		test{key: "change", main: "change.less", oursOnly: true, run: (*block).change})
}

func testKeys() []string {
	var keys []string
	for _, t := range tests() {
		keys = append(keys, t.key)
	}
	return keys
}

// A flood is questions of one kind, asked as fast as they are answered.
type flood struct {
	key, name string
	code      string  // that every answer has
	goal      float64 // CPU, against the best rival
	files     func(b *block) (warm, file string, err error)
}

func floods() []flood {
	fixed := func(pick func(q questions) (warm, file string)) func(b *block) (string, string, error) {
		return func(b *block) (string, string, error) {
			warm, file := pick(b.files)
			return warm, file, nil
		}
	}
	return []flood{
		{"local", "local records", "NOERROR", 0.9, fixed(func(q questions) (string, string) { return q.local, q.local })},
		{"zipf", "cached forwards (Zipf)", "NOERROR", 0.95, fixed(func(q questions) (string, string) { return q.zipfAll, q.zipf })},
		{"unknown", "NXDOMAIN", "NXDOMAIN", 0.9, fixed(func(q questions) (string, string) { return q.unknown, q.unknown })},
		{"miss", "uncached forwards", "NOERROR", 0.6, (*block).newNames},
	}
}

// newNames writes files of names that nobody was asked for yet: as many as a
// fast server can be asked for, and some to warm up with.
func (b *block) newNames() (warm, file string, err error) {
	b.misses++
	warm, file = filepath.Join(b.dir, "miss-warm"), filepath.Join(b.dir, "miss")
	same := func(i int) int { return i }
	n := int(b.Dur.Seconds() * float64(b.scale.names) / 2)
	if err := writeNames(warm, fmt.Sprintf("a%%d.%d.%s", b.misses, upstreamZone), b.scale.names/10, same); err != nil {
		return "", "", err
	}
	return warm, file, writeNames(file, fmt.Sprintf("b%%d.%d.%s", b.misses, upstreamZone), max(n, b.scale.names/10), same)
}

// flood measures one kind of question.
func (b *block) flood(ctx context.Context, f flood, s *server) error {
	warm, file, err := f.files(b)
	if err != nil {
		return err
	}
	unique := f.key == "miss"
	if err := b.warmUp(ctx, s, warm, warm != file); err != nil {
		return err
	}
	meter := lab.StartMeter(s.pids, []int{b.upstream.PID})
	o, err := b.ask(ctx, s, file, b.Dur, unique)
	cost := meter.Stop()
	if err != nil {
		return err
	}
	if o.done == 0 || !o.only(f.code) {
		return fmt.Errorf("%d answers, with %q; want %s only", o.done, o.codes, f.code)
	}
	b.results.Add(f.key+".cpu", s.name, micros(cost.Server)/float64(o.done))
	b.results.Add(f.key+".rate", s.name, o.rate)
	b.results.Add(f.key+".lost", s.name, float64(o.lost))
	return nil
}

// warmUp asks for a second, or until every name of a file was asked for.
func (b *block) warmUp(ctx context.Context, s *server, file string, all bool) error {
	d := time.Second
	if all {
		d = 10 * time.Second
	}
	_, err := b.ask(ctx, s, file, d, all)
	return err
}

func (b *block) ask(ctx context.Context, s *server, file string, d time.Duration, once bool) (outcome, error) {
	return dnsperf{program: b.found["dnsperf"].Path, server: s.addr, file: file, dur: d, once: once || b.scale.once}.run(ctx)
}

// memory reads how large the server is before anybody asks for anything.
func (b *block) memory(_ context.Context, s *server) error {
	b.results.Add("memory", s.name, float64(lab.MemoryOf(s.pids...).Whole)/1024)
	return nil
}

// rate asks for local records at a fixed rate.
func (b *block) rate(ctx context.Context, s *server) error {
	p := paced{server: s.addr, rate: b.scale.rate, dur: b.Dur, clones: b.size}
	meter := lab.StartMeter(s.pids, []int{b.upstream.PID})
	times, lost, wrong, err := p.run(ctx)
	cost := meter.Stop()
	switch {
	case err != nil:
		return err
	case len(times) == 0 || wrong > 0:
		return fmt.Errorf("%d right answers and %d wrong ones", len(times), wrong)
	}
	b.results.Add("rate.p99", s.name, millis(times[len(times)*99/100]))
	b.results.Add("rate.p50", s.name, millis(times[len(times)/2]))
	b.results.Add("rate.cpu", s.name, micros(cost.Server)/float64(len(times)))
	b.results.Add("rate.lost", s.name, float64(lost))
	b.results.Add(lab.Foreign, lab.Ours, cost.Foreign.Seconds()/cost.Elapsed.Seconds())
	return nil
}

// change measures how much less is answered while clones change.
func (b *block) change(ctx context.Context, s *server) error {
	still, err := b.ask(ctx, s, b.files.local, b.Dur, false)
	if err != nil {
		return err
	}
	changing, stop := context.WithCancel(ctx)
	defer stop()
	type changed struct {
		n   int
		err error
	}
	done := make(chan changed, 1)
	go func() {
		n, err := s.gate.Change(changing, b.scale.change)
		done <- changed{n, err}
	}()
	start := time.Now()
	busy, err := b.ask(ctx, s, b.files.local, b.Dur, false)
	elapsed := time.Since(start).Seconds()
	stop()
	c := <-done
	switch {
	case err != nil:
		return err
	case c.err != nil:
		return c.err
	case !busy.only("NOERROR"):
		return fmt.Errorf("answers had %q; want NOERROR only", busy.codes)
	}
	b.results.Add("change.less", s.name, 1-busy.rate/still.rate)
	b.results.Add("change.made", s.name, float64(c.n)/elapsed)
	b.results.Add("change.lost", s.name, float64(busy.lost))
	return nil
}

// goalFigures are what the table shows against goals.
func goalFigures() []lab.Figure {
	var all []lab.Figure
	none := []lab.Goal{{Max: 0}}
	for _, f := range floods() {
		all = append(all,
			lab.Figure{Key: f.key + ".cpu", Name: f.name + ": CPU", Unit: "µs", Goals: []lab.Goal{{Than: lab.Best, Max: f.goal}, {Than: "CoreDNS", Max: 0.5}}},
			lab.Figure{Key: f.key + ".lost", Name: "… queries lost", Goals: none})
	}
	return append(all,
		lab.Figure{Key: "rate.p99", Name: "5,000/s: p99", Unit: "ms", Goals: []lab.Goal{{Than: lab.Best, Max: 1.1}}},
		lab.Figure{Key: "rate.lost", Name: "… queries lost", Goals: none},
		lab.Figure{Key: "change.less", Name: "100 changes per second: throughput lost, as a share", Goals: []lab.Goal{{Max: 0.05}}},
		lab.Figure{Key: "change.lost", Name: "… queries lost", Goals: none})
}

// sideFigures are what the table shows beside.
func sideFigures() []lab.Figure {
	var all []lab.Figure
	for _, f := range floods() {
		all = append(all, lab.Figure{Key: f.key + ".rate", Name: f.name + ": answered", Unit: "1/s"})
	}
	return append(all,
		lab.Figure{Key: "rate.p50", Name: "5,000/s: p50", Unit: "ms"},
		lab.Figure{Key: "rate.cpu", Name: "5,000/s: CPU", Unit: "µs"},
		lab.Figure{Key: "change.made", Name: "changes per second that were made"},
		lab.Figure{Key: "memory", Name: "memory at start", Unit: "MiB"})
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
