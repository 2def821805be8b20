package dnsd

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// streams are TCP connections to upstreams. One carries many questions at a
// time, whose answers come in any order (RFC 7766 §6.2.1.1), until nobody has
// needed it for a while. A server that closes its connection after one answer
// gets a connection for each question.
type streams struct {
	s      *Server
	open   chan *stream // to be run
	single serverSet    // servers that answer one question per connection

	mu     sync.Mutex
	shared map[netip.AddrPort]*stream // guarded by mu; where the next question goes
}

// Bounds of streams.
const (
	streamQuestions = 100 // wait at one of them; with more another one is opened
	streamTries     = 3   // for a question whose connection was closed; the last is on one of its own
)

// A stream is one connection.
type stream struct {
	server netip.AddrPort
	ready  chan struct{} // closed when it is connected, or ended before
	ended  chan struct{} // closed at its end
	conn   net.Conn      // there when it is ready, nil if that failed
	err    error         // there when it has ended: why

	writing sync.Mutex

	waiting map[[2]byte]*place // guarded by streams.mu; by ID
	heard   int                // guarded by streams.mu; messages that came
	retired bool               // guarded by streams.mu; gets no more questions, and ends with the last it has
}

// A place is that of one question on a stream.
type place struct {
	*stream
	query  []byte
	reply  chan *dns.Msg
	isNew  bool // the stream has still to be run
	before int  // messages heard when it was taken
}

var errHungUp = errors.New("closed the connection")

// run runs streams until ctx ends.
func (t *streams) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case st := <-t.open:
			running.Go(func() { t.end(st, t.serve(ctx, st)) })
		case <-ctx.Done():
			return
		}
	}
}

// serve connects a stream and hands out what comes, until it is not needed any
// more, nothing comes for a while, or it fails.
func (t *streams) serve(ctx context.Context, st *stream) error {
	d := t.s.habits.dialer("tcp", st.server)
	d.Timeout = t.s.timing.try
	conn, err := d.DialContext(ctx, "tcp", st.server.String())
	if err != nil {
		return ctxError(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	st.conn = conn
	close(st.ready)
	var buf bytes.Buffer
	for !t.isOver(st) {
		conn.SetReadDeadline(time.Now().Add(t.s.timing.idle))
		if err := readMessage(conn, &buf); err != nil {
			break
		}
		t.hand(st, buf.Bytes())
	}
	return errHungUp
}

// isOver reports whether a stream is not needed any more.
func (t *streams) isOver(st *stream) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return st.retired && len(st.waiting) == 0
}

// hand gives a message to the one whose question it answers. Anything else is
// counted.
func (t *streams) hand(st *stream, p []byte) {
	var at *place
	t.mu.Lock()
	st.heard++
	if len(p) >= headerLen {
		at = st.waiting[[2]byte(p)]
	}
	t.mu.Unlock()
	if at != nil {
		if m, ok := readReply(p, dns.MaxMsgSize+1, at.query); ok && !m.Truncated {
			t.remove(at)
			at.reply <- m
			return
		}
		t.s.noteCase(st.server, p, at.query)
	}
	t.s.metrics.upstreamIgnored.Inc()
}

// remove makes sure that nothing more comes for a question.
func (t *streams) remove(at *place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id := [2]byte(at.query); at.waiting[id] == at {
		delete(at.waiting, id)
	}
}

// end ends a stream, and the wait of all that are left. What the server said
// last may have been lost with the rest of what it had not read.
func (t *streams) end(st *stream, why error) {
	t.mu.Lock()
	if t.shared[st.server] == st {
		delete(t.shared, st.server)
	}
	st.retired = true
	isSingle := st.conn != nil && st.heard <= 1 && st.heard+len(st.waiting) > 1
	t.mu.Unlock()
	if isSingle {
		t.single.add(st.server)
	}
	st.err = why
	close(st.ended)
}

// enter takes a place for a question, on a new stream if there is none, no
// place on it, or if the question is to be alone. Its ID is changed if another
// one has it.
func (t *streams) enter(server netip.AddrPort, query []byte, alone bool) *place {
	alone = alone || t.single.has(server)
	at := &place{query: bytes.Clone(query), reply: make(chan *dns.Msg, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.shared[server]
	if st == nil || alone || len(st.waiting) >= streamQuestions {
		if st != nil && !alone {
			st.retired = true
		}
		at.isNew = true
		st = &stream{server: server, ready: make(chan struct{}), ended: make(chan struct{}), waiting: map[[2]byte]*place{}, retired: alone}
		if !alone {
			t.shared[server] = st
		}
	}
	for st.waiting[[2]byte(at.query)] != nil {
		rand.Read(at.query[:2])
	}
	st.waiting[[2]byte(at.query)] = at
	at.stream, at.before = st, st.heard
	return at
}

// leave gives a place back. A stream on which nothing came while somebody
// waited in vain gets no more questions: the next ones shall not share its fate.
func (t *streams) leave(at *place, inVain bool) {
	t.remove(at)
	t.mu.Lock()
	if inVain && at.heard == at.before {
		at.retired = true
		if t.shared[at.server] == at.stream {
			delete(t.shared, at.server)
		}
	}
	isOver := at.retired && len(at.waiting) == 0
	t.mu.Unlock()
	if !isOver {
		return
	}
	select {
	case <-at.ready:
		at.conn.Close()
	default: // it will see for itself
	}
}

// exchangeTCP asks one question over a stream. A connection that the server
// closed meanwhile is not the end: it may have been idle for too long, or
// answer only so many questions (RFC 7766 §6.2.4).
func (s *Server) exchangeTCP(ctx context.Context, server netip.AddrPort, query []byte) (*dns.Msg, error) {
	for tries := 1; ; tries++ {
		m, again, err := s.askStream(ctx, server, query, tries == streamTries)
		if err == nil || !again || tries == streamTries || ctx.Err() != nil {
			return m, err
		}
	}
}

// askStream asks once. again is true if there is hope on another connection.
func (s *Server) askStream(ctx context.Context, server netip.AddrPort, query []byte, alone bool) (m *dns.Msg, again bool, err error) {
	t := s.streams
	at := t.enter(server, query, alone)
	if at.isNew {
		select {
		case t.open <- at.stream:
		case <-ctx.Done():
			t.end(at.stream, ctxError(ctx, ctx.Err()))
		}
	}
	defer func() { t.leave(at, err != nil && !errors.Is(err, context.Canceled)) }()
	select {
	case <-at.ready:
	case <-at.ended:
		return nil, at.conn != nil, at.err
	case <-ctx.Done():
		return nil, false, ctxError(ctx, ctx.Err())
	}
	if at.write(s.timing.try) != nil {
		return nil, true, errHungUp
	}
	select {
	case m := <-at.reply:
		return m, false, nil
	case <-ctx.Done():
		return nil, false, ctxError(ctx, ctx.Err())
	case <-at.ended:
	}
	select {
	case m := <-at.reply: // came before the end
		return m, false, nil
	default:
		return nil, at.conn != nil, at.err
	}
}

// write sends the question with its length before it, in one piece
// (RFC 7766 §8).
func (at *place) write(patience time.Duration) error {
	message := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(at.query)), uint16(len(at.query))), at.query...)
	at.writing.Lock()
	defer at.writing.Unlock()
	at.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := at.conn.Write(message)
	if err != nil {
		at.conn.Close() // part of a message may be on its way
	}
	return err
}
