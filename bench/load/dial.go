package load

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Protocols that connections are made for (ALPN).
const (
	h1 = "http/1.1"
	h2 = "h2"
)

// settings are the same for every gateway. X25519 is offered alone: not all
// gateways have the hybrid with ML-KEM, and a comparison has to be of one kind.
func settings(host, protocol string) *tls.Config {
	return &tls.Config{
		ServerName: host, NextProtos: []string{protocol},
		InsecureSkipVerify: true, // every gateway presents the same certificate; checking it is our own cost
		MinVersion:         tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		DynamicRecordSizingDisabled: true,
	}
}

// dialTCP connects to the gateway. Source addresses take turns, so that neither
// ports run out nor a limit of connections per source is reached.
func (r *run) dialTCP() (net.Conn, error) { return dialTCP(r.Gateway, r.source.Add(1), r.cut) }

func dialTCP(gateway netip.AddrPort, turn uint32, deadline time.Time) (net.Conn, error) {
	d := net.Dialer{
		Deadline:  deadline,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 200, byte(turn>>6), byte(turn&63)+1)},
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				const bindAddressNoPort = 24 // IP_BIND_ADDRESS_NO_PORT of ip(7): choose the port when connecting
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, bindAddressNoPort, 1)
			})
		},
	}
	c, err := d.Dial("tcp4", gateway.String())
	if err != nil {
		return nil, err
	}
	c.SetDeadline(deadline)
	return c, nil
}

// dial connects to the gateway and shakes hands. The connection cannot be used
// beyond the end of the run.
func (r *run) dial(id int, protocol string) (*tls.Conn, error) {
	c, err := r.dialTCP()
	if err != nil {
		return nil, err
	}
	return shake(c, settings(Host(id), protocol))
}

// shake makes the handshake and checks that it came out as every other's.
func shake(c net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	t := tls.Client(c, cfg)
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	s := t.ConnectionState()
	if s.CipherSuite != tls.TLS_AES_128_GCM_SHA256 || s.CurveID != tls.X25519 && !s.DidResume || s.NegotiatedProtocol != cfg.NextProtos[0] {
		c.Close()
		return nil, fmt.Errorf("handshake: got %s, %s and %q", tls.CipherSuiteName(s.CipherSuite), s.CurveID, s.NegotiatedProtocol)
	}
	return t, nil
}
