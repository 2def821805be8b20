package http1

import "encoding/binary"

// classes of octets, by which lines are checked.
const (
	classToken  uint8 = 1 << iota // RFC 9110 §5.6.2
	classTarget                   // in a request target
	classHost                     // in a Host field
	classHex
)

// octetClass holds the classes of every octet.
var octetClass = func() (t [256]uint8) {
	for c := range 256 {
		alpha := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		switch {
		case alpha, digit:
			t[c] |= classToken | classHost
		}
		if digit || 'a' <= c|0x20 && c|0x20 <= 'f' {
			t[c] |= classHex
		}
		// Clients send more than RFC 3986 allows, such as "|" and UTF-8, and
		// applications rely on it. White space and control would end the target.
		if c > 0x20 && c != 0x7f && c != '#' {
			t[c] |= classTarget
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= classToken
	}
	// RFC 3986 §3.2.2, but the comma, which would read as a list.
	for _, c := range "-._~%!$&'()*+;=:[]" {
		t[c] |= classHost
	}
	return t
}()

// all reports whether every octet of b is of a class.
func all(b []byte, class uint8) bool {
	for _, c := range b {
		if octetClass[c]&class == 0 {
			return false
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// isText reports whether b holds no control character but tabs, eight octets
// at a time: the test may stop a word for the octet behind a real hit, so a
// word that it stops is looked at octet by octet.
func isText(b []byte) bool {
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		control := (w - ones*0x20) & ^w & highs
		del := w ^ ones*0x7f
		del = (del - ones) & ^del & highs
		if control|del != 0 && !isTextSlow(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return isTextSlow(b)
}

func isTextSlow(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim returns the bounds of b[from:to] without white space around it.
func trim(b []byte, from, to int) (int, int) {
	for from < to && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	for from < to && (b[to-1] == ' ' || b[to-1] == '\t') {
		to--
	}
	return from, to
}

// EqualFold reports whether b is s, which is in lower case, in any case of
// ASCII letters.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// SameFold reports whether two stretches differ at most in the case of ASCII
// letters.
func SameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}

// AppendLower appends b with its ASCII letters in lower case.
func AppendLower(dst, b []byte) []byte {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}
