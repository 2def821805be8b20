package http1

import (
	"bytes"
	"net/netip"
)

// A Request is the head of a request. It is made for one connection and reset
// for each head on it.
type Request struct {
	Section
	Framing
	Method    Span
	Target    Span // path and query as the client wrote them, or "*"; without a path it begins with "?" or is empty
	Authority Span // of an absolute target, else the Host field; empty only under HTTP/1.0
	Minor     int  // of the version: 1, or 0 for HTTP/1.0
	Continue  bool // the client waits for 100 before it sends the body
	Len       int  // octets of the head, once it is complete

	lines    lines
	line     bool // the request line was read
	blank    bool // an empty line was passed over
	absolute bool // the target is a URL
}

// Reset prepares for another head and keeps the memory.
func (r *Request) Reset() {
	r.Section.Reset()
	*r = Request{Section: r.Section}
}

// Parse reads the head at the beginning of b. It returns false if more octets
// are needed; it is then called again with the same and more, and goes on where
// it stopped. A head may have at most max octets.
//
// After an error the connection cannot be used any more.
func (r *Request) Parse(b []byte, max int) (done bool, err error) {
	max = min(max, maxHead)
	done, err = r.parse(b[:min(len(b), max)])
	switch {
	case err != nil || done:
		return done, err
	case len(b) < max:
		return false, nil
	case r.line:
		return false, ErrHeadTooLarge
	}
	return false, ErrTargetTooLong
}

func (r *Request) parse(b []byte) (bool, error) {
	r.from(b)
	for !r.line {
		from, to, ok, err := r.lines.next(b)
		if !ok || err != nil {
			return false, err
		}
		if from == to && !r.blank {
			r.blank = true // RFC 9112 §2.2: one that some clients send behind a body
			continue
		}
		if err := r.requestLine(b, from, to); err != nil {
			return false, err
		}
		r.line = true
	}
	done, err := r.Section.parse(b, &r.lines)
	if !done || err != nil {
		return false, err
	}
	r.Len = r.lines.pos
	return true, r.finish()
}

// requestLine reads b[from:to] (RFC 9112 §3).
func (r *Request) requestLine(b []byte, from, to int) error {
	line := b[from:to]
	method := bytes.IndexByte(line, ' ')
	version := bytes.LastIndexByte(line, ' ')
	if method <= 0 || version <= method+1 {
		return ErrRequestLine
	}
	if !all(line[:method], classToken) {
		return ErrMethod
	}
	minor, err := parseVersion(line[version+1:])
	if err != nil {
		return err
	}
	r.Minor = minor
	r.Method = span(from, from+method)
	if string(line[:method]) == "CONNECT" {
		return ErrConnect
	}
	return r.target(b, from+method+1, from+version)
}

