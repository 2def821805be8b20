package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// This file is a request's way through the gateway, whichever front read it.

// carry sends a request to the clone it names, and the answer to the client, or
// says why not. t is used for the trip and is free again afterwards.
func (e *engine) carry(ctx context.Context, c client, x *exchange, t *trip) {
	defer x.rest()
	defer func() {
		if fault := recover(); fault != nil {
			e.rescue(c, x, fault)
		}
	}()
	if refused := e.route(ctx, c, x, t); refused != nil {
		e.refuse(c, x, refused)
	}
}

// rescue ends an exchange that met a fault of ours.
func (e *engine) rescue(c client, x *exchange, fault any) {
	e.tell(x, fault)
	if cause := fmt.Sprint(fault); x.status == 0 {
		e.refuse(c, x, &refusal{InternalError, cause})
	} else {
		x.reason, x.cause = InternalError, cause // the front sees that there is no end
	}
}

// tell logs a fault of ours. It is called by who recovers.
func (e *engine) tell(x *exchange, fault any) {
	e.g.cfg.Log.Error("panic in a request", "request", x.id.String(), "err", fmt.Sprint(fault), "stack", string(debug.Stack()))
}

// route finds out where a request goes and sends it there. A refusal means
// that the client was answered nothing yet.
func (e *engine) route(ctx context.Context, c client, x *exchange, t *trip) *refusal {
	w := x.way
	if revision := e.g.cfg.Routes.Revision(); w.host != x.request.host || w.revision != revision || w.pool == nil {
		reason := e.g.find(w, x.request.host, revision)
		if x.target, x.tenant = w.target, w.tenant; reason != "" {
			return &refusal{reason: reason}
		}
	}
	p := w.pool
	x.target, x.tenant, x.pool = w.target, w.tenant, p
	x.choice.member = x.target.member
	if p.sticky.Load() {
		x.stick()
	}
	x.production = x.tenant.production.Load()
	x.meet()
	x.working = true
	if x.tenant.atWork.Add(1) > int64(e.g.cfg.Limits.RequestsPerClone) {
		return &refusal{reason: Overloaded}
	}
	if faults := x.tenant.faults.Load(); faults != nil {
		var refused *refusal
		if c, refused = e.suffer(ctx, c, x, *faults); refused != nil {
			return refused
		}
	}
	if p.protocol() == registry.H2C {
		return e.h2c.forward(ctx, c, x, p)
	}
	return e.forward(ctx, c, x, p, t)
}

// fields appends the fields that the clone gets, or says that the request goes
// in circles.
func (e *engine) fields(dst []byte, x *exchange) ([]byte, *refusal) {
	s := sender{
		peer: x.peer, trusted: x.trusted, host: x.request.authority, proto: "https",
		request: x.id, target: &x.target, trace: &x.trace, tracer: e.g.tracer(), x: x,
	}
	dst, looped := e.g.policy.appendRequest(dst, x.request.fields, x.request.nominates, &s)
	if looped {
		return dst, &refusal{reason: Loop}
	}
	if s.found.member && x.choice.member == 0 {
		x.choice.address(x.request.fields)
	}
	return dst, nil
}

// head appends the head of the request that goes to the clone: method and target
// unchanged to the octet, and the host too unless the clone knows production's.
func (e *engine) head(dst []byte, x *exchange) ([]byte, *refusal) {
	rq := &x.request
	dst = append(append(dst, rq.method...), ' ')
	dst = append(append(dst, rq.target...), " HTTP/1.1\r\nHost: "...)
	dst = append(append(dst, x.upstreamHost()...), "\r\n"...)
	dst, refused := e.fields(dst, x)
	switch {
	case rq.length > 0:
		dst = appendNumber(append(dst, "Content-Length: "...), rq.length)
		dst = append(dst, "\r\n"...)
	case rq.length < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		for _, f := range rq.fields.Fields {
			if f.Kind == http1.Trailer {
				dst = append(append(append(dst, "Trailer: "...), rq.fields.Value(f)...), "\r\n"...)
			}
		}
	case rq.method == "POST" || rq.method == "PUT" || rq.method == "PATCH":
		dst = append(dst, "Content-Length: 0\r\n"...)
	}
	if rq.upgrades {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	return append(dst, "\r\n"...), refused
}

// appendNumber appends a number that is not negative.
func appendNumber(dst []byte, n int64) []byte {
	var digits [20]byte
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(dst, digits[i:]...)
		}
	}
}

// forward sends a request to an endpoint over HTTP/1.1 and its answer to the
// client.
func (e *engine) forward(ctx context.Context, c client, x *exchange, p *pool, t *trip) *refusal {
	var refused *refusal
	if t.out, refused = e.head(t.out[:0], x); refused != nil {
		return refused
	}
	t.begin(c, &x.request, x.sentOn(), e.g.cfg.Limits.ResponseTimeout)
	t.x = x
	if refused := e.try(ctx, x, p, t.send); refused != nil {
		t.end()
		return refused
	}
	defer x.endpoint.release()
	defer t.end()
	x.waited = time.Since(x.start)
	if !t.backend.used {
		x.dial = t.backend.took
	}
	if t.res.Status == http.StatusSwitchingProtocols {
		return e.tunnel(c, x, t)
	}
	t.reply(x)
	return nil
}

