package dnsd

import (
	"bufio"
	"cmp"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// resolvConf is the file in which the machine names its own DNS servers. It is
// read again when it changes: machines move between networks.
type resolvConf struct {
	path string

	mu      sync.Mutex
	checked time.Time // guarded by mu
	changed time.Time // guarded by mu; modification time of what was read
	servers group     // guarded by mu
}

// recheckResolvConf is how often the file is looked at, at most.
const recheckResolvConf = 2 * time.Second

func newResolvConf(path string) *resolvConf {
	return &resolvConf{path: cmp.Or(path, "/etc/resolv.conf")}
}

// group returns the servers that the file names now, none if there is no file.
func (c *resolvConf) group(now time.Time) group {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.checked.IsZero() && now.Sub(c.checked) < recheckResolvConf {
		return c.servers
	}
	c.checked = now
	info, err := os.Stat(c.path)
	if err != nil {
		c.servers, c.changed = group{}, time.Time{}
		return c.servers
	}
	if !info.ModTime().Equal(c.changed) {
		c.servers, c.changed = newGroup(readResolvConf(c.path)), info.ModTime()
	}
	return c.servers
}

// readResolvConf returns the servers on the file's "nameserver" lines; what
// cannot be read is skipped, as the C library does.
func readResolvConf(path string) []netip.AddrPort {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []netip.AddrPort
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsUnspecified() {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}
