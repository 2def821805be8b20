package proxy

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
)

// A handed is the client's end of an exchange that came over HTTP/2, by way of
// net/http's server. It implements client.
type handed struct {
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	x     *exchange
	stall time.Duration
	buf   []byte
	began bool // the answer's head was written
	ended bool
	rest  *http1.Section // trailers of the body
	leash leash

	mu      sync.Mutex
	hurried bool // guarded by mu
	halted  bool // guarded by mu
}

// serveHanded carries a request that net/http has read.
func (e *engine) serveHanded(w http.ResponseWriter, r *http.Request) {
	if !e.g.gate.enter() {
		panic(http.ErrAbortHandler)
	}
	defer e.g.gate.leave()
	x := new(exchange)
	peer := peerAddr(r.RemoteAddr)
	x.begin(time.Now(), peer, e.g.policy.trusts(peer), r.Proto)
	c := &handed{w: w, r: r, rc: http.NewResponseController(w), x: x, stall: e.g.cfg.Limits.StallTimeout, hurried: true}
	t := e.turns.Get().(*turn) // for its trip
	defer e.turns.Put(t)
	x.way = new(way)
	if refused := noteHanded(&x.request, r, e.g.cfg.Limits.HeadBytes); refused != nil {
		e.refuse(c, x, refused)
	} else {
		e.carry(r.Context(), c, x, &t.trip)
	}
	e.g.finish(x)
	if !c.ended {
		panic(http.ErrAbortHandler)
	}
}

// noteHanded makes a request of net/http's, and refuses what the server let
// through and clones could read in another way.
func noteHanded(rq *request, r *http.Request, most int) *refusal {
	size := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(": \r\n") + len(v)
		}
	}
	hosts := r.Header["Host"] // beside an :authority
	r.Header.Del("Host")
	*rq = request{
		fields: sectionOf(r.Header), method: r.Method, target: []byte(r.RequestURI), authority: r.Host, length: r.ContentLength,
	}
	for name := range r.Trailer {
		rq.fields.Append("Trailer", name)
	}
	if len(r.Trailer) > 0 {
		rq.length = -1 // only chunks can have trailers
	}
	rq.expects = rq.length != 0 && http1.EqualFold([]byte(r.Header.Get("Expect")), "100-continue")
	var err error
	switch {
	case size > most:
		return headRefusal(http1.ErrHeadTooLarge, most)
	case r.Method == http.MethodConnect:
		return &refusal{reason: MethodRefused}
	case len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host:
		return &refusal{BadRequest, "the Host field differs from the authority"}
	}
	if rq.host, err = parseAuthority(r.Host); err != nil {
		return &refusal{BadRequest, err.Error()}
	}
	return nil
}

func (c *handed) bodyIsHere() bool { return c.x.request.length == 0 }

func (c *handed) readBody() ([]byte, error) {
	if c.buf == nil {
		c.buf = make([]byte, smallBuffer)
	}
	if !c.pace() {
		return nil, errHalted
	}
	n, err := c.r.Body.Read(c.buf)
	c.x.received.Add(uint64(n))
	switch {
	case err == io.EOF:
		c.rest = sectionOf(c.r.Trailer)
	case err != nil && !os.IsTimeout(err):
		err = io.ErrUnexpectedEOF
	}
	return c.buf[:n], err
}

// pace gives the next read its time. It returns false if nobody wants the body.
func (c *handed) pace() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hurried && !c.halted {
		c.rc.SetReadDeadline(time.Now().Add(c.stall))
	}
	return !c.halted
}

func (c *handed) bodyTrailers() *http1.Section { return c.rest }

func (c *handed) haltBody() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = true
	c.r.Body.Close()
}

func (c *handed) unhurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hurried && c.x.request.length != 0 {
		c.hurried = false
		c.rc.SetReadDeadline(time.Time{})
	}
}

func (c *handed) interim(a *response) error {
	if a.status == http.StatusContinue {
		return nil // the server sends it when the body is first read
	}
	c.setFields(a)
	c.w.WriteHeader(a.status)
	clear(c.w.Header())
	return nil
}

func (c *handed) head(a *response) error {
	c.began, c.x.status = true, a.status
	c.setFields(a)
	h := c.w.Header()
	if a.length >= 0 && a.status != 204 {
		h["Content-Length"] = []string{string(appendNumber(nil, a.length))}
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or the server guesses one
	}
	c.w.WriteHeader(a.status)
	return nil
}

// setFields sets the fields of an answer that go to the client.
func (c *handed) setFields(a *response) {
	h := c.w.Header()
	var policy headerPolicy
	for _, f := range a.fields.Fields {
		if f.Kind == http1.Trailer || f.Kind == http1.Ordinary && a.ours || policy.returns(a.fields, f, a.nominates) {
			h.Add(string(a.fields.Name(f)), string(a.fields.Value(f)))
		}
	}
}

func (c *handed) write(p []byte) error {
	c.rc.SetWriteDeadline(time.Now().Add(c.stall))
	n, err := c.w.Write(p)
	c.x.sent.Add(uint64(n))
	return err
}

func (c *handed) flush() error {
	c.rc.SetWriteDeadline(time.Now().Add(c.stall))
	err := c.rc.Flush()
	// A deadline that passes resets the stream, even between writes.
	c.rc.SetWriteDeadline(time.Time{})
	return err
}

func (c *handed) end(trailers *http1.Section) error {
	c.ended = true
	if trailers != nil && len(trailers.Fields) > 0 {
		if err := c.flush(); err != nil { // or a short answer gets a length, and no trailers
			return err
		}
		for _, f := range trailers.Fields {
			if f.Kind == http1.Ordinary {
				c.w.Header().Add(http.TrailerPrefix+string(trailers.Name(f)), string(trailers.Value(f)))
			}
		}
	}
	return nil
}

func (c *handed) watch(t cutter) { c.leash.watch(c.r.Context(), t) }

func (c *handed) unwatch() { c.leash.unwatch() }

func (c *handed) gone() bool { return c.r.Context().Err() != nil }

func (c *handed) takeOver() (net.Conn, []byte) { return nil, nil }
