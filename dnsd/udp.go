package dnsd

import (
	"errors"
	"net"
	"time"
)

// maxQuery is the largest packet that is read from a client, in octets. What
// is longer is cut and therefore malformed.
const maxQuery = 4096

// readPause keeps a socket that fails again and again from using up a core.
const readPause = 5 * time.Millisecond

// sockets are UDP sockets at one address, among which the system spreads the
// clients, so that each core has one to itself.
type sockets struct {
	*net.UDPConn
	more []*net.UDPConn
}

// Close closes all of them.
func (s *sockets) Close() error {
	err := s.UDPConn.Close()
	for _, conn := range s.more {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// udpConns returns the sockets behind a packet connection, nil if it is not UDP.
func udpConns(conn net.PacketConn) []*net.UDPConn {
	switch c := conn.(type) {
	case *net.UDPConn:
		return []*net.UDPConn{c}
	case *sockets:
		return append([]*net.UDPConn{c.UDPConn}, c.more...)
	}
	return nil
}
