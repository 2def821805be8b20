package config

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry/spelling"
)

// Reference is the documented configuration file in which every key has its
// default.
//
//go:embed reference.yaml
var Reference string

// Sources is where a configuration comes from, the weakest first.
type Sources struct {
	File string   // the operator's file; empty: none
	Env  []string // "NAME=value", as os.Environ returns
	Set  []string // "gateway.listen=:8443", as --set takes

	// Draft reads a configuration that nobody runs yet: the zone may be missing.
	Draft bool
}

// Load reads and checks a configuration. The error is Problems if something
// is wrong with what was written. unused names the CLONEGATE_* variables that
// set nothing here; other programs may know them.
func Load(src Sources) (cfg *Config, unused []string, err error) {
	d := &decoder{places: map[string]place{}}
	cfg = new(Config)
	root := reflect.ValueOf(cfg).Elem()
	d.decode("default", Reference, "", root, false)
	if src.File != "" {
		text, err := os.ReadFile(src.File)
		if err != nil {
			return nil, nil, fmt.Errorf("configuration: %w", err)
		}
		d.decode(src.File, string(text), "", root, true)
	}
	unused = d.environment(src.Env, root)
	for _, s := range src.Set {
		path, text, ok := strings.Cut(s, "=")
		if !ok {
			d.problems = append(d.problems, Problem{Place: "--set " + s, Message: "want key=value, as in --set log.level=debug"})
			continue
		}
		d.set("--set "+path, path, text, root)
	}
	if len(d.problems) == 0 {
		cfg.resolve(src)
		check(cfg, d, src.Draft)
	}
	if len(d.problems) > 0 {
		return nil, nil, d.problems
	}
	return cfg, unused, nil
}

// environment applies every CLONEGATE_* variable that names a key and returns
// the names of those that do not. An empty variable is as good as none.
func (d *decoder) environment(env []string, root reflect.Value) (unused []string) {
	keys := map[string]Key{}
	for _, k := range Keys() {
		keys[k.Env] = k
	}
	for _, pair := range slices.Sorted(slices.Values(env)) {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, EnvPrefix) || text == "" {
			continue
		}
		if k, known := keys[name]; known {
			d.setKey(name, k, text, root)
			continue
		}
		unused = append(unused, name)
	}
	return unused
}

// set applies a value to the key at path, which may not exist.
func (d *decoder) set(name, path, text string, root reflect.Value) {
	var paths []string
	for _, k := range Keys() {
		if k.Path == path {
			d.setKey(name, k, text, root)
			return
		}
		paths = append(paths, k.Path)
	}
	d.problems = append(d.problems, Problem{Place: name, Message: fmt.Sprintf("unknown key %q%s", path, spelling.Suggest(path, paths))})
}

// setKey applies a value that stands alone. A list of plain values may be
// written with commas; every list may be written as YAML, in brackets.
func (d *decoder) setKey(name string, k Key, text string, root reflect.Value) {
	v := root.FieldByIndex(k.at)
	if k.kind.Kind() == reflect.Slice {
		if !strings.HasPrefix(strings.TrimSpace(text), "[") {
			text = "[" + text + "]"
		}
		d.decode(name, text, k.Path, v, false)
		return
	}
	d.places[k.Path] = place{name: name}
	if err := parseValue(v.Addr().Interface(), text); err != nil {
		d.problems = append(d.problems, Problem{Place: name, Message: err.Error()})
	}
}

// resolve fills in what depends on the machine, and makes paths absolute:
// those of the file's keys are relative to its directory.
func (c *Config) resolve(src Sources) {
	if c.Data == "" {
		c.Data = DefaultData(src.Env)
	}
	if abs, err := filepath.Abs(c.Data); err == nil {
		c.Data = abs
	}
	base := "."
	if src.File != "" {
		base = filepath.Dir(src.File)
	}
	for i := range c.Certificates.Files {
		f := &c.Certificates.Files[i]
		f.Cert, f.Key = below(base, f.Cert), below(base, f.Key)
	}
	a := &c.Certificates.ACME
	a.Root, a.Account.KeyFile = below(base, a.Root), below(base, a.Account.KeyFile)
	for i := range c.DNS.Secondaries {
		s := &c.DNS.Secondaries[i]
		s.KeyFile = below(base, s.KeyFile)
	}
}

// below returns path, seen from dir if it is relative. Empty stays empty.
func below(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// DefaultData returns the data directory if none is given: /var/lib/clonegate
// for root and for those without a home, else clonegate below $XDG_STATE_HOME
// or ~/.local/state.
func DefaultData(env []string) string {
	state, home := lookup(env, "XDG_STATE_HOME"), lookup(env, "HOME")
	switch {
	case os.Geteuid() == 0:
	case filepath.IsAbs(state):
		return filepath.Join(state, "clonegate")
	case home != "":
		return filepath.Join(home, ".local", "state", "clonegate")
	}
	return "/var/lib/clonegate"
}

// lookup returns the value of an environment variable, "" if it is not set.
func lookup(env []string, name string) string {
	for _, pair := range slices.Backward(env) {
		if n, value, _ := strings.Cut(pair, "="); n == name {
			return value
		}
	}
	return ""
}
