package http2

import (
	"encoding/binary"
	"fmt"

	h2 "golang.org/x/net/http2"
)

// Sizes of the protocol (RFC 9113 §4.1, §4.2, §6.9).
const (
	frameHead   = 9       // octets before a frame's payload
	maxFrame    = 1 << 14 // octets of payload, which nobody may be asked to exceed
	firstWindow = 1<<16 - 1
	maxWindow   = 1<<31 - 1
	maxStreamID = 1<<31 - 1
)

// A frame is one frame as it was read. The payload is good until the next.
type frame struct {
	kind    h2.FrameType
	flags   h2.Flags
	id      uint32
	payload []byte
}

// cutFrame returns the first frame of b and how long it is with its head; zero
// means that b does not hold all of it.
func cutFrame(b []byte) (f frame, n int, err *ConnError) {
	if len(b) < frameHead {
		return f, 0, nil
	}
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if size > maxFrame {
		return f, 0, &ConnError{h2.ErrCodeFrameSize, fmt.Sprintf("frame of %d octets", size)}
	}
	n = frameHead + size
	if len(b) < n {
		return f, 0, nil
	}
	f.kind, f.flags = h2.FrameType(b[3]), h2.Flags(b[4])
	f.id = binary.BigEndian.Uint32(b[5:]) & maxStreamID
	f.payload = b[frameHead:n]
	return f, n, nil
}

// unpad removes the padding of DATA and HEADERS frames (§6.1).
func (f *frame) unpad() *ConnError {
	if !f.flags.Has(h2.FlagDataPadded) {
		return nil
	}
	if len(f.payload) == 0 {
		return &ConnError{h2.ErrCodeFrameSize, "padded frame without a pad length"}
	}
	pad := int(f.payload[0])
	if pad > len(f.payload)-1 {
		return &ConnError{h2.ErrCodeProtocol, "padding longer than the frame"}
	}
	f.payload = f.payload[1 : len(f.payload)-pad]
	return nil
}

func appendHead(b []byte, size int, kind h2.FrameType, flags h2.Flags, id uint32) []byte {
	b = append(b, byte(size>>16), byte(size>>8), byte(size), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(b, id)
}

func appendReset(b []byte, id uint32, code h2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, 4, h2.FrameRSTStream, 0, id), uint32(code))
}

func appendWindowUpdate(b []byte, id uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendHead(b, 4, h2.FrameWindowUpdate, 0, id), uint32(n))
}

func appendPing(b []byte, flags h2.Flags, data []byte) []byte {
	return append(appendHead(b, 8, h2.FramePing, flags, 0), data...)
}

func appendGoAway(b []byte, last uint32, code h2.ErrCode, reason string) []byte {
	b = appendHead(b, 8+len(reason), h2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(code))
	return append(b, reason...)
}

func appendSettings(b []byte, settings ...h2.Setting) []byte {
	b = appendHead(b, 6*len(settings), h2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// appendBlock appends a field block, whose beginning is lead, as a HEADERS
// frame and as many CONTINUATION frames as it takes.
func appendBlock(b []byte, id uint32, end bool, lead, block []byte) []byte {
	flags := h2.Flags(0)
	if end {
		flags = h2.FlagHeadersEndStream
	}
	n := min(len(block), maxFrame-len(lead))
	if n == len(block) {
		flags |= h2.FlagHeadersEndHeaders
	}
	b = appendHead(b, len(lead)+n, h2.FrameHeaders, flags, id)
	b = append(append(b, lead...), block[:n]...)
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), maxFrame)
		flags = 0
		if n == len(block) {
			flags = h2.FlagContinuationEndHeaders
		}
		b = append(appendHead(b, n, h2.FrameContinuation, flags, id), block[:n]...)
	}
	return b
}
