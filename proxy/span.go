package proxy

import (
	"context"
	"encoding/binary"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracer says which requests are traced.
func (g *Gateway) tracer() tracer { return tracer{g.cfg.Tracer != nil, g.cfg.TraceOneIn} }

// recordSpans makes the spans of an exchange that is over, if its trace is
// sampled: the gateway's, whose ID is the request's, and beneath it that of the
// way to the endpoint, which the clone was told as its parent. Attributes are
// those of OpenTelemetry's semantic conventions for HTTP, and clonegate's.
func (g *Gateway) recordSpans(x *exchange, took time.Duration) {
	if x.trace.id == (traceID{}) && x.request.fields != nil { // it went to no clone
		x.trace.begin(x.request.fields, true, x.id, g.tracer())
		x.trace.span = 0
	}
	if !x.trace.sampled {
		return
	}
	end := trace.WithTimestamp(x.start.Add(took))
	ctx := context.Background()
	if x.trace.parent != 0 {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID(x.trace.id), SpanID: spanID(x.trace.parent), TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	ctx, server := g.startSpan(ctx, x, x.id, trace.SpanKindServer, x.serverAttributes())
	if x.endpoint != nil && x.trace.span != 0 {
		_, client := g.startSpan(ctx, x, x.trace.span, trace.SpanKindClient, x.clientAttributes())
		setFault(client, x, 400)
		client.End(end)
	}
	setFault(server, x, 500)
	server.End(end)
}

// startSpan begins a span with an ID.
func (g *Gateway) startSpan(ctx context.Context, x *exchange, id requestID, kind trace.SpanKind, attrs []attribute.KeyValue) (context.Context, trace.Span) {
	ctx = context.WithValue(ctx, spanIDKey{}, spanIDs{trace.TraceID(x.trace.id), spanID(id)})
	return g.cfg.Tracer.Start(ctx, spanName(x.request.method), trace.WithTimestamp(x.start), trace.WithSpanKind(kind), trace.WithAttributes(attrs...))
}

// setFault marks the span of an exchange that went wrong: with a status of at
// least from, or without a proper end.
func setFault(s trace.Span, x *exchange, from int) {
	switch {
	case x.reason != "" && x.reason != Redirect:
		s.SetAttributes(attribute.String("error.type", string(x.reason)))
		s.SetStatus(codes.Error, x.cause)
	case x.status >= from:
		s.SetAttributes(attribute.String("error.type", string(appendNumber(nil, int64(x.status)))))
		s.SetStatus(codes.Error, "")
	}
}

func (x *exchange) serverAttributes() []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		attribute.String("http.request.method", x.request.method),
		attribute.String("server.address", x.target.host),
		attribute.String("url.path", x.request.path()),
		attribute.String("url.scheme", "https"),
		attribute.String("network.protocol.version", x.proto[len("HTTP/"):]),
		attribute.String("client.address", x.peer.String()),
		attribute.Int("http.response.status_code", x.status),
		attribute.Int64("http.request.body.size", int64(x.received.Load())),
		attribute.Int64("http.response.body.size", int64(x.sent.Load())),
	}
	if c := x.target.clone; c != nil {
		attrs = append(attrs, attribute.String("clonegate.clone", string(c.ID)), attribute.String("clonegate.service", x.target.service))
	}
	if x.reason != "" {
		attrs = append(attrs, attribute.String("clonegate.reason", string(x.reason)))
	}
	return attrs
}

func (x *exchange) clientAttributes() []attribute.KeyValue {
	addr := x.endpoint.addr
	return []attribute.KeyValue{
		attribute.String("http.request.method", x.request.method),
		attribute.String("server.address", addr.Addr().String()),
		attribute.Int("server.port", int(addr.Port())),
		attribute.Int("http.response.status_code", x.status),
		attribute.Int64("clonegate.connect_us", x.dial.Microseconds()),
		attribute.Int64("clonegate.waited_us", x.waited.Microseconds()),
	}
}

// spanName names a span after a method, if it is one of those that are known:
// names must not grow without end.
func spanName(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT":
		return method
	}
	return "HTTP"
}

func spanID(id requestID) (out trace.SpanID) {
	binary.BigEndian.PutUint64(out[:], uint64(id))
	return out
}

// spanIDKey is under which a context holds the IDs of the span that begins.
type spanIDKey struct{}

type spanIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

// SpanIDs gives a gateway's spans the IDs that clones were told. It is an
// IDGenerator of OpenTelemetry's SDK, for the provider of Config.Tracer alone.
type SpanIDs struct{}

// NewIDs returns the IDs of a span that begins a trace.
func (SpanIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(spanIDKey{}).(spanIDs)
	return ids.trace, ids.span
}

// NewSpanID returns the ID of a span in a trace.
func (SpanIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	ids, _ := ctx.Value(spanIDKey{}).(spanIDs)
	return ids.span
}
