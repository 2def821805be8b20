// Command dns measures the DNS server of clonegate beside dnsmasq, Unbound,
// CoreDNS and Knot Resolver: what a question costs each of them on this
// machine, in one run. bench/README.md says how to read the table that it
// writes there.
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

	"github.com/clonegate/clonegate/bench/lab"
)

// upstreamJob is the argument that makes this program the upstream.
const upstreamJob = "upstream"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-dns:", err)
		os.Exit(1)
	}
}

// run is the program: the upstream, or the whole bench.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 2 && args[0] == upstreamJob {
		return serveUpstream(ctx, args[1])
	}
	var servers []lab.Server
	for _, k := range kinds() {
		servers = append(servers, k.Server)
	}
	o, err := lab.ParseOptions("bench-dns", args, "10000", servers, testKeys(), stdout, stderr)
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
	names  int // in a file of questions
	rate   int // queries per second at a fixed rate
	change int // changes of the registry per second
	once   bool
}

func full() scale { return scale{names: 200_000, rate: 5000, change: 100} }

// smoke is enough to see that everything works. Names are asked for once, for
// dnsperf counts time in whole seconds.
func smoke() scale { return scale{names: 300, rate: 500, change: 100, once: true} }
