package manifest

import (
	"fmt"
	"strings"

	"github.com/clonegate/clonegate/registry"
)

// An Error is one thing that is wrong with a manifest, and where it stands.
type Error struct {
	File    string
	Line    int    // from 1
	Column  int    // from 1, in characters
	Source  string // the line, without its end
	Path    string // "hosts.db.address"; "" for the whole file
	Message string
}

// Error returns what is wrong, with the line of the file below it.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	if e.Source != "" {
		source, column := window(e.Source, e.Column)
		fmt.Fprintf(&b, "\n%5d | %s\n      | %s^", e.Line, source, strings.Repeat(" ", column-1))
	}
	return b.String()
}

// window cuts a long line down to what stands around the column.
func window(line string, column int) (string, int) {
	const before, after = 60, 60
	runes := []rune(strings.ReplaceAll(line, "\t", " "))
	column = min(max(column, 1), len(runes)+1)
	from := max(0, column-1-before)
	return string(runes[from:min(len(runes), column-1+after)]), column - from
}

// Is reports that an Error is a registry.ErrInvalid.
func (e *Error) Is(target error) bool { return target == registry.ErrInvalid }

// Errors is what is wrong with a manifest, in the order of the file. It is a
// registry.ErrInvalid.
type Errors []*Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Is reports that Errors are a registry.ErrInvalid.
func (es Errors) Is(target error) bool { return target == registry.ErrInvalid }

// clip shortens hostile input before it is quoted.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
