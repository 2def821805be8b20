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
)

// A clientSide is the client's end of an exchange on net/http's server: it
// writes the answer and lends out the request's body, each with a deadline that
// progress resets, so that a stalled client does not hold a clone's endpoint.
type clientSide struct {
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	x     *exchange
	stall time.Duration
	body  *requestBody // nil if the request has none
	began bool         // the answer's head was written

	mu    sync.Mutex
	final bool // guarded by mu; no interim answer may be written any more
}

func newClientSide(w http.ResponseWriter, r *http.Request, x *exchange, stall time.Duration) *clientSide {
	c := &clientSide{w: w, r: r, rc: http.NewResponseController(w), x: x, stall: stall}
	if r.ProtoMajor == 1 {
		// The answer to the previous request may have left its deadline.
		c.rc.SetWriteDeadline(time.Time{})
		// An early answer must not wait for the rest of an upload.
		c.rc.EnableFullDuplex()
	}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		c.body = &requestBody{src: r.Body, rc: c.rc, count: &x.received}
		c.body.stall.Store(int64(stall))
	}
	return c
}

// interim passes on an interim answer, but 100: the server sends that one when
// the body is first read.
func (c *clientSide) interim(status int, h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final || status == http.StatusContinue || status == http.StatusSwitchingProtocols {
		return
	}
	out := c.w.Header()
	addHeader(out, h)
	c.w.WriteHeader(status)
	clear(out)
}

// header ends interim answers and returns the headers of the final one.
func (c *clientSide) header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.final = true
	return c.w.Header()
}

// writeHead writes the head of the final answer.
func (c *clientSide) writeHead(status int) {
	h := c.header()
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or the server guesses one
	}
	c.began, c.x.status = true, status
	c.w.WriteHeader(status)
}

// write sends p to the client at once.
func (c *clientSide) write(p []byte) error {
	c.rc.SetWriteDeadline(time.Now().Add(c.stall))
	n, err := c.w.Write(p)
	c.x.sent.Add(uint64(n))
	if err != nil {
		return err
	}
	return c.flush()
}

// flush sends what was written.
func (c *clientSide) flush() error {
	c.rc.SetWriteDeadline(time.Now().Add(c.stall))
	err := c.rc.Flush()
	// Over HTTP/2 a deadline that passes resets the stream, even between writes.
	c.rc.SetWriteDeadline(time.Time{})
	return err
}

// gone reports whether the client has left.
func (c *clientSide) gone() bool { return c.r.Context().Err() != nil }

// close ends the exchange: what is left of the body is not waited for.
func (c *clientSide) close() {
	if c.body != nil {
		c.body.close(c.r.ProtoMajor == 1)
	}
	if c.r.ProtoMajor == 1 {
		c.rc.SetWriteDeadline(time.Now().Add(c.stall)) // for the server's last octets
	}
}

// leftover is how long a client may take to send the rest of a body that was
// answered before its end.
const leftover = 2 * time.Second

// A requestBody is a request's body on its way to a clone. Reading may outlive
// the exchange by a moment, because transports read in the background.
type requestBody struct {
	src   io.ReadCloser
	rc    *http.ResponseController
	count *atomic.Uint64
	stall atomic.Int64          // nanoseconds one read may take; 0: any time
	fault atomic.Pointer[error] // why it could not be read to its end

	mu     sync.Mutex
	closed bool // guarded by mu
	ended  bool // guarded by mu; nothing is left to read
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	if !b.deadline(time.Duration(b.stall.Load())) {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.src.Read(p)
	b.count.Add(uint64(n))
	b.deadline(0)
	if err != nil {
		b.mu.Lock()
		b.ended = true
		b.mu.Unlock()
		if err != io.EOF {
			b.fault.CompareAndSwap(nil, &err)
		}
	}
	return n, err
}

// Close does nothing: a transport that fails to connect closes the body it was
// given, but another endpoint may still need it.
func (b *requestBody) Close() error { return nil }

// deadline bounds the next reads, or no longer bounds them if d is 0. It
// returns false if the exchange is over: its connection is somebody else's.
func (b *requestBody) deadline(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	var end time.Time
	if d > 0 {
		end = time.Now().Add(d)
	}
	b.rc.SetReadDeadline(end)
	return true
}

// unhurry lets the client take any time for the rest of the body: the clone has
// begun to answer, so this may be a stream both ways.
func (b *requestBody) unhurry() {
	b.stall.Store(0)
	b.deadline(0)
}

func (b *requestBody) close(bound bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if bound && !b.ended {
		b.rc.SetReadDeadline(time.Now().Add(leftover))
	}
}

// refusal returns why the body could not be read, or nil if that was not the
// client's doing.
func (b *requestBody) refusal(ctx context.Context) *refusal {
	if b == nil {
		return nil
	}
	fault := b.fault.Load()
	switch {
	case fault == nil:
		return nil
	case errors.Is(*fault, os.ErrDeadlineExceeded):
		return &refusal{BodyTimeout, ""}
	case ctx.Err() != nil, errors.Is(*fault, io.ErrUnexpectedEOF):
		return &refusal{ClientGone, ""}
	}
	return &refusal{BadBody, (*fault).Error()}
}

// addHeader adds the values of src to dst.
func addHeader(dst, src http.Header) {
	for name, values := range src {
		dst[name] = append(dst[name], values...)
	}
}
