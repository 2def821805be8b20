package dnsmasq

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
)

// dnsPort is where DNS servers listen unless they say otherwise.
const dnsPort = 53

// domainName returns a domain in lower case, without a trailing dot.
func domainName(s string) (string, error) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if len(s) > 253 || strings.Contains(s, "\x00") {
		return "", fmt.Errorf("%q is not a domain; write one such as example.com", s)
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > 63 || label == "" && s != "" {
			return "", fmt.Errorf("%q is not a domain: each of its labels is 1 to 63 octets long", s)
		}
	}
	return s, nil
}

// domains reads the /one/two/ before a value, and returns the rules for them
// and what follows.
func domains(value string) ([]DomainRule, string, error) {
	rest, ok := strings.CutPrefix(value, "/")
	if !ok {
		return []DomainRule{{}}, value, nil
	}
	var rules []DomainRule
	for {
		d, after, more := strings.Cut(rest, "/")
		if !more {
			if len(rules) == 0 {
				return nil, "", errors.New("the domain is not closed; write /example.com/…")
			}
			return rules, rest, nil
		}
		rest = after
		r := DomainRule{NoDots: d == ""}
		if d, r.Partial = strings.CutPrefix(d, "*"); !r.Partial {
			d = strings.TrimPrefix(d, ".")
		}
		name, err := domainName(reveal(d))
		if err != nil {
			return nil, "", err
		}
		r.Domain = name
		rules = append(rules, r)
	}
}

// server reads server= and local=: [/domain/…]address[#port][@source], where
// no address means that the names do not exist, and # the usual servers.
func (p *parser) server(value string) error {
	rules, target, err := domains(reveal(value))
	if err != nil {
		return err
	}
	var server netip.AddrPort
	if target != "" && target != "#" {
		if server, err = p.parseServer(target); err != nil {
			return err
		}
	}
	for _, r := range rules {
		r.Server, r.Usual, r.File = server, target == "#", p.fromSrv
		p.Domains = append(p.Domains, r)
	}
	return nil
}

// parseServer reads address[#port][@interface][@source[#port]].
func (p *parser) parseServer(s string) (netip.AddrPort, error) {
	s, source, bound := strings.Cut(s, "@")
	server, err := parseServerAddr(s)
	if err != nil || !bound {
		return server, err
	}
	from, err := p.parseSource(source)
	if err != nil {
		return server, err
	}
	if have, ok := p.Habits.Sources[server]; ok && have != from {
		return server, fmt.Errorf("%v is asked from another source already; a server has one", server)
	}
	if p.Habits.Sources == nil {
		p.Habits.Sources = map[netip.AddrPort]dnsd.Source{}
	}
	p.Habits.Sources[server] = from
	return server, nil
}

// parseSource reads what follows the @ of a server: an interface, an address, or
// an interface@address.
func (p *parser) parseSource(s string) (from dnsd.Source, err error) {
	if p.fromSrv {
		p.remark = "a source is that of the start: it is not read again with the file"
	}
	for part := range strings.SplitSeq(s, "@") {
		text, port, hasPort := strings.Cut(part, "#")
		a, err := netip.ParseAddr(text)
		switch {
		case err == nil && !from.Addr.IsValid():
			from.Addr = a
			if hasPort {
				p.remark = "but for the source port " + port + ": every question has one of its own; see query-port"
			}
		case err == nil || text == "" || hasPort || from.Interface != "" || from.Addr.IsValid():
			return from, fmt.Errorf("@%s is not where questions can leave from; write @eth0, @192.0.2.7 or @eth0@192.0.2.7", s)
		default:
			from.Interface = text
		}
	}
	return from, nil
}

// parseServerAddr reads address[#port].
func parseServerAddr(s string) (netip.AddrPort, error) {
	text, portText, hasPort := strings.Cut(s, "#")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not the address of a server; write 192.0.2.1, or 192.0.2.1#5353 for another port", s)
	}
	port := uint64(dnsPort)
	if hasPort {
		if port, err = strconv.ParseUint(portText, 10, 16); err != nil || port == 0 {
			return netip.AddrPort{}, fmt.Errorf("%q is not a port from 1 to 65535", portText)
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// address reads address=: /domain/…[address], where # stands for 0.0.0.0 and
// :: and no address means that the names do not exist.
func (p *parser) address(value string) error {
	rules, target, err := domains(reveal(value))
	if err != nil {
		return err
	}
	if rules[0] == (DomainRule{}) && !strings.HasPrefix(reveal(value), "/") && target != "" && target != "#" {
		if _, err := netip.ParseAddr(target); err != nil {
			return fmt.Errorf("%q is not an address; write /example.com/192.0.2.1", target)
		}
	}
	for _, r := range rules {
		if r.Domain == "#" {
			r.Domain = ""
		}
		switch {
		case target == "#":
			r.Null = true
		case target != "":
			a, err := netip.ParseAddr(target)
			if err != nil || a.Zone() != "" {
				return fmt.Errorf("%q is not an address; write /%s/192.0.2.1", target, r.Domain)
			}
			r.Addr = a
		}
		p.Domains = append(p.Domains, r)
	}
	return nil
}

// revServer reads rev-server=network[,server]: the server for the names of a
// network's addresses.
func (p *parser) revServer(value string) error {
	network, target, _ := strings.Cut(reveal(value), ",")
	prefix, err := parsePrefix(strings.TrimSpace(network))
	if err != nil {
		return err
	}
	var server netip.AddrPort
	if target = strings.TrimSpace(target); target != "" && target != "#" {
		if server, err = p.parseServer(target); err != nil {
			return err
		}
	}
	for _, d := range reverseDomains(prefix) {
		p.Domains = append(p.Domains, DomainRule{Domain: d, Server: server, Usual: target == "#", File: p.fromSrv})
	}
	return nil
}

// reverseDomains returns the domains of a network's addresses. A network that
// does not end between two labels has several.
func reverseDomains(prefix netip.Prefix) []string {
	prefix = prefix.Masked()
	step := 8
	if prefix.Addr().Is6() {
		step = 4
	}
	whole := (prefix.Bits() + step - 1) / step * step
	var out []string
	addr := prefix.Addr().AsSlice()
	for n := range 1 << (whole - prefix.Bits()) {
		at := append([]byte(nil), addr...)
		if whole > 0 {
			at[(whole-1)/8] |= byte(n << ((8 - whole%8) % 8))
		}
		a, _ := netip.AddrFromSlice(at)
		name, err := dns.ReverseAddr(a.String())
		if err != nil {
			continue
		}
		labels := dns.SplitDomainName(name)
		out = append(out, strings.Join(labels[(prefix.Addr().BitLen()-whole)/step:], "."))
	}
	return out
}
