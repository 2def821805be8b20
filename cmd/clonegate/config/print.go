package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

var keyLine = regexp.MustCompile(`^( *)([a-z_]+):`)

// String returns the whole configuration as a file: the reference with the
// values of c in place of the defaults.
func (c *Config) String() string {
	values := map[string]string{}
	root := reflect.ValueOf(c).Elem()
	for _, k := range Keys() {
		values[k.Path] = format(root.FieldByIndex(k.at))
	}
	var sections []string // the keys that the current line is below
	lines := strings.Split(Reference, "\n")
	for i, line := range lines {
		m := keyLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		sections = append(sections[:len(m[1])/2], m[2])
		if text, ok := values[strings.Join(sections, ".")]; ok {
			lines[i] = m[0] + " " + text
		}
	}
	return strings.Join(lines, "\n")
}

// format writes a value as parseValue and decode read it.
func format(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = format(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case reflect.Struct:
		if isSection(v.Type()) {
			return formatSection(v)
		}
	}
	switch x := v.Interface().(type) {
	case string:
		return strconv.Quote(x)
	case registry.ID:
		return strconv.Quote(string(x))
	case registry.Host:
		if x == "" {
			return `""`
		}
		return string(x)
	case time.Duration:
		return formatDuration(x)
	case slog.Level:
		return strings.ToLower(x.String())
	case netip.Addr, netip.AddrPort, Listen:
		return strconv.Quote(fmt.Sprint(x)) // colons within flow style need quotes
	}
	return fmt.Sprint(v.Interface())
}

// formatSection writes an item of a list, without the keys that say nothing.
func formatSection(v reflect.Value) string {
	var pairs []string
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			pairs = append(pairs, v.Type().Field(i).Tag.Get("yaml")+": "+format(f))
		}
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// formatDuration writes 2m for 2m0s, 1h for 1h0m0s and 90s for 1m30s.
func formatDuration(d time.Duration) string {
	if d%time.Second == 0 && d%time.Minute != 0 && d < 2*time.Minute {
		return strconv.Itoa(int(d/time.Second)) + "s"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
