package dnsmasq

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clonegate/clonegate/registry/spelling"
)

// Parse reads a configuration file and what it includes, and then options in
// the form of the command line, such as "--server=192.0.2.1". An empty file
// means none. It fails with every option that cannot be understood, each an
// *Error joined to the others.
func Parse(file string, args []string) (*Config, error) {
	p := newParser()
	for i, arg := range args {
		p.at = Origin{Line: i + 1}
		p.argument(arg)
	}
	if file != "" {
		p.at = Origin{}
		p.file(file)
	}
	p.finish()
	return p.Config, errors.Join(p.errs...)
}

// ParseText reads a configuration from memory. Name stands for its file.
func ParseText(name, text string) (*Config, error) {
	p := newParser()
	p.text(name, text, "")
	p.finish()
	return p.Config, errors.Join(p.errs...)
}

func newParser() *parser {
	cfg := &Config{Port: dnsPort, Authority: Authority{TTL: authTTL, Refresh: authRefresh, Retry: authRetry, Expire: authExpire}}
	return &parser{Config: cfg, options: options(), seen: map[string]Origin{}, aliasAt: map[string]Origin{}}
}

// A parser fills in a Config.
type parser struct {
	*Config
	options  map[string]option
	at       Origin
	fromSrv  bool     // reading a servers-file
	files    []string // being read, outermost first
	srvs     []srv    // whose names may lack the domain
	errs     []error
	remark   string            // what of the option being read is not applied
	seen     map[string]Origin // options given so far
	mxTarget string
	aliasAt  map[string]Origin // where each alias was written
}

// maxErrors bounds how many faults are reported at once.
const maxErrors = 50

// fail records what is wrong with an option.
func (p *parser) fail(option, format string, args ...any) {
	if len(p.errs) < maxErrors {
		p.errs = append(p.errs, &Error{Origin: p.at, Option: reveal(option), Why: fmt.Sprintf(format, args...)})
	}
}

// argument reads an option of the command line.
func (p *parser) argument(arg string) {
	rest, ok := strings.CutPrefix(arg, "--")
	if !ok {
		p.fail(arg, "write options in their long form, as in --server=192.0.2.1")
		return
	}
	name, value, has := strings.Cut(rest, "=")
	p.option(name, value, has)
}

// file reads a configuration file.
func (p *parser) file(path string) {
	if slices.Contains(p.files, path) {
		p.fail("conf-file", "%s includes itself", path)
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		p.fail("conf-file", "%v; name a file that can be read", err)
		return
	}
	p.text(path, string(text), "")
}

// text reads the lines of a file. only names the options that it may hold; ""
// is every one.
func (p *parser) text(path, text, only string) {
	outside := p.at
	p.files = append(p.files, path)
	defer func() { p.at, p.files = outside, p.files[:len(p.files)-1] }()
	n := 0
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		n++
		p.at = Origin{File: path, Line: n}
		line, err := unquote(lines.Text())
		if err != nil {
			p.fail(lines.Text(), "%v", err)
			continue
		}
		if line == "" {
			continue
		}
		name, value, has := split(line)
		if only != "" && !slices.Contains(strings.Fields(only), name) {
			p.fail(name, "a servers-file holds server and rev-server lines only")
			continue
		}
		p.option(name, value, has)
	}
}

// An option is how one kind of line is read.
type option struct {
	value value
	once  bool // a second one is an error
	parse func(p *parser, value string) error
	not   string // why the option is not applied; parse is nil then
}

// A value says whether an option has one.
type value int

const (
	required value = iota
	optional
	never
)

// option reads one option.
func (p *parser) option(name, value string, has bool) {
	o, known := p.options[name]
	written := name
	if has {
		written += "=" + reveal(value)
	}
	switch {
	case !known && ignoredByPrefix(name) != "":
		p.Notes = append(p.Notes, Note{Origin: p.at, Option: written, Why: ignoredByPrefix(name)})
		return
	case !known:
		p.fail(name, "there is no such option of dnsmasq%s", didYouMean(name, p.options))
		return
	case o.parse == nil:
		p.Notes = append(p.Notes, Note{Origin: p.at, Option: written, Why: o.not})
		return
	case o.value == required && (!has || value == ""):
		if !has || name != "server" && name != "local" && name != "address" {
			p.fail(name, "needs a value; write %s=…", name)
			return
		}
	case o.value == never && has:
		p.fail(name, "takes no value; write it alone")
		return
	}
	if first, again := p.seen[name]; o.once && again {
		p.fail(name, "is given a second time, after %v; keep one of them", first)
		return
	}
	p.seen[name] = p.at
	p.remark = o.not
	if err := o.parse(p, value); err != nil {
		p.fail(written, "%v", err)
		return
	}
	p.Notes = append(p.Notes, Note{Origin: p.at, Option: written, Applied: true, Why: p.remark})
}

func didYouMean(name string, options map[string]option) string {
	known := slices.Sorted(maps.Keys(options))
	if near := spelling.Nearest(strings.TrimPrefix(name, "--"), known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// conf-dir reads every file of a directory, in the order of their names, but
// for those that editors leave behind: name~, .name and #name#. Suffixes after
// the directory are skipped as well, or, with a *, the only ones read.
func (p *parser) confDir(value string) error {
	parts := fields(value)
	dir := reveal(parts[0])
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w; name a directory that can be read", err)
	}
	var only, skip []string
	for _, suffix := range parts[1:] {
		suffix = reveal(suffix)
		if rest, ok := strings.CutPrefix(suffix, "*"); ok {
			if rest != "" {
				only = append(only, rest)
			}
		} else if suffix != "" {
			skip = append(skip, suffix)
		}
	}
	hasSuffix := func(name string) func(string) bool {
		return func(suffix string) bool { return len(name) > len(suffix) && strings.HasSuffix(name, suffix) }
	}
	for _, e := range entries {
		name := e.Name()
		if isLeftover(name) || slices.ContainsFunc(skip, hasSuffix(name)) || len(only) > 0 && !slices.ContainsFunc(only, hasSuffix(name)) {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			p.file(path)
		}
	}
	return nil
}

// isLeftover reports whether a file's name says that it is not meant to be read.
func isLeftover(name string) bool {
	return strings.HasSuffix(name, "~") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#")
}

// serversFile reads a file of server lines.
func (p *parser) serversFile(path string) error {
	path = reveal(path)
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w; name a file that can be read", err)
	}
	p.ServersFiles = append(p.ServersFiles, path)
	p.fromSrv = true
	p.text(path, string(text), "server rev-server")
	p.fromSrv = false
	return nil
}
