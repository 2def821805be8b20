package config

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// A Listen is a place to listen on. The zero Listen is nowhere, written "off".
type Listen struct {
	addr netip.AddrPort
}

// On reports whether l is a place at all.
func (l Listen) On() bool { return l.addr.IsValid() }

// AddrPort returns the address and port. ":443" has the unspecified IPv6
// address, which takes IPv4 as well. It is invalid if l is off.
func (l Listen) AddrPort() netip.AddrPort { return l.addr }

// String returns l as an operator writes it.
func (l Listen) String() string {
	switch {
	case !l.On():
		return "off"
	case l.addr.Addr() == netip.IPv6Unspecified():
		return ":" + strconv.Itoa(int(l.addr.Port()))
	}
	return l.addr.String()
}

// MarshalText returns what String returns.
func (l Listen) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads "127.0.0.1:8443", "[::1]:8443", ":8443" or "off".
func (l *Listen) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "off" {
		*l = Listen{}
		return nil
	}
	if strings.HasPrefix(s, ":") {
		s = "[::]" + s
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return errors.New("not an address and port")
	}
	*l = Listen{ap}
	return nil
}
