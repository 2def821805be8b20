package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// publicAddresses returns the addresses that clients are given for a gateway
// that listens on listen: the configured ones, else that one, else those of
// this machine.
func publicAddresses(configured []netip.Addr, listen netip.Addr) ([]netip.Addr, error) {
	switch {
	case len(configured) > 0:
		return configured, nil
	case !listen.IsUnspecified():
		return []netip.Addr{listen}, nil
	}
	addrs, err := machineAddresses()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addrs {
		if !a.IsLoopback() && (a.Is4() || listen.Is6()) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("gateway.addresses: this machine has no address but loopback to tell clients; set the address they reach it by")
	}
	return out, nil
}

// machineAddresses returns the addresses of this machine's interfaces that are
// up, without link-local ones.
func machineAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast() {
			continue
		}
		out = append(out, p.Addr().Unmap())
	}
	return out, nil
}
