package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

// A worker makes what is of one clone what it should be. It lives as long as
// there is something to do or to watch.
type worker struct {
	l        *Launcher
	id       registry.ID
	provider Provider
	log      *slog.Logger

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed when the clone's record changes
}

func newWorker(l *Launcher, id registry.ID, p Provider) *worker {
	return &worker{l: l, id: id, provider: p, log: l.log.With("clone", string(id)), changed: make(chan struct{})}
}

// wake says that the clone's record has changed.
func (w *worker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change. Who asks for it
// first and reads the record then misses nothing.
func (w *worker) change() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// How long a worker waits after an error before it tries again.
const (
	firstRetry   = time.Second
	slowestRetry = 30 * time.Second
)

// run takes step after step until there is nothing left to do, or ctx ends.
func (w *worker) run(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		seen := w.change()
		done, err := w.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.log.Error("clone cannot be brought to where it should be; trying again", "err", err, "after", retry)
			select {
			case <-seen:
			case <-time.After(retry):
			case <-ctx.Done():
			}
			retry = min(2*retry, slowestRetry)
			continue
		case done && w.l.retire(w, seen):
			return
		}
		retry = firstRetry
	}
}

// step compares what is wanted with what is and does the next thing. done is
// true if nothing is left to do until the record changes.
func (w *worker) step(ctx context.Context) (done bool, err error) {
	c, known := w.l.view.Clone(w.id)
	switch {
	case !known:
		return true, nil
	case c.State == registry.Gone:
		return true, w.clear(ctx)
	case c.Desired == registry.WantGone || c.State == registry.Stopping:
		return false, w.end(ctx, c, c.Reason)
	}
	switch c.State {
	case registry.Registered, registry.Starting:
		return false, w.start(ctx, c)
	case registry.Ready, registry.Degraded:
		return false, w.tend(ctx)
	case registry.Failed, registry.Lost:
		return true, w.halt(ctx)
	}
	return true, nil
}

// end stops what runs, removes what was made, and makes the clone gone.
func (w *worker) end(ctx context.Context, c *registry.Clone, reason string) error {
	if c.State == registry.Gone {
		return w.clear(ctx)
	}
	if c.State != registry.Stopping {
		if err := w.set(ctx, registry.Stopping, reason); err != nil {
			return err
		}
	}
	if err := w.clear(ctx); err != nil {
		return err
	}
	if err := w.set(ctx, registry.Gone, reason); err != nil {
		return err
	}
	w.log.Info("clone ended", "reason", reason)
	return nil
}

// halt ends what runs of a clone whose life ended against its will. The files
// stay, so that somebody can look at them, until the clone is ended. The
// startup command loses its token first: told to stop it would unregister the
// clone, and nobody would read what became of it.
func (w *worker) halt(ctx context.Context) error {
	if err := w.revokeTokens(ctx); err != nil {
		return err
	}
	return w.provider.Stop(ctx, w.id)
}

// clear removes everything of a clone but its output.
func (w *worker) clear(ctx context.Context) error {
	if err := w.provider.Stop(ctx, w.id); err != nil {
		return err
	}
	if err := w.revokeTokens(ctx); err != nil {
		return err
	}
	return w.provider.Remove(ctx, w.id)
}

// set moves the clone's state, whichever life it is in.
func (w *worker) set(ctx context.Context, s registry.State, reason string) error {
	c, known := w.l.view.Clone(w.id)
	if !known {
		return nil
	}
	return w.l.cfg.Registry.SetState(ctx, registry.System, w.id, c.Incarnation, s, reason)
}

// An ended process of a clone that should run.
type ended struct {
	name string
	exit Exit
}

// exits returns a channel that tells each of the processes that ends, until
// ctx ends.
func (w *worker) exits(ctx context.Context, names []string) <-chan ended {
	ch := make(chan ended, len(names))
	for _, name := range names {
		go func() {
			if exit, err := w.provider.Wait(ctx, w.id, name); err == nil {
				ch <- ended{name, exit}
			}
		}()
	}
	return ch
}

// tend watches over a clone that runs, until it no longer should: a process
// that ends degrades it. If there is no startup command to renew the lease,
// tend does, as long as any host runs.
func (w *worker) tend(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names := w.provider.Processes(w.id)
	exits := w.exits(ctx, names)
	var gone []string
	if len(names) == 0 {
		gone = []string{"nothing of it runs on this machine any more"}
	}
	renew := time.NewTimer(0)
	defer renew.Stop()
	if slices.Contains(names, manifest.StartupName) {
		renew.Stop()
	}
	for alive := len(names); ; {
		seen := w.change()
		c, known := w.l.view.Clone(w.id)
		if !known || c.Desired == registry.WantGone || c.State != registry.Ready && c.State != registry.Degraded {
			return nil
		}
		if reason := strings.Join(gone, "; "); reason != "" && (c.State != registry.Degraded || c.Reason != reason) {
			if err := w.set(ctx, registry.Degraded, reason); err != nil {
				return err
			}
			continue
		}
		select {
		case <-seen:
		case e := <-exits:
			alive--
			gone = append(gone, w.obituary(e))
			w.l.metrics.exits.Inc()
			w.log.Warn("process of a running clone ended", "host", e.name, "how", e.exit.Status)
		case <-renew.C:
			if alive > 0 {
				renew.Reset(w.renew(ctx, c))
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// renew keeps the lease of a clone that we registered ourselves, and returns
// when to do so again.
func (w *worker) renew(ctx context.Context, c *registry.Clone) time.Duration {
	grant, err := w.l.cfg.Registry.Renew(ctx, registry.System, w.id, c.Instance)
	if err != nil {
		if !errors.Is(err, registry.ErrEnded) && ctx.Err() == nil {
			w.log.Warn("renew lease", "err", err)
		}
		return firstRetry
	}
	return grant.RenewEvery.Duration()
}

// obituary says how a process ended and what it said last.
func (w *worker) obituary(e ended) string {
	what := "host " + e.name + " " + e.exit.Status
	if e.name == manifest.StartupName {
		what = "the startup command " + e.exit.Status + ", so nobody renews the lease"
	}
	return what + w.lastWords(e.name)
}

// lastWords returns the last lines of a process for a reason, "" if it was silent.
func (w *worker) lastWords(name string) string {
	const lines, width = 4, 200
	var said []string
	for _, line := range w.provider.Tail(w.id, name, lines) {
		line = strings.TrimSpace(strings.Map(printable, strings.ToValidUTF8(line, "?")))
		if runes := []rune(line); len(runes) > width {
			line = string(runes[:width]) + "…"
		}
		if line != "" {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return ""
	}
	return "; its last output: " + strings.Join(said, " / ")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
