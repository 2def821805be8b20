package dnsd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// A front is one listener at work.
type front struct {
	*Server
	kind string // "authoritative" or "resolver"
	view *view  // nil if authoritative
	addr netip.AddrPort
	udp  *net.UDPConn
	tcp  net.Listener
}

func (s *Server) newFront(id int, l Listener) (*front, error) {
	udp, addr, err := l.check()
	if err != nil {
		return nil, err
	}
	f := &front{Server: s, kind: "authoritative", addr: addr, udp: udp, tcp: l.TCP}
	if l.Resolver != nil {
		f.kind = "resolver"
		if f.view, err = s.newView(id, l.Resolver); err != nil {
			return nil, fmt.Errorf("%v: %w", addr, err)
		}
	}
	return f, nil
}

// serve starts the listener's loops in g. They end when its sockets close.
func (f *front) serve(ctx context.Context, g *errgroup.Group) {
	socket := newUDPSocket(f.udp)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error { return f.serveUDP(ctx, socket) })
	}
	g.Go(func() error { return f.serveTCP(ctx) })
	f.log.Info("dns listener is open", "kind", f.kind, "addr", f.addr)
}

// A job is one query on its way to its reply.
type job struct {
	*front
	query  *query
	client netip.AddrPort
	tcp    bool
	start  time.Time
}

// take answers a packet at once if that needs no waiting. Otherwise job is not
// nil and is to be finished, or refused if there is no room for it. A packet
// that deserves no reply yields neither.
func (f *front) take(packet []byte, client netip.AddrPort, tcp bool) (reply []byte, waiting *job) {
	defer func() {
		if p := recover(); p != nil {
			f.panicked(p)
			reply, waiting = nil, nil
		}
	}()
	q := parseQuery(packet)
	if q == nil {
		f.metrics.dropped("no_query")
		return nil, nil
	}
	j := &job{front: f, query: q, client: client, tcp: tcp, start: f.now()}
	r := f.answer(q, client.Addr(), later)
	if r.wait {
		return nil, j
	}
	return j.reply(r), nil
}

// answer returns what the listener answers to a client. It does not wait,
// except in ask.
func (f *front) answer(q *query, client netip.Addr, ask asker) *result {
	switch {
	case q.fault != 0:
		return &result{rcode: q.fault}
	case f.view == nil:
		r := follow(q.question, f.answerZone)
		if r == nil {
			return refused(dns.ExtendedErrorCodeNotAuthoritative, "")
		}
		return r
	case !f.view.admits(client):
		return refused(dns.ExtendedErrorCodeProhibited, "")
	}
	return f.view.answer(q, ask)
}

// finish waits for upstreams and returns the reply.
func (j *job) finish(ctx context.Context) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			j.panicked(p)
			reply = nil
		}
	}()
	return j.reply(j.answer(j.query, j.client.Addr(), func(q question, g group) *result {
		return j.view.ask(ctx, q, g)
	}))
}

// refuse returns the reply to a question for which there is no room.
func (j *job) refuse() []byte {
	j.metrics.dropped("busy")
	return j.reply(failed(dns.ExtendedErrorCodeOther, "too many questions are waiting"))
}

// reply packs the result for the client, counts it and logs it.
func (j *job) reply(r *result) []byte {
	wire, err := j.query.pack(r, j.view != nil, j.tcp)
	if err != nil {
		j.log.Error("dns reply cannot be packed", "name", j.query.name, "type", dns.Type(j.query.qtype), "err", err)
		return nil
	}
	rcode := rcodeName(r.rcode)
	j.metrics.queries.WithLabelValues(j.kind, rcode).Inc()
	if ctx := context.Background(); j.log.Enabled(ctx, slog.LevelDebug) {
		j.log.LogAttrs(ctx, slog.LevelDebug, "dns query",
			slog.String("name", j.query.asked), slog.String("type", dns.Type(j.query.qtype).String()),
			slog.String("client", j.client.String()), slog.String("listener", j.front.addr.String()),
			slog.String("rcode", rcode), slog.String("from", r.from), slog.Duration("dur", j.now().Sub(j.start)))
	}
	return wire
}

// panicked records a fault of ours that one message brought to light: a packet
// of a stranger must not end the process that carries everybody's traffic.
func (s *Server) panicked(p any) error {
	s.metrics.dropped("panic")
	s.log.Error("dns message could not be handled", "panic", p, "stack", string(debug.Stack()))
	return fmt.Errorf("message could not be handled: %v", p)
}
