// Command http measures clonegate beside nginx, HAProxy and Caddy: what a
// request, a handshake, a connection and a change of routes costs each of them
// on this machine, in one run. bench/README.md says how to read the tables that
// it writes there.
package main

import (
	"context"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
	"github.com/clonegate/clonegate/bench/load"
)

func main() { bench().Main() }

// bench is what is compared.
func bench() *lab.Bench {
	return &lab.Bench{
		Name: "http", Clones: "1000,10000", ManyFiles: true,
		Servers: servers(), Rivals: rivals(), Backend: serveOrigin, Answers: answers,
		Tests: newTests, Keys: lab.Keys(new(round).tests()),
		Goals: goalFigures, Sides: sideFigures(),
	}
}

// A round is one round, with what its tests need beside the servers.
type round struct {
	*lab.Round
	scale   scale
	started time.Time // all servers
	next    int       // clone to register next
}

// newTests returns the tests of one round.
func newTests(r *lab.Round) ([]lab.Test, error) {
	own := &round{Round: r, scale: full(), started: time.Now(), next: lab.MaxClones}
	if r.Smoke {
		own.scale = smoke()
	}
	return own.tests(), nil
}

// answers asks a gateway for its last clone.
func answers(_ context.Context, r *lab.Round, s *lab.Subject) error {
	return (&load.Visitor{Gateway: s.Addr}).Get(r.Size - 1)
}

// A scale is how much of everything a test takes.
type scale struct {
	conns, streams int           // of saturating tests over HTTP/1.1; half as many and so many streams over HTTP/2
	rate           float64       // requests per second at a fixed rate
	held           int           // idle connections
	settle         time.Duration // before memory is read
	warm           time.Duration
	changes, churn int // changes of routes: one by one, and under load
	gap            time.Duration
	bound          time.Duration // for all changes of one gateway
}

func full() scale {
	return scale{
		conns: 64, streams: 8, rate: 2000, held: 5000, settle: 20 * time.Second, warm: time.Second,
		changes: 50, churn: 200, gap: 50 * time.Millisecond, bound: 20 * time.Second,
	}
}

// smoke is enough to see that everything works.
func smoke() scale {
	return scale{
		conns: 4, streams: 2, rate: 200, held: 16, warm: 10 * time.Millisecond,
		changes: 2, churn: 2, gap: 100 * time.Millisecond, bound: 5 * time.Second,
	}
}
