package proxy

import (
	"errors"
	"net"
	"time"

	"github.com/clonegate/clonegate/registry"
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
	asker    asker // nil if a question and its answer take a write and a read
}

// An asker writes a question to an endpoint that has been quiet and waits for
// the first octets of its answer, up to the read deadline. If sent is less than
// all of the question, the rest is to be written, and nothing of the answer was
// read. errStale says that nothing was sent.
type asker interface {
	ask(q, answer []byte) (sent, n int, err error)
}

// errStale says that a backend was closed by its endpoint, or sent something,
// while nobody used it.
var errStale = errors.New("the connection was closed or used by the endpoint meanwhile")

// newBackend returns a backend over a connection, whose TCP connection is given,
// too, and how long it took to make them.
func newBackend(c, tcp net.Conn, e *endpoint, took time.Duration) *backend {
	b := &backend{Conn: c, endpoint: e, tcp: tcp, took: took}
	b.reads.set, b.writes.set = c.SetReadDeadline, c.SetWriteDeadline
	if e.protocol == registry.HTTP {
		b.asker = newAsker(tcp)
	}
	return b
}

// isAlive reports whether an idle backend can carry another request: its
// endpoint has neither closed it nor sent what nobody asked for. One that answers
// twice would else give every client that follows the answer of the one before,
// so this is looked at before every use, if not by an asker. A backend that is
// not alive must be closed.
func (b *backend) isAlive() bool {
	s, ok := b.tcp.(interface{ isQuiet() bool })
	return !ok || s.isQuiet()
}

// CloseWrite ends the sending half of the connection.
func (b *backend) CloseWrite() error { return closeWrite(b.Conn) }
