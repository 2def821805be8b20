package proxy

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"time"
)

// tunnel carries the WebSocket that an endpoint has switched to until it ends.
func (e *engine) tunnel(c client, x *exchange, t *trip) *refusal {
	if !t.res.Switch || !upgradesTo(&t.res.Section, "websocket") {
		return &refusal{UpstreamBroken, fmt.Sprintf("%s: switched to another protocol where a WebSocket was asked for", x.endpoint.addr)}
	}
	if want := x.request.accept; want != "" {
		if got, _ := t.res.Find("sec-websocket-accept"); string(got) != want {
			return &refusal{UpstreamBroken, fmt.Sprintf("%s: switched to a WebSocket without an answer to its key", x.endpoint.addr)}
		}
	}
	tun := newTunnel(e.g.cfg.Limits.TunnelIdle, e.large)
	if reason := x.tenant.addTunnel(tun, e.g.cfg.Limits.TunnelsPerClone); reason != "" {
		return &refusal{reason: reason}
	}
	defer x.tenant.removeTunnel(tun)
	x.rest() // it is no request at work any more
	x.tunnelled = true
	t.head = responseOf(&t.res, x.request.method)
	t.head.fields = x.announce(x.shed(t.head.fields))
	if err := c.head(&t.head); err != nil {
		x.reason, x.cause = ClientGone, err.Error()
		return nil
	}
	c.unwatch()
	backend, early := t.backend, (*t.buf)[t.r:t.w]
	t.backend = nil
	backend.SetDeadline(time.Time{})
	client, clientEarly := c.takeOver()
	end, up, down := x.met.befall(x, tun, client, backend)
	tun.run(up, down, clientEarly, early)
	end()
	x.sent.Store(tun.down.moved.Load())
	x.received.Store(tun.up.moved.Load())
	return nil
}

// acceptOf returns the answer to the key of a WebSocket (RFC 6455 §4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