// try sends something to endpoints until one took it: to another one only if
// nothing was sent, and at most maxTries. The endpoint that took it is the
// exchange's, and the caller releases it.
func (e *engine) try(ctx context.Context, x *exchange, p *pool, send func(context.Context, *endpoint) error) *refusal {
	var first [maxTries]*endpoint
	tried := first[:0]
	var last *refusal
	for len(tried) < maxTries {
		ep, reason := p.choose(&x.choice, tried)
		if ep == nil {
			if last == nil {
				last = &refusal{reason, strings.Join(p.faults(), "; ")}
			}
			return last
		}
		x.endpoint = ep
		err := send(ctx, ep)
		if err == nil {
			ep.succeeded()
			return nil
		}
		ep.release()
		refused, fault, unsent := blame(ep, err)
		if fault {
			e.judge(x, p, ep, err)
		}
		if !unsent {
			return refused
		}
		tried, last = append(tried, ep), refused
	}
	return last
}

// judge notes that an endpoint failed a request.
func (e *engine) judge(x *exchange, p *pool, ep *endpoint, err error) {
	now := time.Now()
	_, unreached := errors.AsType[*dialError](err)
	_, stranger := errors.AsType[*strangerError](err)
	if !ep.failed(now, unreached || stranger) {
		return
	}
	unsaid, ok := e.g.quotaOf(x).take(now, e.g.cfg.Limits.FailuresLogged)
	if !ok {
		return
	}
	attrs := []any{"clone", p.clone, "service", p.service, "addr", ep.addr, "err", err}
	if unsaid > 0 {
		attrs = append(attrs, "unsaid", unsaid)
	}
	e.g.cfg.Log.Info("endpoint is benched", attrs...)
}

// refuse answers a request in a clone's place.
func (e *engine) refuse(c client, x *exchange, r *refusal) {
	x.reason, x.cause, x.status = r.reason, r.cause, r.reason.Status()
	if r.reason == Injected {
		x.status = x.met.status()
	}
	if r.reason == ClientGone || x.isBroken() {
		return
	}
	if r.reason == Overloaded && x.tenant != nil {
		x.tenant.turned.Add(1)
	}
	told := e.g.explain(r.reason, x.target, r.cause, x.id.String())
	told.Status = x.status
	h, body, err := e.g.pages.render(told, wantsPage(x.request.fields), isNavigation(&x.request))
	if err != nil {
		e.g.cfg.Log.Error("page not rendered", "request", x.id.String(), "err", err)
		h, body = http.Header{"Clonegate-Reason": {string(r.reason)}, "Cache-Control": {"no-store"}}, nil
	}
	e.say(c, x, told.Status, h, body)
}

// say answers a request with what the gateway has to say itself.
func (e *engine) say(c client, x *exchange, status int, h http.Header, body []byte) {
	a := response{
		status: status, phrase: []byte(http.StatusText(status)), fields: sectionOf(h), length: int64(len(body)),
		empty: x.request.method == http.MethodHead, ours: true,
	}
	x.rest()
	if c.head(&a) != nil || !a.empty && len(body) > 0 && c.write(body) != nil || c.end(nil) != nil {
		x.reason = ClientGone
	}
}

// redirect leads from the plain port to the same name over TLS, by a URL that is
// made of the name that was found and never of what the client wrote around it.
// Names of clones in any state lead there; what is wrong with them is said there.
func (e *engine) redirect(c client, x *exchange) {
	var reason Reason
	if x.target, reason = e.g.resolve(x.request.host); x.target.clone == nil {
		e.refuse(c, x, &refusal{reason: reason})
		return
	}
	h := http.Header{}
	h.Set("Location", e.g.url(x.target.zone, x.target.sub)+strings.TrimPrefix(string(x.request.target), "*"))
	h.Set("Cache-Control", "no-store")
	h.Set("Clonegate-Reason", string(Redirect))
	x.reason = Redirect
	status := Redirect.Status()
	if x.request.method == http.MethodGet || x.request.method == http.MethodHead {
		status = http.StatusMovedPermanently // which the oldest clients know, too
	}
	e.say(c, x, status, h, nil)
}

// headRefusal turns the error of a head into a refusal.
func headRefusal(err error, most int) *refusal {
	bad, ok := errors.AsType[*http1.Error](err)
	switch {
	case !ok:
	case bad.Status == http.StatusRequestHeaderFieldsTooLarge:
		return &refusal{HeadTooLarge, fmt.Sprintf("they are larger than %d octets, or more than a thousand", most)}
	case bad.Status == http.StatusRequestURITooLong:
		return &refusal{TargetTooLong, fmt.Sprintf("it is longer than %d octets", most)}
	case bad == http1.ErrConnect:
		return &refusal{reason: MethodRefused}
	case bad.Status == http.StatusNotImplemented:
		return &refusal{CodingRefused, bad.Error()}
	case bad.Status == http.StatusHTTPVersionNotSupported:
		return &refusal{VersionRefused, bad.Error()}
	}
	return &refusal{BadRequest, err.Error()}
}
