package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A dialer connects to endpoints.
type dialer struct {
	check   func(netip.AddrPort) error // refuses addresses; asked at every dial
	timeout time.Duration
}

func newDialer(check func(netip.AddrPort) error, timeout time.Duration) *dialer {
	return &dialer{check: check, timeout: timeout}
}

// A dialError says that an endpoint was not reached, so nothing was sent.
type dialError struct {
	addr   netip.AddrPort
	reason Reason
	err    error
}

func (e *dialError) Error() string { return fmt.Sprintf("dial %s: %v", e.addr, e.err) }
func (e *dialError) Unwrap() error { return e.err }

// errRetired says that an endpoint has left its pool, so nobody may dial it.
var errRetired = errors.New("the endpoint has left its pool")

// dial connects to an endpoint, with TLS if it speaks https. Every error is a
// *dialError, but for errRetired and, if ctx was cancelled, errCut.
func (d *dialer) dial(ctx context.Context, e *endpoint) (*backend, error) {
	b, err := d.connect(ctx, e)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return nil, errCut // whatever it looks like
	}
	return b, err
}

func (d *dialer) connect(ctx context.Context, e *endpoint) (*backend, error) {
	if e.isRetired() {
		return nil, errRetired
	}
	if err := d.check(e.addr); err != nil {
		return nil, &dialError{addr: e.addr, reason: AddressRefused, err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	start := time.Now()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", e.addr.String())
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // the address is named already
		}
		return nil, &dialError{addr: e.addr, reason: Unreachable, err: err}
	}
	tcp := newSocket(c)
	kept := &conn{Conn: tcp, endpoint: e}
	if !e.keep(kept) {
		c.Close()
		return nil, errRetired
	}
	if e.protocol != registry.HTTPS {
		return newBackend(kept, tcp, e, time.Since(start)), nil
	}
	secure := tls.Client(kept, e.tlsConfig())
	if err := secure.HandshakeContext(ctx); err != nil {
		kept.Close()
		reason := UpstreamBroken
		if bad := (*untrustedError)(nil); errors.As(err, &bad) {
			reason = Untrusted
		}
		return nil, &dialError{addr: e.addr, reason: reason, err: fmt.Errorf("tls: %w", err)}
	}
	return newBackend(secure, tcp, e, time.Since(start)), nil
}

// A conn is a connection to an endpoint, which knows it until it is closed.
type conn struct {
	net.Conn
	endpoint *endpoint
	once     sync.Once
}

// Close closes the connection.
func (c *conn) Close() error {
	c.once.Do(func() { c.endpoint.forget(c) })
	return c.Conn.Close()
}

// CloseWrite ends the sending half of the connection.
func (c *conn) CloseWrite() error { return closeWrite(c.Conn) }

// bare returns the connection under all that is wrapped around it.
func bare(c net.Conn) net.Conn {
	for {
		wrapped, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = wrapped.NetConn()
	}
}

// closeWrite ends the sending half of a connection if it has one.
func closeWrite(c any) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
