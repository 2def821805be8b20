package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/dnsd"
)

// The names under which systemd may pass sockets (FileDescriptorName=).
const (
	gatewaySocket  = "gateway"
	redirectSocket = "redirect"
	apiSocket      = "api"
	dnsSocket      = "dns"
)

// A socket is one place that is listened on, by stream, datagram or both.
type socket struct {
	stream net.Listener
	packet net.PacketConn
}

func (s socket) close() {
	if s.stream != nil {
		s.stream.Close()
	}
	if s.packet != nil {
		s.packet.Close()
	}
}

// addrOf returns the address that a listener really has.
func addrOf(ln net.Listener) netip.AddrPort {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

func portOf(ln net.Listener) uint16 { return addrOf(ln).Port() }

// sockets is everything a daemon listens on: what systemd passed, and what the
// configuration names beside that.
type sockets struct {
	gateway, redirect, api net.Listener // redirect may be nil
	dns                    socket       // may be empty
	resolvers              []socket     // in the order of the configuration; empty where one is in a namespace

	passed map[string]socket
	opened []socket
}

// open opens what cfg names and was not passed.
func (s *sockets) open(ctx context.Context, cfg *config.Config) (err error) {
	if s.gateway, err = s.stream(ctx, gatewaySocket, "gateway.listen", cfg.Gateway.Listen); err != nil {
		return err
	}
	if s.redirect, err = s.stream(ctx, redirectSocket, "gateway.redirect", cfg.Gateway.Redirect); err != nil {
		return err
	}
	if s.api, err = s.stream(ctx, apiSocket, "api.listen", cfg.API.Listen); err != nil {
		return err
	}
	if s.dns, err = s.both(dnsSocket, "dns.listen", cfg.DNS.Listen); err != nil {
		return err
	}
	for i, r := range cfg.DNS.Resolvers {
		if r.Netns != "" { // opened when the namespace is there
			s.resolvers = append(s.resolvers, socket{})
			continue
		}
		sock, err := s.both("", fmt.Sprintf("dns.resolvers[%d].listen", i), r.Listen)
		if err != nil {
			return err
		}
		s.resolvers = append(s.resolvers, sock)
	}
	return nil
}

// streams returns the addresses of everything that takes TCP.
func (s *sockets) streams() []netip.AddrPort {
	var out []netip.AddrPort
	for _, ln := range []net.Listener{s.gateway, s.redirect, s.api, s.dns.stream} {
		if ln != nil {
			out = append(out, addrOf(ln))
		}
	}
	for _, r := range s.resolvers {
		if r.stream != nil {
			out = append(out, addrOf(r.stream))
		}
	}
	return out
}

// newSockets takes over the sockets that systemd passed to this process.
func newSockets() (*sockets, error) {
	s := &sockets{passed: map[string]socket{}}
	for _, f := range activation.Files(true) {
		err := s.take(f)
		f.Close()
		if err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *sockets) take(f *os.File) error {
	name := f.Name()
	switch name {
	case gatewaySocket, redirectSocket, apiSocket, dnsSocket:
	default:
		return fmt.Errorf("systemd passed a socket named %q; want FileDescriptorName= gateway, redirect, api or dns", name)
	}
	sock := s.passed[name]
	if ln, err := net.FileListener(f); err == nil {
		if sock.stream != nil {
			ln.Close()
			return fmt.Errorf("systemd passed two stream sockets named %q; want one", name)
		}
		sock.stream = ln
	} else if pc, err := net.FilePacketConn(f); err == nil {
		if sock.packet != nil {
			pc.Close()
			return fmt.Errorf("systemd passed two datagram sockets named %q; want one", name)
		}
		sock.packet = pc
	} else {
		return fmt.Errorf("systemd passed a socket named %q that cannot be listened on: %w", name, err)
	}
	s.passed[name] = sock
	return nil
}

// stream returns a listener for one key of the configuration; nil if it is off
// and nothing was passed under name.
func (s *sockets) stream(ctx context.Context, name, key string, l config.Listen) (net.Listener, error) {
	if sock, ok := s.passed[name]; ok && sock.stream != nil {
		return sock.stream, nil
	}
	if !l.On() {
		return nil, nil
	}
	network := "tcp"
	if l.AddrPort().Addr().Is4() {
		network = "tcp4" // with "tcp", 0.0.0.0 would stand for IPv6 as well
	}
	ln, err := new(net.ListenConfig).Listen(ctx, network, l.String())
	if err != nil {
		return nil, &ListenError{Key: key, Listen: l, Err: err}
	}
	s.opened = append(s.opened, socket{stream: ln})
	return ln, nil
}

// both returns a socket that has UDP and TCP on the same port.
func (s *sockets) both(name, key string, l config.Listen) (socket, error) {
	if sock, ok := s.passed[name]; ok && name != "" {
		if sock.stream == nil || sock.packet == nil {
			return socket{}, fmt.Errorf("systemd passed only one socket named %q; DNS needs ListenDatagram= and ListenStream=", name)
		}
		return sock, nil
	}
	if !l.On() {
		return socket{}, nil
	}
	udp, tcp, err := dnsd.Listen(l.String())
	if err != nil {
		return socket{}, &ListenError{Key: key, Listen: l, Err: err}
	}
	sock := socket{stream: tcp, packet: udp}
	s.opened = append(s.opened, sock)
	return sock, nil
}

// close closes everything that was opened or passed.
func (s *sockets) close() {
	for _, sock := range s.opened {
		sock.close()
	}
	for _, sock := range s.passed {
		sock.close()
	}
}

// A ListenError says which key of the configuration could not be listened on,
// why, and what to do.
type ListenError struct {
	Key    string
	Listen config.Listen
	Err    error
}

func (e *ListenError) Error() string {
	switch {
	case e.Busy():
		return fmt.Sprintf("%s: %s is taken by another program; find it with  ss -lntup 'sport = :%d'  or choose another port", e.Key, e.Listen, e.Listen.AddrPort().Port())
	case errors.Is(e.Err, unix.EACCES):
		return fmt.Sprintf("%s: this user may not listen on %s; choose a port above 1023, let systemd pass the socket, or allow it with  setcap cap_net_bind_service=+ep $(command -v clonegate)", e.Key, e.Listen)
	case errors.Is(e.Err, unix.EADDRNOTAVAIL):
		return fmt.Sprintf("%s: this machine does not have the address of %s; see  ip address", e.Key, e.Listen)
	}
	return fmt.Sprintf("%s: listen on %s: %v", e.Key, e.Listen, e.Err)
}

// Busy reports whether another program listens there.
func (e *ListenError) Busy() bool { return errors.Is(e.Err, unix.EADDRINUSE) }
