package http2

import (
	"strconv"
	"strings"
)

// A Field is one header or trailer field of a request.
type Field struct {
	Name  string // in lower case
	Value string
}

// A Request is the head of a request as its client sent it, valid by the rules
// of RFC 9113 §8. Its strings may be kept; its slice belongs to the stream.
type Request struct {
	Method    string
	Scheme    string // "" for CONNECT
	Authority string // ":authority", or else the host field
	Path      string // with the query, or "*"; "" for CONNECT
	Protocol  string // of an extended CONNECT (RFC 8441), such as "websocket"

	// Host is the host field of a request that had ":authority" too. Who
	// forwards the request must refuse it if the two name different hosts.
	Host string

	// Fields are the others, in their order. There is no host among them, no
	// field that belongs to a connection, and at most one cookie and one content-length.
	Fields []Field

	// ContentLength is how many octets of body follow, or -1 if that is unknown.
	ContentLength int64

	// Oversized means that the fields went over the limit, and that any of
	// them, and the above, may be missing. The answer is status 431.
	Oversized bool
}

// pseudo is a set of pseudo-header fields.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
)

// A head is a request, or its trailers, in the making.
type head struct {
	Request
	seen     pseudo
	trailers bool
	regular  bool   // a field that is no pseudo-header field has passed
	cookie   int    // where among the fields the cookie is, or -1
	crumbs   []byte // the cookie, once it came in more than one field (§8.2.3)
	host     bool
	size     int    // of the fields, as Config.HeaderList counts
	fault    string // what is wrong with it, or ""
}

func (h *head) reset(trailers bool) {
	clear(h.Fields)
	fields, crumbs := h.Fields[:0], h.crumbs[:0]
	if cap(fields) > 128 {
		fields = nil
	}
	*h = head{trailers: trailers, cookie: -1, crumbs: crumbs}
	h.Fields = fields
	h.ContentLength = -1
}

// add takes the next field.
func (h *head) add(name, value string) {
	switch {
	case h.fault != "":
	case name == "":
		h.fault = "field without a name"
	case !validValue(value):
		h.fault = "field with a value that is not allowed: " + quoteName(name)
	case name[0] == ':':
		h.addPseudo(name, value)
	case !validName(name):
		h.fault = "field with a name that is not allowed: " + quoteName(name)
	case perConnection(name):
		h.fault = "field of an HTTP/1 connection: " + name
	default:
		h.regular = true
		h.addRegular(name, value)
	}
}

func (h *head) addPseudo(name, value string) {
	var bit pseudo
	switch name {
	case ":method":
		bit, h.Method = pseudoMethod, value
	case ":scheme":
		bit, h.Scheme = pseudoScheme, value
	case ":authority":
		bit, h.Authority = pseudoAuthority, value
	case ":path":
		bit, h.Path = pseudoPath, value
	case ":protocol":
		bit, h.Protocol = pseudoProtocol, value
	}
	switch {
	case h.trailers:
		h.fault = "pseudo-header field among trailers"
	case bit == 0:
		h.fault = "unknown pseudo-header field " + quoteName(name)
	case h.seen&bit != 0:
		h.fault = "more than one " + name
	case h.regular:
		h.fault = name + " after other fields"
	}
	h.seen |= bit
}

func (h *head) addRegular(name, value string) {
	switch name {
	case "te":
		if !strings.EqualFold(value, "trailers") {
			h.fault = "te field that is not \"trailers\""
			return
		}
	case "host":
		if h.trailers || h.host {
			h.fault = "host field twice or among trailers"
			return
		}
		h.host, h.Host = true, value
		return
	case "content-length":
		if h.trailers || h.ContentLength >= 0 {
			h.fault = "content-length twice or among trailers"
			return
		}
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil {
			h.fault = "content-length that is no number"
			return
		}
		h.ContentLength = int64(n)
	case "cookie":
		if h.cookie >= 0 {
			h.addCrumb(value)
			return
		}
		h.cookie = len(h.Fields)
	}
	h.Fields = append(h.Fields, Field{name, value})
}

// addCrumb joins a cookie field to those before it.
func (h *head) addCrumb(value string) {
	if len(h.crumbs) == 0 {
		h.crumbs = append(h.crumbs, h.Fields[h.cookie].Value...)
	}
	h.crumbs = append(h.crumbs, "; "...)
	h.crumbs = append(h.crumbs, value...)
}

// finish completes the request after its last field. end reports that no body
// follows. The string last is the joined cookie of the request before, and the
// new one is returned: they are mostly the same.
func (h *head) finish(end bool, last string) string {
	if len(h.crumbs) > 0 {
		if string(h.crumbs) != last {
			last = string(h.crumbs)
		}
		h.Fields[h.cookie].Value = last
	}
	if h.host && h.seen&pseudoAuthority == 0 {
		h.Authority, h.Host = h.Host, ""
	}
	if h.fault == "" && !h.Oversized && !h.trailers {
		h.fault = h.incomplete()
	}
	if end {
		if h.ContentLength > 0 && h.fault == "" {
			h.fault = "content-length without a body"
		}
		h.ContentLength = 0
	}
	return last
}

// incomplete returns what is wrong with the pseudo-header fields taken
// together (RFC 9113 §8.3.1 and §8.5, RFC 8441 §4), or "".
func (h *head) incomplete() string {
	connect := h.Method == "CONNECT"
	switch {
	case h.seen&pseudoMethod == 0 || !validToken(h.Method):
		return "no valid :method"
	case h.seen&pseudoProtocol != 0 && !connect:
		return ":protocol without CONNECT"
	case connect && h.seen&pseudoProtocol == 0:
		if h.seen&(pseudoScheme|pseudoPath) != 0 || h.Authority == "" {
			return "CONNECT with :scheme or :path, or without :authority"
		}
		return ""
	case h.seen&pseudoProtocol != 0 && (!validToken(h.Protocol) || h.Authority == ""):
		return "extended CONNECT without a valid :protocol and :authority"
	case h.seen&pseudoScheme == 0 || !validScheme(h.Scheme):
		return "no valid :scheme"
	case !validPath(h.Path, h.Method):
		return "no valid :path"
	case strings.IndexByte(h.Authority, '@') >= 0:
		return ":authority with user information"
	}
	return ""
}
