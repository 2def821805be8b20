package manifest

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/spelling"
)

// Bounds of a manifest, far beyond any real one.
const (
	maxEntries = 256 // of one list or map
	maxServed  = 64  // services and forward rules, as many as the registry takes
	maxText    = 64 << 10
	maxReady   = 3600 // seconds
	maxTTL     = 86400
	// maxServiceName leaves room for "-" and the longest ID in one DNS label.
	maxServiceName = registry.MaxLabelLen - 1 - registry.MaxIDLen
)

// StartupName is what the startup command is called where hosts are listed;
// no host may have this name.
const StartupName = "startup"

// A fault is one thing that is wrong, and the path of what it is about.
type fault struct{ path, message string }

// checker gathers faults.
type checker struct{ faults []fault }

func (c *checker) add(path, format string, args ...any) {
	c.faults = append(c.faults, fault{path, fmt.Sprintf(format, args...)})
}

// check returns everything that is wrong with m.
func (m *Manifest) check() []fault {
	c := new(checker)
	if m.Name == "" {
		c.add("name", "is missing; a template needs a name")
	} else if _, err := registry.ParseTemplateName(m.Name); err != nil {
		c.add("name", "%v", err)
	}
	c.text("description", m.Description)
	c.params(m)
	c.hosts(m)
	c.services(m)
	c.data(m)
	c.records(m)
	c.forward(m)
	c.production(m)
	if m.Startup != nil {
		c.command("startup", m.Startup)
	}
	return c.faults
}

func (c *checker) text(path, s string) {
	if !isText(s) {
		c.add(path, "holds a NUL or is longer than %d octets", maxText)
	}
}

func isText(s string) bool { return len(s) <= maxText && !strings.Contains(s, "\x00") }

func (c *checker) size(path string, n int) bool { return c.atMost(path, n, maxEntries) }

func (c *checker) atMost(path string, n, most int) bool {
	if n > most {
		c.add(path, "%d entries; at most %d", n, most)
		return false
	}
	return true
}

func (c *checker) label(path, name string) bool {
	if _, err := registry.ParseLabel(name); err != nil {
		c.add(path, "%v", err)
		return false
	}
	return true
}

func (c *checker) command(path string, run []string) {
	if !c.size(path, len(run)) {
		return
	}
	if len(run) == 0 || run[0] == "" {
		c.add(path, "names no program; want a list such as [bin/shop, web]")
		return
	}
	if strings.Contains(run[0], "/") && !isProgram(run[0]) {
		c.add(path, "program %q: want a path inside the template, as in bin/shop, or a bare name found in PATH", clip(run[0]))
	}
	for _, arg := range run {
		c.text(path, arg)
	}
}

// isProgram reports whether a program's path stays inside the template, or is
// absolute: programs of the machine may be named by their full path.
func isProgram(p string) bool { return path.IsAbs(p) || isInside(p) }

// isInside reports whether p is a clean relative path that does not leave.
func isInside(p string) bool {
	p = strings.TrimPrefix(p, "./")
	return p != "" && p != "." && !path.IsAbs(p) && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../") && isText(p)
}

func (c *checker) params(m *Manifest) {
	if !c.size("params", len(m.Params)) {
		return
	}
	for _, name := range sortedKeys(m.Params) {
		p := m.Params[name]
		at := join("params", name)
		c.label(at, name)
		c.text(at+".help", p.Help)
		if p.Default != nil {
			c.text(at+".default", *p.Default)
		}
	}
}

func (c *checker) hosts(m *Manifest) {
	if len(m.Hosts) == 0 {
		c.add("hosts", "is missing; a clone needs at least one host")
		return
	}
	if !c.size("hosts", len(m.Hosts)) {
		return
	}
	names := sortedKeys(m.Hosts)
	taken := map[uint8]string{}
	for _, name := range names {
		h, at := m.Hosts[name], join("hosts", name)
		if c.label(at, name) && name == StartupName {
			c.add(at, "%q stands for the startup command; choose another name", name)
		}
		c.address(at+".address", name, h.Address, taken)
		c.command(at+".run", h.Run)
		c.needs(at+".needs", name, h.Needs, names)
		c.ready(at+".ready", h.Ready)
		c.env(at+".env", h.Env)
	}
	c.cycles(m)
}

