package dnsd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// A Secondary is a name server that may hold a copy of the zones.
type Secondary struct {
	Clients []netip.Prefix   // networks it asks from
	Notify  []netip.AddrPort // where it is told that something has changed
	Key     *TransferKey     // signs all that; nil: nobody signs
}

// Bounds of transfers.
const (
	maxTransfers    = 4       // at once
	transferMessage = 8 << 10 // octets of records in one message, before compression
)

// transfers are copies of the zones on their way to secondaries.
type transfers struct {
	*Server
	secondaries []Secondary
	peers       []*peerToNotify
	history     *history
	places      chan struct{} // one token per transfer at work
}

// newTransfers returns nil if nobody may copy the zones.
func newTransfers(s *Server, secondaries []Secondary) (*transfers, error) {
	if len(secondaries) == 0 {
		return nil, nil
	}
	catalog, ok := s.dir.(Catalog)
	if !ok {
		return nil, errors.New("dns server: Config.Directory cannot list clones, so there can be no Config.Secondaries")
	}
	t := &transfers{Server: s, secondaries: secondaries, places: make(chan struct{}, maxTransfers)}
	secrets := map[string]string{}
	for _, sec := range secondaries {
		if k := sec.Key; k != nil {
			if other, ok := secrets[k.name]; ok && other != k.secret {
				return nil, fmt.Errorf("dns server: two keys for transfers are named %s", k.name)
			}
			secrets[k.name] = k.secret
		}
		for _, addr := range sec.Notify {
			t.peers = append(t.peers, &peerToNotify{addr: addr, key: sec.Key, wake: make(chan struct{}, 1)})
		}
	}
	t.history = newHistory(catalog, s.challenges, t.notify)
	return t, nil
}

// admits reports whether a client may copy the zones: one of a secondary that
// has no key, or whose key has signed the question.
func (t *transfers) admits(client netip.Addr, sig *signature) bool {
	client = client.Unmap().WithZone("")
	return slices.ContainsFunc(t.secondaries, func(s Secondary) bool {
		if (s.Key == nil) != (sig == nil) || sig != nil && s.Key.name != sig.key.name {
			return false
		}
		return slices.ContainsFunc(s.Clients, func(p netip.Prefix) bool { return p.Contains(client) })
	})
}

// zoneAt returns the zone with exactly this name, nil if there is none.
func (s *Server) zoneAt(name string) *zone {
	for _, z := range s.zones {
		if z.name == name {
			return z
		}
	}
	return nil
}

// wanted returns the zone that a query asks a copy of, nil if it does not, or
// if the client may not have one.
func (t *transfers) wanted(q *query, client netip.Addr) *zone {
	if t == nil || q.fault != dns.RcodeRefused || q.class != dns.ClassINET || q.qtype != dns.TypeAXFR && q.qtype != dns.TypeIXFR || !t.admits(client, q.signature) {
		return nil
	}
	return t.zoneAt(q.name)
}

// serveTransfer sends a copy of the zone over TCP if the packet asks for one
// and the client may have it, and reports whether that was so.
func (f *front) serveTransfer(ctx context.Context, packet []byte, client netip.AddrPort, w *tcpWriter) (bool, error) {
	q := new(query)
	if f.transfers == nil || f.view != nil || !q.parse(packet) {
		return false, nil
	}
	if q.signed && (q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR) {
		q.now = f.now()
		if reply, ok := f.transfers.verify(q, packet); !ok {
			if reply == nil {
				return true, errors.New("message with a signature cannot be read")
			}
			return true, w.write(reply)
		}
	}
	z := f.transfers.wanted(q, client.Addr())
	request := new(dns.Msg)
	if z == nil || request.Unpack(packet) != nil {
		return false, nil
	}
	start := f.now()
	kind, n, err := f.transfers.send(ctx, z, &transferWriter{w: w, request: request, signature: q.signature})
	log := f.log.With("zone", z.name, "client", client.Addr(), "kind", kind, "records", n, "dur", f.now().Sub(start))
	if err != nil {
		f.metrics.transfers.WithLabelValues(kind, "failed").Inc()
		log.Warn("dns zone transfer did not end well", "err", err)
		return true, err
	}
	f.metrics.transfers.WithLabelValues(kind, "ok").Inc()
	log.Info("dns zone transfer")
	return true, nil
}

