package dnsmasq

import (
	"errors"
	"strings"
)

// Characters in quotes mean themselves. The parser keeps those that otherwise
// have a meaning as code points of their own until a value is complete.
const (
	metaChars = ",:.\"'#/ \t\n\r\b\x1b-*"
	hidden    = 0xe000 // of a private plane; hidden+i stands for metaChars[i]
)

func hide(c rune) rune {
	if i := strings.IndexRune(metaChars, c); i >= 0 {
		return hidden + rune(i)
	}
	return c
}

// reveal returns a text with its quoted characters as themselves.
func reveal(s string) string {
	return strings.Map(func(r rune) rune {
		if i := r - hidden; i >= 0 && int(i) < len(metaChars) {
			return rune(metaChars[i])
		}
		return r
	}, s)
}

var errQuote = errors.New(`a quote is open at the end of the line; close it with "`)

// quotedEscapes are the escapes inside quotes, and what they stand for.
var quotedEscapes = map[byte]rune{'"': '"', '\\': '\\', 't': '\t', 'n': '\n', 'b': '\b', 'r': '\r', 'e': '\x1b'}

// unquote resolves the quotes of a line and cuts its comment off, which begins
// with a # at the start or after white space.
func unquote(line string) (string, error) {
	var b strings.Builder
	white, quoted := true, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '"':
			quoted, white = !quoted, false
		case quoted && c == '\\' && i+1 < len(line) && quotedEscapes[line[i+1]] != 0:
			i++
			b.WriteRune(hide(quotedEscapes[line[i]]))
		case quoted && c < 0x80:
			b.WriteRune(hide(rune(c)))
		case quoted:
			b.WriteByte(c)
		case strings.IndexByte(" \t\r\v\f", c) >= 0:
			white = true
			b.WriteByte(' ')
		case c == '#' && white:
			return strings.Trim(b.String(), " "), nil
		default:
			white = false
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", errQuote
	}
	return strings.Trim(b.String(), " "), nil
}

// split cuts an unquoted line into the option's name and its value. has says
// whether there is a value at all.
func split(line string) (name, value string, has bool) {
	name, value, has = strings.Cut(line, "=")
	return strings.Trim(name, " "), strings.TrimLeft(value, " "), has
}

// fields returns the comma-separated parts of a value, white space around them
// removed, quoted characters still hidden.
func fields(value string) []string {
	out := strings.Split(value, ",")
	for i := range out {
		out[i] = strings.Trim(out[i], " ")
	}
	return out
}
