package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A Role says what a token may do. Every role may also read.
type Role string

// The roles, from the narrowest.
const (
	RoleViewer    Role = "viewer"    // reads
	RoleClone     Role = "clone"     // registers the IDs it was issued for
	RoleEngineer  Role = "engineer"  // starts clones, and ends those it owns
	RolePublisher Role = "publisher" // publishes, promotes and revokes templates
	RoleAdmin     Role = "admin"     // everything
)

// Roles lists the roles in that order.
var Roles = []Role{RoleViewer, RoleClone, RoleEngineer, RolePublisher, RoleAdmin}

// A Token is what the registry knows of an API token. The secret itself is
// shown once, when it is made; only its SHA-256 is kept.
type Token struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"` // for people and the audit log
	Role     Role      `json:"role"`
	IDs      []IDRange `json:"ids,omitempty"`      // for RoleClone: what it may register
	Takeover bool      `json:"takeover,omitempty"` // may take over a living registration
	Hash     string    `json:"hash,omitempty"`     // SHA-256 of the secret, hex
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: never
	LastUsed time.Time `json:"last_used,omitzero"`
}

// An IDRange is the IDs from First to Last, both included. Purely numeric
// bounds compare as numbers and hold numeric IDs without leading zeros only;
// otherwise First and Last are equal and name one ID.
type IDRange struct {
	First ID `json:"first"`
	Last  ID `json:"last"`
}

// ParseIDRange reads "1234", "pr87" or "1000-1999".
func ParseIDRange(s string) (IDRange, error) {
	first, last, isRange := strings.Cut(s, "-")
	a, err := ParseID(first)
	if err != nil {
		return IDRange{}, err
	}
	if !isRange {
		return IDRange{a, a}, nil
	}
	b, err := ParseID(last)
	if err != nil {
		return IDRange{}, err
	}
	if !isNumber(a) || !isNumber(b) || lessNumber(b, a) {
		return IDRange{}, fmt.Errorf("ID range %q: want two numbers without leading zeros, the smaller first, as in 1000-1999", clip(s))
	}
	return IDRange{a, b}, nil
}

// String returns r as ParseIDRange reads it.
func (r IDRange) String() string {
	if r.First == r.Last {
		return string(r.First)
	}
	return string(r.First) + "-" + string(r.Last)
}

// Contains reports whether id lies in r.
func (r IDRange) Contains(id ID) bool {
	if r.First == r.Last {
		return id == r.First
	}
	return isNumber(id) && !lessNumber(id, r.First) && !lessNumber(r.Last, id)
}

// isNumber reports whether id is a decimal number without leading zeros.
func isNumber(id ID) bool {
	return id != "" && strings.Trim(string(id), "0123456789") == "" && (id == "0" || id[0] != '0')
}

// lessNumber compares two numbers without leading zeros, of any length.
func lessNumber(a, b ID) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// Covers reports whether the token may register id.
func (t *Token) Covers(id ID) bool {
	if t.Role == RoleAdmin {
		return true
	}
	if t.Role != RoleClone {
		return false
	}
	for _, r := range t.IDs {
		if r.Contains(id) {
			return true
		}
	}
	return false
}

// Expired reports whether the token has ended at now.
func (t *Token) Expired(now time.Time) bool {
	return !t.Expires.IsZero() && !now.Before(t.Expires)
}

// TokenPrefix begins every token, so that secret scanners find leaked ones.
const TokenPrefix = "cgt_"

// newSecret returns a token's ID, the whole text that authenticates it (130
// random bits), and the hash that is kept.
func newSecret() (id, secret, hash string) {
	id = strings.ToLower(rand.Text()[:8])
	secret = TokenPrefix + id + "_" + rand.Text()
	return id, secret, hashSecret(secret)
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// matches compares secret with the kept hash in constant time.
func (t *Token) matches(secret string) bool {
	return subtle.ConstantTimeCompare([]byte(hashSecret(secret)), []byte(t.Hash)) == 1
}

// tokenID returns the ID part of a secret, "" if it has none.
func tokenID(secret string) string {
	rest, ok := strings.CutPrefix(secret, TokenPrefix)
	if !ok {
		return ""
	}
	id, _, ok := strings.Cut(rest, "_")
	if !ok {
		return ""
	}
	return id
}
