package proxy

import (
	"net"
	"syscall"
	"time"
)

// A backend is a connection to an endpoint that speaks HTTP/1.1. One trip at a time
// uses it.
type backend struct {
	net.Conn // TLS if the endpoint speaks https
	endpoint *endpoint
	reads    limit
	writes   limit
	used     bool      // it has carried a request
	idle     time.Time // since when no trip uses it

	raw   syscall.RawConn // of the TCP connection; nil if it has none
	probe func(fd uintptr)
	octet [1]byte
	quiet bool // what probe found
}

// newBackend returns a backend over a connection, whose TCP connection is given, too.
func newBackend(c, tcp net.Conn, e *endpoint) *backend {
	l := &backend{Conn: c, endpoint: e}
	l.reads.set, l.writes.set = c.SetReadDeadline, c.SetWriteDeadline
	if s, ok := tcp.(syscall.Conn); ok {
		l.raw, _ = s.SyscallConn() // fails only on closed connections
		l.probe = func(fd uintptr) {
			_, err := syscall.Read(int(fd), l.octet[:])
			l.quiet = err == syscall.EAGAIN
		}
	}
	return l
}

// trusted is how long an idle backend is taken for alive without a look. Looking
// costs a system call.
const trusted = 5 * time.Millisecond

// isAlive reports whether an idle backend can carry another request: its endpoint
// has neither closed it nor sent what nobody asked for. A backend that is not
// alive must be closed.
func (l *backend) isAlive(now time.Time) bool {
	if now.Sub(l.idle) < trusted || l.raw == nil {
		return true
	}
	l.quiet = false
	return l.raw.Control(l.probe) == nil && l.quiet
}

// CloseWrite ends the sending half of the connection.
func (b *backend) CloseWrite() error { return closeWrite(b.Conn) }
