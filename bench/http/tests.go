package main

import (
	"context"
	"fmt"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

// A test measures one gateway.
type test struct {
	key  string
	main string // the figure that failures are noted with
	run  func(b *block, ctx context.Context, g *gateway) error
}

// tests are all of them, in the order of a round: memory first, while nobody
// has asked for anything.
func tests() []test {
	all := []test{
		{"memory", "memory.idle", (*block).memory},
		{"held", "memory.held", (*block).held},
	}
	for _, w := range workloads() {
		all = append(all, test{w.key, w.key + ".cpu", func(b *block, ctx context.Context, g *gateway) error {
			return b.work(ctx, w, g)
		}})
	}
	return append(all,
		test{"route", "route.first", (*block).route},
		test{"churn", "churn.failed", (*block).churnRoutes})
}

func testKeys() []string {
	var keys []string
	for _, t := range tests() {
		keys = append(keys, t.key)
	}
	return keys
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
func (b *block) work(ctx context.Context, w workload, g *gateway) error {
	plan := b.plan(w.plan(b.scale), g)
	plan.Dur = b.Dur
	r, err := plan.Run(ctx, w.drive)
	if err != nil {
		return err
	}
	if err := r.Err(); err != nil {
		return err
	}
	add := func(what string, value float64) { b.results.Add(w.key+"."+what, g.name, value) }
	add("cpu", micros(r.PerRequest(r.Cost.Server)))
	add("own", micros(r.PerRequest(r.Cost.Own)))
	add("rate", r.Rate())
	add("p50", millis(r.Latency(50)))
	add("p99", millis(r.Latency(99)))
	b.results.Add(lab.Foreign, lab.Ours, r.Cost.Foreign.Seconds()/r.Cost.Elapsed.Seconds())
	return nil
}

// plan fills in what is the same for all workloads.
func (b *block) plan(p load.Plan, g *gateway) load.Plan {
	p.Gateway, p.Clones, p.Warm = g.addr, b.size, b.scale.warm
	p.Server, p.Helpers = []int{g.process.PID}, []int{b.origin.PID}
	return p
}

// memory reads how large the gateway is before anybody asks for anything.
func (b *block) memory(_ context.Context, g *gateway) error {
	m := lab.MemoryOf(g.process.PID)
	b.results.Add("memory.idle", g.name, float64(m.Whole)/1024)
	b.results.Add("memory.private", g.name, float64(m.Private)/1024)
	return nil
}

// held reads how much larger it is with many idle connections.
func (b *block) held(_ context.Context, g *gateway) error {
	before := lab.MemoryOf(g.process.PID).Whole
	release, err := load.Hold(g.addr, b.size, b.scale.held)
	if err != nil {
		return err
	}
	defer release()
	time.Sleep(b.scale.settle / 4) // so that what only the handshakes needed is gone
	b.results.Add("memory.held", g.name, float64(lab.MemoryOf(g.process.PID).Whole-before)/float64(b.scale.held))
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

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
