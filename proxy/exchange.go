package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A request is what the gateway knows of a request's head, whatever HTTP the
// client speaks.
type request struct {
	fields    *http1.Section
	method    string
	target    []byte // path and query as the client wrote them, or "*"
	authority string // as the client wrote it
	host      string // the authority as parseAuthority made it
	length    int64  // octets of the body; 0 if there is none, -1 if only its end will tell
	nominates bool   // the Connection field nominates other fields
	expects   bool   // the client waits for 100 before it sends the body
	upgrades  bool   // the client asks for a WebSocket
	accept    string // the Sec-WebSocket-Accept that the clone must answer; "" if the client sees to it
}

// isSafe reports whether a request may be sent twice without harm, because it
// changes nothing and has no body (RFC 9110 §9.2.1).
func (r *request) isSafe() bool {
	if r.length != 0 {
		return false
	}
	switch r.method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// An exchange is one request and what became of it: what the access log and
// the metrics are made of.
type exchange struct {
	id      requestID
	start   time.Time
	peer    netip.Addr
	trusted bool   // whether the peer's forwarding fields are believed
	proto   string // "HTTP/2.0"
	request request
	way     *way // of an earlier request on the connection, or empty
	target  target
	choice  choice

	production *production // as the clone knows it; nil: not at all
	life       seenLife
	expires    bool          // the clone ends the cookies of the browser
	edited     []byte        // the value of a field, as it is changed
	low        [maxName]byte // a host in lower case
	shedded    http1.Section // the fields of an answer that were

	met       *met // of the clone's faults; nil: none
	trace     tracing
	tenant    *tenant // nil if the request led to none
	pool      *pool   // nil if it led to none
	working   bool    // counted by the tenant as at work
	tunnelled bool    // a WebSocket was carried
	endpoint  *endpoint
	dial      time.Duration // how long it took to connect to the endpoint; 0 if a connection was there
	waited    time.Duration // from start until the endpoint's answer began; 0 if it did not
	status    int
	sent      atomic.Uint64 // octets of the answer's body
	received  atomic.Uint64 // octets of the request's body
	reason    Reason        // "" if the clone answered
	cause     string        // the fault behind the reason
}

// begin makes the exchange that of a new request.
func (x *exchange) begin(start time.Time, peer netip.Addr, trusted bool, proto string) {
	x.id, x.start, x.peer, x.trusted, x.proto = newRequestID(), start, peer, trusted, proto
	x.request, x.target, x.choice = request{}, target{}, choice{}
	x.production, x.life, x.expires = nil, lifeUnasked, false
	x.met = nil
	x.trace, x.tenant, x.pool, x.working, x.tunnelled = tracing{}, nil, nil, false, false
	x.endpoint, x.dial, x.waited = nil, 0, 0
	x.status, x.reason, x.cause = 0, "", ""
	x.sent.Store(0)
	x.received.Store(0)
}

// rest ends the request's being at work for its tenant. That is done before the
// client has the whole answer: the next request may follow at once. A probe's is
// for nobody.
func (x *exchange) rest() {
	if x != nil && x.working {
		x.working = false
		x.tenant.atWork.Add(-1)
	}
}

// release gives up memory that has grown.
func (x *exchange) release() {
	if cap(x.shedded.Buf)+cap(x.edited) > largeBuffer {
		x.shedded, x.edited = http1.Section{}, nil
	}
}

// A refusal is why a request was not answered by a clone.
type refusal struct {
	reason Reason
	cause  string // for people; may be ""
}

// finish counts, keeps and logs an exchange that is over.
func (g *Gateway) finish(x *exchange) {
	took := time.Since(x.start)
	if p := x.pool; p != nil {
		p.traffic.count(x)
	}
	if !x.tunnelled { // a tunnel's duration says nothing about latency
		g.metrics.latency.observe(took)
	}
	if x.reason != "" {
		g.metrics.reasons.WithLabelValues(string(x.reason)).Inc()
	}
	g.journals.keep(x, took)
	if unsaid, ok := g.logs(x, x.start.Add(took)); ok {
		attrs := x.attrs(took)
		if unsaid > 0 {
			attrs = append(attrs, slog.Int("unsaid", unsaid))
		}
		g.cfg.AccessLog.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
	}
	if g.cfg.Tracer != nil {
		g.recordSpans(x, took)
	}
}

// logs reports whether an exchange that is over gets a line in the access log, and
// how many before it got none though they should have: there were too many.
func (g *Gateway) logs(x *exchange, end time.Time) (unsaid int, ok bool) {
	switch {
	case g.cfg.AccessLog == nil:
		return 0, false
	case x.id.isOneIn(g.cfg.LogOneIn):
		return 0, true
	case x.reason != "" && x.reason != Redirect || x.status >= 500:
		return g.quotaOf(x).take(end, g.cfg.Limits.FailuresLogged)
	}
	return 0, false
}

func (x *exchange) attrs(dur time.Duration) []slog.Attr {
	attrs := make([]slog.Attr, 0, 20)
	if c := x.target.clone; c != nil {
		attrs = append(attrs, slog.String("clone", string(c.ID)), slog.String("service", x.target.service))
	}
	attrs = append(attrs,
		slog.String("host", x.target.host), slog.String("method", x.request.method), slog.String("path", x.request.path()),
		slog.String("proto", x.proto), slog.Int("status", x.status),
		slog.Uint64("bytes", x.sent.Load()), slog.Uint64("received", x.received.Load()),
		slog.Duration("dur", dur), slog.String("remote", x.peer.String()), slog.String("request", x.id.String()))
	if x.endpoint != nil {
		attrs = append(attrs, slog.String("addr", x.endpoint.addr.String()))
	}
	if x.waited > 0 {
		attrs = append(attrs, slog.Duration("waited", x.waited))
	}
	if x.trace.id != (traceID{}) {
		attrs = append(attrs, slog.String("trace", x.trace.id.String()))
	}
	if x.met != nil {
		attrs = append(attrs, slog.String("faults", x.met.names))
	}
	if x.reason != "" {
		attrs = append(attrs, slog.String("reason", string(x.reason)))
	}
	if x.cause != "" {
		attrs = append(attrs, slog.String("err", x.cause))
	}
	return attrs
}

// path returns the target without its query, which may hold secrets.
func (r *request) path() string {
	for i, c := range r.target {
		if c == '?' {
			return string(r.target[:i])
		}
	}
	return string(r.target)
}
