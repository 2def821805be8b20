package process

import (
	"context"
	"fmt"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// How long what cannot be recorded may take to die.
const killPatience = 10 * time.Second

// adopt reads the state of a clone and takes over its processes. One that was
// about to be started when the last daemon died may run or not; it is ended,
// and can then be started anew. The error is fs.ErrNotExist if the clone has
// no state file.
func (p *Provider) adopt(id registry.ID) (*clone, error) {
	c := newClone(id, p.dir(id))
	if err := c.read(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Processes == nil {
		c.state.Processes = map[string]*recorded{}
	}
	adopted := 0
	for name, r := range c.state.Processes {
		switch {
		case r.Ended != "":
		case r.PID == 0:
			if err := c.endUnrecorded(name); err != nil {
				return nil, fmt.Errorf("clone %s: %w", id, err)
			}
			delete(c.state.Processes, name)
		case c.takeOver(name, r, p.boot):
			adopted++
		}
	}
	// The next daemon would find the same again, so a full disk is no reason
	// not to serve the clones that run.
	if err := c.saveLocked(); err != nil {
		p.log.Warn("what was found of a clone could not be written down", "clone", id, "err", err)
	}
	p.log.Info("clone taken over", "clone", id, "running", adopted, "of", len(c.state.Processes))
	return c, nil
}

// birth is how long a process that was forked may take to become its program:
// until then it does not carry the clone's instance.
const birth = 300 * time.Millisecond

// endUnrecorded ends what was started as a host without its process ID having
// been written down. The daemon may have died a moment ago, in the middle of
// starting it, so one look is not enough.
func (c *clone) endUnrecorded(name string) error {
	ours := func(f found) bool { return f.host == name }
	for deadline := time.Now().Add(birth); time.Now().Before(deadline); time.Sleep(birth / 15) {
		if err := killFound(context.Background(), c.state.Instance, killPatience, ours); err != nil {
			return err
		}
	}
	return nil
}

// takeOver begins to watch a recorded process, if it is still the same.
func (c *clone) takeOver(name string, r *recorded, boot string) bool {
	if c.state.Boot != boot {
		r.Ended = "ended when the machine went down"
		return false
	}
	// The pidfd first: the process it stands for cannot be replaced any more.
	w, err := watchProcess(r.PID, nil)
	if err == nil {
		if start, alive := startTime(r.PID); alive && start == r.Start {
			c.watched[name] = w
			go c.followLife(name, w)
			return true
		}
		w.pidfd.Close()
	}
	r.Ended = "ended while clonegate was not running"
	return false
}
