package proxy

import (
	"crypto/rand"
	"encoding/binary"
)

// A frameScanner follows one direction of a WebSocket (RFC 6455 §5.2) to know
// where its frames end, because only there a frame of ours may stand. The zero
// value is at the start of a frame.
type frameScanner struct {
	head   [14]byte // of the frame that is passing, as far as it has come
	have   int      // octets in head
	rest   uint64   // octets of payload still to come
	closed bool     // a close frame has passed: nothing may follow
}

// atBoundary reports whether the last frame is complete.
func (f *frameScanner) atBoundary() bool { return f.have == 0 && f.rest == 0 }

// skip takes octets up to the end of the present frame, and returns how many of
// p those are.
func (f *frameScanner) skip(p []byte) int {
	n := 0
	for f.rest == 0 {
		if n == len(p) {
			return n
		}
		f.head[f.have] = p[n]
		f.have++
		n++
		if f.have == f.headLen() {
			f.begin()
			if f.rest == 0 {
				return n
			}
		}
	}
	payload := min(f.rest, uint64(len(p)-n))
	f.rest -= payload
	return n + int(payload)
}

// headLen returns how long the present head is, as far as is known.
func (f *frameScanner) headLen() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

// begin reads a complete head.
func (f *frameScanner) begin() {
	switch n := f.head[1] & 0x7f; n {
	case 126:
		f.rest = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.rest = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.rest = uint64(n)
	}
	f.closed = f.closed || f.head[0]&0x0f == 8
	f.have = 0
}

// goingAway is the status code of a close frame from an end that is being shut
// down or has left (RFC 6455 §7.4.1).
const goingAway = 1001

// closeFrame returns a close frame. Frames to a server are masked (§5.1).
func closeFrame(code uint16, masked bool) []byte {
	payload := binary.BigEndian.AppendUint16(nil, code)
	if !masked {
		return append([]byte{0x88, 2}, payload...)
	}
	var mask [4]byte
	rand.Read(mask[:]) // never fails
	frame := append([]byte{0x88, 0x80 | 2}, mask[:]...)
	for i, b := range payload {
		frame = append(frame, b^mask[i%4])
	}
	return frame
}
