// Package http1 reads the framing of HTTP/1.1 (RFC 9112) strictly and in place:
// octets in, offsets out, nothing allocated. Heads come as sections of field
// lines that point into the buffer they were read from, bodies as stretches of
// payload in it.
//
// Whatever two readers could read differently is refused: bare line feeds,
// folded lines, space before a colon, lengths that are doubled or contradict a
// transfer coding, codings but "chunked", targets that disagree with Host. The
// package does no I/O and decides nothing about what fields mean beyond framing
// and connections.
package http1

import "math"

// An Error says why octets are refused, and with which status a server answers
// (RFC 9110 §15). Errors are sentinels: they can be compared.
type Error struct {
	Status int
	text   string
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// The errors of heads.
var (
	ErrHeadTooLarge   = &Error{431, "the head is larger than allowed"}
	ErrTooManyFields  = &Error{431, "the head has more fields than allowed"}
	ErrTargetTooLong  = &Error{414, "the request line is longer than allowed"}
	ErrLineEnd        = &Error{400, "a line does not end with CR and LF"}
	ErrRequestLine    = &Error{400, "the request line is not a method, a target and a version"}
	ErrStatusLine     = &Error{400, "the status line is not a version, a status and a reason"}
	ErrMethod         = &Error{400, "the method is not a token"}
	ErrTarget         = &Error{400, "the target holds a character that must not be there"}
	ErrTargetForm     = &Error{400, "the target is neither a path nor a URL"}
	ErrEscape         = &Error{400, "the target's path holds a percent sign that begins no escape"}
	ErrFragment       = &Error{400, "the target holds a fragment"}
	ErrTargetHost     = &Error{400, "the target's host is not a name, or its port not a number"}
	ErrUserinfo       = &Error{400, "the target holds userinfo"}
	ErrConnect        = &Error{501, "CONNECT is not supported"}
	ErrVersion        = &Error{505, "the version is neither HTTP/1.1 nor HTTP/1.0"}
	ErrFolded         = &Error{400, "a field line begins with white space"}
	ErrFieldName      = &Error{400, "a field's name is not a token that a colon follows"}
	ErrFieldValue     = &Error{400, "a field's value holds a control character"}
	ErrNoHost         = &Error{400, "the Host field is missing"}
	ErrHosts          = &Error{400, "there is more than one Host field"}
	ErrHost           = &Error{400, "the Host field holds a character that must not be there"}
	ErrHostDiffers    = &Error{400, "the Host field differs from the target's host"}
	ErrTrailer        = &Error{400, "the Trailer field announces fields that must not be in a trailer"}
	ErrLength         = &Error{400, "the Content-Length is not a number"}
	ErrLengths        = &Error{400, "there is more than one Content-Length field"}
	ErrLengthAndCoded = &Error{400, "there are both a Content-Length and a Transfer-Encoding"}
	ErrCodings        = &Error{400, "there is more than one Transfer-Encoding field"}
	ErrCoding         = &Error{501, "a transfer coding is not chunked"}
	ErrOldCoding      = &Error{400, "HTTP/1.0 has no transfer codings"}
)

// The errors of bodies.
var (
	ErrChunkSize       = &Error{400, "a chunk's size is not a hexadecimal number"}
	ErrChunkExtension  = &Error{400, "a chunk's extensions cannot be read or are too long"}
	ErrChunkEnd        = &Error{400, "a chunk does not end with CR and LF"}
	ErrTrailerTooLarge = &Error{400, "the trailer section is larger than allowed"}
)

// maxFields is how many fields a section may have. Browsers send 30.
const maxFields = 1000

// maxHead is the largest head that offsets can describe.
const maxHead = math.MaxInt32

// A Span is a part of a buffer, from an octet to the one behind its last.
type Span struct{ From, To uint32 }

// Len returns how many octets a span has.
func (s Span) Len() int { return int(s.To - s.From) }

func span(from, to int) Span { return Span{uint32(from), uint32(to)} }
