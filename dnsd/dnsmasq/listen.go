package dnsmasq

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// An Address is one address to listen on, with the networks of the interface
// that has it. World is one of auth-server, where the zones of auth-zone are
// answered for and nothing else.
type Address struct {
	netip.AddrPort
	Networks []netip.Prefix
	World    bool
}

// Addresses returns where dnsmasq would listen now: at the addresses that are
// named, at those of the interfaces that are named and of the loopback, or at
// every address of this machine. With bind-interfaces, it is an error if there
// is none, or if an interface does not exist; else both may come later.
func (c *Config) Addresses() ([]Address, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	all := len(c.Listen) == 0 && len(c.Listeners) == 0
	var out []Address
	for _, a := range c.Listen {
		out = append(out, Address{AddrPort: netip.AddrPortFrom(a, c.Port)})
	}
	known := map[string]bool{}
	for _, iface := range interfaces {
		known[iface.Name] = true
		networks := interfacePrefixes(iface.Name)
		loopback := iface.Flags&net.FlagLoopback != 0
		wanted := all || slices.Contains(c.Listeners, iface.Name) || loopback && len(c.Listeners) > 0
		for _, p := range networks {
			a := p.Addr()
			if a.IsLinkLocalUnicast() && a.Is6() {
				a = a.WithZone(iface.Name)
			}
			i := slices.IndexFunc(out, func(have Address) bool { return have.Addr() == a })
			switch {
			case i >= 0:
				out[i].Networks = networks
			case wanted && !slices.Contains(c.Except, iface.Name):
				out = append(out, Address{AddrPort: netip.AddrPortFrom(a, c.Port), Networks: networks})
			}
		}
	}
	out = c.addWorld(out)
	if !c.BindInterfaces {
		return out, nil
	}
	for _, name := range c.Listeners {
		if !known[name] {
			return nil, fmt.Errorf("interface %s: this machine has none of that name; wait for it with bind-dynamic", name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no address to listen on; name one with listen-address")
	}
	return out, nil
}

// addWorld adds the addresses of auth-server, or marks them if they are there.
func (c *Config) addWorld(out []Address) []Address {
	world := slices.Clone(c.Authority.Listen)
	for _, in := range c.Authority.Interfaces {
		world = append(world, in.addrs()...)
	}
	for _, a := range world {
		i := slices.IndexFunc(out, func(have Address) bool { return have.Addr() == a })
		if i < 0 {
			i, out = len(out), append(out, Address{AddrPort: netip.AddrPortFrom(a, c.Port)})
		}
		out[i].World = true
	}
	return out
}
