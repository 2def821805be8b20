package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// An engine moves the octets: it is the gateway's only user, together with
// clientSide and upstream, of net/http's server and transport. What it decides
// nothing about is asked of the gateway.
type engine struct {
	g        *Gateway
	upstream *upstream
	buffers  *buffers
}

func newEngine(g *Gateway) *engine {
	return &engine{g: g, upstream: newUpstream(g.dialer, g.cfg.Limits), buffers: new(buffers)}
}

// serve accepts connections until ctx ends or a listener fails, and drains.
func (e *engine) serve(ctx context.Context, l Listeners) error {
	sources := newSources(e.g.cfg.Limits.ConnsPerSource, e.g.policy.trusts, e.g.metrics.refused.Inc)
	front, plain := e.server(http.HandlerFunc(e.carry)), e.server(http.HandlerFunc(e.redirect))
	front.TLSConfig = e.tlsConfig()
	running, ctx := errgroup.WithContext(ctx)
	for _, ln := range l.HTTPS {
		running.Go(func() error { return front.ServeTLS(sources.listener(ln), "", "") })
	}
	for _, ln := range l.Redirect {
		running.Go(func() error { return plain.Serve(sources.listener(ln)) })
	}
	running.Go(func() error {
		<-ctx.Done()
		e.drain(front, plain)
		return nil
	})
	return running.Wait()
}

// drain lets the requests at work end and cuts those that take too long.
func (e *engine) drain(servers ...*http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), e.g.cfg.Limits.DrainGrace)
	defer cancel()
	e.g.tenants.shutTunnels()
	var draining sync.WaitGroup
	for _, s := range servers {
		draining.Go(func() {
			if s.Shutdown(ctx) != nil {
				s.Close()
			}
		})
	}
	draining.Wait()
}

func (e *engine) close() { e.upstream.close() }

func (e *engine) server(h http.Handler) *http.Server {
	l := e.g.cfg.Limits
	return &http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            l.HeadTimeout,
		IdleTimeout:                  l.IdleTimeout,
		MaxHeaderBytes:               2 * l.HeadBytes, // the policy answers better, up to here
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(e.g.cfg.Log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: l.StreamsPerConn,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     l.StallTimeout,
		},
	}
}

func (e *engine) tlsConfig() *tls.Config {
	c := e.g.cfg.TLS.Clone()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

// carry is the way of every request that came over TLS.
func (e *engine) carry(w http.ResponseWriter, r *http.Request) {
	if !e.g.gate.enter() {
		panic(http.ErrAbortHandler)
	}
	defer e.g.gate.leave()
	x := e.exchange(r)
	c := newClientSide(w, r, x, e.g.cfg.Limits.StallTimeout)
	defer e.finish(c, x)
	if refused := e.route(c, r, x); refused != nil {
		e.refuse(c, x, refused)
	}
}

func (e *engine) exchange(r *http.Request) *exchange {
	path, _, _ := strings.Cut(originForm(r.RequestURI), "?")
	return &exchange{
		id: randomID(), start: time.Now(), peer: peerAddr(r.RemoteAddr),
		proto: r.Proto, method: r.Method, path: path,
	}
}

// finish ends an exchange however it ended. An answer that was cut, or that
// nobody waited for, must not look like a complete one.
func (e *engine) finish(c *clientSide, x *exchange) {
	fault := recover()
	if fault != nil {
		e.g.cfg.Log.Error("panic in a request", "request", x.id, "err", fmt.Sprint(fault), "stack", string(debug.Stack()))
		x.reason, x.cause = InternalError, fmt.Sprint(fault)
		if !c.began {
			e.refuse(c, x, &refusal{InternalError, x.cause})
			fault = nil
		}
	}
	c.close()
	e.g.finish(x)
	if fault != nil || x.reason == CutByClone || !c.began {
		panic(http.ErrAbortHandler)
	}
}

// route finds out where a request goes and sends it there. A refusal means
// that the client was answered nothing yet.
func (e *engine) route(c *clientSide, r *http.Request, x *exchange) *refusal {
	if refused := checkHead(r, e.g.cfg.Limits.HeadBytes); refused != nil {
		return refused
	}
	host, err := parseAuthority(r.Host)
	if err != nil {
		return &refusal{BadRequest, err.Error()}
	}
	var reason Reason
	if x.target, reason = e.g.resolve(host); reason != "" {
		return &refusal{reason: reason}
	}
	h, looped := e.g.policy.request(r.Header, sender{
		peer: x.peer, host: r.Host, proto: "https", request: x.id, target: x.target,
	})
	if looped {
		return &refusal{reason: Loop}
	}
	if x.tenant = e.g.tenants.of(x.target.clone); x.tenant == nil {
		return &refusal{reason: Stopping} // it left this instant
	}
	p := x.tenant.pool(x.target.service)
	if p == nil {
		return &refusal{reason: UnknownService}
	}
	return e.occupy(c, x, p, h)
}

// occupy carries the request as one of those at work for the clone.
func (e *engine) occupy(c *clientSide, x *exchange, p *pool, h http.Header) *refusal {
	done := sync.OnceFunc(func() { x.tenant.atWork.Add(-1) })
	defer done()
	if x.tenant.atWork.Add(1) > int64(e.g.cfg.Limits.RequestsPerClone) {
		return &refusal{reason: Overloaded}
	}
	if c.r.ProtoMajor == 1 && c.r.Method == http.MethodGet && c.body == nil && upgradeTo(c.r.Header) == "websocket" {
		return e.upgrade(c, x, p, h, done)
	}
	return e.forward(c, x, p, h)
}

// checkHead refuses what the server let through and clones could read in
// another way.
func checkHead(r *http.Request, most int) *refusal {
	size := len(r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(": \r\n") + len(v)
		}
	}
	hosts := r.Header["Host"] // beside an :authority
	switch {
	case size > most:
		return &refusal{HeadTooLarge, fmt.Sprintf("they have %d octets; at most %d are taken", size, most)}
	case r.Method == http.MethodConnect:
		return &refusal{reason: MethodRefused}
	case r.URL.User != nil:
		return &refusal{BadRequest, "the request's target holds userinfo"}
	case strings.Contains(r.RequestURI, "#"):
		return &refusal{BadRequest, "the request's target holds a fragment"}
	case len(hosts) > 1 || len(hosts) == 1 && hosts[0] != r.Host:
		return &refusal{BadRequest, "the Host header differs from the authority"}
	}
	return nil
}

