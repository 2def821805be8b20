package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// A handshake is an endpoint's answer to the wish for a WebSocket, and the
// connection it came on.
type handshake struct {
	conn net.Conn
	in   *bufio.Reader // may hold octets behind the answer
	res  *http.Response
}

// upgrade asks an endpoint for a WebSocket and carries it until it ends. An
// endpoint that declines is heard out as for any other request. working is
// called when the request is no longer one at work but a tunnel.
func (e *engine) upgrade(c *clientSide, x *exchange, p *pool, h http.Header, working func()) *refusal {
	if x.target.clone.Services[x.target.service].Protocol == registry.H2C {
		return e.forward(c, x, p, h) // without the wish: HTTP/2 has another way to grant it
	}
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	spellWebSocket(h)
	shaken, refused := try(e, c, x, p, func(ep *endpoint) (*handshake, error) { return e.shake(c, h, ep) })
	if refused != nil {
		return refused
	}
	defer x.endpoint.release()
	defer shaken.conn.Close()
	if shaken.res.StatusCode != http.StatusSwitchingProtocols {
		e.reply(c, x, shaken.res)
		return nil
	}
	if to := upgradeTo(shaken.res.Header); to != "websocket" {
		return &refusal{UpstreamBroken, fmt.Sprintf("%s: switched to protocol %q where a WebSocket was asked for", x.endpoint.addr, to)}
	}
	t := newTunnel(e.g.cfg.Limits.TunnelIdle, e.buffers)
	if reason := x.tenant.addTunnel(t, e.g.cfg.Limits.TunnelsPerClone); reason != "" {
		return &refusal{reason: reason}
	}
	defer x.tenant.removeTunnel(t)
	working()
	return e.tunnel(c, x, t, shaken)
}

// tunnel hands both connections to a tunnel, and the answer to the client.
func (e *engine) tunnel(c *clientSide, x *exchange, t *tunnel, s *handshake) *refusal {
	client, rw, err := c.rc.Hijack()
	if err != nil {
		return &refusal{InternalError, err.Error()}
	}
	c.began, x.status = true, http.StatusSwitchingProtocols
	e.g.policy.response(s.res.Header)
	s.res.Header["Connection"], s.res.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	spellWebSocket(s.res.Header)

	client.SetWriteDeadline(time.Now().Add(e.g.cfg.Limits.StallTimeout))
	rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	s.res.Header.Write(rw)
	rw.WriteString("\r\n")
	if err := rw.Flush(); err != nil {
		client.Close()
		x.reason, x.cause = ClientGone, err.Error()
		return nil
	}
	client.SetDeadline(time.Time{})
	s.conn.SetDeadline(time.Time{})
	t.run(client, s.conn, buffered(rw.Reader), buffered(s.in))
	x.sent.Store(t.down.moved.Load())
	x.received.Store(t.up.moved.Load())
	return nil
}

// buffered returns the octets a reader has read ahead.
func buffered(r *bufio.Reader) []byte {
	b, _ := r.Peek(r.Buffered()) // what is buffered can be had
	return b
}

// shake asks one endpoint. The connection has no deadline afterwards, and is
// closed if there is an error.
func (e *engine) shake(c *clientSide, h http.Header, ep *endpoint) (s *handshake, err error) {
	ctx := c.r.Context()
	conn, err := e.g.dialer.dial(ctx, ep)
	if err != nil {
		return nil, err
	}
	left := context.AfterFunc(ctx, func() { conn.Close() })
	defer func() {
		left()
		if err != nil {
			conn.Close()
		}
	}()
	conn.SetDeadline(time.Now().Add(e.g.cfg.Limits.ResponseTimeout))
	req := &http.Request{Method: http.MethodGet, URL: targetURL(c.r), Host: c.r.Host, Header: h, ProtoMajor: 1, ProtoMinor: 1}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // or one is invented
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	head := &io.LimitedReader{R: conn, N: maxAnswerHead}
	s = &handshake{conn: conn, in: bufio.NewReader(head)}
	for {
		s.res, err = http.ReadResponse(s.in, req)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errSilent
		}
		if err != nil {
			return nil, err
		}
		if s.res.StatusCode >= 200 || s.res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		c.interim(s.res.StatusCode, s.res.Header)
	}
	head.N = math.MaxInt64
	return s, conn.SetDeadline(time.Time{})
}

// spellWebSocket writes the names of WebSocket headers as RFC 6455 does, for
// peers that compare them letter by letter.
func spellWebSocket(h http.Header) {
	for name, values := range h {
		if rest, ok := strings.CutPrefix(name, "Sec-Websocket-"); ok {
			delete(h, name)
			h["Sec-WebSocket-"+rest] = values
		}
	}
}
