package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/clonegate/clonegate/registry"
)

// Bounds of what endpoints may send.
const maxAnswerHead = 1 << 20 // octets

// maxTries is how many endpoints are tried for one request.
const maxTries = 3

// An upstream keeps connections to endpoints, on net/http's transports. The
// host of a URL it is given is an endpoint's key, so that no two clones ever
// share a connection, even if they have shared an address.
type upstream struct {
	http1, h2c *http.Transport
	dialer     *dialer
}

// endpointKey is under which the context of a round trip holds its endpoint.
type endpointKey struct{}

func newUpstream(d *dialer, l Limits) *upstream {
	u := &upstream{dialer: d}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.dial(ctx, ctx.Value(endpointKey{}).(*endpoint))
	}
	base := http.Transport{
		DialContext:            dial,
		DialTLSContext:         dial,
		DisableCompression:     true,
		MaxIdleConns:           l.IdleConns,
		MaxIdleConnsPerHost:    l.IdlePerEndpoint,
		IdleConnTimeout:        l.UpstreamIdle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHead,
		ReadBufferSize:         bufferSize,
		WriteBufferSize:        bufferSize,
		Protocols:              new(http.Protocols),
	}
	base.Protocols.SetHTTP1(true)
	u.http1 = &base

	u.h2c = base.Clone()
	u.h2c.Protocols = new(http.Protocols)
	u.h2c.Protocols.SetUnencryptedHTTP2(true)
	u.h2c.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second}
	return u
}

// trip sends a request to one endpoint, in the name of the exchange that ctx
// belongs to, and returns its answer.
func (u *upstream) trip(req *http.Request, e *endpoint) (*http.Response, error) {
	ctx := context.WithValue(req.Context(), endpointKey{}, e)
	req = req.WithContext(ctx)
	to := *req.URL
	to.Scheme, to.Host = "http", e.key
	if e.protocol == registry.HTTPS {
		to.Scheme = "https"
	}
	req.URL = &to
	transport := u.http1
	if e.protocol == registry.H2C {
		transport = u.h2c
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		if context.Cause(ctx) == errSilent {
			err = errSilent
		}
		return nil, err
	}
	if res.StatusCode < 200 {
		res.Body.Close()
		return nil, fmt.Errorf("answered with the unexpected status %d", res.StatusCode)
	}
	return res, nil
}

func (u *upstream) close() {
	u.http1.CloseIdleConnections()
	u.h2c.CloseIdleConnections()
}

// errSilent is the cause by which a round trip ends whose endpoint sent nothing
// in time.
var errSilent = errors.New("no answer in time")

// A silence is the time between a request that was sent and the head of its
// answer. If it lasts too long, it cancels the round trip with errSilent.
type silence struct {
	most  time.Duration
	timer *time.Timer
	over  atomic.Bool
}

func newSilence(most time.Duration, cancel context.CancelCauseFunc) *silence {
	s := &silence{most: most}
	s.timer = time.AfterFunc(time.Hour, func() {
		if !s.over.Load() {
			cancel(errSilent)
		}
	})
	s.timer.Stop()
	return s
}

func (s *silence) begin() { s.timer.Reset(s.most) }

// end ends the silence, even if it has not begun: an answer may come before its
// request was sent to the end.
func (s *silence) end() {
	s.over.Store(true)
	s.timer.Stop()
}

// outbound makes the request that goes to a clone out of the client's: method,
// host, target and body unchanged to the octet.
func outbound(ctx context.Context, c *clientSide, h http.Header, s *silence) *http.Request {
	r := c.r
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			c.interim(status, http.Header(h))
			return nil
		},
		WroteRequest: func(httptrace.WroteRequestInfo) {
			if !isGRPC(h) { // whose head may come with the first message of a stream
				s.begin()
			}
		},
	})
	out := (&http.Request{
		Method: r.Method, URL: targetURL(r), Host: r.Host, Header: h,
		ProtoMajor: 1, ProtoMinor: 1, ContentLength: r.ContentLength,
	}).WithContext(ctx)
	if c.body != nil {
		out.Body = c.body
		// The server fills in the values when it has read the body.
		if out.Trailer = r.Trailer; len(r.Trailer) > 0 {
			out.ContentLength = -1 // only chunks can have trailers
		}
	}
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
func targetURL(r *http.Request) *url.URL {
	path, query, hasQuery := strings.Cut(originForm(r.RequestURI), "?")
	u := &url.URL{RawQuery: query, ForceQuery: hasQuery && query == ""}
	if strings.HasPrefix(path, "//") {
		// An opaque path would read as a host.
		u.Path, u.RawPath = r.URL.Path, r.URL.RawPath
	} else {
		u.Opaque = path
	}
	return u
}

// originForm returns a request target without the scheme and authority that an
// absolute one begins with (RFC 9112 §3.2).
func originForm(uri string) string {
	if strings.HasPrefix(uri, "/") || uri == "*" {
		return uri
	}
	_, rest, _ := strings.Cut(uri, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[i:]
	} else {
		rest = ""
	}
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return rest
}

// blame turns the error of a round trip into a refusal, and says whether the
// endpoint is at fault and whether nothing was sent to it. What the client did
// never counts against an endpoint.
func blame(c *clientSide, e *endpoint, err error) (r *refusal, fault, unsent bool) {
	if r := c.body.refusal(c.r.Context()); r != nil {
		return r, false, false
	}
	if c.gone() {
		return &refusal{ClientGone, ""}, false, false
	}
	var dial *dialError
	switch {
	case errors.Is(err, errSilent):
		return &refusal{UpstreamTimeout, ""}, true, false
	case errors.As(err, &dial) && dial.refused:
		return &refusal{AddressRefused, dial.err.Error()}, true, true
	case errors.As(err, &dial):
		return &refusal{Unreachable, dial.Error()}, true, true
	}
	return &refusal{UpstreamBroken, fmt.Sprintf("%s: %v", e.addr, err)}, true, false
}
