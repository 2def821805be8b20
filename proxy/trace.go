package proxy

import (
	"math/rand/v2"
	"strings"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A requestID names one request in logs, on pages and, if the request begins a
// trace, as its span. It is written as 16 hexadecimal digits.
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

// appendTrace appends the W3C trace context that a request carries, or begins
// one. Two traceparents, or one that cannot be read, count as none, and a
// tracestate never outlives its traceparent (Trace Context §3.2, §3.3).
func appendTrace(dst []byte, in *http1.Section, id requestID) []byte {
	parent := single(in, "traceparent", "")
	if !validTraceparent(parent) {
		return appendNewTrace(dst, id)
	}
	dst = append(append(append(dst, "traceparent: "...), parent...), "\r\n"...)
	for v := range in.All("tracestate") {
		dst = append(append(append(dst, "tracestate: "...), v...), "\r\n"...)
	}
	return dst
}

// appendNewTrace begins a trace whose first span is the request ID.
func appendNewTrace(dst []byte, id requestID) []byte {
	dst = append(dst, "traceparent: 00-"...)
	dst = appendHex(appendHex(dst, rand.Uint64()|1), rand.Uint64())
	dst = id.append(append(dst, '-'))
	return append(dst, "-00\r\n"...)
}

// validTraceparent reports whether s reads as version-trace-parent-flags. A
// version we do not know may have more fields; version ff is never valid.
func validTraceparent(s string) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if version == "ff" || len(s) > 55 && (version == "00" || s[55] != '-') {
		return false
	}
	return isLowerHex(version) && isLowerHex(flags) &&
		isLowerHex(trace) && strings.Trim(trace, "0") != "" &&
		isLowerHex(parent) && strings.Trim(parent, "0") != ""
}

func isLowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
