package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clonegate/clonegate/pipeline/manifest"
	"github.com/clonegate/clonegate/registry"
)

// errUnwanted ends the start of a clone that is not wanted any more.
var errUnwanted = errors.New("the clone is not wanted any more")

// whileWanted returns a context that ends with errUnwanted as soon as the
// clone should not be started any more.
func (w *worker) whileWanted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for {
			seen := w.change()
			c, known := w.l.view.Clone(w.id)
			if !known || c.Desired == registry.WantGone || c.State == registry.Stopping || c.State == registry.Failed || c.State.Over() {
				cancel(errUnwanted)
				return
			}
			select {
			case <-seen:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// start brings a clone up, or goes on with a start that a crash interrupted.
// What cannot be started is stopped as a whole and has failed.
func (w *worker) start(ctx context.Context, c *registry.Clone) error {
	wanted, cancel := w.whileWanted(ctx)
	defer cancel()
	w.l.metrics.waiting.Inc()
	select {
	case w.l.slots <- struct{}{}:
		w.l.metrics.waiting.Dec()
		defer func() { <-w.l.slots }()
	case <-wanted.Done():
		w.l.metrics.waiting.Dec()
		return nil
	}
	w.l.metrics.starting.Inc()
	defer w.l.metrics.starting.Dec()
	began := time.Now()
	err := w.bringUp(wanted, c)
	took := time.Since(began)
	switch {
	case err == nil:
		w.l.metrics.started("ready", took)
		w.log.Info("clone is ready", "template", c.Template, "dur", took.Round(time.Millisecond))
		return nil
	case ctx.Err() != nil:
		return nil // the next Launcher goes on from here
	case errors.Is(context.Cause(wanted), errUnwanted):
		w.l.metrics.started("cancelled", took)
		return nil
	case errors.Is(err, registry.ErrUnavailable):
		return err
	}
	w.l.metrics.started("failed", took)
	w.log.Warn("clone failed to start", "template", c.Template, "reason", err, "dur", took.Round(time.Millisecond))
	if err := w.halt(ctx); err != nil {
		return err
	}
	return w.set(ctx, registry.Failed, err.Error())
}

// progress tells how far the start has come. A startup command that an
// earlier Launcher started may have registered the clone meanwhile; then there
// is nothing to tell.
func (w *worker) progress(ctx context.Context, what string) error {
	c, known := w.l.view.Clone(w.id)
	if !known || c.State != registry.Registered && c.State != registry.Starting {
		return nil
	}
	err := w.set(ctx, registry.Starting, what)
	if errors.Is(err, registry.ErrFenced) || errors.Is(err, registry.ErrInvalid) {
		return nil
	}
	return err
}

// bringUp takes the steps of a start. Each may be repeated.
func (w *worker) bringUp(ctx context.Context, c *registry.Clone) error {
	p, digest, err := w.plan(ctx, c)
	if err != nil {
		return err
	}
	if c.State == registry.Registered {
		// Whatever is here under this ID belongs to another life of the data directory.
		if err := w.clear(ctx); err != nil {
			return err
		}
	}
	if err := w.progress(ctx, "unpacking "+c.Template); err != nil {
		return err
	}
	o := order(w.id, newInstance(), p.manifest)
	o.Unpack = func(ctx context.Context, dest string) error {
		_, err := w.l.cfg.Templates.Unpack(ctx, digest, dest)
		return err
	}
	if p.site, err = w.provider.Prepare(ctx, o); err != nil {
		return fmt.Errorf("%s: %w", c.Template, err)
	}
	if err := w.progress(ctx, "starting "+strings.Join(p.manifest.HostNames(), ", ")); err != nil {
		return err
	}
	if err := w.startHosts(ctx, p); err != nil {
		return err
	}
	if len(p.manifest.Startup) == 0 {
		_, err := w.l.cfg.Registry.Register(ctx, registry.System, w.id, p.registration(), false)
		return err
	}
	return w.runStartup(ctx, p)
}

// plan gathers what a start needs to know. The digest is that of the content.
func (w *worker) plan(ctx context.Context, c *registry.Clone) (p *plan, digest string, err error) {
	name, version, err := registry.SplitRef(c.Template)
	if err != nil {
		return nil, "", err
	}
	t, ok := w.l.view.Template(name, version)
	if !ok {
		return nil, "", fmt.Errorf("template %s is not published any more", c.Template)
	}
	m, err := w.l.cfg.Templates.Manifest(ctx, t.Digest)
	if err != nil {
		return nil, "", fmt.Errorf("template %s: %w", c.Template, err)
	}
	if m.Name != t.Name {
		return nil, "", fmt.Errorf("template %s: what was published under this name is a template %s", c.Template, m.Name)
	}
	params, err := m.Values(c.Params)
	if err != nil {
		return nil, "", err
	}
	return &plan{clone: c, manifest: m, params: params, zones: w.l.view.Zones()}, t.Digest, nil
}

// startHosts starts every host once those it needs are ready, and returns
// when all are. A host that ends or does not become ready fails them all.
func (w *worker) startHosts(ctx context.Context, p *plan) error {
	ready := map[string]chan struct{}{}
	var missing atomic.Int32
	for name := range p.manifest.Hosts {
		ready[name] = make(chan struct{})
		missing.Add(1)
	}
	all := make(chan struct{})
	g, ctx := errgroup.WithContext(ctx)
	for level, names := range p.manifest.Levels() {
		for _, name := range names {
			g.Go(func() error {
				for _, need := range p.manifest.Hosts[name].Needs {
					select {
					case <-ready[need]:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				exit, err := w.startHost(ctx, p, name, level)
				if err != nil {
					return err
				}
				close(ready[name])
				if missing.Add(-1) == 0 {
					close(all)
				}
				select {
				case <-all:
					return nil
				case e := <-exit:
					return w.died(e, "while others were starting")
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
	}
	return g.Wait()
}

// startHost starts one host and returns when it is ready. The channel tells
// when it ends later.
func (w *worker) startHost(ctx context.Context, p *plan, name string, level int) (<-chan ended, error) {
	h := p.manifest.Hosts[name]
	if err := w.launch(ctx, Process{Name: name, Level: level, Run: h.Run, Env: p.environment(name)}); err != nil {
		return nil, err
	}
	exit := w.exits(ctx, []string{name})
	if h.Ready == nil {
		return exit, nil
	}
	probing, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- awaitReady(probing, p.site.Addresses[name], h.Ready) }()
	select {
	case err := <-ready:
		if err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("host %s %w%s", name, err, w.lastWords(name))
		}
		return exit, err
	case e := <-exit:
		cancel()
		<-ready
		return nil, w.died(e, "before it was ready")
	}
}

// launch starts a process; one that has ended already is an error that says how.
func (w *worker) launch(ctx context.Context, p Process) error {
	err := w.provider.Start(ctx, w.id, p)
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return w.died(ended{exit.Name, exit.Exit}, "")
	}
	return err
}

// died makes the end of a process the reason why a start failed.
func (w *worker) died(e ended, when string) error {
	what := "host " + e.name
	if e.name == manifest.StartupName {
		what = "the startup command"
	}
	if when != "" {
		when = " " + when
	}
	return fmt.Errorf("%s %s%s%s", what, e.exit.Status, when, w.lastWords(e.name))
}

// runStartup runs the startup command and returns once it has registered the
// clone as ready.
func (w *worker) runStartup(ctx context.Context, p *plan) error {
	if err := w.progress(ctx, "the startup command is at work"); err != nil {
		return err
	}
	env, err := w.startupEnvironment(ctx, p)
	if err != nil {
		return err
	}
	startup := Process{Name: manifest.StartupName, Level: len(p.manifest.Levels()), Run: p.manifest.Startup, Env: env}
	if err := w.launch(ctx, startup); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	exits := w.exits(ctx, append(p.manifest.HostNames(), manifest.StartupName))
	patience := time.NewTimer(w.l.cfg.RegisterTimeout)
	defer patience.Stop()
	var failure error
	for {
		seen := w.change()
		if c, known := w.l.view.Clone(w.id); known && (c.State == registry.Ready || c.State == registry.Degraded) {
			return nil
		}
		if failure != nil {
			return failure
		}
		select {
		case <-seen:
		case e := <-exits:
			failure = w.died(e, "before the clone was registered as ready")
		case <-patience.C:
			failure = fmt.Errorf("the startup command did not register the clone as ready within %s%s", w.l.cfg.RegisterTimeout, w.lastWords(manifest.StartupName))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
