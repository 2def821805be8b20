package config

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/clonegate/clonegate/registry/spelling"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// A place is where the value of a key was written.
type place struct {
	name         string // of the file, variable or flag
	line, column int    // 0 outside files
	text         string // of the whole file
}

// problem returns a Problem at this place.
func (p place) problem(format string, args ...any) Problem {
	pr := Problem{Place: p.name, Message: fmt.Sprintf(format, args...)}
	if p.line > 0 {
		pr.Place = fmt.Sprintf("%s:%d:%d", p.name, p.line, p.column)
		pr.Excerpt = excerpt(p.text, p.line, p.column)
	}
	return pr
}

// A decoder fills a Config from YAML, one source after another, and remembers
// where the value of each key was written.
type decoder struct {
	places   map[string]place // key path, as in "dns.resolvers[0].listen" → place
	problems Problems
}

// decode reads one YAML text into v, which must be a struct that can be set,
// or a slice. path is the key path of v, "" for the whole configuration. With
// lines, problems carry the line and column within text.
func (d *decoder) decode(name, text, path string, v reflect.Value, lines bool) {
	src := source{name: name, text: text, lines: lines}
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		d.syntax(src, err)
		return
	}
	if len(file.Docs) > 1 && file.Docs[1].Body != nil {
		d.fault(src, file.Docs[1].Body, "a second document begins here; want one")
		return
	}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			d.node(src, path, doc.Body, v)
		}
	}
}

// A source is a text that is being decoded.
type source struct {
	name, text string
	lines      bool
}

// at returns the place of a token.
func (s source) at(tk *token.Token) place {
	if !s.lines || tk == nil || tk.Position == nil {
		return place{name: s.name}
	}
	return place{s.name, tk.Position.Line, tk.Position.Column, s.text}
}

// syntax reports an error of the YAML parser.
func (d *decoder) syntax(src source, err error) {
	if e, ok := errors.AsType[yaml.Error](err); ok {
		d.problems = append(d.problems, src.at(e.GetToken()).problem("%s", e.GetMessage()))
		return
	}
	d.problems = append(d.problems, Problem{Place: src.name, Message: err.Error()})
}

func (d *decoder) fault(src source, n ast.Node, format string, args ...any) {
	d.problems = append(d.problems, src.at(n.GetToken()).problem(format, args...))
}

// node reads n into v. A key without a value leaves v as it is.
func (d *decoder) node(src source, path string, n ast.Node, v reflect.Value) {
	switch n.Type() {
	case ast.NullType:
		return
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		d.fault(src, n, "%s: anchors, aliases and tags are not used here; write the value out", path)
		return
	}
	d.places[path] = src.at(n.GetToken())
	switch v.Kind() {
	case reflect.Struct:
		if isSection(v.Type()) {
			d.section(src, path, n, v)
			return
		}
	case reflect.Slice:
		d.list(src, path, n, v)
		return
	}
	d.scalar(src, path, n, v)
}

// section reads a mapping, whose keys must all be known.
func (d *decoder) section(src source, path string, n ast.Node, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fault(src, n, "%s: want keys such as %q below it", named(path), fieldKeys(v.Type())[0])
		return
	}
	for it := m.MapRange(); it.Next(); {
		key := it.Key()
		name := key.GetToken().Value
		i := fieldIndex(v.Type(), name)
		if i < 0 {
			d.unknown(src, key, path, name, v.Type())
			continue
		}
		d.node(src, join(path, name), it.Value(), v.Field(i))
	}
}

// unknown reports a key that does not exist, and the nearest that does.
func (d *decoder) unknown(src source, key ast.Node, path, name string, t reflect.Type) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	d.fault(src, key, "unknown key %q%s%s", name, where, spelling.Suggest(name, fieldKeys(t)))
}

// list reads a sequence, which replaces the list that was there.
func (d *decoder) list(src source, path string, n ast.Node, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fault(src, n, "%s: want a list, as in [a, b]", path)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		d.node(src, fmt.Sprintf("%s[%d]", path, i), item, out.Index(i))
	}
	v.Set(out)
}

// scalar reads a single value.
func (d *decoder) scalar(src source, path string, n ast.Node, v reflect.Value) {
	text := ""
	switch n := n.(type) {
	case *ast.LiteralNode:
		text = n.Value.Value
	case ast.ScalarNode:
		text = n.GetToken().Value
	default:
		d.fault(src, n, "%s: want a single value, in quotes if it holds a colon", path)
		return
	}
	if err := parseValue(v.Addr().Interface(), text); err != nil {
		d.fault(src, n, "%s: %v", path, err)
	}
}

// named names the place of a whole configuration, too.
func named(path string) string {
	if path == "" {
		return "the configuration"
	}
	return path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
