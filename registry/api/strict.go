package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clonegate/clonegate/registry/spelling"
	"github.com/danielgtaylor/huma/v2"
)

const (
	// maxDepth bounds how deep a body may nest; ours nest four deep, a
	// template's manifest a little more.
	maxDepth = 64
	// maxMistakes bounds how many mistakes of one body are told.
	maxMistakes = 16
)

// checkJSON refuses what encoding/json would take without a word: keys that
// stand twice (the last would win), unknown keys, keys in another case, text
// that is not UTF-8, and what follows the document. schema says which keys are
// known; what the values are is left to huma, but for numbers too large.
func checkJSON(body []byte, schema *huma.Schema, schemas huma.Registry) *Problem {
	if !utf8.Valid(body) {
		return badJSON("the body is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return badJSON("the body is not JSON: %s, at byte %d of %d", syntax, syntax.Offset, len(body))
		}
		return badJSON("the body is not JSON: %s", err)
	}
	c := &checker{dec: json.NewDecoder(bytes.NewReader(body)), schemas: schemas}
	c.dec.UseNumber()
	if err := c.value(schema); err != nil && !errors.Is(err, errEnoughMistakes) {
		return badJSON("the body is not JSON: %s", err)
	}
	if len(c.mistakes) > 0 {
		return invalid(c.mistakes...)
	}
	return nil
}

func badJSON(format string, args ...any) *Problem {
	return Refusal(http.StatusBadRequest, "bad-json", format, args...)
}

var errEnoughMistakes = errors.New("enough mistakes found")

// A checker walks a document and its schema side by side.
type checker struct {
	dec      *json.Decoder
	schemas  huma.Registry
	path     []string // "services", "www", "[0]": joined only to tell a mistake
	mistakes []Mistake
}

func (c *checker) mistake(rule, format string, args ...any) error {
	c.mistakes = append(c.mistakes, Mistake{Location: c.location(), Rule: rule, Detail: fmt.Sprintf(format, args...)})
	if len(c.mistakes) == maxMistakes {
		return errEnoughMistakes
	}
	return nil
}

func (c *checker) location() string {
	var b strings.Builder
	b.WriteString("body")
	for _, p := range c.path {
		if !strings.HasPrefix(p, "[") {
			b.WriteByte('.')
		}
		b.WriteString(p)
	}
	return b.String()
}

// value reads one value. schema is nil where anything goes.
func (c *checker) value(schema *huma.Schema) error {
	if len(c.path) > maxDepth {
		c.path = c.path[:3]
		c.mistake("depth", "nests more than %d deep", maxDepth)
		return errEnoughMistakes
	}
	token, err := c.dec.Token()
	if err != nil {
		return err
	}
	for schema != nil && schema.Ref != "" {
		schema = c.schemas.SchemaFromRef(schema.Ref)
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return c.object(schema)
		}
		return c.array(schema)
	case json.Number:
		return c.number(schema, token)
	}
	return nil
}

// number refuses what no number of ours can hold, as 1e999, and for a whole
// number what does not fit the field's type, as 1e3 and 99999999999. What the
// field's bounds are, huma checks.
func (c *checker) number(schema *huma.Schema, n json.Number) error {
	if _, err := n.Float64(); err != nil {
		return c.mistake("value", "%s is too large a number", clip(n.String()))
	}
	if schema == nil || schema.Type != huma.TypeInteger {
		return nil
	}
	least, most := int64(math.MinInt64), int64(math.MaxInt64)
	if schema.Format == "int32" {
		least, most = math.MinInt32, math.MaxInt32
		if schema.Minimum != nil && *schema.Minimum >= 0 {
			most = math.MaxUint32
		}
	}
	if v, err := n.Int64(); err != nil || v < least || v > most {
		return c.mistake("value", "%s is not a whole number of at most %d", clip(n.String()), most)
	}
	return nil
}

func (c *checker) object(schema *huma.Schema) error {
	seen := map[string]bool{}
	for c.dec.More() {
		token, err := c.dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		c.path = append(c.path, clip(key))
		if seen[key] {
			if err := c.mistake("duplicate-key", "key %q stands twice in one object; only one of them could be obeyed", clip(key)); err != nil {
				return err
			}
		}
		seen[key] = true
		member, known := member(schema, key)
		if !known {
			if err := c.mistake("unknown-key", "key %q is not known here%s", clip(key), spelling.Suggest(key, slices.Sorted(maps.Keys(schema.Properties)))); err != nil {
				return err
			}
		}
		if err := c.value(member); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	_, err := c.dec.Token()
	return err
}

// member returns the schema of one key of an object, nil where anything goes.
func member(schema *huma.Schema, key string) (s *huma.Schema, known bool) {
	if schema == nil {
		return nil, true
	}
	if s, ok := schema.Properties[key]; ok {
		return s, true
	}
	switch more := schema.AdditionalProperties.(type) {
	case *huma.Schema:
		return more, true
	case bool:
		return nil, more
	}
	return nil, true
}

func (c *checker) array(schema *huma.Schema) error {
	var items *huma.Schema
	if schema != nil {
		items = schema.Items
	}
	for i := 0; c.dec.More(); i++ {
		c.path = append(c.path, "["+strconv.Itoa(i)+"]")
		if err := c.value(items); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	_, err := c.dec.Token()
	return err
}

// clip shortens hostile input before it is told back.
func clip(s string) string {
	if len(s) <= 80 {
		return s
	}
	return strings.ToValidUTF8(s[:80], "") + "…"
}