// forward sends a request to an endpoint and its answer to the client.
func (e *engine) forward(c *clientSide, x *exchange, p *pool, h http.Header) *refusal {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	defer cancel(nil)
	silence := newSilence(e.g.cfg.Limits.ResponseTimeout, cancel)
	out := outbound(ctx, c, h, silence)
	res, refused := try(e, c, x, p, func(ep *endpoint) (*http.Response, error) { return e.upstream.trip(out, ep) })
	silence.end()
	if refused != nil {
		return refused
	}
	defer x.endpoint.release()
	defer res.Body.Close()
	if c.body != nil {
		c.body.unhurry()
	}
	e.reply(c, x, res)
	return nil
}

// try sends something to endpoints until one took it: to another one only if
// nothing was sent, and at most maxTries. The endpoint that took it is the
// exchange's, and the caller releases it.
func try[T any](e *engine, c *clientSide, x *exchange, p *pool, send func(*endpoint) (T, error)) (T, *refusal) {
	var none T
	var tried []*endpoint
	var last *refusal
	for len(tried) < maxTries {
		ep, reason := p.pick(tried)
		if ep == nil {
			if last == nil {
				last = &refusal{reason, strings.Join(p.faults(), "; ")}
			}
			return none, last
		}
		x.endpoint = ep
		got, err := send(ep)
		if err == nil {
			ep.succeeded()
			return got, nil
		}
		ep.release()
		refused, fault, unsent := blame(c, ep, err)
		if fault && ep.failed(time.Now()) {
			e.g.cfg.Log.Info("endpoint is benched", "clone", p.clone, "service", p.service, "addr", ep.addr, "err", err)
		}
		if !unsent {
			return none, refused
		}
		tried, last = append(tried, ep), refused
	}
	return none, last
}