// send answers a request for a copy of z. kind says what was sent: "axfr",
// "ixfr", or "soa" if the client has everything.
func (t *transfers) send(ctx context.Context, z *zone, out *transferWriter) (kind string, n int, err error) {
	select {
	case t.places <- struct{}{}:
		defer func() { <-t.places }()
	default:
		return "busy", 0, errors.Join(fmt.Errorf("%d transfers are under way", maxTransfers), out.fail())
	}
	if err := t.history.wait(ctx, t.dir.Revision()); err != nil {
		return "late", 0, errors.Join(err, out.fail())
	}
	kind, revision, records := t.choose(z, out.request)
	soa := t.soaAt(z, revision)
	out.add(soa)
	for rr := range records {
		out.add(rr)
	}
	if kind != "soa" {
		out.add(soa)
	}
	return kind, out.n, out.flush()
}

// choose decides what a client is sent between the SOA records, in this order
// (RFC 1995 §2 and §4; serial numbers compare as in RFC 1982):
//
//  1. the whole zone, if it did not ask for differences
//  2. nothing, if it has this serial number or a later one
//  3. the differences since its own, if the journal leads back there
//  4. the whole zone
func (t *transfers) choose(z *zone, request *dns.Msg) (kind string, revision uint64, records iter.Seq[dns.RR]) {
	if request.Question[0].Qtype == dns.TypeIXFR && len(request.Ns) > 0 {
		if theirs, ok := request.Ns[0].(*dns.SOA); ok {
			before, now, known := t.history.since(theirs.Serial)
			switch {
			case known && before.revision == now.revision:
				return "soa", now.revision, func(func(dns.RR) bool) {}
			case known:
				return "ixfr", now.revision, t.differences(z, before, now)
			}
		}
	}
	m := t.history.whole()
	return "axfr", m.revision, t.contents(z, m)
}

// differences yields what makes one moment of a zone the other (RFC 1995 §4).
func (t *transfers) differences(z *zone, before, now moment) iter.Seq[dns.RR] {
	removed, added := t.difference(z, before, now)
	return func(yield func(dns.RR) bool) {
		for _, part := range [][]dns.RR{{t.soaAt(z, before.revision)}, removed, {t.soaAt(z, now.revision)}, added} {
			for _, rr := range part {
				if !yield(rr) {
					return
				}
			}
		}
	}
}

// soaAt returns the SOA record that a zone had at a revision.
func (t *transfers) soaAt(z *zone, revision uint64) *dns.SOA {
	soa := t.soa(z)
	soa.Serial = uint32(revision)
	return soa
}

// A transferWriter collects records into messages (RFC 5936 §2.2). After an
// error it does nothing.
type transferWriter struct {
	w         *tcpWriter
	request   *dns.Msg
	signature *signature // nil: the request had none
	rrs       []dns.RR
	size      int // octets of rrs
	n         int // records so far
	err       error
}

func (o *transferWriter) add(rr dns.RR) {
	if o.err != nil {
		return
	}
	size := dns.Len(rr)
	if o.size+size > transferMessage {
		o.err = o.write(dns.RcodeSuccess)
	}
	o.rrs = append(o.rrs, rr)
	o.size += size
	o.n++
}

// flush sends what is left.
func (o *transferWriter) flush() error {
	if o.err == nil {
		o.err = o.write(dns.RcodeSuccess)
	}
	return o.err
}

// fail says that there is no copy at the moment; the client will ask again.
func (o *transferWriter) fail() error { return o.write(dns.RcodeServerFailure) }

