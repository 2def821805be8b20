package registry

import (
	"fmt"
	"strconv"
	"strings"
)

// An ID is a configuration ID: it names one clone for ever. It is one to
// twenty characters of a-z and 0-9, as in "1234". ParseID makes valid ones.
type ID string

// MaxIDLen bounds an ID so that "service-id" fits a DNS label.
const MaxIDLen = 20

// ParseID returns s as an ID. It never repairs: capitals, signs, hyphens and
// non-ASCII digits are refused, so that no two spellings name one clone.
func ParseID(s string) (ID, error) {
	if s == "" || len(s) > MaxIDLen {
		return "", fmt.Errorf("configuration ID %q: want 1 to %d characters, got %d", clip(s), MaxIDLen, len(s))
	}
	for i := 0; i < len(s); i++ {
		if !isLowerAlnum(s[i]) {
			return "", fmt.Errorf("configuration ID %q: character %q is not allowed; use a-z and 0-9", clip(s), s[i])
		}
	}
	if s == reservedLabel {
		return "", fmt.Errorf("configuration ID %q is the name of the zone's own name server; choose another", s)
	}
	return ID(s), nil
}

// reservedLabel names the zone's own name server and therefore no clone.
const reservedLabel = "ns"

// MaxLabelLen is the longest label DNS can carry, in octets (RFC 1035 §2.3.4).
const MaxLabelLen = 63

// ParseLabel returns s if it can be a single DNS label of a public name: 1 to
// 63 octets of a-z, 0-9 and inner hyphens (RFC 1123 §2.1). Service names and
// aliases are labels.
func ParseLabel(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("name is empty; want 1 to %d characters of a-z, 0-9 and inner hyphens", MaxLabelLen)
	}
	if len(s) > MaxLabelLen {
		return "", fmt.Errorf("name %q is %d octets long; a DNS label holds at most %d", clip(s), len(s), MaxLabelLen)
	}
	for i := 0; i < len(s); i++ {
		if !isLowerAlnum(s[i]) && s[i] != '-' {
			return "", fmt.Errorf("name %q: character %q is not allowed; use a-z, 0-9 and inner hyphens", clip(s), s[i])
		}
	}
	if s[0] == '-' || s[len(s)-1] == '-' {
		return "", fmt.Errorf("name %q begins or ends with a hyphen", clip(s))
	}
	return s, nil
}

// cutMember splits a label that addresses one member of a pool, as in
// "www-1234--1", into the label of the pool and the member's number, which is 0
// if label has no such form. No clone can own a label that has.
func cutMember(label string) (pool string, member int) {
	i := strings.LastIndex(label, "--")
	if i <= 0 {
		return label, 0
	}
	digits := label[i+2:]
	for j := 0; j < len(digits); j++ {
		if digits[j] < '0' || digits[j] > '9' {
			return label, 0
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxEndpoints || digits[0] == '0' {
		return label, 0
	}
	return label[:i], n
}

// isLabel reports whether ParseLabel takes s.
func isLabel(s string) bool {
	if s == "" || len(s) > MaxLabelLen || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isLowerAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// A Host is a DNS name in lower case, without a trailing dot and without a
// port, as in "db" or "db.shop.example.com". Underscores are allowed: zones
// such as test_envs.internal.example.com hold them. The empty Host is invalid;
// ParseHost makes the others.
type Host string

// MaxHostLen bounds a Host in octets, so that "host.id.zone" stays within the
// 255 octets of a DNS name for any sensible zone.
const MaxHostLen = 190

// ParseHost returns s in lower case and without its trailing dot. It runs no
// IDNA and no letter-digit-hyphen check beyond refusing what could be read as
// something else than a name.
func ParseHost(s string) (Host, error) {
	h := strings.ToLower(strings.TrimSuffix(s, "."))
	if h == "" || len(h) > MaxHostLen {
		return "", fmt.Errorf("host %q: want 1 to %d octets, got %d", clip(s), MaxHostLen, len(h))
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" {
			return "", fmt.Errorf("host %q has an empty label", clip(s))
		}
		if len(label) > MaxLabelLen {
			return "", fmt.Errorf("host %q: label %q is %d octets long; at most %d", clip(s), clip(label), len(label), MaxLabelLen)
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; !isLowerAlnum(c) && c != '-' && c != '_' {
				return "", fmt.Errorf("host %q: character %q is not allowed", clip(s), c)
			}
		}
	}
	return Host(h), nil
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// clip shortens hostile input before it is quoted in an error.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
