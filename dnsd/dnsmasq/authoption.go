package dnsmasq

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// An Authority is what the world is told: the options auth-….
type Authority struct {
	Server     string // the name of this server, with a trailing dot; "" if there is no such option
	Listen     []netip.Addr
	Interfaces []InterfaceName // whose addresses are listened on; Name is ""

	Secondaries []string // names of further name servers
	Zones       []AuthZone
	TTL         uint32

	Hostmaster             string // with a trailing dot
	Serial                 uint32 // 0: when the files were read
	Refresh, Retry, Expire uint32
}

// An AuthZone is a zone of auth-zone.
type AuthZone struct {
	Domain     string          // in lower case, without a trailing dot
	Networks   []netip.Prefix  // whose addresses are shown; none here and below: all
	Interfaces []InterfaceName // likewise, those of their networks; Name is ""
	Except     []netip.Prefix  // whose addresses are not
}

// dnsmasq's defaults, in seconds.
const (
	authTTL     = 600
	authRefresh = 1200
	authRetry   = 180
	authExpire  = 1209600
)

// addAuthority adds the options of authoritative DNS.
func addAuthority(o map[string]option) {
	o["auth-server"] = option{once: true, parse: (*parser).authServer}
	o["auth-zone"] = option{parse: (*parser).authZone}
	o["auth-ttl"] = option{once: true, parse: func(p *parser, v string) (err error) { p.Authority.TTL, err = parseTTL(v); return err }}
	o["auth-soa"] = option{once: true, parse: (*parser).authSOA}
	o["auth-sec-servers"] = option{parse: (*parser).authSecondaries}
	o["auth-peer"] = option{not: notTransfer}
}

// authServer reads name[,interface[/4|/6]|address…].
func (p *parser) authServer(value string) (err error) {
	parts := fields(value)
	if p.Authority.Server, err = targetName(parts[0]); err != nil {
		return err
	}
	for _, part := range parts[1:] {
		if a, err := netip.ParseAddr(reveal(part)); err == nil {
			p.Authority.Listen = append(p.Authority.Listen, a)
			continue
		}
		in, err := readInterface(part)
		if err != nil {
			return err
		}
		p.Authority.Interfaces = append(p.Authority.Interfaces, in)
	}
	return nil
}

// readInterface reads interface[/4|/6].
func readInterface(part string) (InterfaceName, error) {
	name, family, _ := strings.Cut(reveal(part), "/")
	in := InterfaceName{Interface: name, V4: family != "6", V6: family != "4"}
	switch {
	case name == "":
		return in, errors.New("the name of an interface is missing; write one such as eth0")
	case family != "" && family != "4" && family != "6":
		return in, fmt.Errorf("/%s is not a family of addresses; write /4 or /6", family)
	}
	return in, nil
}

// authZone reads domain[,network|exclude:network|interface[/4|/6]…].
func (p *parser) authZone(value string) error {
	parts := fields(value)
	name, err := domainName(reveal(parts[0]))
	if err != nil {
		return err
	}
	z := AuthZone{Domain: name}
	for _, part := range parts[1:] {
		text, hidden := strings.CutPrefix(reveal(part), "exclude:")
		network, err := parsePrefix(text)
		if err == nil && network.IsSingleIP() && !strings.Contains(text, "/") {
			network = netip.PrefixFrom(network.Addr(), usualBits(network.Addr())).Masked()
		}
		switch {
		case err == nil && hidden:
			z.Except = append(z.Except, network.Masked())
		case err == nil:
			z.Networks = append(z.Networks, network.Masked())
		case hidden || strings.Count(text, "/") == 1 && strings.ContainsAny(text, ".:"):
			return err
		default:
			in, err := readInterface(part)
			if err != nil {
				return err
			}
			p.remark = "networks of interfaces are those when files are read"
			z.Interfaces = append(z.Interfaces, in)
		}
	}
	p.Authority.Zones = append(p.Authority.Zones, z)
	return nil
}

// usualBits is how much of an address names its network if no one says.
func usualBits(a netip.Addr) int {
	if a.Is4() {
		return 24
	}
	return 64
}

// authSOA reads serial[,hostmaster[,refresh[,retry[,expire]]]].
func (p *parser) authSOA(value string) error {
	a := &p.Authority
	for i, part := range fields(value) {
		if i == 1 {
			name, err := targetName(strings.Replace(reveal(part), "@", ".", 1))
			if err != nil {
				return err
			}
			a.Hostmaster = name
			continue
		}
		if i > 4 {
			return fmt.Errorf("%q is not understood; nothing follows the expiry", reveal(part))
		}
		n, err := number(part, math.MaxUint32)
		if err != nil {
			return err
		}
		*[]*uint32{&a.Serial, nil, &a.Refresh, &a.Retry, &a.Expire}[i] = uint32(n)
	}
	return nil
}

func (p *parser) authSecondaries(value string) error {
	for _, part := range fields(value) {
		name, err := targetName(part)
		if err != nil {
			return err
		}
		p.Authority.Secondaries = append(p.Authority.Secondaries, name)
	}
	return nil
}

// finishAuthority checks that zones have a server.
func (p *parser) finishAuthority() {
	a := &p.Authority
	if len(a.Zones) > 0 && a.Server == "" {
		p.at = p.seen["auth-zone"]
		p.fail("auth-zone", "needs the name of this server; write auth-server=ns.example.com as well")
	}
	if a.Hostmaster == "" {
		a.Hostmaster = "hostmaster." + a.Server
	}
}
