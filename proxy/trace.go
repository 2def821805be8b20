package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
)

// randomID returns 16 random hexadecimal digits. They name one request in logs,
// on pages and, if the request begins a trace, as its span.
func randomID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// setTrace keeps the W3C trace context that a request carries, or begins one
// whose first span is the request ID. Two traceparents, or one that cannot be
// read, count as none, and a tracestate never outlives its traceparent (Trace
// Context §3.2, §3.3).
func setTrace(h http.Header, requestID string) {
	if v := h["Traceparent"]; len(v) == 1 && validTraceparent(v[0]) {
		return
	}
	var trace [16]byte
	rand.Read(trace[:])
	h["Traceparent"] = []string{"00-" + hex.EncodeToString(trace[:]) + "-" + requestID + "-00"}
	delete(h, "Tracestate")
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
