package dnsd

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// A filing is an entry with all it consists of, as one piece of memory.
type filing struct {
	entry
	result result
	packed packed
}

// plain returns a reply of an upstream as an entry, if it is what nearly all
// are: the addresses of the very name that was asked about. Everything else
// yields nil, broken replies too, and is to be unpacked.
func (f *flight) plain(p, query []byte, room int, now time.Time) *entry {
	size := 0 // of an address
	switch f.q.qtype {
	case dns.TypeA:
		size = 4
	case dns.TypeAAAA:
		size = 16
	}
	if size == 0 || f.q.do || f.view.rules != nil || len(p) == room || !matches(p, query) {
		return nil
	}
	if binary.BigEndian.Uint16(p[2:])&(flagTC|0xf) != 0 {
		return nil
	}
	start, _ := skipName(p, headerLen)
	start += 4
	n := int(binary.BigEndian.Uint16(p[6:]))
	end := start + n*(2+fixedRR+size)
	if n == 0 || end > len(p) || !isPlainRest(p, end) {
		return nil
	}
	x := &filing{packed: packed{counts: [3]uint16{uint16(n)}, ttls: make([]uint16, n), stored: now}}
	x.packed.body = slices.Clone(p[start:end])
	life := uint32(maxPositive / time.Second)
	for i := range n {
		at := i * (2 + fixedRR + size)
		ttl, ok := f.view.plainRecord(x.packed.body[at:at+2+fixedRR+size], f.q.qtype)
		if !ok {
			return nil
		}
		x.packed.ttls[i] = uint16(at + 6)
		life = min(life, ttl)
	}
	x.result = result{kept: true, packed: &x.packed, from: "cache"}
	x.entry = entry{key: f.key, ready: &x.result, positive: true, stored: now, expires: now.Add(time.Duration(life) * time.Second)}
	return &x.entry
}

// plainRecord returns the TTL of a record, which it bounds in place, false if
// the record is no address of the name that was asked about, or one that a
// client may not get.
func (v *view) plainRecord(rr []byte, qtype uint16) (ttl uint32, ok bool) {
	if binary.BigEndian.Uint16(rr) != pointerToQuestion || binary.BigEndian.Uint16(rr[2:]) != qtype ||
		binary.BigEndian.Uint16(rr[4:]) != dns.ClassINET || int(binary.BigEndian.Uint16(rr[10:])) != len(rr)-2-fixedRR {
		return 0, false
	}
	if v.refuse {
		addr, _ := netip.AddrFromSlice(rr[2+fixedRR:])
		if isInside(addr.Unmap()) {
			return 0, false
		}
	}
	if ttl = binary.BigEndian.Uint32(rr[6:]); ttl>>31 == 1 { // RFC 2181 §8
		ttl = 0
	}
	ttl = min(ttl, uint32(maxPositive/time.Second))
	binary.BigEndian.PutUint32(rr[6:], ttl)
	return ttl, true
}

// isPlainRest reports whether nothing but an OPT record without options stands
// behind the answer, and says nothing about it: its part of the rcode is 0.
func isPlainRest(p []byte, off int) bool {
	rest := p[off:]
	switch ns, extra := binary.BigEndian.Uint16(p[8:]), binary.BigEndian.Uint16(p[10:]); {
	case ns > 0 || extra > 1:
		return false
	case extra == 0:
		return len(rest) == 0
	}
	return len(rest) == fixedOPT && rest[0] == 0 && binary.BigEndian.Uint16(rest[1:]) == dns.TypeOPT &&
		rest[5] == 0 && binary.BigEndian.Uint16(rest[9:]) == 0
}
