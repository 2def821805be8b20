package manifest

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/clonegate/clonegate/registry"
)

// maxErrors bounds how many faults are told at once.
const maxErrors = 10

// Parse reads a manifest. file is its name in errors, which are Errors.
func Parse(file string, data []byte) (*Manifest, error) {
	p := &parsed{file: file, lines: strings.Split(string(data), "\n")}
	if len(data) > MaxSize {
		return nil, p.single(nil, "the file has %d octets; at most %d", len(data), MaxSize)
	}
	if !utf8.Valid(data) {
		return nil, p.single(nil, "the file is not UTF-8 text")
	}
	tokens := lexer.Tokenize(string(data))
	if at := deepest(tokens); at != nil {
		return nil, p.single(at, "values are nested deeper than %d levels", maxDepth)
	}
	f, err := parser.Parse(tokens, 0)
	if err != nil {
		var at yaml.Error
		if errors.As(err, &at) {
			return nil, p.single(at.GetToken(), "%s", at.GetMessage())
		}
		return nil, p.single(nil, "%v", err)
	}
	docs := slices.DeleteFunc(f.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	switch len(docs) {
	case 0:
		return nil, p.single(nil, "the file is empty; it begins with name: and hosts:")
	case 1:
	default:
		return nil, p.single(start(docs[1].Body), "the file holds %d documents; want one", len(docs))
	}
	r := &reader{anchors: map[string]ast.Node{}, places: map[string]*token.Token{}}
	ast.Walk(r, docs[0].Body)
	m := r.manifest(docs[0].Body)
	if len(r.faults) == 0 {
		for _, f := range m.check() {
			r.faults = append(r.faults, placed{r.place(f.path), f})
		}
	}
	if len(r.faults) > 0 {
		return nil, p.errors(r.faults)
	}
	return m, nil
}

// manifest reads the whole file. This is its grammar.
func (r *reader) manifest(root ast.Node) *Manifest {
	m := new(Manifest)
	r.fields(root, "", map[string]field{
		"name":        r.text(&m.Name),
		"description": r.text(&m.Description),
		"params":      named(r, &m.Params, r.param),
		"hosts":       named(r, &m.Hosts, r.host),
		"services":    named(r, &m.Services, r.service),
		"data":        r.texts(&m.Data),
		"records":     listed(r, &m.Records, r.record),
		"forward":     listed(r, &m.Forward, r.forward),
		"startup":     r.texts(&m.Startup),

		"production":    named(r, &m.Production, func(v *string, n ast.Node, path string) { r.text(v)(n, path) }),
		"strip_cookies": r.texts(&m.StripCookies),
	})
	if len(m.Startup) == 0 {
		m.Startup = nil
	}
	return m
}

func (r *reader) param(p *Param, n ast.Node, path string) {
	r.fields(n, path, map[string]field{
		"default": func(n ast.Node, path string) {
			p.Default = new(string)
			r.text(p.Default)(n, path)
		},
		"help": r.text(&p.Help),
	})
}

func (r *reader) host(h *Host, n ast.Node, path string) {
	r.fields(n, path, map[string]field{
		"address": number(r, &h.Address, 254),
		"run":     r.texts(&h.Run),
		"needs":   r.texts(&h.Needs),
		"ready": func(n ast.Node, path string) {
			h.Ready = new(Probe)
			r.fields(n, path, map[string]field{
				"tcp":     number(r, &h.Ready.TCP, 65535),
				"http":    r.text(&h.Ready.HTTP),
				"timeout": number(r, &h.Ready.Timeout, maxReady),
			})
		},
		"env": named(r, &h.Env, func(v *string, n ast.Node, path string) { r.text(v)(n, path) }),
	})
}

func (r *reader) service(s *Service, n ast.Node, path string) {
	r.fields(n, path, map[string]field{
		"hosts":    r.texts(&s.Hosts),
		"port":     number(r, &s.Port, 65535),
		"protocol": r.text((*string)(&s.Protocol)),
		"default":  r.boolean(&s.Default),
		"sticky":   r.boolean(&s.Sticky),
		"tls": func(n ast.Node, path string) {
			s.TLS = new(registry.TLS)
			r.fields(n, path, map[string]field{
				"name":   r.text(&s.TLS.Name),
				"verify": r.text(&s.TLS.Verify),
				"ca":     r.text(&s.TLS.CA),
				"pin":    r.text(&s.TLS.Pin),
			})
		},
		"health": func(n ast.Node, path string) {
			s.Health = new(Health)
			r.fields(n, path, map[string]field{
				"path":     r.text(&s.Health.Path),
				"interval": number(r, &s.Health.Interval, 3600),
				"timeout":  number(r, &s.Health.Timeout, 60),
			})
		},
	})
}

func (r *reader) record(rec *registry.Record, n ast.Node, path string) {
	r.fields(n, path, map[string]field{
		"name": r.text(&rec.Name),
		"type": r.text(&rec.Type),
		"ttl":  number(r, &rec.TTL, maxTTL),
		"data": r.text(&rec.Data),
	})
}

func (r *reader) forward(f *Forward, n ast.Node, path string) {
	r.fields(n, path, map[string]field{
		"zone":    r.text(&f.Zone),
		"servers": r.texts(&f.Servers),
	})
}

// named reads a mapping from names to values of one kind.
func named[T any](r *reader, to *map[string]T, read func(*T, ast.Node, string)) field {
	return func(n ast.Node, path string) {
		m := map[string]T{}
		r.entries(n, path, func(key string, at, value ast.Node) {
			r.places[join(path, key)] = at.GetToken()
			var v T
			read(&v, value, join(path, key))
			m[key] = v
			r.places[join(path, key)] = at.GetToken() // a fault of the name points at the name
		})
		if len(m) > 0 {
			*to = m
		}
	}
}

// listed reads a list of values of one kind.
func listed[T any](r *reader, to *[]T, read func(*T, ast.Node, string)) field {
	return func(n ast.Node, path string) {
		r.items(n, path, func(n ast.Node, path string) {
			var v T
			read(&v, n, path)
			*to = append(*to, v)
		})
	}
}

// place returns where a path stands, or the nearest path above it that does.
func (r *reader) place(path string) *token.Token {
	for path != "" {
		if at, ok := r.places[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return r.places[""]
}

// parsed makes errors for one file.
type parsed struct {
	file  string
	lines []string
}

func (p *parsed) single(at *token.Token, format string, args ...any) Errors {
	r := new(reader)
	r.add(nil, "", format, args...)
	r.faults[0].at = at
	return p.errors(r.faults)
}

// errors returns the faults in the order of the file, without repetitions and
// at most maxErrors of them.
func (p *parsed) errors(faults []placed) Errors {
	seen := map[string]*Error{}
	for _, f := range faults {
		e := &Error{File: p.file, Line: 1, Column: 1, Path: f.path, Message: f.message}
		if f.at != nil && f.at.Position != nil {
			e.Line, e.Column = max(1, f.at.Position.Line), max(1, f.at.Position.Column)
		}
		if f.at != nil && e.Line <= len(p.lines) {
			e.Source = strings.TrimRight(p.lines[e.Line-1], "\r")
		}
		seen[e.Error()] = e
	}
	es := slices.SortedFunc(maps.Values(seen), func(a, b *Error) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	return es[:min(len(es), maxErrors)]
}

// maxDepth bounds how deep brackets and braces nest; a manifest has five levels.
const maxDepth = 32

// deepest returns the first token that is nested too deep, nil if there is
// none. It is asked before the parser, whose time and memory grow with the
// square of the depth.
func deepest(tokens token.Tokens) *token.Token {
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth = max(0, depth-1)
		}
		if depth > maxDepth {
			return t
		}
	}
	return nil
}
