// Package process runs clones as processes of this machine: each clone has a
// loopback subnet of its own, so that copies keep their ports, and a copy of
// the template's files of its own.
//
// Processes outlive the daemon. Each clone's directory holds what is needed to
// find them again: its state file is written before a process is started and
// after, and processes carry the clone's instance in their environment, by
// which even those are found that were not recorded or left their session.
// There is no isolation beyond that: a process can read what its user can.
//
// It needs Linux 5.11 or later: pidfds, /proc, and all of 127.0.0.0/8 on the
// loopback interface.
//
// The layout of a clone's directory, which is 0700:
//
//	process.json  what was given and started
//	files/        the clone's copy of the template, its working directory
//	private/      its secrets
//	logs/         db.log, and db.log.1 before it; kept for a while afterwards
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
)

// DefaultPool is where clones get their subnets: 4096 of them.
var DefaultPool = netip.MustParsePrefix("127.80.0.0/12")

// Config is what a Provider needs. Dir is required.
type Config struct {
	Dir  string       // holds one directory for each clone; made if it does not exist
	Pool netip.Prefix // loopback network to give /24 subnets from; zero: DefaultPool
	Log  *slog.Logger // nil discards

	// Grace is how long processes of one level may take to end by themselves.
	// Zero means 10 seconds.
	Grace time.Duration
	// LogBytes is how large the output of one process may grow before it is
	// moved to its predecessor's place. Zero means 10 MiB.
	LogBytes int64
	// KeepLogs is how long the output of clones that are gone is kept, and
	// KeptLogs of how many of them. Zero means 24 hours and 200 clones.
	KeepLogs time.Duration
	KeptLogs int
}

// A Provider runs clones as processes. It is a pipeline.Provider.
type Provider struct {
	cfg  Config
	log  *slog.Logger
	boot string // this boot of the machine

	mu     sync.Mutex
	clones map[registry.ID]*clone // guarded by mu
}

var _ pipeline.Provider = (*Provider)(nil)

// New returns a Provider that has taken over what still runs of the clones in
// cfg.Dir, and ended what was started without having been recorded.
func New(cfg Config) (*Provider, error) {
	if cfg.Dir == "" {
		return nil, errors.New("process provider: Dir is required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Pool.IsValid() {
		cfg.Pool = DefaultPool
	}
	cfg.Pool = cfg.Pool.Masked()
	if !cfg.Pool.Addr().Is4() || !cfg.Pool.Addr().IsLoopback() || cfg.Pool.Bits() > 24 || cfg.Pool.Bits() < 9 {
		return nil, fmt.Errorf("process provider: network %s: want part of 127.0.0.0/8 that holds at least one /24, as in %s", cfg.Pool, DefaultPool)
	}
	cfg.Grace = cmp.Or(cfg.Grace, 10*time.Second)
	cfg.LogBytes = cmp.Or(cfg.LogBytes, 10<<20)
	cfg.KeepLogs = cmp.Or(cfg.KeepLogs, 24*time.Hour)
	cfg.KeptLogs = cmp.Or(cfg.KeptLogs, 200)
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("process provider: %w", err)
	}
	cfg.Dir = dir
	p := &Provider{cfg: cfg, log: cfg.Log, clones: map[registry.ID]*clone{}}
	if p.boot, err = bootID(); err != nil {
		return nil, fmt.Errorf("process provider: %w", err)
	}
	// What the daemon has open belongs to it alone, even if whoever started it
	// left something open without saying so.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("process provider: needs Linux 5.11 or later: close_range: %w", err)
	}
	if err := p.load(); err != nil {
		p.close()
		return nil, fmt.Errorf("process provider: %w", err)
	}
	return p, nil
}

// Networks returns the networks that endpoints of clones lie in.
func (p *Provider) Networks() []netip.Prefix { return []netip.Prefix{p.cfg.Pool} }

// load takes over every clone that has a state file.
func (p *Provider) load() error {
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(p.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := registry.ParseID(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		c, err := p.adopt(id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Only its output is left.
		case err != nil:
			return err
		default:
			p.clones[id] = c
		}
	}
	return nil
}

// Held returns the clones that have a state file, sorted.
func (p *Provider) Held() []registry.ID {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]registry.ID, 0, len(p.clones))
	for id := range p.clones {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Processes returns the names of the processes of a clone that were started.
func (p *Provider) Processes(id registry.ID) []string {
	c := p.clone(id)
	if c == nil {
		return nil
	}
	return c.names()
}

// clone returns what is known of a clone, nil if it is not held.
func (p *Provider) clone(id registry.ID) *clone {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clones[id]
}

func (p *Provider) dir(id registry.ID) string { return filepath.Join(p.cfg.Dir, string(id)) }

// Run keeps the output of processes bounded and removes that of clones long
// gone, until ctx ends. Then the Provider forgets the processes, which go on.
func (p *Provider) Run(ctx context.Context) error {
	defer p.close()
	rotate := time.NewTicker(time.Second)
	defer rotate.Stop()
	collect := time.NewTicker(10 * time.Minute)
	defer collect.Stop()
	p.collectLogs(time.Now())
	for {
		select {
		case <-rotate.C:
			p.rotateLogs()
		case <-collect.C:
			p.collectLogs(time.Now())
		case <-ctx.Done():
			return nil
		}
	}
}

// close stops watching processes.
func (p *Provider) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.clones {
		c.unwatch()
	}
}
