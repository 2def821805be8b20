// Command dns measures the DNS server of clonegate beside dnsmasq, Unbound,
// CoreDNS and Knot Resolver: what a question costs each of them on this
// machine, in one run. bench/README.md says how to read the table that it
// writes there.
package main

import (
	"context"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

func main() { bench().Main() }

// bench is what is compared.
func bench() *lab.Bench {
	return &lab.Bench{
		Name: "dns", Clones: "10000",
		Servers: servers(), Rivals: rivals(), Backend: serveUpstream, Answers: answers,
		Tools: []lab.Program{{Name: "dnsperf", Package: "dnsperf"}},
		Tests: newTests, Keys: lab.Keys(new(round).tests()),
		Goals: func(int) []lab.Figure { return goalFigures() }, Sides: sideFigures(),
	}
}

// A round is one round, with what its tests need beside the servers.
type round struct {
	*lab.Round
	scale  scale
	files  questions
	misses int // runs that asked for names of their own
}

// newTests returns the tests of one round.
func newTests(r *lab.Round) ([]lab.Test, error) {
	own := &round{Round: r, scale: full()}
	if r.Smoke {
		own.scale = smoke()
	}
	var err error
	own.files, err = writeQuestions(r.Dir, r.Size, own.scale.names)
	return own.tests(), err
}

// answers asks a server for its last clone, and for a name of the upstream if it
// forwards.
func answers(ctx context.Context, r *lab.Round, s *lab.Subject) error {
	if err := lookUp(ctx, s.Addr, load.Host(r.Size-1)); err != nil || s.Lacks["zipf"] {
		return err
	}
	return lookUp(ctx, s.Addr, "ready."+upstreamZone)
}

// A scale is how much of everything a test takes.
type scale struct {
	names  int // in a file of questions
	rate   int // queries per second at a fixed rate
	change int // changes of the registry per second
	once   bool
}

func full() scale { return scale{names: 200_000, rate: 5000, change: 100} }

// smoke is enough to see that everything works. Names are asked for once, for
// dnsperf counts time in whole seconds.
func smoke() scale { return scale{names: 300, rate: 500, change: 100, once: true} }
