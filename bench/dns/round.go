package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/bench/lab"
)

// A block is all rounds with one number of clones.
type block struct {
	*bench
	size    int // clones
	servers []lab.Server
	found   map[string]lab.Found
	results *lab.Results

	dir      string // of this round
	files    questions
	upstream *lab.Process
	misses   int // runs that asked for names of their own
}

// run measures block by block and writes what comes out. The error tells, too,
// what failed on the way.
func (b *bench) run(ctx context.Context, servers []lab.Server) error {
	here, found, err := b.Find(ctx, servers, lab.Program{Name: "dnsperf", Package: "dnsperf"})
	if err != nil {
		return err
	}
	if _, ok := found["dnsperf"]; !ok {
		return errNoDnsperf
	}
	var failures []string
	for _, size := range b.Clones {
		k := &block{bench: b, size: size, servers: here, found: found, results: &lab.Results{Rivals: rivals()}}
		for _, s := range here {
			k.results.Servers = append(k.results.Servers, s.Name)
			if s.Name == lab.Ours {
				k.results.Servers = append(k.results.Servers, oursAuthoritative)
			}
		}
		for round := range b.Rounds {
			if err := k.round(ctx, round); err != nil {
				return fmt.Errorf("%d clones, round %d: %w", size, round+1, err)
			}
		}
		text := k.Caption(ctx, size, here, found, k.results) + k.results.Table(goalFigures()) +
			"\nBeside that:\n\n" + k.results.Table(sideFigures())
		if err := b.Publish(fmt.Sprintf("dns %d", size), text); err != nil {
			return err
		}
		failures = append(failures, k.results.Failures()...)
	}
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "\n"))
	}
	return nil
}

var errNoDnsperf = errors.New("this machine has no dnsperf: apt-get install dnsperf")

// round starts every server anew, runs every test on each in turn, and stops
// them. Turns begin with another server in every round.
func (b *block) round(ctx context.Context, round int) error {
	var err error
	if b.dir, err = b.TempDir(); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := lab.WriteCertificate(b.dir); err != nil {
		return err
	}
	if b.files, err = writeQuestions(b.dir, b.size, b.scale.names); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr, err := lab.FreePort()
	if err != nil {
		return err
	}
	if b.upstream, err = lab.Start(b.dir, "upstream", self, upstreamJob, addr.String()); err != nil {
		return err
	}
	defer b.upstream.Stop()
	servers, err := b.startAll(ctx, addr)
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	if err != nil {
		return err
	}
	return b.measure(ctx, round, lab.Turn(servers, round))
}

// startAll starts all servers. Those that it returns are running, whatever the
// error.
func (b *block) startAll(ctx context.Context, upstream netip.AddrPort) ([]*server, error) {
	var all []*server
	for _, k := range kinds() {
		if !slices.Contains(b.servers, k.Server) {
			continue
		}
		s := &site{
			dir: filepath.Join(b.dir, strings.Fields(strings.ToLower(k.Name))[0]), certDir: b.dir,
			program: b.found[k.Program.Name].Path, clones: b.size, upstream: upstream,
		}
		if k.Name == lab.Ours {
			s.program = b.Clonegate
		}
		started, err := k.start(ctx, s)
		if err != nil {
			return all, err
		}
		all = append(all, started...)
	}
	return all, nil
}

// measure runs every test on each server in turn. A test that fails is noted
// and shown; the error is the end of ctx, or that ours is broken.
func (b *block) measure(ctx context.Context, round int, servers []*server) error {
	for _, t := range tests() {
		if !b.Wants(t.key) {
			continue
		}
		for _, s := range servers {
			if s.lack[t.key] || t.oursOnly && s.gate == nil {
				continue
			}
			if s.gate != nil {
				if err := s.gate.Renew(ctx); err != nil {
					return err
				}
			}
			err := t.run(b, ctx, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			what := fmt.Sprintf("%d clones, round %d: %s: %s", b.size, round+1, t.key, s.name)
			if err != nil {
				b.results.Fail(t.main, s.name, err.Error())
				fmt.Fprintf(b.Stderr, "%s: FAILED: %v\n", what, err)
				continue
			}
			value, _ := b.results.Last(t.main, s.name)
			fmt.Fprintf(b.Stderr, "%s: %.2f\n", what, value)
		}
	}
	return nil
}
