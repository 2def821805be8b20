package proxy

import (
	"net"
	"net/netip"
	"sync"
)

// sources counts connections by where they come from, so that one source
// cannot take all that the gateway may open.
type sources struct {
	most    int                   // connections of one source
	exempt  func(netip.Addr) bool // peers that speak for many
	refused func()                // called for each connection closed

	mu   sync.Mutex
	open map[netip.Prefix]int // guarded by mu
}

func newSources(most int, exempt func(netip.Addr) bool, refused func()) *sources {
	return &sources{most: most, exempt: exempt, refused: refused, open: map[netip.Prefix]int{}}
}

// enter counts a connection; false means that its source has too many.
func (s *sources) enter(from netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from] >= s.most {
		return false
	}
	s.open[from]++
	return true
}

func (s *sources) leave(from netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[from]--; s.open[from] == 0 {
		delete(s.open, from)
	}
}

// admit counts a connection until it is closed. It closes it and returns nil if
// its source has too many.
func (s *sources) admit(c net.Conn) net.Conn {
	addr := peerAddr(c.RemoteAddr().String())
	if !addr.IsValid() || s.exempt(addr) {
		return c
	}
	from := sourceOf(addr)
	if !s.enter(from) {
		c.Close()
		s.refused()
		return nil
	}
	return &sourceConn{Conn: c, gone: sync.OnceFunc(func() { s.leave(from) })}
}

// sourceConn is a connection that counts until it is closed.
type sourceConn struct {
	net.Conn
	gone func()
}

// Close closes the connection.
func (c *sourceConn) Close() error {
	c.gone()
	return c.Conn.Close()
}

// NetConn returns the connection that is counted.
func (c *sourceConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending half of the connection.
func (c *sourceConn) CloseWrite() error { return closeWrite(c.Conn) }

// sourceOf returns what counts as one source: an IPv4 address, or the network
// that one IPv6 subscriber has.
func sourceOf(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	from, _ := addr.Prefix(bits) // the bits fit
	return from
}

// peerAddr returns the address of the other end of a connection, invalid if it
// has none.
func peerAddr(s string) netip.Addr {
	ap, _ := netip.ParseAddrPort(s)
	return ap.Addr().Unmap().WithZone("")
}
