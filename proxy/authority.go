package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxAuthority bounds an authority in octets: a DNS name, a port and the
// punctuation between them.
const maxAuthority = 255 + len(".:65535")

// parseAuthority returns the host that a request's authority (":authority", the
// Host header or an absolute target) names: in lower case, without port and
// without trailing dot, so that every spelling of one name is one string.
//
// It refuses whatever two readers could read differently: userinfo, paths,
// lists, control characters, empty labels, ports that are no number (RFC 9110
// §7.2, RFC 3986 §3.2). It runs no IDNA and no letter-digit-hyphen check: a name
// with an odd but legal character is simply a name that no clone has.
func parseAuthority(s string) (string, error) {
	if s == "" {
		return "", errors.New("the request names no host")
	}
	if len(s) > maxAuthority {
		return "", fmt.Errorf("the host has %d octets; a name has at most 255", len(s))
	}
	host, port := s, ""
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", fmt.Errorf("host %q has no closing bracket", s)
		}
		host, port = s[:end+1], s[end+1:]
		addr, err := netip.ParseAddr(host[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", fmt.Errorf("host %q is not an IPv6 address in brackets", s)
		}
		host = "[" + addr.String() + "]"
	} else {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i:]
		}
		var err error
		if host, err = canonicalName(host); err != nil {
			return "", err
		}
	}
	return host, checkPort(port)
}

// checkPort accepts what may follow a host: nothing, or a colon and a port
// that may be empty (RFC 3986 §3.2.3).
func checkPort(s string) error {
	if s == "" || s == ":" {
		return nil
	}
	digits, ok := strings.CutPrefix(s, ":")
	if n, err := strconv.ParseUint(digits, 10, 16); !ok || err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", strings.TrimPrefix(s, ":"))
	}
	return nil
}

// canonicalName checks a registered name (RFC 3986 §3.2.2) and returns it in
// lower case without its trailing dot.
func canonicalName(s string) (string, error) {
	for i := 0; i < len(s); i++ {
		if !isNameByte(s[i]) {
			return "", fmt.Errorf("host %q holds the character %q", s, s[i])
		}
	}
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if name == "" || name[0] == '.' || name[len(name)-1] == '.' || strings.Contains(name, "..") {
		return "", fmt.Errorf("host %q has an empty label", s)
	}
	return name, nil
}

// isNameByte reports whether c may stand in a registered name. The comma is
// legal there too, but reads as a list of hosts.
func isNameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~%!$&'()*+;=", c) >= 0
}
