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
	"sync"
	"time"

	"github.com/miekg/dns"
)

// maxUpstreamUDP is more than upstreams are asked to send in one datagram.
const maxUpstreamUDP = 4096

// maxIgnored is how many messages that are no reply to a question are taken
// for accidents. With the next one, somebody guesses, and the question is asked
// again over TCP, where guessing does not help.
const maxIgnored = 2

// try asks one server once: by UDP, and by TCP if the answer did not fit. A
// server that does not know EDNS is asked again without. Only data or its
// absence is an answer; every other rcode is an error. carried is the question
// to that server that is on its way already, nil if there is none.
func (s *Server) try(ctx context.Context, server netip.AddrPort, q question, carried *attempt) (m *dns.Msg, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, s.panicked(p)
		}
	}()
	start, begun := s.now(), time.Now()
	patience := s.timing.try
	if carried != nil {
		start = carried.start
		patience -= time.Since(start)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if carried != nil {
		m, err = carried.wait(ctx)
	} else {
		m, err = s.exchangeUDP(ctx, server, s.upstreamQuery(q, server, true))
	}
	if err == nil && m.IsEdns0() == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		m, err = s.exchangeUDP(ctx, server, s.upstreamQuery(q, server, false))
	}
	if err == nil && m.Truncated {
		m, err = s.exchangeTCP(ctx, server, s.upstreamQuery(q, server, true))
	}
	s.metrics.upstreamSeconds.Observe(s.now().Sub(start).Seconds())
	// One that another server overtook has failed as well if it was silent for
	// long; a probe will soon tell.
	if !errors.Is(err, context.Canceled) || s.timing.try-patience+time.Since(begun) >= s.timing.hedge {
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

// upstreamQuery packs q with a random ID, and each letter of its name at
// random in upper or lower case: the reply must repeat both (0x20). A server
// known not to repeat the case gets lower case.
func (s *Server) upstreamQuery(q question, server netip.AddrPort, edns bool) []byte {
	size := headerLen + len(q.name) + 1 + 4 + fixedOPT
	wire := make([]byte, size)
	off, err := dns.PackDomainName(q.name, wire, headerLen, nil, false)
	if err != nil {
		panic(err) // the name came out of a message
	}
	var random [2 + 32]byte
	rand.Read(random[:])
	copy(wire, random[:2])
	if !s.caseLost.has(server) {
		for i, c := range wire[headerLen:off] {
			if 'a' <= c && c <= 'z' && random[2+i/8]>>(i%8)&1 == 1 {
				wire[headerLen+i] = c - 'a' + 'A'
			}
		}
	}
	flags := uint16(flagRD)
	if q.cd {
		flags |= flagCD
	}
	binary.BigEndian.PutUint16(wire[2:], flags)
	wire[5] = 1
	wire = binary.BigEndian.AppendUint16(wire[:off], q.qtype)
	wire = binary.BigEndian.AppendUint16(wire, dns.ClassINET)
	if edns {
		wire[11] = 1
		wire = appendOPT(wire, &query{question: q}, s.habits.EDNSSize, 0, nil)
	}
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

// exchangeUDP sends one query, from a socket of its own and hence from a random
// port unless habits differ, and waits for its reply. Whatever else arrives there is not the end of
// the wait: it may be an attempt to end it.
func (s *Server) exchangeUDP(ctx context.Context, server netip.AddrPort, query []byte) (*dns.Msg, error) {
	conn, release, err := s.dialUDP(ctx, server, query)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := conn.Write(query); err != nil {
		return nil, ctxError(ctx, err)
	}
	buf := make([]byte, maxUpstreamUDP)
	ignored := 0
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, ctxError(ctx, err)
		}
		if m, ok := readReply(buf[:n], len(buf), query); ok {
			return m, nil
		}
		isRight := s.noteCase(server, buf[:n], query)
		s.metrics.upstreamIgnored.Inc()
		if ignored++; ignored == maxIgnored || isRight {
			return &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}}, nil
		}
	}
}

// readReply returns the reply to a query, false if p is something else. One
// that was cut, or fills all the room there was, is only told to be truncated:
// it need not be well formed. p is changed.
func readReply(p []byte, room int, query []byte) (*dns.Msg, bool) {
	if !matches(p, query) {
		return nil, false
	}
	if p[2]&2 != 0 || len(p) == room {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}}, true
	}
	lowerName(p[headerLen:]) // names that point there shall not have our random case
	m := new(dns.Msg)
	if m.Unpack(p) != nil {
		end, _ := skipName(query, headerLen)
		copy(p[headerLen:], query[headerLen:end]) // or it would seem to have lost the case
		return nil, false
	}
	return m, true
}

// lowerName puts an uncompressed name into lower case. The lengths of labels
// are no letters.
func lowerName(name []byte) {
	for i, c := range name {
		if c == 0 {
			return
		}
		if 'A' <= c && c <= 'Z' {
			name[i] = c - 'A' + 'a'
		}
	}
}

// noteCase remembers a server whose reply is right but for the case of its
// name, and reports whether it is. The question is asked again over TCP; from
// then on the server is asked in lower case.
func (s *Server) noteCase(server netip.AddrPort, reply, query []byte) bool {
	end, _ := skipName(query, headerLen)
	if len(reply) < end || bytes.Equal(reply[headerLen:end], query[headerLen:end]) {
		return false
	}
	reply, query = bytes.Clone(reply), bytes.Clone(query)
	lowerName(reply[headerLen:])
	lowerName(query[headerLen:])
	if !matches(reply, query) {
		return false
	}
	s.caseLost.add(server)
	return true
}

// A serverSet is a bounded set of servers.
type serverSet struct {
	mu sync.RWMutex
	m  map[netip.AddrPort]bool // guarded by mu
}

func (c *serverSet) has(server netip.AddrPort) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[server]
}

func (c *serverSet) add(server netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxFailedServers {
		c.m = map[netip.AddrPort]bool{}
	}
	c.m[server] = true
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

// dialWith returns a UDP socket connected to a server. Everything on it ends
// when ctx does; release closes it.
func dialWith(ctx context.Context, d net.Dialer, server netip.AddrPort) (net.Conn, func(), error) {
	conn, err := d.DialContext(ctx, "udp", server.String())
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
