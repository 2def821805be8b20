// Command http measures clonegate beside nginx, HAProxy and Caddy: what a
// request, a handshake, a connection and a change of routes costs each of them
// on this machine, in one run. bench/README.md says how to read the tables that
// it writes there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
)

// originJob is the argument that makes this program the origin of clones.
const originJob = "origin"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-http:", err)
		os.Exit(1)
	}
}

// run is the program: the origin, or the whole bench.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := lab.RaiseFiles(); err != nil {
		return err
	}
	if len(args) == 2 && args[0] == originJob {
		return serveOrigin(ctx, args[1])
	}
	var servers []lab.Server
	for _, k := range kinds() {
		servers = append(servers, k.Server)
	}
	o, err := lab.ParseOptions("bench-http", args, "1000,10000", servers, testKeys(), stdout, stderr)
	if err != nil {
		return err
	}
	b := &bench{Options: o, scale: full()}
	if o.Smoke {
		b.scale = smoke()
	}
	return b.run(ctx, servers)
}

// A bench is what the command line asks for.
type bench struct {
	*lab.Options
	scale scale
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
		conns: 4, streams: 2, rate: 200, held: 16, warm: 50 * time.Millisecond,
		changes: 2, churn: 2, gap: 100 * time.Millisecond, bound: 5 * time.Second,
	}
}
