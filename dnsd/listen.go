package dnsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Listener is a pair of sockets at one address, over which questions arrive.
type Listener struct {
	UDP net.PacketConn // a *net.UDPConn
	TCP net.Listener

	// Resolver says how questions are resolved. Nil makes the listener
	// authoritative: it answers for the zones and nothing else.
	Resolver *Resolver

	// Namespace is the network namespace that the sockets are in, "" for that
	// of the process.
	Namespace string
}

// freePortTries bounds how often a port that is free for TCP is looked for
// before one is free for UDP as well.
const freePortTries = 20

// Listen opens a UDP and a TCP socket at one "address:port". Port 0 takes a
// port that is free for both.
func Listen(addr string) (net.PacketConn, net.Listener, error) {
	return listen(addr, runtime.GOMAXPROCS(0))
}

// ListenIn does the same inside a network namespace, which only few clients
// share: one UDP socket is enough there.
func ListenIn(namespace, addr string) (udp net.PacketConn, tcp net.Listener, err error) {
	err = inNamespace(namespace, func() error {
		udp, tcp, err = listen(addr, 1)
		return err
	})
	return udp, tcp, err
}

func listen(addr string, sockets int) (net.PacketConn, net.Listener, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("dns listener %q: %w; write address:port, as in 127.0.0.1:8053", addr, err)
	}
	for tries := 1; ; tries++ {
		tcp, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("dns listener: %w", err)
		}
		// Two programs could share a UDP port that is opened like this; the TCP
		// port, which they cannot, is held first.
		udp, err := listenUDP(tcp.Addr().String(), sockets)
		if err == nil {
			return udp, tcp, nil
		}
		tcp.Close()
		if port != "0" || tries == freePortTries {
			return nil, nil, fmt.Errorf("dns listener: %w", err)
		}
	}
}

// listenUDP opens so many UDP sockets, all of them at one address.
func listenUDP(addr string, n int) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: sharePort}
	out := &sockets{}
	for range n {
		conn, err := lc.ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			if out.UDPConn != nil {
				out.Close()
			}
			return nil, err
		}
		udp := conn.(*net.UDPConn)
		// The system takes as much of this as it allows.
		udp.SetReadBuffer(udpBuffer)
		if out.UDPConn == nil {
			out.UDPConn = udp
		} else {
			out.more = append(out.more, udp)
		}
	}
	return out, nil
}

// udpBuffer is room for the packets of a short burst, in octets.
const udpBuffer = 1 << 20

// sharePort lets several sockets of this process have one port.
func sharePort(_, _ string, conn syscall.RawConn) error {
	var err error
	if e := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
		return e
	}
	return err
}

// check returns the UDP sockets, and the address of all.
func (l Listener) check() ([]*net.UDPConn, netip.AddrPort, error) {
	if l.UDP == nil || l.TCP == nil {
		return nil, netip.AddrPort{}, errors.New("needs a UDP and a TCP socket; see Listen")
	}
	udp := udpConns(l.UDP)
	if udp == nil {
		return nil, netip.AddrPort{}, fmt.Errorf("%T is not a UDP socket", l.UDP)
	}
	addr := udp[0].LocalAddr().(*net.UDPAddr).AddrPort()
	return udp, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// ownAddrs returns every address at which this process itself answers whoever
// asks from its own network namespace.
func ownAddrs(fronts []*front) []netip.AddrPort {
	var out []netip.AddrPort
	for _, f := range fronts {
		if f.namespace != "" {
			continue
		}
		out = append(out, f.addr)
		if !f.addr.Addr().IsUnspecified() {
			continue
		}
		local, err := net.InterfaceAddrs()
		if err != nil {
			continue
		}
		for _, a := range local {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, netip.AddrPortFrom(p.Addr(), f.addr.Port()))
			}
		}
	}
	return out
}

// isOwn reports whether a question sent to server would come back to us.
func (s *Server) isOwn(server netip.AddrPort) bool {
	addr := server.Addr().Unmap().WithZone("")
	for _, own := range *s.own.Load() {
		if own.Port() == server.Port() && (own.Addr() == addr || own.Addr().IsUnspecified() && addr.IsLoopback()) {
			return true
		}
	}
	return false
}
