package dnsd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// maxUpstreamUDP is more than upstreams are asked to send in one datagram.
const maxUpstreamUDP = 4096

// try asks one server once: by UDP, and by TCP if the answer did not fit. A
// server that does not know EDNS is asked again without. Only data or its
// absence is an answer; every other rcode is an error.
func (s *Server) try(ctx context.Context, server netip.AddrPort, q question) (m *dns.Msg, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, s.panicked(p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.timing.try)
	defer cancel()
	start := s.now()
	m, err = s.exchangeUDP(ctx, server, upstreamQuery(q, true))
	if err == nil && m.IsEdns0() == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		m, err = s.exchangeUDP(ctx, server, upstreamQuery(q, false))
	}
	if err == nil && m.Truncated {
		m, err = s.exchangeTCP(ctx, server, upstreamQuery(q, true))
	}
	s.metrics.upstreamSeconds.Observe(s.now().Sub(start).Seconds())
	if !errors.Is(err, context.Canceled) { // another server was faster, which says nothing about this one
		s.health.note(server, err != nil, s.now())
	}
	if err == nil && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		err = fmt.Errorf("answered %s", rcodeName(m.Rcode))
	}
	if err != nil {
		s.metrics.upstreamFailures.Inc()
		return nil, fmt.Errorf("upstream %v: %w", server, err)
	}
	return s.clean(m, q)
}

// upstreamQuery packs q with a random ID. The name goes in lower case, and the
// reply must repeat it octet by octet.
func upstreamQuery(q question, edns bool) []byte {
	m := &dns.Msg{
		MsgHdr:   dns.MsgHdr{RecursionDesired: true, CheckingDisabled: q.cd},
		Question: []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: dns.ClassINET}},
	}
	if edns {
		m.SetEdns0(maxSize, q.do)
	}
	wire, err := m.Pack()
	if err != nil {
		panic(err) // the name came out of a message
	}
	rand.Read(wire[:2])
	return wire
}

// matches reports whether a message is the reply to a query: same ID, QR set,
// a plain query, and exactly the question that was asked (RFC 5452 §9).
func matches(reply, query []byte) bool {
	if len(reply) < headerLen || !bytes.Equal(reply[:2], query[:2]) || reply[2]&0xf8 != 0x80 {
		return false
	}
	end, _ := skipName(query, headerLen)
	end += 4
	return binary.BigEndian.Uint16(reply[4:]) == 1 && len(reply) >= end && bytes.Equal(reply[headerLen:end], query[headerLen:end])
}

// exchangeUDP sends one query from a socket of its own, hence from a random
// port, and waits for its reply. Whatever else arrives there is not the end of
// the wait: it may be an attempt to end it.
func (s *Server) exchangeUDP(ctx context.Context, server netip.AddrPort, query []byte) (*dns.Msg, error) {
	conn, release, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := conn.Write(query); err != nil {
		return nil, ctxError(ctx, err)
	}
	buf := make([]byte, maxUpstreamUDP)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, ctxError(ctx, err)
		}
		if matches(buf[:n], query) {
			if buf[2]&2 != 0 || n == len(buf) { // TC; what was cut need not be well formed
				return &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}}, nil
			}
			m := new(dns.Msg)
			if m.Unpack(buf[:n]) == nil {
				return m, nil
			}
		}
		s.metrics.upstreamIgnored.Inc()
	}
}

// exchangeTCP asks one question over a connection of its own.
func (s *Server) exchangeTCP(ctx context.Context, server netip.AddrPort, query []byte) (*dns.Msg, error) {
	conn, release, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(query)))); err != nil {
		return nil, ctxError(ctx, err)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, ctxError(ctx, err)
	}
	var buf bytes.Buffer
	if err := readMessage(conn, &buf); err != nil {
		return nil, ctxError(ctx, err)
	}
	m := new(dns.Msg)
	if !matches(buf.Bytes(), query) || m.Unpack(buf.Bytes()) != nil || m.Truncated {
		s.metrics.upstreamIgnored.Inc()
		return nil, errors.New("sent something else than the answer over TCP")
	}
	return m, nil
}

// readMessage reads one message with its length before it. Memory grows as
// octets arrive, not with what the length announces.
func readMessage(r io.Reader, buf *bytes.Buffer) error {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return err
	}
	buf.Reset()
	_, err := io.CopyN(buf, r, int64(binary.BigEndian.Uint16(length[:])))
	return err
}

// dial connects to a server. Everything on the connection ends when ctx does;
// release closes it.
func dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, func(), error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, ctxError(ctx, err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); conn.Close() }, nil
}

var errSilent = errors.New("no answer in time")

// ctxError prefers the reason why a wait was ended to how it ended.
func ctxError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	if ctx.Err() != nil || isTimeout(err) {
		return errSilent
	}
	return err
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
