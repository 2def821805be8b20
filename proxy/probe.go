package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/clonegate/clonegate/proxy/http1"
	"github.com/clonegate/clonegate/registry"
)

// probe asks an endpoint how it is, as a client of the service would.
func (e *engine) probe(ctx context.Context, k *check) error {
	var rq request
	rq.fields = new(http1.Section)
	rq.fields.Append("User-Agent", "clonegate-health")
	rq.fields.Append("Accept", "*/*")
	rq.method, rq.target = http.MethodGet, []byte(k.health.Path)
	rq.authority = publicHost(e.g.cfg.Zones, k.pool.clone, k.pool.service)
	if host := k.pool.host.Load(); host != nil {
		rq.authority = *host
	}

	k.endpoint.open.Add(1)
	defer k.endpoint.release()
	ask := e.probeHTTP1
	if k.endpoint.protocol == registry.H2C {
		ask = e.h2c.probe
	}
	status, err := ask(ctx, &rq, k)
	switch {
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("GET %s took longer than %s", k.health.Path, k.health.Timeout.Duration())
	case err != nil:
		return err
	case status >= 400:
		return fmt.Errorf("GET %s answered %d %s", k.health.Path, status, http.StatusText(status))
	}
	return nil
}

func (e *engine) probeHTTP1(ctx context.Context, rq *request, k *check) (status int, err error) {
	t := trip{up: e.upstream, buffers: e.small, large: e.large, probe: true}
	t.out = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n", rq.target, rq.authority)
	t.out = append(rq.fields.AppendLines(t.out, 0, len(rq.fields.Fields)), "\r\n"...)
	t.begin(&nurse{ctx: ctx}, rq, time.Now(), k.health.Timeout.Duration())
	defer t.giveBuffer()
	defer t.end()
	if err := t.send(ctx, k.endpoint); err != nil {
		return 0, err
	}
	t.passBody() // or the link cannot be used again
	return t.res.Status, nil
}

func (h *h2c) probe(ctx context.Context, rq *request, k *check) (status int, err error) {
	lines := rq.fields.AppendLines(nil, 0, len(rq.fields.Fields))
	res, err := h.trip(outbound(ctx, rq, lines, http.NoBody), k.endpoint)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	io.CopyN(io.Discard, res.Body, chart)
	return res.StatusCode, nil
}

// chart is how many octets of a body a probe reads.
const chart = 32 << 10

// A nurse is the client of a probe: it sends nothing and looks at little.
type nurse struct {
	ctx   context.Context // of the probe, which has no other way to end
	leash leash
	read  int
}

func (n *nurse) bodyIsHere() bool             { return true }
func (n *nurse) readBody() ([]byte, error)    { return nil, io.EOF }
func (n *nurse) bodyTrailers() *http1.Section { return nil }
func (n *nurse) haltBody()                    {}
func (n *nurse) unhurry()                     {}
func (n *nurse) interim(*response) error      { return nil }
func (n *nurse) head(*response) error         { return nil }
func (n *nurse) flush() error                 { return nil }
func (n *nurse) end(*http1.Section) error     { return nil }
func (n *nurse) gone() bool                   { return n.ctx.Err() != nil }
func (n *nurse) takeOver() (side, []byte)     { return nil, nil }
func (n *nurse) watch(c cutter)               { n.leash.watch(n.ctx, c) }
func (n *nurse) unwatch()                     { n.leash.unwatch() }

func (n *nurse) write(p []byte) error {
	if n.read += len(p); n.read > chart {
		return errHalted
	}
	return nil
}
