package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// An h2c carries requests to endpoints that speak HTTP/2 without TLS, as gRPC
// services do, on net/http's transport. The host of a URL it is given is an
// endpoint's key, so that no two clones ever share a connection.
type h2c struct {
	e         *engine
	transport *http.Transport
}

// endpointKey is under which the context of a round trip holds its endpoint.
type endpointKey struct{}

func newH2C(e *engine, d *dialer) *h2c {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.dial(ctx, ctx.Value(endpointKey{}).(*endpoint))
		},
		DisableCompression:     true,
		IdleConnTimeout:        e.g.cfg.Limits.UpstreamIdle,
		MaxResponseHeaderBytes: maxAnswerHead,
		Protocols:              new(http.Protocols),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	tr.Protocols.SetUnencryptedHTTP2(true)
	return &h2c{e: e, transport: tr}
}

// forward sends a request to an endpoint and its answer to the client.
func (h *h2c) forward(ctx context.Context, c client, x *exchange, p *pool) *refusal {
	lines, refused := h.e.fields(nil, x)
	if refused != nil {
		return refused
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := &silence{most: h.e.g.cfg.Limits.ResponseTimeout, cancel: cancel}
	body := &bodyReader{c: c, ended: quiet.begin}
	out := outbound(ctx, &x.request, lines, body)
	out.Host = x.upstreamHost()
	if isGRPC(out.Header) { // whose head may come with the first message of a stream
		quiet.end()
		c.unhurry()
	}
	if x.request.length == 0 {
		out.Body = nil
		quiet.begin()
	}
	cutter := &contextCutter{cancel}
	c.watch(cutter)
	defer c.unwatch()
	defer body.close()

	var res *http.Response
	refused = h.e.try(ctx, x, p, func(_ context.Context, ep *endpoint) (err error) {
		if res, err = h.trip(out, ep); err != nil {
			err = h.explain(ctx, c, body, err)
		}
		return err
	})
	quiet.end()
	if refused != nil {
		return refused
	}
	defer x.endpoint.release()
	defer res.Body.Close()
	x.waited = time.Since(x.start)
	c.unhurry()
	h.reply(ctx, c, x, res)
	return nil
}

// A refusedError says that an endpoint would not begin with a request (RFC 9113
// §8.7), again and again.
type refusedError struct {
	addr  netip.AddrPort
	spent bool // its body was read, so nobody else can have it
}

func (e *refusedError) Error() string { return fmt.Sprintf("%s: it refuses requests", e.addr) }

// maxRefusals is how often an endpoint may refuse a request. The transport would
// ask again for a minute; once is for connections that are just being closed.
const maxRefusals = 2

// trip sends a request to one endpoint and returns its answer.
func (h *h2c) trip(req *http.Request, e *endpoint) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(context.WithValue(req.Context(), endpointKey{}, e))
	asked := 0
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if asked++; asked > maxRefusals {
			cancel(&refusedError{addr: e.addr})
		}
	}}))
	if body, ok := req.Body.(*bodyReader); ok {
		req.GetBody = func() (io.ReadCloser, error) { // the request was refused
			if body.begun.Load() {
				return nil, &refusedError{e.addr, true}
			}
			return body, nil
		}
	}
	to := *req.URL
	to.Scheme, to.Host = "http", e.key
	req.URL = &to
	res, err := h.transport.RoundTrip(req)
	if err != nil {
		if refused, ok := errors.AsType[*refusedError](context.Cause(ctx)); ok {
			return nil, refused
		}
		return nil, err
	}
	for _, is := range res.Header["Clonegate-Clone"] {
		if is := registry.ID(is); is != e.clone {
			res.Body.Close()
			return nil, &strangerError{is, e.clone}
		}
	}
	return res, nil
}

