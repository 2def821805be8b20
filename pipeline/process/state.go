package process

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/durable"
)

// state is what the state file of a clone holds.
type state struct {
	Instance  string               `json:"instance"`
	Boot      string               `json:"boot"` // of the machine, in which processes were started
	Subnet    netip.Prefix         `json:"subnet"`
	Hosts     map[string]uint8     `json:"hosts"` // name → last octet
	Prepared  bool                 `json:"prepared,omitempty"`
	Processes map[string]*recorded `json:"processes,omitempty"`
}

// recorded is one process that was started, or was about to be.
type recorded struct {
	Level int    `json:"level"`
	PID   int    `json:"pid,omitempty"`   // 0: about to be started
	Start uint64 `json:"start,omitempty"` // in ticks since boot
	Ended string `json:"ended,omitempty"` // how, for people; empty while it runs
	OK    bool   `json:"ok,omitempty"`    // ended with status 0
}

// A clone is what the Provider knows of one clone.
type clone struct {
	id  registry.ID
	dir string

	mu      sync.Mutex
	state   state             // guarded by mu
	watched map[string]*watch // guarded by mu; of every process in state that has an ID
	closed  bool              // guarded by mu
}

func newClone(id registry.ID, dir string) *clone {
	return &clone{id: id, dir: dir, watched: map[string]*watch{}}
}

const stateFile = "process.json"

func (c *clone) stateFile() string { return filepath.Join(c.dir, stateFile) }
func (c *clone) files() string     { return filepath.Join(c.dir, "files") }
func (c *clone) private() string   { return filepath.Join(c.dir, "private") }
func (c *clone) logs() string      { return filepath.Join(c.dir, "logs") }

func (c *clone) logFile(name string) string { return filepath.Join(c.logs(), name+".log") }

// saveLocked makes the state durable. It is called with mu held.
func (c *clone) saveLocked() error {
	data, err := json.MarshalIndent(&c.state, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(c.stateFile(), append(data, '\n'), 0o600)
}

// read loads the state file. The error is fs.ErrNotExist if there is none.
func (c *clone) read() error {
	data, err := os.ReadFile(c.stateFile())
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.state); err != nil {
		return fmt.Errorf("%s: %w; what runs of clone %s cannot be found without it: put the file back, or end its processes and remove the directory", c.stateFile(), err, c.id)
	}
	return nil
}

func (c *clone) isPrepared() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Prepared
}

// watches returns the watch of every process that has one.
func (c *clone) watches() map[string]*watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.watched)
}

func (c *clone) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.state.Processes))
}

// addresses returns the address of each host.
func (s *state) addresses() map[string]netip.Addr {
	out := make(map[string]netip.Addr, len(s.Hosts))
	for name, octet := range s.Hosts {
		out[name] = addressIn(s.Subnet, octet)
	}
	return out
}

func addressIn(subnet netip.Prefix, octet uint8) netip.Addr {
	a := subnet.Addr().As4()
	a[3] = octet
	return netip.AddrFrom4(a)
}
