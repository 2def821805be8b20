package http2

import "strconv"

// Classes of octets. HTTP/2 carries any octet in a field, and what is written
// to an HTTP/1 connection afterwards must not end a line there, so the check
// is here (RFC 9113 §8.2.1, §10.3).
const (
	inName  = 1 << iota // of a token in lower case (RFC 9110 §5.6.2)
	inToken             // of a token
	inValue             // of a value: no control but HTAB
	inPath              // of a path: visible, or beyond ASCII
)

var octets = func() (t [256]byte) {
	for i := range t {
		c := byte(i)
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			t[i] |= inName | inToken
		case 'A' <= c && c <= 'Z':
			t[i] |= inToken
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[i] |= inValue
		}
		if c > ' ' && c != 0x7f {
			t[i] |= inPath
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= inName | inToken
	}
	return t
}()

// only reports whether s consists of octets of one class.
func only(s string, class byte) bool {
	for i := range len(s) {
		if octets[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

func validName(s string) bool  { return only(s, inName) }
func validToken(s string) bool { return s != "" && only(s, inToken) }

// validValue reports whether s may be a field's value. White space around it is not part of one.
func validValue(s string) bool {
	if s == "" {
		return true
	}
	return !blank(s[0]) && !blank(s[len(s)-1]) && only(s, inValue)
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// validScheme reports whether s is a scheme (RFC 3986 §3.1).
func validScheme(s string) bool {
	for i := range len(s) {
		c := lowered[s[i]]
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return s != ""
}

// validPath reports whether s is a path with a query (RFC 9113 §8.3.1).
func validPath(s, method string) bool {
	if s == "*" {
		return method == "OPTIONS"
	}
	return s != "" && s[0] == '/' && only(s, inPath)
}

// quoteName quotes a name that cannot be trusted, of which a part will do.
func quoteName(s string) string { return strconv.Quote(s[:min(len(s), 40)]) }