func (o *transferWriter) write(rcode int) error {
	m := new(dns.Msg).SetRcode(o.request, rcode)
	m.Authoritative = rcode == dns.RcodeSuccess
	m.Compress = true
	m.Answer = o.rrs
	if o.request.IsEdns0() != nil {
		m.SetEdns0(maxSize, false)
	}
	var wire []byte
	var err error
	if o.signature != nil {
		wire, err = o.signature.sign(m, time.Now())
	} else {
		wire, err = m.Pack()
	}
	if err != nil {
		return err
	}
	o.rrs, o.size = o.rrs[:0], 0
	return o.w.write(wire)
}

// A peerToNotify is told of changes.
type peerToNotify struct {
	addr netip.AddrPort
	key  *TransferKey // nil: nobody signs
	wake chan struct{}
}

// notify has all peers told that the zones have changed. It does not wait.
func (t *transfers) notify() {
	for _, p := range t.peers {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// How a secondary is told (RFC 1996 §3.6): a first try, and more of them after
// ever longer waits. It is not told more often than so many times a second.
const (
	notifyTries = 5
	notifyWait  = time.Second // for the first answer
	notifyPause = 200 * time.Millisecond
)

// serveTransfers starts in g what keeps secondaries informed, until ctx ends.
func (s *Server) serveTransfers(ctx context.Context, g *errgroup.Group, fronts []*front) {
	if s.transfers == nil {
		return
	}
	g.Go(func() error { return s.transfers.history.run(ctx) })
	var from netip.Addr
	for _, f := range fronts {
		if f.view == nil && !f.addr.Addr().IsUnspecified() {
			from = f.addr.Addr()
			break
		}
	}
	for _, p := range s.transfers.peers {
		g.Go(func() error { s.transfers.serveNotify(ctx, p, from); return nil })
	}
}

// serveNotify tells one peer of changes until ctx ends.
func (t *transfers) serveNotify(ctx context.Context, p *peerToNotify, from netip.Addr) {
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		for _, z := range t.zones {
			result := "ok"
			if err := t.tell(ctx, p, z, from); err != nil && ctx.Err() == nil {
				result = "failed"
				t.log.Warn("dns secondary does not answer NOTIFY; it will see changes when it next asks by itself", "addr", p.addr, "zone", z.name, "err", err)
			}
			t.metrics.notifies.WithLabelValues(result).Inc()
		}
		select {
		case <-time.After(notifyPause):
		case <-ctx.Done():
			return
		}
	}
}

// tell sends one NOTIFY until it is answered.
func (t *transfers) tell(ctx context.Context, p *peerToNotify, z *zone, from netip.Addr) (err error) {
	c := &dns.Client{Timeout: notifyWait}
	if from.IsValid() && from.Is4() == p.addr.Addr().Is4() {
		c.Dialer = &net.Dialer{LocalAddr: &net.UDPAddr{IP: from.AsSlice()}} // secondaries judge by the address
	}
	if p.key != nil {
		c.TsigSecret = map[string]string{p.key.name: p.key.secret}
	}
	for range notifyTries {
		m := new(dns.Msg).SetNotify(z.name)
		m.Answer = []dns.RR{t.soa(z)}
		if p.key != nil {
			m.SetTsig(p.key.name, dns.HmacSHA256, tsigFudge, time.Now().Unix())
		}
		var reply *dns.Msg
		reply, _, err = c.ExchangeContext(ctx, m, p.addr.String())
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && p.key != nil && reply.IsTsig() == nil:
			return fmt.Errorf("it answered %s without a signature; let it have the key %s", rcodeName(reply.Rcode), p.key.name)
		case err == nil && reply.Rcode == dns.RcodeSuccess:
			return nil
		case err == nil:
			return fmt.Errorf("it answered %s; let it accept NOTIFY from this machine", rcodeName(reply.Rcode))
		}
		c.Timeout *= 2
	}
	return err
}
