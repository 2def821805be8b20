package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// A porter asks load balancers whom they have brought, by the PROXY protocol,
// and counts connections by who that is.
type porter struct {
	peers   []netip.Prefix
	sources *sources
	log     *slog.Logger
}

// Bounds of a header of the PROXY protocol.
const (
	introduction      = time.Second // how long it may take to come
	introductionBytes = 2 << 10     // how long it may be; the addresses take 52 at most
)

// isPeer reports whether a connection comes from a load balancer that has to
// introduce its clients.
func (p *porter) isPeer(c net.Conn) bool {
	if len(p.peers) == 0 {
		return false
	}
	addr := peerAddr(c.RemoteAddr().String())
	return slices.ContainsFunc(p.peers, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// listener returns a listener that hands out the connections of ln that may
// stay, as far as can be told before anything is read from them.
func (p *porter) listener(ln net.Listener) net.Listener { return &porterListener{ln, p} }

type porterListener struct {
	net.Listener
	porter *porter
}

// Accept waits for a connection that may stay.
func (l *porterListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.porter.isPeer(c) {
			return c, err
		}
		if c = l.porter.sources.admit(c); c != nil {
			return c, nil
		}
	}
}

// introduce returns a connection as its client's if a load balancer has brought
// it, and any other as it is; nil if it was closed, because there was no proper
// introduction or the client has too many connections.
func (p *porter) introduce(c net.Conn) net.Conn {
	if !p.isPeer(c) {
		return c
	}
	client, err := readIntroduction(c)
	if err != nil {
		p.log.Warn("load balancer sent no proper PROXY header", "remote", c.RemoteAddr().String(), "err", err)
		c.Close()
		return nil
	}
	if client == nil {
		return c // it asks for itself, as health checks do
	}
	return p.sources.admit(&introduced{Conn: c, client: client})
}

// readIntroduction reads a header of the PROXY protocol and not an octet more.
// The address is nil if the peer speaks for itself.
func readIntroduction(c net.Conn) (net.Addr, error) {
	c.SetReadDeadline(time.Now().Add(introduction))
	defer c.SetReadDeadline(time.Time{})
	text, err := readHeader(c)
	if err != nil {
		return nil, err
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(text), introductionBytes))
	switch {
	case err != nil:
		return nil, err
	case h.Command.IsLocal(), h.TransportProtocol == proxyproto.UNSPEC:
		return nil, nil
	}
	client, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok || !peerAddr(client.String()).IsValid() {
		return nil, errors.New("it names no TCP client")
	}
	return client, nil
}

// readHeader reads as far as a header goes: to the end of the line in version
// 1, and as long as it says itself in version 2. What it holds is not looked at.
func readHeader(c net.Conn) ([]byte, error) {
	text := make([]byte, 1, 128)
	if _, err := io.ReadFull(c, text); err != nil {
		return nil, err
	}
	switch text[0] {
	case proxyproto.SIGV1[0]:
		for text[len(text)-1] != '\n' {
			if len(text) == cap(text) {
				return nil, errors.New("its line has no end")
			}
			text = text[:len(text)+1]
			if _, err := io.ReadFull(c, text[len(text)-1:]); err != nil {
				return nil, err
			}
		}
		return text, nil
	case proxyproto.SIGV2[0]:
		text = text[:16]
		if _, err := io.ReadFull(c, text[1:]); err != nil {
			return nil, err
		}
		n := int(binary.BigEndian.Uint16(text[14:]))
		if len(text)+n > introductionBytes {
			return nil, fmt.Errorf("it is %d octets long; at most %d", len(text)+n, introductionBytes)
		}
		text = append(text, make([]byte, n)...)
		_, err := io.ReadFull(c, text[16:])
		return text, err
	}
	return nil, proxyproto.ErrNoProxyProtocol
}

// introduced is a connection that a load balancer has brought for a client.
type introduced struct {
	net.Conn
	client net.Addr
}

// RemoteAddr returns the client's address.
func (c *introduced) RemoteAddr() net.Addr { return c.client }

// NetConn returns the connection to the load balancer.
func (c *introduced) NetConn() net.Conn { return c.Conn }

// CloseWrite ends the sending half of the connection.
func (c *introduced) CloseWrite() error { return closeWrite(c.Conn) }
