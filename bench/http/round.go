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
	kinds   []kind
	found   map[string]lab.Found
	results *lab.Results

	origin     *lab.Process
	originPort uint16
	next       int // clone to register next
}

// run measures block by block and writes what comes out.
func (b *bench) run(ctx context.Context) error {
	if _, err := os.Stat(b.clonegate); err != nil {
		return fmt.Errorf("%w: build it with  make build", err)
	}
	kinds, found, err := b.findKinds(ctx)
	if err != nil {
		return err
	}
	// What failed is shown in the tables, too.
	var failures []string
	for _, size := range b.clones {
		k := &block{bench: b, size: size, kinds: kinds, found: found, results: &lab.Results{Rivals: rivals()}}
		for _, kind := range kinds {
			k.results.Servers = append(k.results.Servers, kind.name)
		}
		for round := range b.rounds {
			if err := k.round(ctx, round); err != nil {
				return fmt.Errorf("%d clones, round %d: %w", size, round+1, err)
			}
		}
		text := k.report(ctx)
		fmt.Fprintln(b.stdout, text)
		if b.whole() {
			if err := lab.WriteSection(b.readme, fmt.Sprintf("http %d", size), text); err != nil {
				return err
			}
		}
		failures = append(failures, k.results.Failures()...)
	}
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "\n"))
	}
	return nil
}

// findKinds returns the gateways to test and where they are.
func (b *bench) findKinds(ctx context.Context) ([]kind, map[string]lab.Found, error) {
	var wanted []kind
	var programs []lab.Program
	for _, k := range kinds() {
		if len(b.only) > 0 && !slices.Contains(b.only, k.name) {
			continue
		}
		wanted = append(wanted, k)
		if k.program != (lab.Program{}) {
			programs = append(programs, k.program)
		}
	}
	found, missing, err := lab.Find(ctx, filepath.Join(b.dir, "bin"), !b.smoke, programs...)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range missing {
		fmt.Fprintln(b.stderr, "NOT TESTED: this machine has no", m)
	}
	return slices.DeleteFunc(wanted, func(k kind) bool {
		_, ok := found[k.program.Name]
		return !ok && k.program != (lab.Program{})
	}), found, nil
}

// round starts every gateway anew, runs every test on each in turn, and stops
// them. Turns begin with another gateway in every round.
func (b *block) round(ctx context.Context, round int) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "http-")
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
	b.next = newClones
	if b.wants("memory") {
		time.Sleep(b.scale.settle) // what a start needs and leaves behind is given back
	}
	turn := round % len(gateways)
	return b.measure(ctx, round, slices.Concat(gateways[turn:], gateways[:turn]))
}

// measure runs every test on each gateway in turn. A test that fails is noted
// and shown; the error is the end of ctx, or that ours is broken.
func (b *block) measure(ctx context.Context, round int, gateways []*gateway) error {
	for _, t := range tests() {
		if !b.wants(t.key) {
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
				fmt.Fprintf(b.stderr, "%s: FAILED: %v\n", what, err)
				continue
			}
			value, _ := b.results.Last(t.main, g.name)
			fmt.Fprintf(b.stderr, "%s: %.2f\n", what, value)
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
	for _, k := range b.kinds {
		s := &site{dir: filepath.Join(dir, strings.ToLower(k.name)), certDir: dir, clones: b.size, origin: b.originPort}
		s.program = b.found[k.program.Name].Path
		if k.name == lab.Ours {
			s.program = b.clonegate
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
	versions := []string{"clonegate " + lab.Commit(ctx, ".")}
	for _, k := range b.kinds {
		if f, ok := b.found[k.program.Name]; ok {
			versions = append(versions, k.name+" "+f.Version)
		}
	}
	foreign, _ := b.results.Median(foreignKey, lab.Ours)
	var text strings.Builder
	fmt.Fprintf(&text, "%d clones, %d rounds, %s each; %s; %s.\n%s. CPU of everything that is no part of the test: "+
		"%.2f cores in the median, at most %.2f.\n\n", b.size, b.rounds, b.dur, time.Now().Format("2 January 2006"),
		lab.Machine(), strings.Join(versions, ", "), foreign, b.results.Worst(foreignKey, lab.Ours))
	text.WriteString(b.results.Table(goalFigures(b.size)))
	text.WriteString("\nBeside that:\n\n")
	text.WriteString(b.results.Table(sideFigures()))
	return text.String()
}
