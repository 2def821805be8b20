package dnsd

import (
	"net/netip"
	"slices"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
)

// rebindNetworks are addresses that a name of the outside must not lead to: a
// web page could name itself after them, and a browser would take what is
// behind them for a part of that page. They are those of dnsmasq 2.90.
var rebindNetworks = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24", "192.168.0.0/16",
		"198.51.100.0/24", "203.0.113.0/24", "255.255.255.255/32", "::/128", "::1/128", "2001:db8::/32", "fc00::/7", "fe80::/10",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// LeadsInside reports whether a record of an upstream server holds an address
// of a private network, of this machine, or one that stands for any. Loopback
// addresses are fine if loopback is.
func LeadsInside(rr dns.RR, loopback bool) bool {
	return slices.ContainsFunc(addressesOf(rr), func(a netip.Addr) bool {
		if loopback && a.IsLoopback() {
			return false
		}
		return isInside(a)
	})
}

// isInside reports whether an address is of a private network, of this
// machine, or stands for any.
func isInside(a netip.Addr) bool {
	return slices.ContainsFunc(rebindNetworks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addressesOf returns the addresses in a record, the hints of SVCB and HTTPS
// records included (RFC 9460 §7.3): clients connect to those as well.
func addressesOf(rr dns.RR) []netip.Addr {
	var out []netip.Addr
	add := func(ip []byte) {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap())
		}
	}
	svcb, _ := rr.(*dns.SVCB)
	switch rr := rr.(type) {
	case *dns.A:
		add(rr.A)
	case *dns.AAAA:
		add(rr.AAAA)
	case *dns.HTTPS:
		svcb = &rr.SVCB
	}
	if svcb == nil {
		return out
	}
	for _, kv := range svcb.Value {
		switch kv := kv.(type) {
		case *dns.SVCBIPv4Hint:
			for _, ip := range kv.Hint {
				add(ip)
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range kv.Hint {
				add(ip)
			}
		}
	}
	return out
}

// refusePrivate makes an answer that leads inside an empty one, unless the
// listener lets everything pass, or the name lies in a domain that may lead
// there: one of Resolver.PrivateIn, or one that the clone has servers for. It
// reports whether it did.
func (v *view) refusePrivate(q question, m *dns.Msg) bool {
	if !v.refuse || !slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return LeadsInside(rr, false) }) {
		return false
	}
	in := func(domain string) bool { return isUnder(domain, q.name) }
	if slices.ContainsFunc(v.privateIn, in) {
		return false
	}
	if n := v.ownNames(); n != nil && slices.ContainsFunc(n.forward, func(f forward) bool { return in(f.zone) }) {
		return false
	}
	v.metrics.refusedPrivate.Inc()
	m.Answer, m.Ns = nil, []dns.RR{newSOA(q.name)}
	return true
}

// blocked says why there is no address (RFC 8914 §4.16).
var blocked = &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: "upstream gave a private address; see private_in"}

// domainsOf returns names as questions have them.
func domainsOf(hosts []registry.Host) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, canonical(dns.Fqdn(string(h))))
	}
	return out
}
