package http1

import "io"

// maxTrailers bounds a trailer section in octets, maxExtensions the extensions
// of one chunk.
const (
	maxTrailers   = 4 << 10
	maxExtensions = 256
)

// A Body reads a body in place. One of its Begin methods prepares it.
type Body struct {
	Trailers Section // of a body in chunks, once it has ended

	state  bodyState
	left   int64 // octets of payload to come in this chunk, or at all
	digits int   // of the chunk size
	length int   // octets of the chunk extensions
	lines  lines
}

type bodyState uint8

const (
	bodyOver      bodyState = iota
	bodySized               // payload until left is 0
	bodyOpen                // payload until the connection ends
	chunkSize               // digits of a chunk size
	chunkBlank              // white space, which only an extension may follow
	chunkExtends            // chunk extensions
	chunkSizeEnd            // LF behind a chunk size
	chunkData               // payload of a chunk
	chunkDataEnd            // CR behind a chunk
	chunkDataEnd2           // LF behind a chunk
	trailers
)

// BeginSized prepares for a body of n octets.
func (b *Body) BeginSized(n int64) {
	b.begin(bodySized)
	if b.left = n; n == 0 {
		b.state = bodyOver
	}
}

// BeginChunked prepares for a body in chunks (RFC 9112 §7.1).
func (b *Body) BeginChunked() { b.begin(chunkSize) }

// BeginOpen prepares for a body that ends with the connection.
func (b *Body) BeginOpen() { b.begin(bodyOpen) }

func (b *Body) begin(s bodyState) {
	b.Trailers.Reset()
	*b = Body{Trailers: b.Trailers, state: s}
}

// Over reports whether the body was read to its end.
func (b *Body) Over() bool { return b.state == bodyOver }

// Whole reports whether p holds all that is left of the body, or its fault.
func (b *Body) Whole(p []byte) bool {
	switch b.state {
	case bodyOver:
		return true
	case bodyOpen:
		return false
	case bodySized:
		return b.left <= int64(len(p))
	}
	trial := *b
	trial.Trailers = Section{}
	for {
		_, n, err := trial.Next(p)
		if p = p[n:]; err != nil || n == 0 {
			return err != nil
		}
	}
}

// Left returns how many octets are left of a sized body, or -1.
func (b *Body) Left() int64 {
	switch b.state {
	case bodyOver:
		return 0
	case bodySized:
		return b.left
	}
	return -1
}

// Open reports whether only the end of the connection ends the body.
func (b *Body) Open() bool { return b.state == bodyOpen }

// End is told that the connection has ended. It returns io.EOF if the body is
// whole, and else io.ErrUnexpectedEOF.
func (b *Body) End() error {
	if b.state == bodyOpen || b.state == bodyOver {
		b.state = bodyOver
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}

// Next takes octets from the beginning of p: n are done with, and payload is
// the part of them that belongs to the body. Without payload and error, more
// octets are needed behind p[n:]. io.EOF says that the body is whole; p[n:]
// follows it, and Trailers point into p.
func (b *Body) Next(p []byte) (payload []byte, n int, err error) {
	for {
		switch b.state {
		case bodyOver:
			return nil, n, io.EOF
		case trailers:
			used, err := b.trailers(p[n:])
			return nil, n + used, err
		}
		if n == len(p) {
			return nil, n, nil
		}
		switch b.state {
		case bodyOpen:
			return p[n:], len(p), nil
		case bodySized, chunkData:
			k := int(min(b.left, int64(len(p)-n)))
			if b.left -= int64(k); b.left == 0 {
				b.state = b.state.afterData()
			}
			return p[n : n+k], n + k, nil
		}
		if err := b.octet(p[n]); err != nil {
			return nil, n, err
		}
		n++
	}
}

// afterData returns the state when the payload of a state has come.
func (s bodyState) afterData() bodyState {
	if s == chunkData {
		return chunkDataEnd
	}
	return bodyOver
}

// octet reads one octet of a chunk's framing.
func (b *Body) octet(c byte) error {
	switch b.state {
	case chunkSize:
		return b.size(c)
	case chunkBlank:
		switch c {
		case ' ', '\t':
			return b.extension()
		case ';':
			b.state = chunkExtends
			return nil
		}
		return ErrChunkSize
	case chunkExtends:
		switch {
		case c == '\r':
			b.state = chunkSizeEnd
			return nil
		case c < 0x20 && c != '\t' || c == 0x7f:
			return ErrChunkExtension
		}
		return b.extension()
	case chunkSizeEnd:
		if c != '\n' {
			return ErrLineEnd
		}
		b.digits, b.length = 0, 0
		if b.state = chunkData; b.left == 0 {
			b.state = trailers
		}
	case chunkDataEnd:
		if c != '\r' {
			return ErrChunkEnd
		}
		b.state = chunkDataEnd2
	case chunkDataEnd2:
		if c != '\n' {
			return ErrChunkEnd
		}
		b.state = chunkSize
	}
	return nil
}

// size reads an octet of a chunk size, or one that may follow it.
func (b *Body) size(c byte) error {
	if octetClass[c]&classHex != 0 {
		if b.digits++; b.digits > 15 {
			return ErrChunkSize
		}
		b.left = b.left<<4 | int64(hexValue(c))
		return nil
	}
	if b.digits == 0 {
		return ErrChunkSize
	}
	switch c {
	case '\r':
		b.state = chunkSizeEnd
	case ';':
		b.state = chunkExtends
	case ' ', '\t': // RFC 9112 §7.1.1 allows it before an extension only
		b.state = chunkBlank
		return b.extension()
	default:
		return ErrChunkSize
	}
	return nil
}

func (b *Body) extension() error {
	if b.length++; b.length > maxExtensions {
		return ErrChunkExtension
	}
	return nil
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// trailers reads the trailer section, which must come as a whole.
func (b *Body) trailers(p []byte) (n int, err error) {
	done, err := b.Trailers.parse(p[:min(len(p), maxTrailers)], &b.lines)
	switch {
	case err != nil:
		return 0, err
	case done:
		b.state = bodyOver
		return b.lines.pos, io.EOF
	case len(p) >= maxTrailers:
		return 0, ErrTrailerTooLarge
	}
	return 0, nil
}

// AppendChunkSize appends the size of a chunk of n octets and the end of its
// line. LastChunk follows the last one; then come trailers and an empty line.
func AppendChunkSize(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 0xf {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&0xf])
	}
	return append(dst, '\r', '\n')
}

// LastChunk is the chunk that ends a body.
const LastChunk = "0\r\n"