// reply sends a clone's answer to the client as it comes.
func (e *engine) reply(c *clientSide, x *exchange, res *http.Response) {
	e.g.policy.response(res.Header)
	h := c.header()
	addHeader(h, res.Header)
	announced := len(res.Trailer)
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	c.writeHead(res.StatusCode)
	buf := e.buffers.get()
	defer e.buffers.put(buf)
	if !e.pass(c, x, res, *buf) {
		return
	}
	if len(res.Trailer) > 0 {
		c.flush() // or a short answer gets a length, and no trailers
	}
	for name, values := range res.Trailer {
		if len(res.Trailer) > announced {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// pass copies the body of an answer. It returns false if that ended too early,
// and then the exchange has the reason.
func (e *engine) pass(c *clientSide, x *exchange, res *http.Response, buf []byte) bool {
	if res.ContentLength < 0 && c.flush() != nil {
		x.reason = ClientGone
		return false
	}
	for {
		n, err := res.Body.Read(buf)
		if n > 0 && c.write(buf[:n]) != nil {
			x.reason = ClientGone
			return false
		}
		switch {
		case err == io.EOF:
			return true
		case err != nil && c.gone():
			x.reason = ClientGone
			return false
		case err != nil:
			x.reason, x.cause = CutByClone, err.Error()
			return false
		}
	}
}

// refuse answers a request in a clone's place.
func (e *engine) refuse(c *clientSide, x *exchange, r *refusal) {
	x.reason, x.cause, x.status = r.reason, r.cause, r.reason.Status()
	if r.reason == ClientGone {
		return
	}
	a := e.g.explain(r.reason, x.target, r.cause, x.id)
	in := c.r.Header
	h, body, err := e.g.pages.render(a, wantsPage(in["Accept"]), isNavigation(c.r.Method, in))
	if err != nil {
		e.g.cfg.Log.Error("page not rendered", "request", x.id, "err", err)
		h, body = http.Header{"Clonegate-Reason": {string(r.reason)}, "Cache-Control": {"no-store"}}, nil
	}
	out := c.header()
	clear(out)
	addHeader(out, h)
	if c.r.ProtoMajor == 1 && (r.reason == MethodRefused || r.reason == BadRequest || r.reason == BadBody) {
		out.Set("Connection", "close") // whatever follows may not be a request
	}
	c.writeHead(a.Status)
	if c.r.Method != http.MethodHead {
		c.write(body)
	}
}

// redirect leads from the plain port to the same name over TLS.
func (e *engine) redirect(w http.ResponseWriter, r *http.Request) {
	if !e.g.gate.enter() {
		panic(http.ErrAbortHandler)
	}
	defer e.g.gate.leave()
	x := e.exchange(r)
	c := newClientSide(w, r, x, e.g.cfg.Limits.StallTimeout)
	defer e.finish(c, x)
	if refused := e.lead(c, r, x); refused != nil {
		e.refuse(c, x, refused)
	}
}

// lead answers with the URL to go to, which is made of the name that was found
// and never of what the client wrote around it. Names of clones in any state
// lead there; what is wrong with them is said there.
func (e *engine) lead(c *clientSide, r *http.Request, x *exchange) *refusal {
	if refused := checkHead(r, e.g.cfg.Limits.HeadBytes); refused != nil {
		return refused
	}
	host, err := parseAuthority(r.Host)
	if err != nil {
		return &refusal{BadRequest, err.Error()}
	}
	var reason Reason
	if x.target, reason = e.g.resolve(host); x.target.clone == nil {
		return &refusal{reason: reason}
	}
	h := c.header()
	h.Set("Location", e.g.url(x.target.zone, x.target.sub)+strings.TrimPrefix(originForm(r.RequestURI), "*"))
	h.Set("Cache-Control", "no-store")
	h.Set("Clonegate-Reason", string(Redirect))
	x.reason = Redirect
	status := Redirect.Status()
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusMovedPermanently // which the oldest clients know, too
	}
	c.writeHead(status)
	return nil
}

// probe asks an endpoint how it is, as a client of the service would.
func (e *engine) probe(ctx context.Context, k *check) error {
	req := (&http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Opaque: k.health.Path},
		Host:   publicHost(e.g.cfg.Zones, k.pool.clone, k.pool.service),
		Header: http.Header{"User-Agent": {"clonegate-health"}, "Accept": {"*/*"}},
	}).WithContext(ctx)
	k.endpoint.open.Add(1)
	defer k.endpoint.release()
	res, err := e.upstream.trip(req, k.endpoint)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("GET %s took longer than %s", k.health.Path, k.health.Timeout.Duration())
		}
		return err
	}
	io.CopyN(io.Discard, res.Body, bufferSize) // or the connection cannot be used again
	res.Body.Close()
	if res.StatusCode >= 400 {
		return fmt.Errorf("GET %s answered %s", k.health.Path, res.Status)
	}
	return nil
}
