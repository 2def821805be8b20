package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"iter"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// ownPrefix begins the names of the gateway's own cookies. Its first half binds
// them to one host (RFC 6265bis §4.1.3.2).
const ownPrefix = "__Host-clonegate-"

// ownCookies are the names of the gateway's own cookies in one zone. They differ
// from zone to zone, so gateways behind one another do not mistake each other's.
type ownCookies struct {
	sticky string // holds the endpoint of a sticky client
	life   string // holds the life of the clone that a browser has seen last
}

func newOwnCookies(zone registry.Host) *ownCookies {
	sum := sha256.Sum256([]byte(zone))
	tag := hex.EncodeToString(sum[:4])
	return &ownCookies{sticky: ownPrefix + tag, life: ownPrefix + "life-" + tag}
}

// ownCookiesOf returns the gateway's own cookies in every zone.
func ownCookiesOf(zones *registry.Zones) map[registry.Host]*ownCookies {
	out := map[registry.Host]*ownCookies{}
	for _, zone := range zones.Hosts() {
		out[zone] = newOwnCookies(zone)
	}
	return out
}

func (o *ownCookies) has(name []byte) bool {
	return bytes.HasPrefix(name, []byte(ownPrefix)) && (string(name) == o.sticky || string(name) == o.life)
}

// cookies returns the names of the cookies in a Cookie field, each with what is
// spelled between the semicolons.
func cookies(value []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, pair []byte) bool) {
		for more := true; more; {
			var pair []byte
			pair, value, more = bytes.Cut(value, []byte(";"))
			name, _, _ := bytes.Cut(pair, []byte("="))
			if !yield(bytes.TrimSpace(name), pair) {
				return
			}
		}
	}
}

// cookieValue returns the value of the first cookie with a name. ok is false if
// there is none.
func cookieValue(in *http1.Section, cookie string) (value []byte, ok bool) {
	for _, f := range in.Fields {
		if !http1.EqualFold(in.Name(f), "cookie") {
			continue
		}
		for name, pair := range cookies(in.Value(f)) {
			if _, v, has := bytes.Cut(pair, []byte("=")); has && string(name) == cookie {
				return bytes.TrimSpace(v), true
			}
		}
	}
	return nil, false
}

// hides reports whether the clone must not see a cookie.
func (x *exchange) hides(name []byte) bool {
	return x.target.cookies.has(name) || x.production != nil && x.production.strip[string(name)]
}

// hidesIn reports whether the clone must not see a Cookie field as it is.
func (x *exchange) hidesIn(value []byte) bool {
	switch {
	case x.life == lifeOther:
		return true
	case x.production == nil || len(x.production.strip) == 0:
		if !bytes.Contains(value, []byte(ownPrefix)) {
			return false
		}
	}
	for name := range cookies(value) {
		if x.hides(name) {
			return true
		}
	}
	return false
}

// appendCookies appends the Cookie fields that the clone may see. A browser that
// comes from another life has none for this one.
func (x *exchange) appendCookies(dst []byte, in *http1.Section) []byte {
	if x.life == lifeOther {
		return dst
	}
	for _, f := range in.Fields {
		if !http1.EqualFold(in.Name(f), "cookie") {
			continue
		}
		begun := len(dst)
		dst = append(append(dst, in.Name(f)...), ':')
		empty := len(dst)
		for name, pair := range cookies(in.Value(f)) {
			if x.hides(name) {
				continue
			}
			if len(dst) > empty {
				dst = append(dst, ';')
			}
			dst = append(append(dst, ' '), bytes.TrimSpace(pair)...)
		}
		if len(dst) == empty {
			dst = dst[:begun]
			continue
		}
		dst = append(dst, "\r\n"...)
	}
	return dst
}
