package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// An exchange is one request and what became of it: what the access log and
// the metrics are made of.
type exchange struct {
	id     string // of the request, on pages and in logs
	start  time.Time
	peer   netip.Addr
	proto  string // "HTTP/2.0"
	method string
	path   string // without the query, which may hold secrets
	target target

	tenant   *tenant // nil if the request led to none
	endpoint *endpoint
	status   int
	sent     atomic.Uint64 // octets of the answer's body
	received atomic.Uint64 // octets of the request's body
	reason   Reason        // "" if the clone answered
	cause    string        // the fault behind the reason
}

// A refusal is why a request was not answered by a clone.
type refusal struct {
	reason Reason
	cause  string // for people; may be ""
}

// finish counts an exchange that is over and writes its line of the access log.
func (g *Gateway) finish(x *exchange) {
	dur := time.Since(x.start)
	if t := x.tenant; t != nil {
		t.answered[min(x.status/100, len(t.answered)-1)].Add(1)
		t.sent.Add(x.sent.Load())
		t.received.Add(x.received.Load())
	}
	if x.status != 101 { // a tunnel's duration says nothing about latency
		g.metrics.latency.Observe(dur.Seconds())
	}
	if x.reason != "" {
		g.metrics.reasons.WithLabelValues(string(x.reason)).Inc()
	}
	if g.cfg.AccessLog != nil {
		g.cfg.AccessLog.LogAttrs(context.Background(), slog.LevelInfo, "request", x.attrs(dur)...)
	}
}

func (x *exchange) attrs(dur time.Duration) []slog.Attr {
	attrs := make([]slog.Attr, 0, 16)
	if c := x.target.clone; c != nil {
		attrs = append(attrs, slog.String("clone", string(c.ID)), slog.String("service", x.target.service))
	}
	attrs = append(attrs,
		slog.String("host", x.target.host), slog.String("method", x.method), slog.String("path", x.path),
		slog.String("proto", x.proto), slog.Int("status", x.status),
		slog.Uint64("bytes", x.sent.Load()), slog.Uint64("received", x.received.Load()),
		slog.Duration("dur", dur), slog.String("remote", x.peer.String()), slog.String("request", x.id))
	if x.endpoint != nil {
		attrs = append(attrs, slog.String("addr", x.endpoint.addr.String()))
	}
	if x.reason != "" {
		attrs = append(attrs, slog.String("reason", string(x.reason)))
	}
	if x.cause != "" {
		attrs = append(attrs, slog.String("err", x.cause))
	}
	return attrs
}