func (c *checker) address(at, name string, address uint8, taken map[uint8]string) {
	if address < 2 || address > 254 {
		c.add(at, "want the last octet of the host's address, 2 to 254")
		return
	}
	if other, twice := taken[address]; twice {
		c.add(at, "%d is the address of host %s already", address, other)
		return
	}
	taken[address] = name
}

func (c *checker) needs(at, name string, needs, names []string) {
	if !c.size(at, len(needs)) {
		return
	}
	for i, need := range needs {
		at := index(at, i)
		switch {
		case need == name:
			c.add(at, "host %s needs itself", clip(name))
		case !slices.Contains(names, need):
			c.add(at, "there is no host %q%s", clip(need), spelling.Suggest(need, names))
		case slices.Contains(needs[:i], need):
			c.add(at, "%s stands twice", need)
		}
	}
}

func (c *checker) ready(at string, p *Probe) {
	if p == nil {
		return
	}
	switch {
	case p.TCP == 0 && p.HTTP == "":
		c.add(at, `want {tcp: PORT} or {http: "PORT/path"}`)
	case p.TCP != 0 && p.HTTP != "":
		c.add(at, "tcp and http exclude each other")
	case p.HTTP != "":
		if _, _, err := parseHTTPProbe(p.HTTP); err != nil {
			c.add(at+".http", "%v", err)
		}
	}
	if p.Timeout > maxReady {
		c.add(at+".timeout", "%d seconds; at most %d", p.Timeout, maxReady)
	}
}

// parseHTTPProbe reads "8080/healthz".
func parseHTTPProbe(s string) (port uint16, path string, err error) {
	number, rest, found := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || !found || number[0] == '+' || !isURLPath("/"+rest) {
		return 0, "", fmt.Errorf("%q: want a port and a path, as in \"8080/healthz\"", clip(s))
	}
	return uint16(n), "/" + rest, nil
}

func isURLPath(s string) bool {
	return strings.HasPrefix(s, "/") && len(s) <= 1024 &&
		!strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' })
}

func (c *checker) env(at string, env map[string]string) {
	if !c.size(at, len(env)) {
		return
	}
	for _, name := range sortedKeys(env) {
		at := join(at, name)
		switch {
		case strings.HasPrefix(name, "CLONEGATE_"):
			c.add(at, "names that begin with CLONEGATE_ are given by clonegate itself")
		case !isEnvName(name):
			c.add(at, "%q cannot name an environment variable; use letters, digits and underscores, no digit first", clip(name))
		}
		c.text(at, env[name])
	}
}

