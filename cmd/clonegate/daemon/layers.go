package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A part is something that runs as long as the daemon.
type part struct {
	name string
	run  func(context.Context) error
}

// layers runs parts in layers that end one after another, the last one that
// was started first, so that what a part does on its way out still finds those
// below it at work.
type layers struct {
	ctx     context.Context // ends when all shall
	fail    context.CancelCauseFunc
	running []*layer
}

type layer struct {
	stop  context.CancelFunc
	parts sync.WaitGroup
}

var errEnded = errors.New("it ended by itself")

func newLayers(ctx context.Context) *layers {
	ctx, fail := context.WithCancelCause(ctx)
	return &layers{ctx: ctx, fail: fail}
}

// start starts one more layer. A part that fails, or ends before it is told
// to, ends them all.
func (l *layers) start(parts ...part) {
	ctx, stop := context.WithCancel(context.WithoutCancel(l.ctx))
	own := &layer{stop: stop}
	l.running = append(l.running, own)
	for _, p := range parts {
		own.parts.Go(func() {
			err := p.run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errEnded
			}
			if err != nil {
				l.fail(fmt.Errorf("%s: %w", p.name, err))
			}
		})
	}
}

// wait waits until all shall end, ends them, and returns why if it was not
// asked for.
func (l *layers) wait(asked context.Context) error {
	<-l.ctx.Done()
	for _, own := range slices.Backward(l.running) {
		own.stop()
		own.parts.Wait()
	}
	if asked.Err() != nil {
		return nil
	}
	return context.Cause(l.ctx)
}
