package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A turn is a session's request at work and all the memory that it takes. It
// implements client.
type turn struct {
	s    *session
	x    exchange
	trip trip
	req  http1.Request

	in   *[]byte // what the client has sent
	r, w int     // what is not read yet of it
	base int     // where the body begins
	body http1.Body

	out     *[]byte // what is not sent yet, from its beginning
	keep    bool    // the connection goes on
	began   bool    // the answer's head was written
	ended   bool    // the answer was written to its end
	sized   bool    // the answer's body has a length
	chunked bool    // the answer's body is sent in chunks
	silent  bool    // the answer has no body

	looking bool // somebody reads ahead to see the client leave
	looked  chan struct{}
	left    atomic.Bool // the client has left

	mu      sync.Mutex // guards the following and the session's reads while a body is sent
	halted  bool
	hurried bool // reading the body has a limit
	paced   bool // and somebody reads it
}

func newTurn(e *engine) *turn {
	t := &turn{looked: make(chan struct{}, 1), in: e.small.get(), out: e.small.get()}
	t.trip = trip{up: e.upstream, buffers: e.small, large: e.large}
	return t
}

// begin takes the octet that the session has read.
func (t *turn) begin(s *session) {
	t.s = s
	*t.out = (*t.out)[:0]
	(*t.in)[0] = s.octet[0]
	t.r, t.w = 0, 1
}

// release gives up the session, and buffers that have grown.
func (t *turn) release() {
	if len(*t.in) > smallBuffer {
		t.in = t.s.e.small.get()
	}
	if cap(*t.out) > smallBuffer {
		t.out = t.s.e.small.get()
	}
	if cap(t.trip.out) > largeBuffer {
		t.trip.out = nil
	}
	t.x.release()
	t.s = nil
}

// carry carries one request. It returns whether the connection can carry another.
func (t *turn) carry(ctx context.Context) bool {
	x := &t.x
	copy(*t.in, (*t.in)[t.r:t.w])
	t.r, t.w = 0, t.w-t.r
	now := time.Now()
	x.begin(now, t.s.peer, t.s.trusted, "HTTP/1.1")
	x.way = &t.s.way
	t.trip.now = now
	t.keep, t.began, t.ended, t.sized, t.chunked, t.silent = true, false, false, false, false, false
	t.left.Store(false)
	t.halted, t.hurried, t.paced = false, true, false
	refused, ok := t.readHead(now)
	if !ok {
		return false
	}
	e := t.s.e
	switch {
	case refused != nil:
		t.keep = false // whatever follows may not be a request
		e.refuse(t, x, refused)
	case !t.s.secure:
		e.redirect(t, x)
	default:
		e.carry(ctx, t, x, &t.trip)
	}
	if x.status == http.StatusSwitchingProtocols {
		e.g.finish(x)
		return false
	}
	e.g.finish(x)
	return t.settle()
}

// readHead reads the head of a request. ok is false if the client has left, or
// takes too long; a refusal says why the head is not acted upon.
func (t *turn) readHead(now time.Time) (refused *refusal, ok bool) {
	h := &t.req
	h.Reset()
	most := t.s.e.g.cfg.Limits.HeadBytes
	waited := false
	for {
		done, err := h.Parse((*t.in)[:t.w], most)
		if err != nil {
			t.noteHead()
			return headRefusal(err, most), true
		}
		if done {
			break
		}
		if t.w > 1 && !waited {
			waited = true
			t.s.reads.until(now.Add(t.s.e.g.cfg.Limits.HeadTimeout))
		}
		if t.w == len(*t.in) {
			bigger := make([]byte, 2*len(*t.in))
			copy(bigger, *t.in)
			t.in = &bigger
		}
		n, err := t.s.conn.Read((*t.in)[t.w:])
		if t.w += n; n == 0 && err != nil {
			return nil, false
		}
	}
	return t.noteHead(), true
}

// noteHead makes the request of the exchange from the head, as far as it goes.
func (t *turn) noteHead() *refusal {
	h, rq := &t.req, &t.x.request
	*rq = request{fields: &h.Section, method: methodName(h.Bytes(h.Method)), target: h.Bytes(h.Target)}
	if h.Len == 0 {
		t.base, t.r = t.w, t.w
		t.body.BeginSized(0)
		return nil
	}
	if len(rq.target) == 0 || rq.target[0] == '?' {
		rq.target = append([]byte{'/'}, rq.target...)
	}
	t.base, t.r = h.Len, h.Len
	switch {
	case h.Chunked:
		rq.length = -1
		t.body.BeginChunked()
	default:
		rq.length = max(0, h.Length)
		t.body.BeginSized(rq.length)
	}
	if h.Minor == 0 {
		t.x.proto = "HTTP/1.0"
	}
	t.keep = h.Persists(h.Minor)
	rq.nominates, rq.expects = h.Nominates, h.Continue && rq.length != 0
	rq.upgrades = h.Switch && h.Minor == 1 && rq.method == http.MethodGet && rq.length == 0 && upgradesTo(&h.Section, "websocket")
	return t.noteHost(h.Bytes(h.Authority))
}

