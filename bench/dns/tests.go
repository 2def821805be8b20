package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
)

// tests are all of them, in their order.
func (r *round) tests() []lab.Test {
	all := []lab.Test{{Key: "memory", Main: "memory", Run: r.memory}}
	for _, f := range floods() {
		all = append(all, lab.Test{Key: f.key, Main: f.key + ".cpu", Run: func(ctx context.Context, s *lab.Subject) error {
			return r.flood(ctx, f, s)
		}})
	}
	return append(all,
		lab.Test{Key: "rate", Main: "rate.p99", Run: r.rate},
		lab.Test{Key: "change", Main: "change.less", Ours: true, Run: r.change})
}

// A flood is questions of one kind, asked as fast as they are answered.
type flood struct {
	key, name string
	code      string  // that every answer has
	goal      float64 // CPU, against the best rival
	files     func(r *round) (warm, file string, err error)
}

func floods() []flood {
	fixed := func(pick func(q questions) (warm, file string)) func(r *round) (string, string, error) {
		return func(r *round) (string, string, error) {
			warm, file := pick(r.files)
			return warm, file, nil
		}
	}
	return []flood{
		{"local", "local records", "NOERROR", 0.9, fixed(func(q questions) (string, string) { return q.local, q.local })},
		{"zipf", "cached forwards (Zipf)", "NOERROR", 0.95, fixed(func(q questions) (string, string) { return q.zipfAll, q.zipf })},
		{"unknown", "NXDOMAIN", "NXDOMAIN", 0.9, fixed(func(q questions) (string, string) { return q.unknown, q.unknown })},
		{"miss", "uncached forwards", "NOERROR", 0.6, (*round).newNames},
	}
}

// newNames writes files of names that nobody was asked for yet: as many as a
// fast server can be asked for, and some to warm up with.
func (r *round) newNames() (warm, file string, err error) {
	r.misses++
	warm, file = filepath.Join(r.Dir, "miss-warm"), filepath.Join(r.Dir, "miss")
	same := func(i int) int { return i }
	n := int(r.Dur.Seconds() * float64(r.scale.names) / 2)
	if err := writeNames(warm, fmt.Sprintf("a%%d.%d.%s", r.misses, upstreamZone), r.scale.names/10, same); err != nil {
		return "", "", err
	}
	return warm, file, writeNames(file, fmt.Sprintf("b%%d.%d.%s", r.misses, upstreamZone), max(n, r.scale.names/10), same)
}

// flood measures one kind of question.
func (r *round) flood(ctx context.Context, f flood, s *lab.Subject) error {
	warm, file, err := f.files(r)
	if err != nil {
		return err
	}
	unique := f.key == "miss"
	if err := r.warmUp(ctx, s, warm, warm != file); err != nil {
		return err
	}
	meter := lab.StartMeter(s.PIDs, []int{r.Backend.PID})
	o, err := r.ask(ctx, s, file, r.Dur, unique)
	cost := meter.Stop()
	if err != nil {
		return err
	}
	if o.done == 0 || !o.only(f.code) {
		return fmt.Errorf("%d answers, with %q; want %s only", o.done, o.codes, f.code)
	}
	r.Results.Add(f.key+".cpu", s.Name, lab.Micros(cost.Server)/float64(o.done))
	r.Results.Add(f.key+".rate", s.Name, o.rate)
	r.Results.Add(f.key+".lost", s.Name, float64(o.lost))
	return nil
}

// warmUp asks for a second, or until every name of a file was asked for.
func (r *round) warmUp(ctx context.Context, s *lab.Subject, file string, all bool) error {
	d := time.Second
	if all {
		d = 10 * time.Second
	}
	_, err := r.ask(ctx, s, file, d, all)
	return err
}

func (r *round) ask(ctx context.Context, s *lab.Subject, file string, d time.Duration, once bool) (outcome, error) {
	return dnsperf{program: r.Tool("dnsperf"), server: s.Addr, file: file, dur: d, once: once || r.scale.once}.run(ctx)
}

