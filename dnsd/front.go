package dnsd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/registry"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// A front is one listener at work.
type front struct {
	*Server
	kind string // "authoritative" or "resolver"
	view *view  // nil if authoritative
	addr netip.AddrPort
	udp  []*net.UDPConn
	tcp  net.Listener
	tops tops

	answered [24]atomic.Pointer[prometheus.Counter] // by rcode; nil until one is needed

	namespace string // in which the sockets are, "" for that of the process
}

func (s *Server) newFront(id int, l Listener) (*front, error) {
	udp, addr, err := l.check()
	if err != nil {
		return nil, err
	}
	f := &front{Server: s, kind: "authoritative", addr: addr, udp: udp, tcp: l.TCP, namespace: l.Namespace}
	if l.Resolver != nil {
		if !l.Resolver.Authoritative {
			f.kind = "resolver"
		}
		if f.view, err = s.newView(id, l.Resolver); err != nil {
			return nil, fmt.Errorf("%v: %w", addr, err)
		}
	}
	return f, nil
}

// serve starts the listener's loops in g. They end when its sockets close.
func (f *front) serve(ctx context.Context, g *errgroup.Group) {
	for _, conn := range f.udp {
		g.Go(func() error { return f.serveUDP(ctx, conn) })
	}
	g.Go(func() error { return f.serveTCP(ctx) })
	attrs := []any{"kind", f.kind, "addr", f.addr}
	if f.namespace != "" {
		attrs = append(attrs, "namespace", f.namespace)
	}
	f.log.Info("dns listener is open", attrs...)
}

// A worker answers the packets of one loop. What it holds is overwritten by
// the next packet, so that an answer which is ready costs no memory.
type worker struct {
	*front
	query query
	out   []byte

	second  int64  // of the Unix clock, in which
	counted uint32 // questions were there to be counted

	later asker // notes what upstreams have to be asked
	miss  miss  // what that was
}

func (f *front) newWorker() *worker {
	w := &worker{front: f, out: make([]byte, 0, maxSize)}
	w.query.text = make([]byte, 0, maxText)
	w.later = func(q question, g group, old *entry) *result {
		w.miss = miss{q, g, old}
		return waits
	}
	return w
}

// A job is one query on its way to its reply.
type job struct {
	*front
	query  query
	client netip.AddrPort
	tcp    bool
	miss   miss          // what it waits for
	delay  time.Duration // a fault on demand: how long it waits before anything else

	// Where its reply goes, once: over UDP back to who asked, or else to send,
	// which gets nil if there is none, and must not block.
	socket *udpSocket
	to     peer
	send   func(reply []byte)
}

// take answers a packet at once if that needs no waiting; the reply is good
// until the next call. Otherwise job is not nil and is to be finished, or
// refused if there is no room for it. A packet that deserves no reply yields
// neither.
func (w *worker) take(packet []byte, client netip.AddrPort, tcp bool) (reply []byte, waiting *job) {
	defer func() {
		if p := recover(); p != nil {
			w.panicked(p)
			reply, waiting = nil, nil
		}
	}()
	if !w.query.parse(packet) {
		w.metrics.dropped("no_query")
		return nil, nil
	}
	w.query.start = w.now()
	w.query.now = w.query.start
	if !tcp {
		if reply, ok := w.limited(client.Addr()); ok {
			return reply, nil
		}
	}
	if w.query.signed && w.view == nil && w.transfers != nil {
		if reply, ok := w.transfers.verify(&w.query, packet); !ok {
			return reply, nil
		}
	}
	if w.query.whole {
		w.countTop(client.Addr())
	}
	fault := w.fault(&w.query, client.Addr())
	if fault != nil && fault.Kind == registry.FaultDNSDrop {
		w.metrics.dropped("fault")
		return nil, nil
	}
	if fault != nil && fault.Kind == registry.FaultDNSDelay {
		return nil, &job{front: w.front, query: w.query.kept(), client: client, tcp: tcp, delay: faultDelay(fault, w.query.now)}
	}
	var r *result
	if fault != nil {
		r = faultResult(fault)
	} else {
		r = w.answer(&w.query, client.Addr(), w.later)
	}
	if r.wait {
		j := &job{front: w.front, query: w.query.kept(), client: client, tcp: tcp, miss: w.miss}
		if w.miss.q.name == w.query.name {
			j.miss.q.name = j.query.name
		} else {
			j.miss.q.name = strings.Clone(w.miss.q.name)
		}
		return nil, j
	}
	reply = w.reply(w.out[:0], &w.query, client, tcp, r)
	w.count(r.rcode)
	if cap(reply) > cap(w.out) && cap(reply) <= maxQuery {
		w.out = reply[:0]
	}
	return reply, nil
}