// explain finds out who ended a round trip.
func (h *h2c) explain(ctx context.Context, c client, body *bodyReader, err error) error {
	if fault := body.fault.Load(); fault != nil {
		if r := bodyRefusal(*fault); r != nil {
			return &clientError{r}
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if c.gone() {
		return errCut
	}
	return err
}

// reply sends an endpoint's answer to the client as it comes.
func (h *h2c) reply(ctx context.Context, c client, x *exchange, res *http.Response) {
	a := response{
		status: res.StatusCode, phrase: []byte(http.StatusText(res.StatusCode)), fields: sectionOf(res.Header), length: res.ContentLength,
		empty: x.request.method == http.MethodHead || res.StatusCode == 204 || res.StatusCode == 304,
	}
	for name := range res.Trailer {
		a.fields.Append("Trailer", name)
	}
	a.fields = x.announce(x.shed(a.fields))
	if c.head(&a) != nil {
		x.reason = ClientGone
		return
	}
	buf := h.e.small.get()
	defer h.e.small.put(buf)
	n, err := readFirst(c, res.Body, *buf)
	for ; ; n, err = res.Body.Read(*buf) {
		if n > 0 && (c.write((*buf)[:n]) != nil || c.flush() != nil) {
			x.reason = ClientGone
			return
		}
		switch {
		case err == io.EOF:
			x.rest()
			if c.end(sectionOf(res.Trailer)) != nil {
				x.reason = ClientGone
			}
			return
		case err != nil && (c.gone() || context.Cause(ctx) != nil):
			x.reason = ClientGone
			return
		case err != nil:
			x.reason, x.cause = CutByClone, err.Error()
			return
		case n == 0:
			c.flush()
		}
	}
}

// headAhead is how long the head of an answer waits for the first octets of the
// body, to leave with them.
const headAhead = 5 * time.Millisecond

// readFirst reads the first octets of a body. If they do not come at once, the
// head goes ahead: this may be a stream.
func readFirst(c client, body io.Reader, buf []byte) (int, error) {
	var mu sync.Mutex
	came := false // guarded by mu
	ahead := time.AfterFunc(headAhead, func() {
		mu.Lock()
		defer mu.Unlock()
		if !came {
			c.flush() // what it meets, the next write meets
		}
	})
	n, err := body.Read(buf)
	ahead.Stop()
	mu.Lock()
	defer mu.Unlock()
	came = true
	return n, err
}

// outbound makes the request that goes to a clone out of a client's and the
// field lines that the policy wrote.
func outbound(ctx context.Context, rq *request, lines []byte, body io.ReadCloser) *http.Request {
	h := headerOf(lines)
	out := (&http.Request{
		Method: rq.method, URL: targetURL(string(rq.target)), Host: rq.authority, Header: h,
		ProtoMajor: 2, Body: body, ContentLength: rq.length,
	}).WithContext(ctx)
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // or the transport invents one
	}
	return out
}

func isGRPC(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "application/grpc")
}

// targetURL returns a URL that is written on the wire as the path and query of
// a request's target were: parsing and printing would change what it spells
// oddly, such as "/a|b" and "?a=%zz".
func targetURL(target string) *url.URL {
	path, query, hasQuery := strings.Cut(target, "?")
	u := &url.URL{RawQuery: query, ForceQuery: hasQuery && query == ""}
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return u
	}
	// An opaque path would read as a host.
	u.Path, u.RawPath = path, path
	if plain, err := url.PathUnescape(path); err == nil {
		u.Path = plain
	}
	return u
}

// headerOf returns field lines as net/http has them.
func headerOf(lines []byte) http.Header {
	h := http.Header{}
	for line := range bytes.Lines(lines) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		key := textproto.CanonicalMIMEHeaderKey(string(name))
		h[key] = append(h[key], string(bytes.TrimSpace(value)))
	}
	return h
}

// sectionOf returns net/http's fields as a section, ordered by name.
func sectionOf(h http.Header) *http1.Section {
	s := new(http1.Section)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			s.Append(name, v)
		}
	}
	return s
}

// contextCutter cuts what a context bounds.
type contextCutter struct{ cancel context.CancelCauseFunc }

func (c *contextCutter) cut() { c.cancel(errCut) }

// A bodyReader reads a client's body for a transport, which may go on reading in
// the background when the exchange is over.
type bodyReader struct {
	c     client
	ended func()                // called at the end of the body
	fault atomic.Pointer[error] // why it could not be read to its end

	mu     sync.Mutex
	rest   []byte // guarded by mu; read, but not handed out
	closed bool   // guarded by mu

	begun, over atomic.Bool // somebody has read; there is nothing more to read
}

// Read implements io.Reader.
func (b *bodyReader) Read(p []byte) (int, error) {
	b.begun.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.rest) == 0 {
		var err error
		if b.rest, err = b.c.readBody(); err == io.EOF {
			b.over.Store(true)
			b.ended()
			return 0, io.EOF
		} else if err != nil {
			b.fault.CompareAndSwap(nil, &err)
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close ends a read that waits for the client: the transport closes a body when
// its connection breaks, and tells nobody of that before the read has ended. A
// body of which nothing was read stays as it is: the transport did not get as
// far, and another endpoint may still need it.
func (b *bodyReader) Close() error {
	if b.begun.Load() && !b.over.Load() {
		b.c.haltBody()
	}
	return nil
}

// close makes sure that the client's body is not touched any more.
func (b *bodyReader) close() {
	b.c.haltBody()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// A silence is the time between a request that was sent and the head of its
// answer. If it lasts too long, it cancels the round trip with errSilent.
type silence struct {
	most   time.Duration
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // guarded by mu
	over  bool        // guarded by mu
}

// begin begins the silence, unless it is over already: an answer may come before
// its request was sent to the end.
func (s *silence) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over && s.timer == nil {
		s.timer = time.AfterFunc(s.most, func() { s.cancel(errSilent) })
	}
}

func (s *silence) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
