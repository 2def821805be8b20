package config

import (
	"fmt"
	"strings"
)

// A Problem is one thing that is wrong with a configuration.
type Problem struct {
	Place   string // "clonegate.yaml:3:1", "CLONEGATE_LOG_LEVEL" or "--set log.level"
	Message string // what is wrong and what is wanted
	Excerpt string // the line of the file with a mark below; "" outside files
}

// Problems is everything that is wrong with a configuration.
type Problems []Problem

func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s: %s", p.Place, p.Message)
		if p.Excerpt != "" {
			b.WriteByte('\n')
			b.WriteString(p.Excerpt)
		}
	}
	return b.String()
}

// excerpt shows one line of a text, the line before it, and a mark below a
// column. Lines and columns count from 1; a line that is not there shows nothing.
func excerpt(text string, line, column int) string {
	lines := strings.Split(text, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	var b strings.Builder
	if line > 1 {
		fmt.Fprintf(&b, "  %4d | %s\n", line-1, lines[line-2])
	}
	fmt.Fprintf(&b, "> %4d | %s\n", line, lines[line-1])
	pad := []byte(strings.Repeat(" ", max(column-1, 0)))
	for i := range min(len(pad), len(lines[line-1])) {
		if lines[line-1][i] == '\t' {
			pad[i] = '\t'
		}
	}
	fmt.Fprintf(&b, "       | %s^", pad)
	return b.String()
}