func isEnvName(s string) bool {
	for i := range len(s) {
		b := s[i]
		letter := b == '_' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if !letter && (i == 0 || b < '0' || b > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// cycles reports hosts that need each other in a circle, each circle once.
func (c *checker) cycles(m *Manifest) {
	done := map[string]bool{}
	var trail []string
	var visit func(name string) bool
	visit = func(name string) bool {
		if i := slices.Index(trail, name); i >= 0 {
			c.add(join("hosts", trail[i])+".needs", "hosts need each other in a circle: %s", strings.Join(append(trail[i:], name), " → "))
			return true
		}
		if done[name] {
			return false
		}
		trail = append(trail, name)
		found := slices.ContainsFunc(m.Hosts[name].Needs, func(need string) bool {
			_, known := m.Hosts[need]
			return known && need != name && visit(need)
		})
		trail = trail[:len(trail)-1]
		done[name] = true
		return found
	}
	for _, name := range sortedKeys(m.Hosts) {
		visit(name)
	}
}

func (c *checker) services(m *Manifest) {
	if !c.atMost("services", len(m.Services), maxServed) {
		return
	}
	names := sortedKeys(m.Services)
	first := ""
	for _, name := range names {
		s, at := m.Services[name], join("services", name)
		if c.label(at, name) && len(name) > maxServiceName {
			c.add(at, "name %q is %d octets long; at most %d, so that it fits a DNS label together with the clone's ID", name, len(name), maxServiceName)
		}
		c.pool(at+".hosts", s.Hosts, sortedKeys(m.Hosts))
		if s.Port == 0 {
			c.add(at+".port", "want the port the hosts listen on, 1 to 65535")
		}
		c.protocol(at+".protocol", s.Protocol)
		c.tls(at+".tls", s)
		c.health(at+".health", s.Health)
		if s.Default && first != "" {
			c.add(at+".default", "service %s is the default already; the clone's bare name can lead to one only", first)
		} else if s.Default {
			first = name
		}
	}
}

func (c *checker) pool(at string, hosts, known []string) {
	if len(hosts) == 0 {
		c.add(at, "want at least one host")
	}
	if !c.size(at, len(hosts)) {
		return
	}
	for i, h := range hosts {
		if !slices.Contains(known, h) {
			c.add(index(at, i), "there is no host %q%s", clip(h), spelling.Suggest(h, known))
		} else if slices.Contains(hosts[:i], h) {
			c.add(index(at, i), "%s stands twice", h)
		}
	}
}

func (c *checker) protocol(at string, p registry.Protocol) {
	known := []string{string(registry.HTTP), string(registry.HTTPS), string(registry.H2C)}
	if p != "" && !slices.Contains(known, string(p)) {
		c.add(at, "%q is not known; want %s", clip(string(p)), strings.Join(known, ", "))
	}
}

func (c *checker) tls(at string, s Service) {
	if s.TLS == nil {
		return
	}
	if s.Protocol != registry.HTTPS {
		c.add(at, "the service does not speak https; set protocol: https, or leave tls out")
	}
	if err := s.TLS.Check(); err != nil {
		c.add(at, "%v", err)
	}
}

func (c *checker) health(at string, h *Health) {
	if h == nil {
		return
	}
	if !isURLPath(h.Path) {
		c.add(at+".path", "%q: want a path that begins with / in visible ASCII, without #", clip(h.Path))
	}
	if h.Interval > 3600 {
		c.add(at+".interval", "%d seconds; at most 3600", h.Interval)
	}
	if h.Timeout > 60 {
		c.add(at+".timeout", "%d seconds; at most 60", h.Timeout)
	}
}

func (c *checker) data(m *Manifest) {
	if !c.size("data", len(m.Data)) {
		return
	}
	for i, dir := range m.Data {
		if !isInside(dir) || strings.HasPrefix(dir, "./") {
			c.add(index("data", i), "%q: want a directory inside the template, as in data or var/db", clip(dir))
			continue
		}
		for _, other := range m.Data[:i] {
			if dir == other || strings.HasPrefix(dir, other+"/") || strings.HasPrefix(other, dir+"/") {
				c.add(index("data", i), "%s and %s overlap", clip(dir), clip(other))
			}
		}
	}
}

func (c *checker) records(m *Manifest) {
	if !c.size("records", len(m.Records)) {
		return
	}
	for i, r := range m.Records {
		at := index("records", i)
		if _, err := registry.ParseHost(r.Name); err != nil {
			c.add(at+".name", "%v", err)
		}
		if r.Type == "" || len(r.Type) > 16 {
			c.add(at+".type", "want the type of a DNS record, as in TXT or SRV")
		}
		if r.TTL > maxTTL {
			c.add(at+".ttl", "%d seconds; at most %d", r.TTL, maxTTL)
		}
		if r.Data == "" || len(r.Data) > 4096 || !isText(r.Data) {
			c.add(at+".data", "want 1 to 4096 octets, as a zone file writes them")
		}
	}
}

func (c *checker) forward(m *Manifest) {
	if !c.atMost("forward", len(m.Forward), maxServed) {
		return
	}
	for i, f := range m.Forward {
		at := index("forward", i)
		if _, err := registry.ParseHost(f.Zone); err != nil {
			c.add(at+".zone", "%v", err)
		}
		if len(f.Servers) == 0 || len(f.Servers) > 8 {
			c.add(at+".servers", "want 1 to 8 servers, got %d", len(f.Servers))
			continue
		}
		for j, s := range f.Servers {
			if err := checkServer(s); err != nil {
				c.add(index(at+".servers", j), "%v", err)
			}
		}
	}
}

func checkServer(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return nil
	}
	return errors.New(strconv.Quote(clip(s)) + ": want an address or address:port")
}
