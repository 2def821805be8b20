package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Round starts every server anew, runs every test on each in turn, and stops
// them.
type Round struct {
	*Options
	Number      int // from 0
	Size        int // clones
	Dir         string
	Backend     *Process
	BackendAddr netip.AddrPort
	Results     *Results

	found map[string]Found
}

// A Test measures one thing on one server after another.
type Test struct {
	Key  string
	Main string // the figure that failures are noted with
	Ours bool   // measure ours only
	Run  func(ctx context.Context, s *Subject) error
}

// Keys returns the keys of tests.
func Keys(tests []Test) []string {
	var keys []string
	for _, t := range tests {
		keys = append(keys, t.Key)
	}
	return keys
}

// Tool returns the path of a program that the bench asked for.
func (r *Round) Tool(name string) string { return r.found[name].Path }

// round runs one round.
func (b *Bench) round(ctx context.Context, r *Round, servers []Server) error {
	var err error
	if r.Dir, err = r.tempDir(); err != nil {
		return err
	}
	defer os.RemoveAll(r.Dir)
	if err := WriteCertificate(r.Dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if r.BackendAddr, err = FreePort(); err != nil {
		return err
	}
	if r.Backend, err = Start(r.Dir, BackendJob, self, BackendJob, r.BackendAddr.String()); err != nil {
		return err
	}
	defer r.Backend.Stop()
	subjects, err := b.startAll(ctx, r, servers)
	defer func() {
		for _, s := range subjects {
			s.Stop()
		}
	}()
	if err != nil {
		return err
	}
	tests, err := b.Tests(r)
	if err != nil {
		return err
	}
	return r.measure(ctx, tests, turn(subjects, r.Number))
}

// startAll starts all servers and waits until they answer. Those that it
// returns are running, whatever the error.
func (b *Bench) startAll(ctx context.Context, r *Round, servers []Server) ([]*Subject, error) {
	var all []*Subject
	for _, server := range servers {
		site := &Site{
			Dir: filepath.Join(r.Dir, strings.Fields(strings.ToLower(server.Name))[0]), CertDir: r.Dir,
			Program: r.found[server.Program.Name].Path, Clones: r.Size, Backend: r.BackendAddr,
		}
		if server.Name == Ours {
			site.Program = r.Clonegate
		}
		started, err := server.Start(ctx, site)
		all = append(all, started...)
		if err != nil {
			return all, fmt.Errorf("start %s: %w", server.Name, err)
		}
		for _, s := range started {
			err := s.Process.Ready(ctx, func(ctx context.Context) error { return b.Answers(ctx, r, s) })
			if err != nil {
				return all, fmt.Errorf("start %s: %w", s.Name, err)
			}
		}
	}
	r.Results.Servers = nil
	for _, s := range all {
		r.Results.Servers = append(r.Results.Servers, s.Name)
	}
	return all, nil
}

// measure runs every test on each server in turn. A test that fails is noted
// and shown; the error is the end of ctx, or that ours is broken.
func (r *Round) measure(ctx context.Context, tests []Test, subjects []*Subject) error {
	for _, t := range tests {
		if !r.Wants(t.Key) {
			continue
		}
		for _, s := range subjects {
			if s.Lacks[t.Key] || t.Ours && s.Gate == nil {
				continue
			}
			if s.Gate != nil {
				if err := s.Gate.Renew(ctx); err != nil {
					return err
				}
			}
			err := t.Run(ctx, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			what := fmt.Sprintf("%d clones, round %d: %s: %s", r.Size, r.Number+1, t.Key, s.Name)
			if err != nil {
				r.Results.Fail(t.Main, s.Name, err.Error())
				fmt.Fprintf(r.Stderr, "%s: FAILED: %v\n", what, err)
				continue
			}
			value, _ := r.Results.Last(t.Main, s.Name)
			fmt.Fprintf(r.Stderr, "%s: %.2f\n", what, value)
		}
	}
	return nil
}

// turn returns servers in the order of a round: each begins with another.
func turn(servers []*Subject, round int) []*Subject {
	first := round % len(servers)
	return slices.Concat(servers[first:], servers[:first])
}
