package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/clonegate/clonegate/registry/spelling"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A field reads the node at a path into its place.
type field func(n ast.Node, path string)

// A reader turns the nodes of a YAML file into values, remembers where each
// path stands, and gathers every fault. Nothing is guessed: a text may be
// written without quotes, and keeps its spelling ("1.10" stays "1.10").
type reader struct {
	anchors map[string]ast.Node
	places  map[string]*token.Token // path → where its value stands
	faults  []placed
	seen    int // nodes read, aliases counted each time
}

// A placed fault is one that stands at a token; nil is the whole file.
type placed struct {
	at *token.Token
	fault
}

// maxNodes bounds how many values are read, so that aliases of aliases cannot
// make a small file a large manifest.
const maxNodes = 50_000

func (r *reader) add(n ast.Node, path, format string, args ...any) {
	r.faults = append(r.faults, placed{start(n), fault{path, fmt.Sprintf(format, args...)}})
}

// start returns the first token of a node. The library's own answer for keys
// and values is the colon between them.
func start(n ast.Node) *token.Token {
	switch v := n.(type) {
	case nil:
		return nil
	case *ast.MappingValueNode:
		return v.Key.GetToken()
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return v.Values[0].Key.GetToken()
		}
	}
	return n.GetToken()
}

// Visit remembers anchors; aliases may be used for any value.
func (r *reader) Visit(n ast.Node) ast.Visitor {
	if a, ok := n.(*ast.AnchorNode); ok {
		name := a.Name.GetToken().Value
		if _, twice := r.anchors[name]; twice {
			r.add(a, "", "anchor &%s stands twice", clip(name))
		}
		r.anchors[name] = a.Value
	}
	return r
}

// resolve returns the value behind anchors and aliases, nil if there is none.
func (r *reader) resolve(n ast.Node, path string) ast.Node {
	if r.seen++; r.seen > maxNodes {
		if r.seen == maxNodes+1 {
			r.add(n, path, "the file holds more than %d values, aliases counted each time", maxNodes)
		}
		return nil
	}
	for range 32 {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			target, known := r.anchors[name]
			if !known {
				r.add(v, path, "there is no anchor &%s", clip(name))
				return nil
			}
			n = target
		case *ast.TagNode:
			r.add(v, path, "tags such as %s are not understood here; remove it", clip(v.Start.Value))
			return nil
		default:
			if n != nil {
				r.places[path] = start(n)
			}
			return n
		}
	}
	r.add(n, path, "aliases lead in a circle")
	return nil
}

// fields reads a mapping whose keys are known.
func (r *reader) fields(n ast.Node, path string, known map[string]field) {
	r.entries(n, path, func(key string, at, value ast.Node) {
		read, ok := known[key]
		if !ok {
			r.add(at, path, "unknown key %q%s", clip(key), spelling.Suggest(key, slices.Sorted(maps.Keys(known))))
			return
		}
		read(value, join(path, key))
	})
}

// entries reads a mapping entry by entry. A mapping with nothing in it may be
// left empty.
func (r *reader) entries(n ast.Node, path string, entry func(key string, at, value ast.Node)) {
	node := r.resolve(n, path)
	var values []*ast.MappingValueNode
	switch v := node.(type) {
	case nil:
		return
	case *ast.NullNode:
		return
	case *ast.MappingNode:
		values = v.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{v}
	default:
		r.add(n, path, "want keys and values, got %s", kind(node))
		return
	}
	if len(values) > maxEntries {
		r.add(n, path, "%d entries; at most %d", len(values), maxEntries)
		return
	}
	seen := map[string]int{}
	for _, v := range values {
		if v.Key.IsMergeKey() {
			r.add(v.Key, path, "merge keys (<<) are not understood here; an alias (*name) can stand for a whole value")
			continue
		}
		key, ok := scalar(r.resolve(v.Key, join(path, "?")))
		if !ok {
			r.add(v.Key, path, "a key must be a plain word")
			continue
		}
		if line, twice := seen[key]; twice {
			r.add(v.Key, path, "key %q stands twice; the first is in line %d", clip(key), line)
			continue
		}
		seen[key] = v.Key.GetToken().Position.Line
		entry(key, v.Key, v.Value)
	}
}

// items reads a list item by item.
func (r *reader) items(n ast.Node, path string, item field) {
	node := r.resolve(n, path)
	switch v := node.(type) {
	case nil:
	case *ast.NullNode:
	case *ast.SequenceNode:
		if len(v.Values) > maxEntries {
			r.add(n, path, "%d entries; at most %d", len(v.Values), maxEntries)
			return
		}
		for i, value := range v.Values {
			item(value, index(path, i))
		}
	default:
		r.add(n, path, "want a list such as [a, b], got %s", kind(node))
	}
}

func (r *reader) text(to *string) field {
	return func(n ast.Node, path string) {
		node := r.resolve(n, path)
		if node == nil {
			return
		}
		s, ok := scalar(node)
		if !ok {
			hint := ""
			if _, null := node.(*ast.NullNode); null {
				hint = `; write "" for an empty text`
			}
			r.add(n, path, "want a text, got %s%s", kind(node), hint)
			return
		}
		*to = s
	}
}

func (r *reader) texts(to *[]string) field {
	return func(n ast.Node, path string) {
		*to = []string{}
		r.items(n, path, func(n ast.Node, path string) {
			*to = append(*to, "")
			r.text(&(*to)[len(*to)-1])(n, path)
		})
	}
}

func (r *reader) boolean(to *bool) field {
	return func(n ast.Node, path string) {
		switch v := r.resolve(n, path).(type) {
		case nil:
		case *ast.BoolNode:
			*to = v.Value
		default:
			r.add(n, path, "want true or false, got %s", kind(v))
		}
	}
}

// number reads a whole number of at most most.
func number[T ~uint8 | ~uint16 | ~uint32](r *reader, to *T, most uint64) field {
	return func(n ast.Node, path string) {
		node := r.resolve(n, path)
		if node == nil {
			return
		}
		i, ok := node.(*ast.IntegerNode)
		if !ok {
			r.add(n, path, "want a whole number, got %s", kind(node))
			return
		}
		v, err := strconv.ParseUint(i.GetToken().Value, 10, 64)
		if err != nil || v > most {
			r.add(n, path, "%s: want a whole number from 0 to %d, without sign, separators or prefix", clip(i.GetToken().Value), most)
			return
		}
		*to = T(v)
	}
}

// scalar returns a scalar as it is written.
func scalar(n ast.Node) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// kind names a node for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode:
		return "a whole number"
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	}
	return strings.ToLower(n.Type().YAMLName())
}

func join(path, key string) string {
	if path == "" {
		return clip(key)
	}
	return path + "." + clip(key)
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