// noteHost reads the authority that a request names.
func (t *turn) noteHost(authority []byte) *refusal {
	s := t.s
	if string(authority) != s.authority || s.host == "" {
		written := string(authority)
		host, err := parseAuthority(written)
		if err != nil {
			return &refusal{BadRequest, err.Error()}
		}
		s.authority, s.host = written, host
	}
	t.x.request.authority, t.x.request.host = s.authority, s.host
	return nil
}

// methodName returns a method as a string, the common ones without a copy.
func methodName(b []byte) string {
	for _, m := range [...]string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		if string(b) == m {
			return m
		}
	}
	return string(b)
}

// settle ends a turn: what the client still sends of a body that nobody wants
// is passed over if it is little, and else the connection ends. It returns
// whether the connection goes on.
func (t *turn) settle() bool {
	switch {
	case t.left.Load(), t.x.reason == ClientGone, t.x.isBroken(), t.began && !t.ended:
		t.abort()
		return false
	case !t.body.Over() && !t.passOver(), !t.keep && t.x.reason != "":
		t.s.linger(*t.in)
		return false
	}
	return t.keep
}

// passOver reads the rest of a body that is short. It returns false if it is
// not, or does not come.
func (t *turn) passOver() bool {
	if left := t.body.Left(); !t.keep || t.halted || t.req.Continue || left < 0 || left > leftoverBytes {
		return false
	}
	t.s.reads.until(time.Now().Add(leftover))
	for {
		if _, err := t.readBody(); err != nil {
			return err == io.EOF
		}
	}
}

// abort ends the connection so that the answer cannot be taken for complete: a
// length or chunks tell, and otherwise nothing but a reset.
func (t *turn) abort() {
	t.keep = false
	if t.began && (t.chunked || t.sized) {
		t.s.wire.Close() // without the end of TLS
	} else {
		t.s.reset()
	}
}

func (t *turn) bodyIsHere() bool { return t.body.Whole((*t.in)[t.r:t.w]) }

func (t *turn) bodyTrailers() *http1.Section { return &t.body.Trailers }

func (t *turn) readBody() ([]byte, error) {
	for {
		p, n, err := t.body.Next((*t.in)[t.r:t.w])
		t.r += n
		if len(p) > 0 || err != nil {
			t.x.received.Add(uint64(len(p)))
			return p, err
		}
		if err := t.fillBody(); err != nil {
			return nil, err
		}
	}
}

// fillBody reads more of the body. The head stays where it is: it may be needed
// for a page.
func (t *turn) fillBody() error {
	rest := copy((*t.in)[t.base:], (*t.in)[t.r:t.w])
	t.r, t.w = t.base, t.base+rest
	if len(*t.in)-t.w < 4096 {
		bigger := make([]byte, t.w+smallBuffer)
		copy(bigger, (*t.in)[:t.w])
		t.in = &bigger // the fields stay in the old one
	}
	if !t.pace() {
		return errHalted
	}
	n, err := t.s.conn.Read((*t.in)[t.w:])
	t.w += n
	switch {
	case n > 0 || err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if t.isHalted() {
			return errHalted
		}
		return err
	}
	return io.ErrUnexpectedEOF
}

// pace gives the next read its time. It returns false if nobody wants the body.
func (t *turn) pace() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.halted:
	case t.hurried:
		t.s.reads.extend(time.Now(), t.s.e.g.cfg.Limits.StallTimeout)
		t.paced = true
	default:
		t.s.reads.lift()
	}
	return !t.halted
}

func (t *turn) isHalted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.halted
}

func (t *turn) haltBody() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halted = true
	t.s.reads.strike()
}

func (t *turn) unhurry() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hurried = false; t.paced && !t.halted {
		t.s.reads.lift()
	}
}

func (t *turn) gone() bool { return t.left.Load() }

// watch reads ahead while nothing else reads, to see the client leave. That cannot
// be seen behind a body that is not here as a whole.
func (t *turn) watch(c cutter) {
	if t.looking || !t.bodyIsHere() || t.w == len(*t.in) {
		return
	}
	t.looking = true
	t.s.reads.lift()
	go t.look(c)
}

// look waits for an octet of the next request, or the end.
func (t *turn) look(c cutter) {
	n, err := t.s.conn.Read((*t.in)[t.w : t.w+1])
	t.w += n
	if n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.left.Store(true)
		c.cut()
	}
	t.looked <- struct{}{}
}

func (t *turn) unwatch() {
	if t.looking {
		t.s.reads.strike()
		<-t.looked
		t.looking = false
	}
}

func (t *turn) takeOver() (side, []byte) {
	t.s.conn.SetDeadline(time.Time{})
	return t.s.conn, (*t.in)[t.r:t.w]
}
