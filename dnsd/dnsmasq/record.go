package dnsmasq

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// unsetTTL marks records that get the local TTL.
const unsetTTL = math.MaxUint32

// header returns the header of a local record that has no TTL of its own.
func header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: unsetTTL}
}

// hostName reads a name and returns it as questions have it: in lower case,
// with a trailing dot, odd octets escaped.
func hostName(s string) (string, error) {
	name, err := targetName(s)
	return strings.ToLower(name), err
}

// targetName reads the name that a record points to. It keeps its spelling:
// names of services are shown to people.
func targetName(s string) (string, error) {
	s = strings.TrimSuffix(reveal(s), ".")
	if _, err := domainName(s); err != nil {
		return "", err
	}
	if s == "" {
		return "", errors.New("a name is missing; write one such as db.example.com")
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case strings.IndexByte(` '@;()"\`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + ".", nil
}

// hostRecord reads name[,name…][,IPv4][,IPv6][,TTL].
func (p *parser) hostRecord(value string) error {
	var rec HostRecord
	var v4, v6 netip.Addr
	parts := fields(value)
	for i, f := range parts {
		f = reveal(f)
		if a, err := netip.ParseAddr(f); err == nil {
			if a.Is4() {
				v4 = a
			} else {
				v6 = a
			}
			continue
		}
		if n, err := strconv.ParseUint(f, 10, 31); err == nil && i == len(parts)-1 && i > 0 {
			ttl := uint32(n)
			rec.TTL = &ttl
			continue
		}
		name, err := hostName(f)
		if err != nil {
			return err
		}
		rec.Names = append(rec.Names, name)
	}
	for _, a := range []netip.Addr{v4, v6} {
		if a.IsValid() {
			rec.Addrs = append(rec.Addrs, a)
		}
	}
	if len(rec.Names) == 0 {
		return errors.New("a name is missing; write db.example.com,192.0.2.1")
	}
	p.Hosts = append(p.Hosts, rec)
	return nil
}

// cname reads alias[,alias…],target[,TTL].
func (p *parser) cname(value string) error {
	parts := fields(value)
	ttl := uint32(unsetTTL)
	if last := len(parts) - 1; last > 1 {
		if n, err := strconv.ParseUint(reveal(parts[last]), 10, 31); err == nil {
			ttl, parts = uint32(n), parts[:last]
		}
	}
	if len(parts) < 2 {
		return errors.New("the target is missing; write alias.example.com,name.example.com")
	}
	target, err := targetName(parts[len(parts)-1])
	if err != nil {
		return err
	}
	for _, part := range parts[:len(parts)-1] {
		alias, err := hostName(part)
		if err != nil {
			return err
		}
		if alias == strings.ToLower(target) {
			return fmt.Errorf("%s is an alias of itself", alias)
		}
		for _, have := range p.Aliases {
			if have.Hdr.Name == alias {
				return fmt.Errorf("%s is an alias already; a name can be an alias of one other", alias)
			}
		}
		rr := &dns.CNAME{Hdr: header(alias, dns.TypeCNAME), Target: target}
		rr.Hdr.Ttl = ttl
		p.aliasAt[alias] = p.at
		p.Aliases = append(p.Aliases, rr)
	}
	return nil
}

// A srv is a service record whose name may lack the domain.
type srv struct{ rr *dns.SRV }

// srvHost reads service[,target[,port[,priority[,weight]]]].
func (p *parser) srvHost(value string) error {
	parts := fields(value)
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	rr := &dns.SRV{Hdr: header(name, dns.TypeSRV), Target: ".", Port: 1}
	if len(parts) > 1 && parts[1] != "" {
		if rr.Target, err = targetName(parts[1]); err != nil {
			return err
		}
	}
	for i, to := range []*uint16{&rr.Port, &rr.Priority, &rr.Weight} {
		if len(parts) > i+2 {
			n, err := number(parts[i+2], math.MaxUint16)
			if err != nil {
				return err
			}
			*to = uint16(n)
		}
	}
	p.Records = append(p.Records, rr)
	p.srvs = append(p.srvs, srv{rr})
	return nil
}

// maxString is the longest string of a TXT record, in octets.
const maxString = 255

// txtRecord reads name[,text…].
func (p *parser) txtRecord(value string) error {
	parts := fields(value)
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	rr := &dns.TXT{Hdr: header(name, dns.TypeTXT)}
	for _, part := range parts[1:] {
		text := reveal(part)
		for len(text) > maxString {
			rr.Txt = append(rr.Txt, escape(text[:maxString]))
			text = text[maxString:]
		}
		rr.Txt = append(rr.Txt, escape(text))
	}
	if len(rr.Txt) == 0 {
		rr.Txt = []string{""}
	}
	p.Records = append(p.Records, rr)
	return nil
}

// escape returns octets as the text form in which records hold them.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// ptrRecord reads name[,target].
func (p *parser) ptrRecord(value string) error {
	parts := fields(value)
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	rr := &dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: "."}
	if len(parts) > 1 && parts[1] != "" {
		if rr.Ptr, err = targetName(parts[1]); err != nil {
			return err
		}
	}
	p.Records = append(p.Records, rr)
	return nil
}

// mxHost reads name[,target[,preference]].
func (p *parser) mxHost(value string) error {
	parts := fields(value)
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	rr := &dns.MX{Hdr: header(name, dns.TypeMX), Preference: 1}
	if len(parts) > 1 && parts[1] != "" {
		if rr.Mx, err = targetName(parts[1]); err != nil {
			return err
		}
	}
	if len(parts) > 2 {
		n, err := number(parts[2], math.MaxUint16)
		if err != nil {
			return err
		}
		rr.Preference = uint16(n)
	}
	p.Records = append(p.Records, rr)
	return nil
}

// findMailServers completes mail records that name none: it is the one of
// mx-target, or this machine.
func (p *parser) findMailServers() {
	for _, rr := range p.Records {
		mx, ok := rr.(*dns.MX)
		if !ok || mx.Mx != "" {
			continue
		}
		if mx.Mx = p.mxTarget; mx.Mx == "" {
			machine, err := os.Hostname()
			if err == nil {
				mx.Mx, err = targetName(machine)
			}
			if err != nil {
				p.fail("mx-host", "%s names no mail server, and this machine has no name: %v; name one with mx-target", mx.Hdr.Name, err)
				return
			}
		}
	}
}

// caaRecord reads name,flags,tag,value.
func (p *parser) caaRecord(value string) error {
	parts := fields(value)
	if len(parts) < 4 {
		return errors.New("want name,flags,tag,value as in example.com,0,issue,ca.example.net")
	}
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	flag, err := number(parts[1], math.MaxUint8)
	if err != nil {
		return err
	}
	p.Records = append(p.Records, &dns.CAA{
		Hdr: header(name, dns.TypeCAA), Flag: uint8(flag), Tag: reveal(parts[2]), Value: escape(reveal(parts[3])),
	})
	return nil
}

// naptrRecord reads name,order,preference,flags,service,regexp[,replacement].
func (p *parser) naptrRecord(value string) error {
	parts := fields(value)
	if len(parts) < 6 {
		return errors.New("want name,order,preference,flags,service,regexp[,replacement]")
	}
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	order, err := number(parts[1], math.MaxUint16)
	if err != nil {
		return err
	}
	preference, err := number(parts[2], math.MaxUint16)
	if err != nil {
		return err
	}
	rr := &dns.NAPTR{
		Hdr: header(name, dns.TypeNAPTR), Order: uint16(order), Preference: uint16(preference),
		Flags: escape(reveal(parts[3])), Service: escape(reveal(parts[4])), Regexp: escape(reveal(parts[5])), Replacement: ".",
	}
	if len(parts) > 6 && parts[6] != "" {
		if rr.Replacement, err = targetName(parts[6]); err != nil {
			return err
		}
	}
	p.Records = append(p.Records, rr)
	return nil
}

// dnsRR reads name,number of the type[,data in hexadecimal].
func (p *parser) dnsRR(value string) error {
	parts := fields(value)
	if len(parts) < 2 {
		return errors.New("the number of the type is missing; write example.com,51,01020304")
	}
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	n, err := number(parts[1], math.MaxUint16)
	if err != nil {
		return err
	}
	var data []byte
	if len(parts) > 2 {
		digits := strings.NewReplacer(":", "", " ", "").Replace(reveal(parts[2]))
		if data, err = hex.DecodeString(digits); err != nil {
			return fmt.Errorf("%q is not data in hexadecimal; write 01:02:0a", reveal(parts[2]))
		}
	}
	rr := &dns.RFC3597{Hdr: header(name, uint16(n)), Rdata: hex.EncodeToString(data)}
	p.Records = append(p.Records, rr)
	return nil
}

// interfaceName reads name,interface[/4|/6].
func (p *parser) interfaceName(value string) error {
	parts := fields(value)
	if len(parts) != 2 || parts[1] == "" {
		return errors.New("want name,interface as in gw.example.com,eth0")
	}
	name, err := hostName(parts[0])
	if err != nil {
		return err
	}
	in, err := readInterface(parts[1])
	if err != nil {
		return err
	}
	in.Name = name
	p.Interfaces = append(p.Interfaces, in)
	return nil
}

// findLoops refuses aliases that lead back to themselves.
func (p *parser) findLoops() {
	targets := map[string]string{}
	for _, a := range p.Aliases {
		targets[a.Hdr.Name] = strings.ToLower(a.Target)
	}
	for _, a := range p.Aliases {
		at := targets[a.Hdr.Name]
		for range len(targets) {
			if at == a.Hdr.Name {
				p.at = p.aliasAt[at]
				p.fail("cname", "%s leads back to itself; remove one of the aliases on the way", at)
				return
			}
			at = targets[at]
		}
	}
}

// finish checks what several lines say together, and gives services without a
// domain the one of the configuration.
func (p *parser) finish() {
	p.findLoops()
	p.findMailServers()
	p.finishPorts()
	p.finishAuthority()
	if p.BindInterfaces && p.BindDynamic {
		p.at = p.seen["bind-dynamic"]
		p.fail("bind-dynamic", "contradicts bind-interfaces at %v; keep one of them", p.seen["bind-interfaces"])
	}
	suffix := p.suffix(netip.Addr{})
	if suffix == "" {
		return
	}
	for _, s := range p.srvs {
		if strings.Count(s.rr.Hdr.Name, ".") == 2 {
			s.rr.Hdr.Name += suffix + "."
		}
	}
}