// answer returns what the listener answers to a client. It does not wait,
// except in ask.
func (f *front) answer(q *query, client netip.Addr, ask asker) *result {
	switch {
	case q.fault != 0:
		if z := f.transfers.wanted(q, client); z != nil && f.view == nil && q.qtype == dns.TypeIXFR {
			return z.apex.pick(dns.TypeSOA) // over UDP, to be asked again over TCP (RFC 1995 §2)
		}
		if f.view != nil && f.view.admits(client) {
			if r := f.view.identify(q); r != nil {
				return r
			}
		}
		return &result{rcode: q.fault}
	case f.view == nil:
		if r := f.follow(q.question, f.answerZone); r != nil {
			return r
		}
		return refused(dns.ExtendedErrorCodeNotAuthoritative, "")
	case !f.view.admits(client):
		return refused(dns.ExtendedErrorCodeProhibited, "")
	}
	return f.view.answer(q, ask)
}

// maxForeign bounds how many questions one of a client may lead to at upstreams,
// by aliases that lead out of our zones and back. Each takes three messages at
// most if upstreams answer: by UDP, without EDNS, and by TCP.
const maxForeign = 4

// finish waits for upstreams and returns the reply.
func (j *job) finish(ctx context.Context) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			j.panicked(p)
			reply = nil
		}
	}()
	asked := 0
	if j.query.brought != nil {
		asked = 1
	}
	r := j.answer(&j.query, j.client.Addr(), func(q question, g group, old *entry) *result {
		if asked++; asked > maxForeign {
			return failed(dns.ExtendedErrorCodeOther, fmt.Sprintf("aliases lead to more than %d questions to upstreams", maxForeign))
		}
		r := j.view.ask(ctx, q, g, old)
		j.query.now = j.now()
		return r
	})
	return j.pack(nil, r)
}

// pack appends a result as the reply to b.
func (j *job) pack(b []byte, r *result) []byte {
	j.count(r.rcode)
	return j.reply(b, &j.query, j.client, j.tcp, r)
}

// refuse returns the reply to a question for which there is no room.
func (j *job) refuse() []byte {
	j.metrics.dropped("busy")
	return j.pack(nil, failed(dns.ExtendedErrorCodeOther, "too many questions are waiting"))
}

// reply appends to b the octets that answer the client, and logs them. It returns nil if they cannot be made.
func (f *front) reply(b []byte, q *query, client netip.AddrPort, tcp bool, r *result) []byte {
	wire, err := f.Server.pack(b, q, r, f.recursive(), tcp)
	if err == nil && q.signature != nil {
		wire, err = q.signature.signReply(wire, q, tcp)
	}
	if err != nil {
		f.log.Error("dns reply cannot be made", "name", q.asked(), "type", dns.Type(q.qtype), "err", err)
		return nil
	}
	if all := f.watchers.Load(); all != nil {
		f.tell(*all, q, client, r)
	}
	if ctx := context.Background(); f.log.Enabled(ctx, slog.LevelDebug) {
		f.log.LogAttrs(ctx, slog.LevelDebug, "dns query",
			slog.String("name", q.asked()), slog.String("type", dns.Type(q.qtype).String()),
			slog.String("client", client.String()), slog.String("listener", f.addr.String()),
			slog.String("rcode", rcodeName(r.rcode)), slog.String("from", r.from), slog.Duration("dur", f.now().Sub(q.start)))
	}
	return wire
}

// recursive reports whether the listener's clients may ask for any name.
func (f *front) recursive() bool { return f.view != nil && !f.view.world }

// count counts a reply without looking the counter up each time.
func (f *front) count(rcode int) {
	if rcode >= len(f.answered) {
		f.metrics.queries.WithLabelValues(f.kind, rcodeName(rcode)).Inc()
		return
	}
	c := f.answered[rcode].Load()
	if c == nil {
		counter := f.metrics.queries.WithLabelValues(f.kind, rcodeName(rcode))
		c = &counter
		f.answered[rcode].Store(c)
	}
	(*c).Inc()
}

// panicked records a fault of ours that one message brought to light: a packet
// of a stranger must not end the process that carries everybody's traffic.
func (s *Server) panicked(p any) error {
	s.metrics.dropped("panic")
	s.log.Error("dns message could not be handled", "panic", p, "stack", string(debug.Stack()))
	return fmt.Errorf("message could not be handled: %v", p)
}