// parseVersion reads an HTTP version (RFC 9112 §2.3).
func parseVersion(b []byte) (minor int, err error) {
	if len(b) != len("HTTP/1.1") || string(b[:5]) != "HTTP/" || b[6] != '.' || !isDigit(b[5]) || !isDigit(b[7]) {
		return 0, ErrRequestLine
	}
	if b[5] != '1' || b[7] > '1' {
		return 0, ErrVersion
	}
	return int(b[7] - '0'), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// target reads the target b[from:to] in one of its forms (RFC 9112 §3.2).
func (r *Request) target(b []byte, from, to int) error {
	t := b[from:to]
	if !all(t, classTarget) {
		if bytes.IndexByte(t, '#') >= 0 {
			return ErrFragment
		}
		return ErrTarget
	}
	r.Target = span(from, to)
	if t[0] == '/' {
		return checkEscapes(t)
	}
	if len(t) == 1 && t[0] == '*' {
		if string(b[r.Method.From:r.Method.To]) != "OPTIONS" {
			return ErrTargetForm
		}
		return nil
	}
	scheme := 0
	switch {
	case len(t) > 8 && EqualFold(t[:8], "https://"):
		scheme = 8
	case len(t) > 7 && EqualFold(t[:7], "http://"):
		scheme = 7
	default:
		return ErrTargetForm
	}
	end := bytes.IndexAny(t[scheme:], "/?")
	if end < 0 {
		end = len(t) - scheme
	}
	authority := t[scheme : scheme+end]
	if bytes.IndexByte(authority, '@') >= 0 {
		return ErrUserinfo
	}
	if !isAuthority(authority) {
		return ErrTargetHost
	}
	r.absolute = true
	r.Authority = span(from+scheme, from+scheme+end)
	r.Target = span(from+scheme+end, to)
	return checkEscapes(t[scheme+end:])
}

// checkEscapes refuses percent signs in a path that begin no escape. Queries
// may hold what they like: applications do.
func checkEscapes(t []byte) error {
	for {
		i := bytes.IndexAny(t, "%?")
		if i < 0 || t[i] == '?' {
			return nil
		}
		if len(t) < i+3 || !all(t[i+1:i+3], classHex) {
			return ErrEscape
		}
		t = t[i+3:]
	}
}

// CheckPath refuses a path and query, or "*", of a request that did not come by
// HTTP/1.1, if a parser would have refused them as the target.
func CheckPath(method string, target []byte) error {
	switch {
	case bytes.IndexByte(target, '#') >= 0:
		return ErrFragment
	case len(target) == 0 || !all(target, classTarget):
		return ErrTarget
	case len(target) == 1 && target[0] == '*' && method == "OPTIONS":
		return nil
	case target[0] != '/':
		return ErrTargetForm
	}
	return checkEscapes(target)
}

// isAuthority reports whether b is a name or an address and perhaps a port
// (RFC 3986 §3.2, without userinfo and escapes).
func isAuthority(b []byte) bool {
	host, port := b, []byte(nil)
	if i := bytes.LastIndexByte(b, ':'); i >= 0 && bytes.IndexByte(b[i:], ']') < 0 {
		host, port = b[:i], b[i+1:]
	}
	for _, c := range port {
		if !isDigit(c) {
			return false
		}
	}
	if len(host) > 0 && host[0] == '[' {
		addr, err := netip.ParseAddr(string(host[1:max(1, len(host)-1)]))
		return err == nil && addr.Is6() && addr.Zone() == "" && host[len(host)-1] == ']'
	}
	return len(host) > 0 && all(host, classHost) && !bytes.ContainsAny(host, ":[]%")
}

// finish reads what the fields say when all are there.
func (r *Request) finish() error {
	fr, hosts, err := r.framing(r.Minor)
	if err != nil {
		return err
	}
	r.Framing = fr
	switch {
	case hosts > 1:
		return ErrHosts
	case hosts == 0 && r.Minor == 1:
		return ErrNoHost
	}
	for _, f := range r.Fields {
		switch f.Kind {
		case Host:
			if err := r.host(f.Value); err != nil {
				return err
			}
		case Trailer:
			if err := CheckTrailer(r.Value(f)); err != nil {
				return err
			}
		case Expect:
			r.Continue = r.Continue || r.Minor == 1 && EqualFold(r.Value(f), "100-continue")
		}
	}
	return nil
}

// host takes the value of the one Host field.
func (r *Request) host(value Span) error {
	host := r.Buf[value.From:value.To]
	if !all(host, classHost) {
		return ErrHost
	}
	if !r.absolute {
		r.Authority = value
		return nil
	}
	if !SameFold(host, r.Buf[r.Authority.From:r.Authority.To]) {
		return ErrHostDiffers
	}
	return nil
}

// Bytes returns a part of the head.
func (r *Request) Bytes(s Span) []byte { return r.Buf[s.From:s.To] }

// HasBody reports whether a body follows, even if it is empty.
func (r *Request) HasBody() bool { return r.Chunked || r.Length > 0 }
