package dnsmasq

import (
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// synthAddr returns the address that a made-up name stands for, such as that
// of host-192-0-2-7.example.com. Of two ranges the one written last counts.
func (t *table) synthAddr(q dns.Question) []dns.RR {
	for _, s := range slices.Backward(t.Synths) {
		if a, ok := s.find(q.Name); ok && a.Is4() == (q.Qtype == dns.TypeA) {
			return []dns.RR{t.addressRecord(strings.Clone(q.Name), a, nil)}
		}
	}
	return nil
}

// isSynth reports whether a name is a made-up one.
func (t *table) isSynth(name string) bool {
	return slices.ContainsFunc(t.Synths, func(s Synth) bool { _, ok := s.find(name); return ok })
}

// find returns the address that a made-up name stands for.
func (s Synth) find(name string) (netip.Addr, bool) {
	label, under := strings.CutSuffix(name, "."+s.Domain+".")
	rest, ours := strings.CutPrefix(label, s.Prefix)
	if !under || !ours {
		return netip.Addr{}, false
	}
	return s.address(rest)
}

// synthPointer returns the made-up name of an address.
func (t *table) synthPointer(q dns.Question) []dns.RR {
	a, ok := fromReverse(q.Name)
	if !ok {
		return nil
	}
	for _, s := range slices.Backward(t.Synths) {
		if !s.contains(a) {
			continue
		}
		rr := &dns.PTR{Hdr: header(strings.Clone(q.Name), dns.TypePTR), Ptr: s.Prefix + s.label(a) + "." + s.Domain + "."}
		rr.Hdr.Ttl = t.ttl
		return []dns.RR{rr}
	}
	return nil
}

func (s Synth) contains(a netip.Addr) bool {
	return a.Is4() == s.First.Is4() && !a.Less(s.First) && !s.Last.Less(a)
}

// address reads what follows the prefix of a name.
func (s Synth) address(label string) (netip.Addr, bool) {
	if label == "" || strings.Contains(label, ".") {
		return netip.Addr{}, false
	}
	if s.Numbered {
		n, err := strconv.ParseUint(label, 10, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		at := new(big.Int).Add(new(big.Int).SetBytes(s.First.AsSlice()), new(big.Int).SetUint64(n))
		if at.BitLen() > s.First.BitLen() {
			return netip.Addr{}, false
		}
		a, ok := netip.AddrFromSlice(at.FillBytes(make([]byte, s.First.BitLen()/8)))
		return a, ok && s.contains(a)
	}
	text := strings.ReplaceAll(label, "-", ".")
	if s.First.Is6() {
		text = strings.ReplaceAll(label, "-", ":")
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil && s.contains(a)
}

// label writes an address so that it can stand in a name.
func (s Synth) label(a netip.Addr) string {
	if s.Numbered {
		first, at := new(big.Int).SetBytes(s.First.AsSlice()), new(big.Int).SetBytes(a.AsSlice())
		return at.Sub(at, first).String()
	}
	if a.Is4() {
		return strings.ReplaceAll(a.String(), ".", "-")
	}
	text := strings.ReplaceAll(a.String(), ":", "-")
	if strings.HasPrefix(text, "-") {
		text = "0" + text
	}
	if strings.HasSuffix(text, "-") {
		text += "0"
	}
	return text
}
