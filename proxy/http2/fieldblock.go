package http2

import (
	"encoding/binary"
	"strconv"
)

// Answers' fields are encoded without a dynamic table: then a block depends on
// no block before it, handlers encode without the connection's lock, and no
// copies of fields are kept. nginx and HAProxy do the same. What an octet of
// HPACK means is in RFC 7541 §6 and its static table in appendix A.

const (
	tableSizeZero = 0x20 // dynamic table size update to 0 (§6.3), once a connection
	literal       = 0x00 // literal field without indexing (§6.2.2), name index in 4 bits
)

// appendStatus appends the field ":status".
func appendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x80|8)
	case 204:
		return append(b, 0x80|9)
	case 206:
		return append(b, 0x80|10)
	case 304:
		return append(b, 0x80|11)
	case 400:
		return append(b, 0x80|12)
	case 404:
		return append(b, 0x80|13)
	case 500:
		return append(b, 0x80|14)
	}
	b = append(b, literal|8, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// appendField appends one field, its name in lower case (RFC 9113 §8.2.1).
func appendField(b, name, value []byte) []byte {
	var lower [32]byte
	if len(name) > len(lower) {
		b = appendInt(append(b, literal), 7, len(name), 0)
		for _, c := range name {
			b = append(b, lowered[c])
		}
	} else {
		for i, c := range name {
			lower[i] = lowered[c]
		}
		if index := staticIndex(lower[:len(name)]); index > 0 {
			b = appendInt(b, 4, index, literal)
		} else {
			b = appendInt(append(b, literal), 7, len(name), 0)
			b = append(b, lower[:len(name)]...)
		}
	}
	b = appendInt(b, 7, len(value), 0)
	return append(b, value...)
}

// appendInt appends n with a prefix of so many bits, in an octet whose other
// bits are high (RFC 7541 §5.1).
func appendInt(b []byte, bits, n int, high byte) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, high|byte(n))
	}
	return binary.AppendUvarint(append(b, high|byte(most)), uint64(n-most))
}

// staticIndex returns where the static table has the name of a field that
// answers carry, or 0.
func staticIndex(name []byte) int {
	switch string(name) {
	case "accept-ranges":
		return 18
	case "access-control-allow-origin":
		return 20
	case "age":
		return 21
	case "allow":
		return 22
	case "cache-control":
		return 24
	case "content-disposition":
		return 25
	case "content-encoding":
		return 26
	case "content-language":
		return 27
	case "content-length":
		return 28
	case "content-location":
		return 29
	case "content-range":
		return 30
	case "content-type":
		return 31
	case "date":
		return 33
	case "etag":
		return 34
	case "expires":
		return 36
	case "last-modified":
		return 44
	case "link":
		return 45
	case "location":
		return 46
	case "proxy-authenticate":
		return 48
	case "refresh":
		return 52
	case "retry-after":
		return 53
	case "server":
		return 54
	case "set-cookie":
		return 55
	case "strict-transport-security":
		return 56
	case "vary":
		return 59
	case "via":
		return 60
	case "www-authenticate":
		return 61
	}
	return 0
}

// perConnection reports whether a field, its name in any case, belongs to one
// connection of HTTP/1 and has no place in HTTP/2 (RFC 9113 §8.2.2).
func perConnection[T string | []byte](name T) bool {
	switch len(name) {
	case len("upgrade"):
		return equalFold(name, "upgrade")
	case len("connection"):
		return equalFold(name, "connection") || equalFold(name, "keep-alive")
	case len("proxy-connection"):
		return equalFold(name, "proxy-connection")
	case len("transfer-encoding"):
		return equalFold(name, "transfer-encoding")
	}
	return false
}

// equalFold reports whether a, in lower case, is b.
func equalFold[T string | []byte](a T, b string) bool {
	for i := range len(b) {
		if lowered[a[i]] != b[i] {
			return false
		}
	}
	return true
}

// lowered maps each octet to its lower case, in ASCII.
var lowered = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()
