package proxy

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/proxy/http2"
)

// A call is a request that came over HTTP/2 and all the memory that it takes. It
// implements client.
type call struct {
	m    *mux
	s    *http2.Stream
	x    exchange
	trip trip
	way  way

	fields http1.Section
	target []byte
	in     *[]byte       // what was last read of the body; nil: nothing
	rest   http1.Section // the body's trailers

	status int    // of the answer's head, while that waits for what follows it
	held   []byte // octets of the answer's body that wait, too
	silent bool   // the answer has no body
	ended  bool   // the answer was written to its end

	cutter cutter // cut when the client leaves
	left   atomic.Bool
	lane   *lane // of a tunnel
}

func newCall(e *engine) *call {
	return &call{trip: trip{up: e.upstream, buffers: e.small, large: e.large}}
}

// begin takes a request.
func (c *call) begin(m *mux, s *http2.Stream) {
	c.m, c.s = m, s
	c.status, c.held, c.silent, c.ended = 0, nil, false, false
	c.left.Store(false)
}

// release gives up the stream, and memory that has grown.
func (c *call) release() {
	if c.lane != nil {
		c.lane.retire()
		c.lane = nil
	}
	if c.in != nil {
		c.m.e.small.put(c.in)
		c.in = nil
	}
	if cap(c.trip.out) > largeBuffer {
		c.trip.out = nil
	}
	if cap(c.fields.Buf) > largeBuffer {
		c.fields = http1.Section{}
	}
	c.x.release()
	c.rest.Reset()
	c.m, c.s, c.held, c.cutter = nil, nil, nil, nil
	c.way = way{}
}

// carry carries the request. A stream whose answer has no end is reset by
// whoever called.
func (c *call) carry(ctx context.Context) {
	x, m := &c.x, c.m
	now := time.Now()
	x.begin(now, m.peer, m.trusted, "HTTP/2.0")
	x.way = &c.way
	c.trip.now = now
	if refused := c.noteHead(); refused != nil {
		m.e.refuse(c, x, refused)
	} else {
		m.e.carry(ctx, c, x, &c.trip)
		m.note(c)
	}
	m.e.g.finish(x)
}

// noteHead makes the request of the exchange from the stream's, and refuses what
// HTTP/2 allows and clones could read in another way.
func (c *call) noteHead() *refusal {
	r, rq := &c.s.Request, &c.x.request
	c.fields.Reset()
	c.target = append(c.target[:0], r.Path...)
	*rq = request{fields: &c.fields, method: r.Method, target: c.target, authority: r.Authority, length: r.ContentLength}
	announced, err := c.noteFields(r.Fields)
	most := c.m.e.g.cfg.Limits.HeadBytes
	switch {
	case r.Oversized:
		return headRefusal(http1.ErrHeadTooLarge, most)
	case r.Method == http.MethodConnect && r.Protocol != "websocket":
		return &refusal{reason: MethodRefused}
	case r.Host != "" && r.Host != r.Authority:
		return &refusal{BadRequest, "the Host field differs from the authority"}
	}
	if err == nil {
		err = http1.CheckPath(r.Method, c.target)
	}
	if err == nil {
		rq.host, err = c.host(r.Authority)
	}
	if err != nil {
		return headRefusal(err, most)
	}
	if r.Method == http.MethodConnect {
		c.switchMethod()
	} else {
		c.noteLength(announced)
	}
	return nil
}

// noteFields takes the fields over. announced reports that trailers follow.
func (c *call) noteFields(fields []http2.Field) (announced bool, err error) {
	rq := &c.x.request
	for _, f := range fields {
		c.fields.Append(f.Name, f.Value)
		switch last := c.fields.Fields[len(c.fields.Fields)-1]; last.Kind {
		case http1.Trailer:
			announced, err = true, errors.Join(err, http1.CheckTrailer(c.fields.Value(last)))
		case http1.Expect:
			rq.expects = rq.expects || http1.EqualFold(c.fields.Value(last), "100-continue")
		}
	}
	return announced, err
}

// host returns the host that an authority names.
func (c *call) host(authority string) (string, error) {
	if host := c.m.recall(c, authority); host != "" {
		return host, nil
	}
	return parseAuthority(authority)
}

// noteLength decides how the body goes on to a clone that speaks HTTP/1.1.
func (c *call) noteLength(announced bool) {
	rq := &c.x.request
	switch {
	case rq.length == 0:
		rq.expects = false
	case announced:
		rq.length = -1 // only chunks can have trailers
	case rq.length < 0:
		if n, whole := c.s.Arrived(); whole && len(c.s.Trailers()) == 0 {
			rq.length = int64(n)
		}
	}
}

// switchMethod makes an extended CONNECT the upgrade that it is over HTTP/1.1
// (RFC 8441 §5). The key is ours, and so is the check of what the clone makes of it.
func (c *call) switchMethod() {
	rq := &c.x.request
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	c.fields.Append("Sec-WebSocket-Key", key)
	rq.method, rq.length, rq.expects, rq.upgrades, rq.accept = http.MethodGet, 0, false, true, acceptOf(key)
}

func (c *call) bodyIsHere() bool {
	n, whole := c.s.Arrived()
	return whole && n <= smallBuffer
}

func (c *call) readBody() ([]byte, error) {
	if c.in == nil {
		c.in = c.m.e.small.get()
	}
	n, err := c.s.Read(*c.in)
	c.x.received.Add(uint64(n))
	switch {
	case err == nil, err == io.EOF:
	case errors.Is(err, http2.ErrHalted):
		err = errHalted
	case errors.Is(err, http2.ErrStalled):
		err = os.ErrDeadlineExceeded
	default:
		err = io.ErrUnexpectedEOF
	}
	return (*c.in)[:n], err
}

func (c *call) bodyTrailers() *http1.Section {
	c.rest.Reset()
	for _, f := range c.s.Trailers() {
		c.rest.Append(f.Name, f.Value)
	}
	return &c.rest
}

func (c *call) haltBody() { c.s.Halt() }

func (c *call) unhurry() {
	if c.x.request.length != 0 {
		c.s.Patient()
	}
}

func (c *call) watch(k cutter) {
	if c.cutter == nil {
		c.cutter = k
		c.s.Notify(c)
	}
}

func (c *call) unwatch() {
	if c.cutter != nil {
		c.s.Notify(nil)
		c.cutter = nil
	}
}

// Cancel implements http2.Canceler.
func (c *call) Cancel(error) {
	c.left.Store(true)
	c.cutter.cut()
}

func (c *call) gone() bool { return c.left.Load() || c.s.Err() != nil }

func (c *call) takeOver() (side, []byte) {
	c.lane = newLane(c.s)
	return c.lane, nil
}
