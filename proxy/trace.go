package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A requestID names one request in logs, on pages and in traces, as the
// gateway's span of it. It is written as 16 hexadecimal digits.
type requestID uint64

// newRequestID returns a random ID, which is never 0.
func newRequestID() requestID {
	for {
		if id := requestID(rand.Uint64()); id != 0 {
			return id
		}
	}
}

func (id requestID) append(dst []byte) []byte { return appendHex(dst, uint64(id)) }

// String returns the ID in digits.
func (id requestID) String() string { return string(id.append(nil)) }

func appendHex(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&0xf])
	}
	return dst
}

// isOneIn reports whether the request is the one that is chosen out of n; out of
// 0 none is. All who choose alike choose the same.
func (id requestID) isOneIn(n int) bool { return n > 0 && uint64(id)%uint64(n) == 0 }

// A traceID names a W3C trace. It is written as 32 hexadecimal digits.
type traceID [16]byte

// String returns the ID in digits.
func (id traceID) String() string { return hex.EncodeToString(id[:]) }

// A tracer says which requests are traced.
type tracer struct {
	on    bool
	oneIn int // of the requests that belong to no trace yet; 0: none
}

// tracing is the W3C trace that a request belongs to.
type tracing struct {
	id      traceID   // zero: not known yet
	parent  requestID // the span that the client named; 0: none
	span    requestID // ours that the clone is told; 0: the parent
	sampled bool      // we make spans
	carried []byte    // traceparent as it came; nil: none that can be read
}

// begin makes t the trace that a request carries, or a new one with the request
// as its first span. Two traceparents, or one that cannot be read, count as none
// (Trace Context §3.2). Who began a trace has decided whether it is sampled.
func (t *tracing) begin(in *http1.Section, carries bool, request requestID, tr tracer) {
	*t = tracing{}
	if carries {
		t.carried = traceparent(in)
	}
	if t.carried == nil {
		binary.BigEndian.PutUint64(t.id[:], rand.Uint64()|1)
		binary.BigEndian.PutUint64(t.id[8:], rand.Uint64())
		t.span = request
		t.sampled = tr.on && request.isOneIn(tr.oneIn)
	} else {
		// They are digits: traceparent has looked.
		var n [9]byte
		hex.Decode(t.id[:], t.carried[3:35])
		hex.Decode(n[:8], t.carried[36:52])
		hex.Decode(n[8:], t.carried[53:55])
		t.parent = requestID(binary.BigEndian.Uint64(n[:]))
		t.sampled = tr.on && n[8]&1 == 1
	}
	if t.sampled {
		t.span = newRequestID()
	}
}

// append appends the fields of the trace. A trace that we take no part in passes
// as it came; a tracestate never outlives its traceparent (§3.3).
func (t *tracing) append(dst []byte, in *http1.Section) []byte {
	dst = append(dst, "traceparent: "...)
	if t.span == 0 {
		dst = append(dst, t.carried...)
	} else {
		dst = hex.AppendEncode(append(dst, "00-"...), t.id[:])
		dst = t.span.append(append(dst, '-'))
		if t.sampled {
			dst = append(dst, "-01"...)
		} else {
			dst = append(dst, "-00"...)
		}
	}
	dst = append(dst, "\r\n"...)
	if t.carried == nil {
		return dst
	}
	for v := range in.All("tracestate") {
		dst = append(append(append(dst, "tracestate: "...), v...), "\r\n"...)
	}
	return dst
}

// traceparent returns the one traceparent of a head, nil if there are more or it
// cannot be read.
func traceparent(in *http1.Section) []byte {
	var found []byte
	n := 0
	for v := range in.All("traceparent") {
		found, n = v, n+1
	}
	if n != 1 || !validTraceparent(found) {
		return nil
	}
	return found
}

// validTraceparent reports whether s reads as version-trace-parent-flags. A
// version we do not know may have more fields; version ff is never valid.
func validTraceparent(s []byte) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if string(version) == "ff" || len(s) > 55 && (string(version) == "00" || s[55] != '-') {
		return false
	}
	return isLowerHex(version) && isLowerHex(flags) &&
		isLowerHex(trace) && !isZero(trace) &&
		isLowerHex(parent) && !isZero(parent)
}

func isLowerHex(s []byte) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isZero(s []byte) bool {
	for _, c := range s {
		if c != '0' {
			return false
		}
	}
	return true
}
