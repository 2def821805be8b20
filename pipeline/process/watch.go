package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/registry"
)

// A watch waits for one process to end.
type watch struct {
	pidfd *os.File
	reap  func() error  // returns how a child of ours ended; nil: it is none
	ended chan struct{} // closed when it has ended and been recorded, or is not watched any more
}

func watchProcess(pid int, reap func() error) (*watch, error) {
	f, err := openPidfd(pid)
	if err != nil {
		return nil, err
	}
	return &watch{pidfd: f, reap: reap, ended: make(chan struct{})}, nil
}

// followLife records how a process ends. It returns when it has, or when the
// watch is closed.
func (c *clone) followLife(name string, w *watch) {
	defer close(w.ended)
	if err := awaitEnd(w.pidfd); err != nil {
		return
	}
	w.pidfd.Close()
	exit := pipeline.Exit{Status: "ended; its exit status is not known, since it was started by an earlier daemon"}
	if w.reap != nil {
		exit = exitOf(w.reap())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.state.Processes[name]
	if r == nil || c.closed {
		return
	}
	r.Ended, r.OK = exit.Status, exit.OK
	_ = c.saveLocked() // a later look at /proc tells the same, without the status
}

// exitOf describes what exec.Cmd.Wait returned.
func exitOf(err error) pipeline.Exit {
	if err == nil {
		return pipeline.Exit{OK: true, Status: "ended with exit status 0"}
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return pipeline.Exit{Status: fmt.Sprintf("was killed by signal %d (%s)", ws.Signal(), ws.Signal())}
		}
		return pipeline.Exit{Status: fmt.Sprintf("ended with exit status %d", exit.ExitCode())}
	}
	return pipeline.Exit{Status: "ended: " + strings.TrimPrefix(err.Error(), "wait: ")}
}

func (r *recorded) exit() pipeline.Exit { return pipeline.Exit{OK: r.OK, Status: r.Ended} }

// Wait returns when a process has ended.
func (p *Provider) Wait(ctx context.Context, id registry.ID, name string) (pipeline.Exit, error) {
	none := pipeline.Exit{Status: "does not run"}
	c := p.clone(id)
	if c == nil {
		return none, nil
	}
	c.mu.Lock()
	w := c.watched[name]
	c.mu.Unlock()
	if w != nil {
		select {
		case <-w.ended:
		case <-ctx.Done():
			return pipeline.Exit{}, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.state.Processes[name]
	switch {
	case r == nil:
		return none, nil
	case r.Ended == "":
		return pipeline.Exit{}, errors.New("the provider was closed")
	}
	return r.exit(), nil
}

// unwatch stops waiting for processes; they go on.
func (c *clone) unwatch() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, w := range c.watches() {
		w.pidfd.Close()
		<-w.ended
	}
}
