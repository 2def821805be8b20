package proxy

import (
	"bytes"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A cutUp is the parts of a URL. host is as it was spelled, but for a dot at its
// end; it is empty if there is none.
type cutUp struct {
	scheme           string // in lower case; "" if there is none
	user, host, rest []byte
}

// secured returns the scheme and its colon, of the kind that TLS has.
func (u *cutUp) secured() string {
	switch u.scheme {
	case "http", "https":
		return "https:"
	case "ws", "wss":
		return "wss:"
	}
	return ""
}

// cutURL cuts a URL as browsers read it on a page that came by https: they take
// \ for /, and do not insist on the number of slashes.
func cutURL(s []byte) (u cutUp) {
	rest := s
	for _, scheme := range [...]string{"https", "http", "wss", "ws"} {
		if len(s) > len(scheme) && s[len(scheme)] == ':' && http1.EqualFold(s[:len(scheme)], scheme) {
			u.scheme, rest = scheme, s[len(scheme)+1:]
			break
		}
	}
	trimmed := bytes.TrimLeft(rest, `/\`)
	if slashes := len(rest) - len(trimmed); slashes < 2 && (u.scheme == "" || u.scheme == "https") {
		return cutUp{}
	}
	u.cutAuthority(trimmed)
	return u
}

// cutSource cuts a source of a Content-Security-Policy, which may have no scheme.
func cutSource(s []byte) (u cutUp) {
	if u = cutURL(s); len(u.host) == 0 {
		u = cutUp{}
		u.cutAuthority(s)
	}
	return u
}

// cutAuthority cuts what begins with an authority.
func (u *cutUp) cutAuthority(s []byte) {
	authority := s
	if end := bytes.IndexAny(s, `/\?#`); end >= 0 {
		authority, u.rest = s[:end], s[end:]
	}
	if i := bytes.LastIndexByte(authority, '@'); i >= 0 {
		u.user, authority = authority[:i+1], authority[i+1:]
	}
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 {
		authority = authority[:i]
	}
	u.host = bytes.TrimSuffix(authority, []byte("."))
}
