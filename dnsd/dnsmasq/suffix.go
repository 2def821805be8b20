package dnsmasq

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// domain reads a domain[,range[,local]].
func (p *parser) domain(value string) error {
	parts := fields(value)
	if reveal(parts[0]) == "#" {
		return errors.New("the domain of resolv.conf is not used; write the domain itself")
	}
	name, err := domainName(reveal(parts[0]))
	if err != nil {
		return err
	}
	s := Suffix{Domain: name}
	rest := parts[1:]
	if len(rest) > 0 && rest[0] != "" {
		if s.First, s.Last, rest, err = parseRange(rest); err != nil {
			return err
		}
	}
	switch {
	case len(rest) == 0:
	case len(rest) == 1 && rest[0] == "local":
		if err := p.localRange(s, reveal(parts[1])); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is not understood; only local may follow a network", reveal(rest[0]))
	}
	p.Suffixes = append(p.Suffixes, s)
	return nil
}

// localRange keeps questions about a domain and its addresses here.
func (p *parser) localRange(s Suffix, network string) error {
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return fmt.Errorf("local needs a network such as 192.0.2.0/24, not %q", network)
	}
	p.Domains = append(p.Domains, DomainRule{Domain: s.Domain})
	for _, d := range reverseDomains(prefix) {
		p.Domains = append(p.Domains, DomainRule{Domain: d})
	}
	return nil
}

// parseRange reads a network, an address, or the first and the last address
// of a range, and returns what follows.
func parseRange(parts []string) (first, last netip.Addr, rest []string, err error) {
	text := reveal(parts[0])
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return first, last, nil, fmt.Errorf("%q is not a network such as 192.0.2.0/24", text)
		}
		return prefix.Masked().Addr(), lastOf(prefix), parts[1:], nil
	}
	if first, err = netip.ParseAddr(text); err != nil {
		return first, last, nil, fmt.Errorf("%q is neither a network nor the first address of a range", text)
	}
	if len(parts) == 1 {
		return first, first, nil, nil
	}
	if last, err = netip.ParseAddr(reveal(parts[1])); err != nil {
		return first, first, parts[1:], nil
	}
	if last.Is4() != first.Is4() || last.Less(first) {
		return first, last, nil, fmt.Errorf("%v is not the last address of a range from %v", last, first)
	}
	return first, last, parts[2:], nil
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// synthDomain reads domain,range[,prefix[*]].
func (p *parser) synthDomain(value string) error {
	parts := fields(value)
	if len(parts) < 2 {
		return errors.New("the addresses are missing; write example.com,192.0.2.0/24,host-")
	}
	name, err := domainName(reveal(parts[0]))
	if err != nil {
		return err
	}
	s := Synth{Domain: name}
	var rest []string
	if s.First, s.Last, rest, err = parseRange(parts[1:]); err != nil {
		return err
	}
	if len(rest) > 1 {
		return fmt.Errorf("%q is not understood; nothing follows the prefix", reveal(rest[1]))
	}
	if len(rest) == 1 {
		s.Prefix, s.Numbered = strings.CutSuffix(strings.ToLower(reveal(rest[0])), "*")
	}
	p.Synths = append(p.Synths, s)
	return nil
}

// suffix returns the domain that completes a short name with an address.
func (c *Config) suffix(a netip.Addr) string {
	fallback := ""
	for _, s := range c.Suffixes {
		switch {
		case !s.First.IsValid():
			fallback = s.Domain
		case a.IsValid() && a.Is4() == s.First.Is4() && !a.Less(s.First) && !s.Last.Less(a):
			return s.Domain
		}
	}
	return fallback
}
