package main

import (
	"context"
	"fmt"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// tests are all of them, in their order: memory first, while nobody has asked
// for anything.
func (r *round) tests() []lab.Test {
	all := []lab.Test{
		{Key: "memory", Main: "memory.idle", Run: r.memory},
		{Key: "held", Main: "memory.held", Run: r.held},
	}
	for _, w := range workloads() {
		all = append(all, lab.Test{Key: w.key, Main: w.key + ".cpu", Run: func(ctx context.Context, s *lab.Subject) error {
			return r.work(ctx, w, s)
		}})
	}
	return append(all,
		lab.Test{Key: "route", Main: "route.first", Run: r.route},
		lab.Test{Key: "churn", Main: "churn.failed", Run: r.churnRoutes})
}

// A workload is traffic of one kind.
type workload struct {
	key, name string
	goal      float64 // CPU, against the best rival
	drive     load.Driver
	plan      func(s scale) load.Plan
}

func workloads() []workload {
	return []workload{
		{"h1", "1 KiB over HTTP/1.1", 0.85, load.HTTP1, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns}
		}},
		{"h2", "1 KiB over HTTP/2", 0.85, load.HTTP2, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns / 2, Streams: s.streams}
		}},
		{"h1large", "1 MiB over HTTP/1.1", 1, load.HTTP1, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns / 4, Path: load.Large}
		}},
		{"h2large", "1 MiB over HTTP/2", 1.05, load.HTTP2, func(s scale) load.Plan {
			return load.Plan{Conns: max(1, s.conns/8), Streams: max(1, s.streams/4), Path: load.Large}
		}},
		{"h1rate", "HTTP/1.1 at 2,000/s", 1.2, load.HTTP1, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns, Rate: s.rate}
		}},
		{"h2rate", "HTTP/2 at 2,000/s", 1.2, load.HTTP2, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns, Rate: s.rate}
		}},
		{"handshake", "full handshake", 0.95, load.Handshake, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns / 4}
		}},
		{"resume", "resumed handshake", 0.95, load.Resume, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns / 4}
		}},
		{"websocket", "WebSocket message", 1.05, load.WebSocket, func(s scale) load.Plan {
			return load.Plan{Conns: s.conns}
		}},
	}
}

// work measures one workload.
func (r *round) work(ctx context.Context, w workload, s *lab.Subject) error {
	plan := r.plan(w.plan(r.scale), s)
	plan.Dur = r.Dur
	done, err := plan.Run(ctx, w.drive)
	if err != nil {
		return err
	}
	if err := done.Err(); err != nil {
		return err
	}
	add := func(what string, value float64) { r.Results.Add(w.key+"."+what, s.Name, value) }
	add("cpu", lab.Micros(done.PerRequest(done.Cost.Server)))
	add("own", lab.Micros(done.PerRequest(done.Cost.Own)))
	add("rate", done.Rate())
	add("p50", lab.Millis(done.Latency(50)))
	add("p99", lab.Millis(done.Latency(99)))
	r.Results.Add(lab.Foreign, lab.Ours, done.Cost.Foreign.Seconds()/done.Cost.Elapsed.Seconds())
	return nil
}

// plan fills in what is the same for all workloads.
func (r *round) plan(p load.Plan, s *lab.Subject) load.Plan {
	p.Gateway, p.Clones, p.Warm = s.Addr, r.Size, r.scale.warm
	p.Server, p.Helpers = s.PIDs, []int{r.Backend.PID}
	return p
}

// memory reads how large the gateway is before anybody asks for anything.
func (r *round) memory(_ context.Context, s *lab.Subject) error {
	time.Sleep(time.Until(r.started.Add(r.scale.settle))) // what a start needs and leaves behind is given back
	m := lab.MemoryOf(s.PIDs...)
	r.Results.Add("memory.idle", s.Name, float64(m.Whole)/1024)
	r.Results.Add("memory.private", s.Name, float64(m.Private)/1024)
	return nil
}

// held reads how much larger it is with many idle connections.
func (r *round) held(_ context.Context, s *lab.Subject) error {
	before := lab.MemoryOf(s.PIDs...).Whole
	release, err := load.Hold(s.Addr, r.Size, r.scale.held)
	if err != nil {
		return err
	}
	defer release()
	time.Sleep(r.scale.settle / 4) // so that what only the handshakes needed is gone
	r.Results.Add("memory.held", s.Name, float64(lab.MemoryOf(s.PIDs...).Whole-before)/float64(r.scale.held))
	return nil
}

// goalFigures are what the tables show against goals.
func goalFigures(clones int) []lab.Figure {
	best := func(ratio float64) []lab.Goal { return []lab.Goal{{Than: lab.Best, Max: ratio}} }
	var all []lab.Figure
	for _, w := range workloads() {
		all = append(all, lab.Figure{
			Key: w.key + ".cpu", Name: w.name + ": CPU", Unit: "µs",
			Goals: append(best(w.goal), lab.Goal{Than: "Caddy", Max: 0.25}),
		})
		if w.plan(full()).Rate > 0 {
			all = append(all, lab.Figure{Key: w.key + ".p99", Name: w.name + ": p99", Unit: "ms", Goals: best(1)})
		}
	}
	const large = 10_000 // clones, from which the whole size counts
	idle := lab.Figure{Key: "memory.idle", Name: "memory with all clones idle", Unit: "MiB"}
	if clones >= large {
		idle.Goals = []lab.Goal{{Than: "HAProxy", Max: 0.6}}
	}
	return append(all,
		lab.Figure{Key: "route.first", Name: "register → first 200: p50", Unit: "ms", Goals: []lab.Goal{{Than: "HAProxy", Max: 1.2}}},
		lab.Figure{Key: "churn.failed", Name: fmt.Sprintf("%d changes under load: failed requests", full().churn), Goals: []lab.Goal{{Max: 0}}},
		lab.Figure{Key: "churn.cut", Name: "… kept connections cut", Goals: []lab.Goal{{Max: 0}}},
		lab.Figure{Key: "churn.p99", Name: "… p99 of the other users", Unit: "ms", Goals: []lab.Goal{{Than: "HAProxy", Max: 1}}},
		lab.Figure{Key: "memory.held", Name: "memory of an idle TLS connection", Unit: "KiB", Goals: []lab.Goal{{Than: "HAProxy", Max: 1.8}}},
		idle)
}

// sideFigures are what the tables show beside.
func sideFigures() []lab.Figure {
	var all []lab.Figure
	for _, w := range workloads() {
		all = append(all, lab.Figure{Key: w.key + ".rate", Name: w.name + ": done", Unit: "1/s"})
		if w.plan(full()).Rate == 0 {
			all = append(all, lab.Figure{Key: w.key + ".p99", Name: "… p99", Unit: "ms"})
		}
		all = append(all,
			lab.Figure{Key: w.key + ".p50", Name: "… p50", Unit: "ms"},
			lab.Figure{Key: w.key + ".own", Name: "… CPU of the generator", Unit: "µs"})
	}
	return append(all,
		lab.Figure{Key: "route.call", Name: "register: the call, p50", Unit: "ms"},
		lab.Figure{Key: "route.p99", Name: "register → first 200: p99", Unit: "ms"},
		lab.Figure{Key: "memory.private", Name: "memory with all clones idle, without the program's own file", Unit: "MiB"},
		lab.Figure{Key: "churn.changes", Name: "changes under load that were made in time"})
}
