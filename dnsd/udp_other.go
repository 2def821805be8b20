//go:build !linux || !(amd64 || arm64)

package dnsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// serveUDP reads packets one by one. What has to wait for upstreams goes to
// a bounded number of goroutines; everything else is answered here.
func (f *front) serveUDP(ctx context.Context, conn *net.UDPConn) error {
	socket := newUDPSocket(conn)
	packet, control := make([]byte, maxQuery), make([]byte, 128)
	w := f.newWorker()
	for {
		n, from, err := socket.read(packet, control)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("dns listener %v: %w", f.addr, err)
			}
			f.metrics.dropped("receive")
			time.Sleep(readPause)
			continue
		}
		reply, waiting := w.take(packet[:n], from.addr, false)
		if waiting != nil {
			waiting.socket, waiting.to = socket, from
			f.later(ctx, waiting)
		} else if reply != nil {
			f.send(socket, reply, from)
		}
	}
}

func (f *front) send(socket *udpSocket, reply []byte, to peer) {
	if reply != nil && socket.write(reply, to) != nil {
		f.metrics.dropped("send")
	}
}

// A udpSocket sends replies from the address that was asked, which the system
// does by itself only for sockets bound to one address.
type udpSocket struct {
	*net.UDPConn
	everywhere bool // bound to every address
}

// A peer is who sent a packet, and to which of our addresses.
type peer struct {
	addr  netip.AddrPort
	local net.IP // nil unless the socket is bound to every address
}

func newUDPSocket(conn *net.UDPConn) *udpSocket {
	s := &udpSocket{UDPConn: conn}
	if !conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified() {
		return s
	}
	// One of the two fails on a socket of the other family.
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	s.everywhere = err6 == nil || err4 == nil
	return s
}

func (s *udpSocket) read(packet, control []byte) (int, peer, error) {
	if !s.everywhere {
		n, addr, err := s.ReadFromUDPAddrPort(packet)
		return n, peer{addr: addr}, err
	}
	n, cn, _, addr, err := s.ReadMsgUDPAddrPort(packet, control)
	return n, peer{addr, destination(control[:cn])}, err
}

func (s *udpSocket) write(reply []byte, to peer) error {
	var control []byte
	if to.local.To4() != nil {
		control = (&ipv4.ControlMessage{Src: to.local}).Marshal()
	} else if to.local != nil {
		control = (&ipv6.ControlMessage{Src: to.local}).Marshal()
	}
	_, _, err := s.WriteMsgUDPAddrPort(reply, control, to.addr)
	return err
}

// destination returns the address a packet was sent to, nil if unknown.
func destination(control []byte) net.IP {
	var c6 ipv6.ControlMessage
	if c6.Parse(control) == nil && c6.Dst != nil {
		return c6.Dst
	}
	var c4 ipv4.ControlMessage
	if c4.Parse(control) == nil {
		return c4.Dst
	}
	return nil
}
