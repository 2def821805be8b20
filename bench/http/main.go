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
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	b, err := parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	return b.run(ctx)
}

// A bench is what the command line asks for.
type bench struct {
	clones    []int
	rounds    int
	dur       time.Duration
	tests     []string // empty: all
	only      []string // gateways; empty: all
	smoke     bool
	clonegate string
	dir       string
	readme    string
	scale     scale

	stdout, stderr io.Writer
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

func parse(args []string, stdout, stderr io.Writer) (*bench, error) {
	b := &bench{scale: full(), stdout: stdout, stderr: stderr}
	flags := flag.NewFlagSet("bench-http", flag.ContinueOnError)
	flags.SetOutput(stderr)
	clones := flags.String("clones", "1000,10000", "numbers of registered clones; a table each")
	flags.IntVar(&b.rounds, "rounds", 3, "rounds; each starts every gateway anew")
	flags.DurationVar(&b.dur, "dur", 4*time.Second, "time of one measurement")
	tests := flags.String("tests", "", "tests to run, by comma, as listed by -tests help; default: all")
	only := flags.String("only", "", "gateways to test, by comma, as in clonegate,HAProxy; default: all")
	flags.BoolVar(&b.smoke, "smoke", false, "see that everything works, with what this machine has, and measure nothing")
	flags.StringVar(&b.clonegate, "clonegate", "bin/clonegate", "the program to test")
	flags.StringVar(&b.dir, "dir", "build/bench", "directory for programs and data")
	flags.StringVar(&b.readme, "readme", "bench/README.md", "file that full runs write their tables to")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	b.tests, b.only = list(*tests), list(*only)
	for _, text := range list(*clones) {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > newClones {
			return nil, fmt.Errorf("-clones: %q is no number from 1 to %d", text, newClones)
		}
		b.clones = append(b.clones, n)
	}
	if b.smoke {
		b.clones, b.rounds, b.dur, b.scale = []int{20}, 1, 50*time.Millisecond, smoke()
	}
	if b.rounds < 1 || b.dur <= 0 {
		return nil, errors.New("-rounds and -dur have to be above 0")
	}
	for _, path := range []*string{&b.clonegate, &b.dir} { // programs run in directories of their own
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	return b, b.check()
}

// check refuses names that do not exist.
func (b *bench) check() error {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	for _, name := range b.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-only: there is no gateway %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	for _, key := range b.tests {
		if !slices.Contains(testKeys(), key) {
			return fmt.Errorf("-tests: there is no test %q; there are %s", key, strings.Join(testKeys(), ", "))
		}
	}
	return nil
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// wants reports whether a test is to run.
func (b *bench) wants(key string) bool { return len(b.tests) == 0 || slices.Contains(b.tests, key) }

// whole reports whether nothing was left out, so that the tables may replace
// those of the last run.
func (b *bench) whole() bool { return !b.smoke && len(b.tests) == 0 && len(b.only) == 0 }
