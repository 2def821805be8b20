package config

import (
	"reflect"
	"strings"
)

// EnvPrefix begins the names of environment variables that set a key.
const EnvPrefix = "CLONEGATE_"

// A Key is one setting: a value, or a list.
type Key struct {
	Path string // "gateway.listen"
	Env  string // "CLONEGATE_GATEWAY_LISTEN"
	kind reflect.Type
	at   []int // field index, as reflect.Value.FieldByIndex takes it
}

// Keys returns every key in the order of the reference.
func Keys() []Key { return keysOf(reflect.TypeFor[Config](), "", nil) }

func keysOf(t reflect.Type, path string, at []int) []Key {
	var keys []Key
	for i := range t.NumField() {
		f := t.Field(i)
		p, idx := join(path, f.Tag.Get("yaml")), append(at[:len(at):len(at)], i)
		if f.Type.Kind() == reflect.Struct && isSection(f.Type) {
			keys = append(keys, keysOf(f.Type, p, idx)...)
			continue
		}
		env := EnvPrefix + strings.ToUpper(strings.ReplaceAll(p, ".", "_"))
		keys = append(keys, Key{Path: p, Env: env, kind: f.Type, at: idx})
	}
	return keys
}

// isSection reports whether a struct has keys of its own; the others, such as
// netip.Addr, are values.
func isSection(t reflect.Type) bool {
	return t.NumField() > 0 && t.Field(0).Tag.Get("yaml") != ""
}

// fieldKeys returns the keys of a section.
func fieldKeys(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// fieldIndex returns the index of the field for a key, or -1.
func fieldIndex(t reflect.Type, key string) int {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == key {
			return i
		}
	}
	return -1
}
