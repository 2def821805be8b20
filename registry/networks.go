package registry

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Networks decides which addresses an endpoint may have, so that a clone
// cannot aim the gateway at a metadata service, at the gateway's own API or at
// a network nobody opened. The same rules hold when an endpoint is registered
// and when it is dialled.
type Networks struct {
	allow []netip.Prefix
	own   atomic.Pointer[[]netip.AddrPort]
}

// PrivateNetworks is the default of what endpoints may use: the private
// ranges of RFC 1918, RFC 4193 and RFC 6598.
var PrivateNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("fc00::/7"),
}

// NewNetworks returns rules that allow the given networks and nothing else.
func NewNetworks(allow []netip.Prefix) *Networks {
	return &Networks{allow: slices.Clone(allow)}
}

// SetOwn names the listeners of the gateway itself, which no endpoint may be.
// An unspecified address stands for every address of the machine, loopback
// included.
func (n *Networks) SetOwn(listeners []netip.AddrPort) {
	l := slices.Clone(listeners)
	n.own.Store(&l)
}

// metadata holds the addresses at which clouds serve credentials outside the
// link-local range, which is refused as a whole.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("192.0.0.192"),
}

// refusal returns a *FieldError without a Field.
func refusal(ep netip.AddrPort, rule, format string, args ...any) error {
	return &FieldError{Rule: rule, Detail: ep.String() + " " + fmt.Sprintf(format, args...)}
}

// Check returns nil if an endpoint may have this address. The error is a
// *FieldError without a Field, whose Rule names what was broken.
func (n *Networks) Check(ep netip.AddrPort) error {
	if err := n.CheckTarget(ep); err != nil {
		return err
	}
	for _, p := range n.allow {
		if p.Contains(ep.Addr()) {
			return nil
		}
	}
	if ep.Addr().IsLoopback() {
		return refusal(ep, "endpoint-loopback", "is loopback, which endpoints.allow does not list; allowed: %v", n.allow)
	}
	return refusal(ep, "endpoint-network", "lies outside the allowed networks %v; ask an operator to add it to endpoints.allow", n.allow)
}

// CheckTarget returns nil unless ep is an address that nothing a clone names
// may ever be, whatever networks are allowed. A clone's DNS servers are held to
// this alone. The error is like that of Check.
func (n *Networks) CheckTarget(ep netip.AddrPort) error {
	refuse := func(rule, format string, args ...any) error { return refusal(ep, rule, format, args...) }
	addr := ep.Addr()
	switch {
	case !addr.IsValid() || addr.Is4In6() || addr.Zone() != "":
		return refuse("endpoint-spelling", "is not a plain address; write an IPv4 or IPv6 address without zone or IPv4-mapped form")
	case ep.Port() == 0:
		return refuse("endpoint-port", "has no port")
	case addr.IsUnspecified():
		return refuse("endpoint-unspecified", "is the unspecified address; name the address the service listens on")
	case addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return refuse("endpoint-multicast", "is a multicast or broadcast address")
	case addr.IsLinkLocalUnicast():
		return refuse("endpoint-link-local", "is link-local; clouds serve machine credentials there")
	case slices.Contains(metadata, addr):
		return refuse("endpoint-metadata", "is a cloud metadata service")
	}
	if n.isOwn(ep) {
		return refuse("endpoint-own-listener", "is a listener of this gateway itself")
	}
	return nil
}

// isOwn reports whether ep is a listener of the gateway. Machines gain and
// lose addresses, so they are asked for each time; that is only for the few
// ports of listeners on every address.
func (n *Networks) isOwn(ep netip.AddrPort) bool {
	own := n.own.Load()
	if own == nil {
		return false
	}
	for _, l := range *own {
		if l.Port() == ep.Port() && (l.Addr() == ep.Addr() || l.Addr().IsUnspecified() && ofThisMachine(ep.Addr())) {
			return true
		}
	}
	return false
}

// ofThisMachine reports whether addr is one of the machine's own. If the
// machine does not say, every address may be.
func ofThisMachine(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		ipNet, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		ip, ok := netip.AddrFromSlice(ipNet.IP)
		return ok && ip.Unmap() == addr
	})
}
