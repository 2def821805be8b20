package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// A Bench compares servers with each other. All is required but what says otherwise.
type Bench struct {
	Name    string    // of its sections in the README: "http" writes "http 1000"
	Clones  string    // the default of -clones
	Servers []Server  // all that it can start; the first is ours
	Rivals  []string  // those that ours is held against as Best
	Tools   []Program // without which nothing can be measured; may be empty

	// ManyFiles raises the number of files that may be open, here and in the
	// servers, as tests with thousands of connections need it.
	ManyFiles bool

	// Backend is what stands behind the servers: it serves at an address until
	// ctx ends. The program runs it as a process of its own.
	Backend func(ctx context.Context, addr string) error

	// Answers asks a server for its last clone. It is called until it returns nil.
	Answers func(ctx context.Context, r *Round, s *Subject) error

	// Tests returns the tests of a round, in their order. It is called when all
	// servers run. Keys are those of all tests there are.
	Tests func(r *Round) ([]Test, error)
	Keys  []string

	// Goals are what the table with so many clones shows against goals; Sides
	// are shown beside.
	Goals func(clones int) []Figure
	Sides []Figure
}

// BackendJob is the argument that makes the program the backend, at the address
// that follows.
const BackendJob = "backend"

// Main is the program.
func (b *Bench) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.Run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "bench-%s: %v\n", b.Name, err)
		os.Exit(1)
	}
}

// Run does what a command line asks for: it measures for each number of clones
// and writes what comes out. The error tells, too, what failed on the way; it
// is an ErrMissing if a tool is not there.
func (b *Bench) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if b.ManyFiles {
		if err := raiseFiles(); err != nil {
			return err
		}
	}
	if len(args) == 2 && args[0] == BackendJob {
		return b.Backend(ctx, args[1])
	}
	o, err := b.parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	here, found, err := o.find(ctx, b.Servers, b.Tools)
	if err != nil {
		return err
	}
	var failures []string
	for _, size := range o.Clones {
		r := &Round{Options: o, Size: size, Results: &Results{Rivals: b.Rivals}, found: found}
		for r.Number = range o.Rounds {
			if err := b.round(ctx, r, here); err != nil {
				return fmt.Errorf("%d clones, round %d: %w", size, r.Number+1, err)
			}
		}
		text := o.caption(ctx, size, here, found, r.Results) + r.Results.Table(b.Goals(size)) +
			"\nBeside that:\n\n" + r.Results.Table(b.Sides)
		if err := o.publish(fmt.Sprintf("%s %d", b.Name, size), text); err != nil {
			return err
		}
		failures = append(failures, r.Results.Failures()...)
	}
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "\n"))
	}
	return nil
}

// raiseFiles raises the number of files this process and its children may have
// open to what the system allows.
func raiseFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	return nil
}
