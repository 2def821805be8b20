package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clonegate/clonegate/bench/lab"
)

// A block is all rounds with one number of clones.
type block struct {
	*bench
	size    int // clones
	servers []lab.Server
	found   map[string]lab.Found
	results *lab.Results

	origin     *lab.Process
	originPort uint16
	next       int // clone to register next
}

// run measures block by block and writes what comes out. The error tells, too,
// what failed on the way.
func (b *bench) run(ctx context.Context, servers []lab.Server) error {
	here, found, err := b.Find(ctx, servers)
	if err != nil {
		return err
	}
	var failures []string
	for _, size := range b.Clones {
		k := &block{bench: b, size: size, servers: here, found: found, results: &lab.Results{Rivals: rivals()}}
		for _, s := range here {
			k.results.Servers = append(k.results.Servers, s.Name)
		}
		for round := range b.Rounds {
			if err := k.round(ctx, round); err != nil {
				return fmt.Errorf("%d clones, round %d: %w", size, round+1, err)
			}
		}
		if err := b.Publish(fmt.Sprintf("http %d", size), k.report(ctx)); err != nil {
			return err
		}
		failures = append(failures, k.results.Failures()...)
	}
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "\n"))
	}
	return nil
}

// round starts every gateway anew, runs every test on each in turn, and stops
// them. Turns begin with another gateway in every round.
func (b *block) round(ctx context.Context, round int) error {
	dir, err := b.TempDir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := lab.WriteCertificate(dir); err != nil {
		return err
	}
	if err := b.startOrigin(dir); err != nil {
		return err
	}
	defer b.origin.Stop()
	gateways, err := b.startAll(ctx, dir)
	defer func() {
		for _, g := range gateways {
			g.stop()
		}
	}()
	if err != nil {
		return err
	}
	b.next = lab.MaxClones
	if b.Wants("memory") {
		time.Sleep(b.scale.settle) // what a start needs and leaves behind is given back
	}
	return b.measure(ctx, round, lab.Turn(gateways, round))
}

// measure runs every test on each gateway in turn. A test that fails is noted
// and shown; the error is the end of ctx, or that ours is broken.
func (b *block) measure(ctx context.Context, round int, gateways []*gateway) error {
	for _, t := range tests() {
		if !b.Wants(t.key) {
			continue
		}
		for _, g := range gateways {
			if err := g.renew(ctx); err != nil {
				return err
			}
			err := t.run(b, ctx, g)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			what := fmt.Sprintf("%d clones, round %d: %s: %s", b.size, round+1, t.key, g.name)
			if err != nil {
				b.results.Fail(t.main, g.name, err.Error())
				fmt.Fprintf(b.Stderr, "%s: FAILED: %v\n", what, err)
				continue
			}
			value, _ := b.results.Last(t.main, g.name)
			fmt.Fprintf(b.Stderr, "%s: %.2f\n", what, value)
		}
	}
	return nil
}

// startOrigin starts this program as the origin of all clones.
func (b *block) startOrigin(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	addr, err := lab.FreePort()
	if err != nil {
		return err
	}
	b.originPort = addr.Port()
	b.origin, err = lab.Start(dir, "origin", self, originJob, fmt.Sprintf("0.0.0.0:%d", b.originPort))
	return err
}

// startAll starts all gateways. Those that it returns are running, whatever the
// error.
func (b *block) startAll(ctx context.Context, dir string) ([]*gateway, error) {
	var all []*gateway
	for _, k := range kinds() {
		if !slices.Contains(b.servers, k.Server) {
			continue
		}
		s := &site{dir: filepath.Join(dir, strings.ToLower(k.Name)), certDir: dir, clones: b.size, origin: b.originPort}
		s.program = b.found[k.Program.Name].Path
		if k.Name == lab.Ours {
			s.program = b.Clonegate
		}
		g, err := k.start(ctx, s)
		if err != nil {
			return all, err
		}
		all = append(all, g)
	}
	return all, nil
}

// report is what stands in the README about a block.
func (b *block) report(ctx context.Context) string {
	return b.Caption(ctx, b.size, b.servers, b.found, b.results) + b.results.Table(goalFigures(b.size)) +
		"\nBeside that:\n\n" + b.results.Table(sideFigures())
}