// memory reads how large the server is before anybody asks for anything.
func (r *round) memory(_ context.Context, s *lab.Subject) error {
	r.Results.Add("memory", s.Name, float64(lab.MemoryOf(s.PIDs...).Whole)/1024)
	return nil
}

// rate asks for local records at a fixed rate.
func (r *round) rate(ctx context.Context, s *lab.Subject) error {
	p := paced{server: s.Addr, rate: r.scale.rate, dur: r.Dur, clones: r.Size}
	meter := lab.StartMeter(s.PIDs, []int{r.Backend.PID})
	times, lost, wrong, err := p.run(ctx)
	cost := meter.Stop()
	switch {
	case err != nil:
		return err
	case len(times) == 0 || wrong > 0:
		return fmt.Errorf("%d right answers and %d wrong ones", len(times), wrong)
	}
	r.Results.Add("rate.p99", s.Name, lab.Millis(times[len(times)*99/100]))
	r.Results.Add("rate.p50", s.Name, lab.Millis(times[len(times)/2]))
	r.Results.Add("rate.cpu", s.Name, lab.Micros(cost.Server)/float64(len(times)))
	r.Results.Add("rate.lost", s.Name, float64(lost))
	r.Results.Add(lab.Foreign, lab.Ours, cost.Foreign.Seconds()/cost.Elapsed.Seconds())
	return nil
}

// changeTurns is how often change asks without changes and with them: whatever
// else the machine does comes and goes, and shall meet both alike.
const changeTurns = 4

// change measures how much less is answered while clones change, and what a
// change costs the server.
func (r *round) change(ctx context.Context, s *lab.Subject) error {
	var still, busy changing
	d := r.Dur / changeTurns
	for range changeTurns {
		if err := still.ask(ctx, r, s, d, 0); err != nil {
			return err
		}
		if err := busy.ask(ctx, r, s, d, r.scale.change); err != nil {
			return err
		}
	}
	r.Results.Add("change.less", s.Name, 1-busy.rate/still.rate)
	r.Results.Add("change.made", s.Name, float64(busy.changes)/busy.elapsed.Seconds())
	r.Results.Add("change.lost", s.Name, float64(busy.lost))
	extra := busy.cpu - time.Duration(float64(still.cpu)*float64(busy.done)/float64(still.done))
	r.Results.Add("change.cpu", s.Name, lab.Millis(extra)/float64(max(1, busy.changes)))
	return nil
}

// A changing is all turns with changes, or all without.
type changing struct {
	outcome // rate is the sum of all
	changes int
	cpu     time.Duration // of the server
	elapsed time.Duration
}

// ask asks for local records while so many clones change per second.
func (c *changing) ask(ctx context.Context, r *round, s *lab.Subject, d time.Duration, perSecond int) error {
	type made struct {
		n   int
		err error
	}
	changes := make(chan made, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if perSecond == 0 {
		changes <- made{}
	} else {
		go func() {
			n, err := s.Gate.Change(ctx, perSecond)
			changes <- made{n, err}
		}()
	}
	start, before := time.Now(), lab.CPU(s.PIDs...)
	o, err := r.ask(ctx, s, r.files.local, d, false)
	c.cpu += lab.CPU(s.PIDs...) - before
	c.elapsed += time.Since(start)
	stop()
	m := <-changes
	switch {
	case err != nil:
		return err
	case m.err != nil:
		return m.err
	case !o.only("NOERROR"):
		return fmt.Errorf("answers had %q; want NOERROR only", o.codes)
	}
	c.changes += m.n
	c.done, c.lost, c.rate = c.done+o.done, c.lost+o.lost, c.rate+o.rate
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
		lab.Figure{Key: "change.cpu", Name: "CPU of one change", Unit: "ms"},
		lab.Figure{Key: "memory", Name: "memory at start", Unit: "MiB"})
}
