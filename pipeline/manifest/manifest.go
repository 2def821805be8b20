// Package manifest reads template.yaml: which hosts a clone consists of, in
// which order they start, what they serve and which parameters they take.
//
// A manifest that Parse or FromJSON returned is valid as a whole: names are
// DNS labels, needs have no cycle, addresses differ. What it describes is
// done by package pipeline and its providers; whether the files it speaks of
// exist is for whoever has the files.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/spelling"
)

// FileName is the manifest's name at the root of a template directory.
const FileName = "template.yaml"

// MaxSize bounds a manifest in octets.
const MaxSize = 64 << 10

// A Manifest says what a clone consists of.
type Manifest struct {
	Name        string             `json:"name"`
	Description string             `json:"description,omitempty"`
	Params      map[string]Param   `json:"params,omitempty"`
	Hosts       map[string]Host    `json:"hosts"`
	Services    map[string]Service `json:"services,omitempty"`
	Data        []string           `json:"data,omitempty"` // directories every clone may write to; everything else is write-protected
	Records     []registry.Record  `json:"records,omitempty"`
	Forward     []Forward          `json:"forward,omitempty"`

	Production   map[string]string `json:"production,omitempty"`    // service by name of production, "www.example.com" or "*.example.com"
	StripCookies []string          `json:"strip_cookies,omitempty"` // of production, which clones must not see

	Startup []string `json:"startup,omitempty"` // runs when all hosts are ready, registers the clone and stays to renew
}

// A Param is a value that whoever starts a clone may give.
type Param struct {
	Default *string `json:"default,omitempty"` // nil: it must be given
	Help    string  `json:"help,omitempty"`
}

// A Host is one machine of a clone.
type Host struct {
	Address uint8             `json:"address"` // the last octet, the same in every clone; 2 to 254
	Run     []string          `json:"run"`     // program and arguments; a program with a slash is relative to the clone's files
	Needs   []string          `json:"needs,omitempty"`
	Ready   *Probe            `json:"ready,omitempty"` // nil: ready as soon as it runs
	Env     map[string]string `json:"env,omitempty"`
}

// A Probe says when a host is ready. Exactly one of TCP and HTTP is set.
type Probe struct {
	TCP     uint16           `json:"tcp,omitempty"`     // a port that accepts connections
	HTTP    string           `json:"http,omitempty"`    // port and path that answer 2xx or 3xx, as in "8080/healthz"
	Timeout registry.Seconds `json:"timeout,omitempty"` // zero: 60
}

// DefaultReadyTimeout is how long a host may take to become ready if its
// manifest does not say.
const DefaultReadyTimeout = 60 * time.Second

// Patience returns how long the probe is repeated before the host has failed.
func (p *Probe) Patience() time.Duration {
	if p.Timeout == 0 {
		return DefaultReadyTimeout
	}
	return p.Timeout.Duration()
}

// Target returns the port to probe, and the path to ask for by HTTP; path is
// "" if the port only has to accept connections.
func (p *Probe) Target() (port uint16, path string) {
	if p.HTTP == "" {
		return p.TCP, ""
	}
	port, path, _ = parseHTTPProbe(p.HTTP)
	return port, path
}

// A Service is what a clone serves through the gateway.
type Service struct {
	Hosts    []string          `json:"hosts"`
	Port     uint16            `json:"port"`
	Protocol registry.Protocol `json:"protocol,omitempty"` // empty: http
	Default  bool              `json:"default,omitempty"`
	Sticky   bool              `json:"sticky,omitempty"` // a browser stays with the host that answered it first
	TLS      *registry.TLS     `json:"tls,omitempty"`    // of https; nil: without verification
	Health   *Health           `json:"health,omitempty"`
}

// Health says how the gateway probes a service.
type Health struct {
	Path     string           `json:"path"`
	Interval registry.Seconds `json:"interval,omitempty"` // zero: the registry's default
	Timeout  registry.Seconds `json:"timeout,omitempty"`  // zero: the registry's default
}

// Forward sends questions of the clone's resolver under Zone to Servers.
type Forward struct {
	Zone    string   `json:"zone"`
	Servers []string `json:"servers"` // address or address:port
}

// JSON returns the one JSON form of m: equal manifests have equal bytes.
func (m *Manifest) JSON() json.RawMessage {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings, numbers and maps of them always marshal
	}
	return data
}

// FromJSON reads what JSON returned. It is as strict as Parse.
func FromJSON(data []byte) (*Manifest, error) {
	if len(data) > 2*MaxSize {
		return nil, fmt.Errorf("template manifest: %d octets; at most %d", len(data), 2*MaxSize)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	m := new(Manifest)
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("template manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("template manifest: something stands behind it")
	}
	if faults := m.check(); len(faults) > 0 {
		return nil, fmt.Errorf("template manifest: %s: %s", faults[0].path, faults[0].message)
	}
	return m, nil
}

// HostNames returns the names of the hosts, sorted.
func (m *Manifest) HostNames() []string { return slices.Sorted(maps.Keys(m.Hosts)) }

// Levels returns the hosts in the order of their needs: every host stands in
// a later level than those it needs. Within a level names are sorted.
func (m *Manifest) Levels() [][]string {
	depth := map[string]int{}
	var of func(name string) int
	of = func(name string) int {
		if d, known := depth[name]; known {
			return d
		}
		d := 0
		for _, need := range m.Hosts[name].Needs {
			d = max(d, of(need)+1)
		}
		depth[name] = d
		return d
	}
	var levels [][]string
	for _, name := range m.HostNames() {
		for d := of(name); len(levels) <= d; {
			levels = append(levels, nil)
		}
		levels[depth[name]] = append(levels[depth[name]], name)
	}
	return levels
}

// Values returns the value of every parameter: what was given, else its
// default. It refuses parameters that are not declared and those that must be
// given and are not.
func (m *Manifest) Values(given map[string]string) (map[string]string, error) {
	var faults registry.FieldErrors
	fault := func(name, rule, detail string) {
		faults = append(faults, &registry.FieldError{Field: "params." + clip(name), Rule: rule, Detail: detail})
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, declared := m.Params[name]; !declared {
			fault(name, "param-unknown", fmt.Sprintf("template %s has no parameter %q%s", m.Name, clip(name), spelling.Suggest(name, slices.Sorted(maps.Keys(m.Params)))))
		} else if !isText(given[name]) {
			fault(name, "param-text", "the value holds a NUL or is longer than 64 KiB")
		}
	}
	values := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m.Params)) {
		value, has := given[name]
		if !has {
			if m.Params[name].Default == nil {
				fault(name, "param-missing", fmt.Sprintf("template %s has no default for it; give it a value", m.Name))
				continue
			}
			value = *m.Params[name].Default
		}
		values[name] = value
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return values, nil
}
