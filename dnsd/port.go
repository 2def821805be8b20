package dnsd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A port is the one UDP port that all questions leave from, for networks whose
// filters let no other through. Replies belong to a question by server and ID;
// the random port is missing from what a forger has to guess, which leaves the
// ID and the spelling of the name.
type port struct {
	conns [2]*net.UDPConn // IPv4, IPv6; nil: this machine has none

	mu      sync.Mutex
	waiting map[portKey]chan []byte // guarded by mu
}

type portKey struct {
	server netip.AddrPort
	id     [2]byte
}

// openPort opens a port for IPv4 and, if there is any, IPv6; 0 is one that the
// system chooses.
func openPort(number uint16) (*port, error) {
	p := &port{waiting: map[portKey]chan []byte{}}
	v4, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(number)})
	if err != nil {
		return nil, fmt.Errorf("source port: %w; choose another one, or give this process the right to it", err)
	}
	p.conns[0] = v4
	same := v4.LocalAddr().(*net.UDPAddr).Port
	if v6, err := net.ListenUDP("udp6", &net.UDPAddr{Port: same}); err == nil {
		p.conns[1] = v6
	}
	return p, nil
}

// run hands replies out until ctx ends, and closes the port.
func (p *port) run(ctx context.Context) {
	var readers sync.WaitGroup
	for _, conn := range p.conns {
		if conn == nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		readers.Go(func() { p.read(conn) })
	}
	readers.Wait()
}

func (p *port) read(conn *net.UDPConn) {
	buf := make([]byte, maxUpstreamUDP)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < headerLen {
			continue
		}
		key := portKey{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), [2]byte(buf[:2])}
		p.mu.Lock()
		to := p.waiting[key]
		p.mu.Unlock()
		if to == nil {
			continue
		}
		select {
		case to <- append([]byte(nil), buf[:n]...):
		default: // it has more than enough to look at
		}
	}
}

// A portConn is the exchange of one question over a port, until ctx ends.
type portConn struct {
	ended   <-chan struct{}
	port    *port
	key     portKey
	replies chan []byte
}

// open takes a place for a question, whose ID is changed if another one to the
// same server has it.
func (p *port) open(ctx context.Context, server netip.AddrPort, query []byte) (*portConn, func()) {
	c := &portConn{ended: ctx.Done(), port: p, replies: make(chan []byte, maxIgnored+1)}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c.key = (portKey{server, [2]byte(query)}); p.waiting[c.key] != nil; c.key.id = [2]byte(query) {
		rand.Read(query[:2])
	}
	p.waiting[c.key] = c.replies
	return c, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, c.key)
	}
}

func (c *portConn) Write(b []byte) (int, error) {
	conn := c.port.conns[0]
	if c.key.server.Addr().Is6() {
		conn = c.port.conns[1]
	}
	if conn == nil {
		return 0, fmt.Errorf("%v: %w", c.key.server, syscall.EAFNOSUPPORT)
	}
	return conn.WriteToUDPAddrPort(b, c.key.server)
}

func (c *portConn) Read(b []byte) (int, error) {
	select {
	case reply := <-c.replies:
		return copy(b, reply), nil
	case <-c.ended:
		return 0, errSilent
	}
}

// How often a port is looked for among those that may be used before a pause,
// and how long that is.
const (
	portTries = 8
	portPause = 5 * time.Millisecond
)

// dialUDP returns what carries one question to a server, as the habits say.
// Its ID may be changed. Everything ends when ctx does; release ends it.
func (s *Server) dialUDP(ctx context.Context, server netip.AddrPort, query []byte) (conn io.ReadWriter, release func(), err error) {
	d := s.habits.dialer("udp", server)
	_, hasSource := s.habits.Sources[server]
	if s.port != nil && !hasSource {
		c, release := s.port.open(ctx, server, query)
		return c, release, nil
	}
	first, last := s.habits.FirstPort, s.habits.LastPort
	if last == 0 {
		return dialWith(ctx, d, server)
	}
	var from net.UDPAddr
	if d.LocalAddr != nil {
		from = *d.LocalAddr.(*net.UDPAddr)
	}
	for tries := 1; ; tries++ {
		from.Port = randomPort(first, last)
		d.LocalAddr = &from
		conn, release, err := dialWith(ctx, d, server)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return conn, release, err
		}
		if tries%portTries != 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctxError(ctx, fmt.Errorf("every port from %d to %d is taken", first, last))
		case <-time.After(portPause):
		}
	}
}

// randomPort returns a port that nobody can foretell.
func randomPort(first, last uint16) int {
	var random [4]byte
	rand.Read(random[:])
	span := uint32(last-first) + 1
	return int(first) + int(binary.BigEndian.Uint32(random[:])%span)
}
