package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/registry"
)

// Config is what a Launcher needs. Registry, Templates, Providers and API are
// required.
type Config struct {
	Registry  Registry
	Templates Templates
	Providers map[string]Provider // by the name that clones are created with

	// API is the base URL of our API, as startup commands on this machine
	// call it, and CAFile the root its certificate leads to; empty without TLS.
	API    string
	CAFile string

	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil: none

	// Starts is how many clones may be starting at once; the others wait.
	// Zero means 4.
	Starts int
	// RegisterTimeout is how long a startup command may take until the clone
	// is ready. Zero means 5 minutes.
	RegisterTimeout time.Duration
	// EndClones ends every clone when Run ends. Otherwise they go on, and the
	// next Launcher takes them over.
	EndClones bool
}

// A Launcher starts the clones that are wanted, watches over them and ends
// those that are not wanted any more.
type Launcher struct {
	cfg     Config
	view    *registry.View
	log     *slog.Logger
	metrics *metrics
	slots   chan struct{} // one for each start at work
	ended   chan struct{} // closed when Run returns

	mu      sync.Mutex
	workers map[registry.ID]*worker // guarded by mu
}

// New returns a Launcher. It starts nothing.
func New(cfg Config) (*Launcher, error) {
	if cfg.Registry == nil || cfg.Templates == nil || len(cfg.Providers) == 0 || cfg.API == "" {
		return nil, errors.New("launcher: Registry, Templates, Providers and API are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Starts = cmp.Or(cfg.Starts, 4)
	cfg.RegisterTimeout = cmp.Or(cfg.RegisterTimeout, 5*time.Minute)
	l := &Launcher{
		cfg: cfg, view: cfg.Registry.View(), log: cfg.Log,
		slots:   make(chan struct{}, cfg.Starts),
		ended:   make(chan struct{}),
		workers: map[registry.ID]*worker{},
	}
	var err error
	l.metrics, err = newMetrics(cfg.Metrics)
	return l, err
}

// Run works until ctx ends and returns nil then. It returns once everything
// it does has ended; processes of clones go on, unless Config.EndClones.
func (l *Launcher) Run(ctx context.Context) error {
	defer close(l.ended)
	upkeep, stopUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	defer stopUpkeep()
	var keepers errgroup.Group
	for name, p := range l.cfg.Providers {
		keepers.Go(func() error {
			if err := p.Run(upkeep); err != nil {
				return fmt.Errorf("provider %s: %w", name, err)
			}
			return nil
		})
	}
	var workers sync.WaitGroup
	l.watch(ctx, &workers)
	workers.Wait()
	if l.cfg.EndClones {
		l.endAll(context.WithoutCancel(ctx))
	}
	stopUpkeep()
	return keepers.Wait()
}

// watch hands every clone of ours to a worker whenever it changes.
func (l *Launcher) watch(ctx context.Context, workers *sync.WaitGroup) {
	for ctx.Err() == nil {
		revision := l.view.Revision()
		for c := range l.view.Clones("") {
			l.look(ctx, c, workers)
		}
		l.lookAtHeld(ctx, workers)
		for {
			changes, err := l.view.Changes(ctx, revision)
			if err != nil {
				if !errors.Is(err, registry.ErrLagged) && ctx.Err() == nil {
					l.log.Error("watch the registry", "err", err)
				}
				break
			}
			for _, ch := range changes {
				revision = ch.Revision
				if ch.Clone != nil {
					l.look(ctx, ch.Clone, workers)
				}
			}
		}
	}
}

// look wakes the worker of a clone of ours, or gives it one.
func (l *Launcher) look(ctx context.Context, c *registry.Clone, workers *sync.WaitGroup) {
	provider, ours := l.cfg.Providers[c.Provider]
	if !ours {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.workers[c.ID]; ok {
		w.wake()
		return
	}
	if c.State == registry.Gone && !slices.Contains(provider.Held(), c.ID) {
		return
	}
	w := newWorker(l, c.ID, provider)
	l.workers[c.ID] = w
	workers.Go(func() { w.run(ctx) })
}

// lookAtHeld finds what a provider holds of clones that the registry shows as
// gone, or does not know. The latter are left alone: a registry that was put
// back to an older state must not cost anybody a clone.
func (l *Launcher) lookAtHeld(ctx context.Context, workers *sync.WaitGroup) {
	for name, p := range l.cfg.Providers {
		for _, id := range p.Held() {
			if c, known := l.view.Clone(id); known {
				l.look(ctx, c, workers)
			} else {
				l.log.Warn("a clone runs that the registry does not know; it is left alone", "clone", id, "provider", name)
			}
		}
	}
}

// retire drops a worker that has nothing left to do, unless its clone changed
// since it looked last.
func (l *Launcher) retire(w *worker, seen <-chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-seen:
		return false
	default:
		delete(l.workers, w.id)
		return true
	}
}

// endTimeout bounds how long all clones may take to end with the daemon.
const endTimeout = 60 * time.Second

// endAll ends every clone of ours, all at once.
func (l *Launcher) endAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	var ends sync.WaitGroup
	for c := range l.view.Clones("") {
		p, ours := l.cfg.Providers[c.Provider]
		if !ours || c.State == registry.Gone {
			continue
		}
		ends.Go(func() {
			if err := l.endNow(ctx, newWorker(l, c.ID, p)); err != nil {
				l.log.Error("end clone", "clone", c.ID, "err", err)
			}
		})
	}
	ends.Wait()
}

// endNow ends a clone, in whichever life it is by then. Its processes end even
// if the registry takes no writes any more.
func (l *Launcher) endNow(ctx context.Context, w *worker) error {
	for {
		c, known := l.view.Clone(w.id)
		if !known {
			return w.provider.Stop(ctx, w.id)
		}
		err := w.end(ctx, c, "the daemon stopped")
		if err == nil {
			return nil
		}
		if !errors.Is(err, registry.ErrFenced) || ctx.Err() != nil {
			return errors.Join(err, w.provider.Stop(ctx, w.id))
		}
	}
}

// Logs writes output of a clone's processes to w, in whole lines. The error is
// registry.ErrNotFound if there is no such clone or it has no output here.
// Following ends without an error when Run does.
func (l *Launcher) Logs(ctx context.Context, id registry.ID, q LogQuery, w io.Writer) error {
	c, ok := l.view.Clone(id)
	if !ok {
		return fmt.Errorf("clone %s: %w", id, registry.ErrNotFound)
	}
	p, ours := l.cfg.Providers[c.Provider]
	if !ours {
		return fmt.Errorf("output of clone %s: %w: it was registered by its own startup script, so its output is where it runs", id, registry.ErrNotFound)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-l.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return p.Logs(ctx, id, q, w)
}
