package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
)

// FuzzCheckJSON holds the checker against encoding/json: what it lets through
// is one JSON document in which nothing is said twice or unheard, and what it
// refuses as not JSON, encoding/json refuses too.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"instance":"x"}`, `{"instance":"x"}x`, `{"instance":"x","instance":"y"}`,
		`{"Instance":"x"}`, `{"instance":"x","services":{"www":{"endpoints":["10.0.0.1:80"],"default":true,"health":{"path":"/"}}}}`,
		`{"services":{"a":{},"\u0061":{}}}`, `{"records":[{"name":"a"},{"nome":"b"}]}`, `{"lease":{"ttl":1e3}}`,
		`{"hosts":{"db":["10.0.0.1"],"db":[]}}`, "{\"instance\":\"\xff\"}", `[[[[[[[[]]]]]]]]`, `{"lease":{"ttl":-1}}`, `{"a":{"b":{"c":[{"d":1,"d":2}]}}}`,
	} {
		f.Add([]byte(seed))
	}
	schemas := huma.NewMapRegistry(schemaPrefix, huma.DefaultSchemaNamer)
	schema := schemas.Schema(reflect.TypeFor[registry.Registration](), true, "")
	f.Fuzz(func(t *testing.T, body []byte) {
		p := checkJSON(body, schema, schemas)
		if sound := json.Valid(body) && utf8.Valid(body); (p == nil || p.Status != 400) != sound {
			t.Fatalf("%q: valid for encoding/json: %v; checked: %v", body, sound, p)
		}
		if p != nil {
			if p.Status == 422 && (len(p.Errors) == 0 || len(p.Errors) > maxMistakes) {
				t.Fatalf("%q: refused with %d faults", body, len(p.Errors))
			}
			return
		}
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		var typed registry.Registration
		err := dec.Decode(&typed)
		if _, wrongType := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !wrongType {
			t.Fatalf("%q passed the check, yet: %v", body, err)
		}
		if _, err := dec.Token(); err != io.EOF {
			t.Fatalf("%q passed the check, yet something follows it: %v", body, err)
		}
		var whole any
		if err := json.Unmarshal(body, &whole); err != nil {
			t.Fatal(err)
		}
		if kept, said := members(whole), keys(body); kept != said {
			t.Fatalf("%q has %d keys, of which decoding keeps %d", body, said, kept)
		}
	})
}

// members counts the members of all objects in a decoded document.
func members(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, m := range v {
			n += members(m)
		}
	case []any:
		for _, m := range v {
			n += members(m)
		}
	}
	return n
}

// keys counts the keys in the text of a valid document: strings before a colon.
func keys(body []byte) int {
	n, in := 0, false
	for i := 0; i < len(body); i++ {
		switch {
		case in && body[i] == '\\':
			i++
		case body[i] == '"':
			in = !in
		case !in && body[i] == ':':
			n++
		}
	}
	return n
}
