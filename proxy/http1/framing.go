package http1

import (
	"bytes"
	"iter"
)

// Framing is what the fields of a head say about the body behind it and the
// connection under it.
type Framing struct {
	Length    int64 // the Content-Length, or -1
	Chunked   bool  // the body comes in chunks
	Close     bool  // the connection ends after this message
	KeepAlive bool  // it goes on, even under HTTP/1.0
	Switch    bool  // the Connection field nominates Upgrade
	Nominates bool  // the Connection field nominates other fields
}

// framing reads the framing of a head of HTTP/1.minor. Host fields are counted
// for the caller.
func (s *Section) framing(minor int) (fr Framing, hosts int, err error) {
	fr.Length = -1
	codings := 0
	for _, f := range s.Fields {
		switch f.Kind {
		case Host:
			hosts++
		case ContentLength:
			if fr.Length >= 0 {
				return fr, 0, ErrLengths
			}
			if fr.Length, err = parseLength(s.Value(f)); err != nil {
				return fr, 0, err
			}
		case TransferEncoding:
			if codings++; codings > 1 {
				return fr, 0, ErrCodings
			}
			if !EqualFold(s.Value(f), "chunked") {
				return fr, 0, ErrCoding
			}
			fr.Chunked = true
		case Connection:
			fr.options(s.Value(f))
		}
	}
	switch {
	case fr.Chunked && minor == 0:
		return fr, 0, ErrOldCoding
	case fr.Chunked && fr.Length >= 0:
		return fr, 0, ErrLengthAndCoded
	}
	return fr, hosts, nil
}

// Elements returns the elements of a list, the empty ones left out (RFC 9110
// §5.6.1).
func Elements(list []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for more := true; more; {
			var element []byte
			element, list, more = bytes.Cut(list, comma)
			from, to := trim(element, 0, len(element))
			if from < to && !yield(element[from:to]) {
				return
			}
		}
	}
}

var comma = []byte{','}

// options reads the options of a Connection field (RFC 9110 §7.6.1).
func (fr *Framing) options(list []byte) {
	for option := range Elements(list) {
		switch {
		case EqualFold(option, "close"):
			fr.Close = true
		case EqualFold(option, "keep-alive"):
			fr.KeepAlive = true
		case EqualFold(option, "upgrade"):
			fr.Switch = true
		default:
			fr.Nominates = true
		}
	}
}

// CheckTrailer refuses a Trailer field that announces framing (RFC 9110 §6.5.1).
func CheckTrailer(list []byte) error {
	for name := range Elements(list) {
		switch KindOf(name) {
		case TransferEncoding, ContentLength, Trailer:
			return ErrTrailer
		}
	}
	return nil
}

// parseLength reads a Content-Length: digits and nothing else (RFC 9110 §8.6).
func parseLength(b []byte) (int64, error) {
	if len(b) == 0 || len(b) > 18 {
		return 0, ErrLength
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, ErrLength
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// Persists reports whether a connection that speaks HTTP/1.minor can carry
// another message after one with this framing (RFC 9112 §9.3).
func (fr *Framing) Persists(minor int) bool {
	return !fr.Close && (minor == 1 || fr.KeepAlive)
}
