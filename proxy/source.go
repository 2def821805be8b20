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

// listener returns a listener that hands out the connections of ln whose
// source has not too many, and closes the others.
func (s *sources) listener(ln net.Listener) net.Listener { return &sourceListener{ln, s} }

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

type sourceListener struct {
	net.Listener
	sources *sources
}

// Accept waits for a connection that may stay.
func (l *sourceListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := peerAddr(c.RemoteAddr().String())
		if !addr.IsValid() || l.sources.exempt(addr) {
			return c, nil
		}
		from := sourceOf(addr)
		if !l.sources.enter(from) {
			c.Close()
			l.sources.refused()
			continue
		}
		return &sourceConn{Conn: c, gone: sync.OnceFunc(func() { l.sources.leave(from) })}, nil
	}
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
