package proxy

import (
	"net"
	"time"
)

// A backend is a connection to an endpoint that speaks HTTP/1.1. One trip at a
// time uses it.
type backend struct {
	net.Conn // TLS if the endpoint speaks https
	endpoint *endpoint
	reads    limit
	writes   limit
	took     time.Duration // to connect
	used     bool          // it has carried a request
	idle     time.Time     // since when no trip uses it
	tcp      net.Conn
}

// newBackend returns a backend over a connection, whose TCP connection is given,
// too, and how long it took to make them.
func newBackend(c, tcp net.Conn, e *endpoint, took time.Duration) *backend {
	b := &backend{Conn: c, endpoint: e, tcp: tcp, took: took}
	b.reads.set, b.writes.set = c.SetReadDeadline, c.SetWriteDeadline
	return b
}

// isAlive reports whether an idle backend can carry another request: its
// endpoint has neither closed it nor sent what nobody asked for. One that answers
// twice would else give every client that follows the answer of the one before,
// so this is looked at before every use, though it costs half a microsecond. A
// backend that is not alive must be closed.
func (b *backend) isAlive() bool {
	s, ok := b.tcp.(interface{ isQuiet() bool })
	return !ok || s.isQuiet()
}

// CloseWrite ends the sending half of the connection.
func (b *backend) CloseWrite() error { return closeWrite(b.Conn) }
