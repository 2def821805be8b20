// Package api serves what operators ask of the DNS server, over the API of the
// registry: why a name is answered as it is, what to forget, and the query log
// as it grows.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Register adds the operations to an API. They act on server.
func Register(h huma.API, server *dnsd.Server) {
	o := &operations{server}
	api.Register(h, api.Operation("explain-dns", "GET /v1/dns/explain", "Say what a DNS listener answers to a question, and why", registry.Roles...), o.explain)
	api.Register(h, api.Operation("flush-dns", "POST /v1/dns/flush", "Forget what upstream servers said about names", registry.RoleEngineer), o.flush)
	api.Register(h, stream(api.Operation("follow-dns", "GET /v1/dns/log", "Follow the query log, one JSON object a line")), o.log)
	api.Register(h, api.Operation("top-dns", "GET /v1/dns/top", "Say what a DNS listener is asked for most, and by whom"), o.top)
}

type operations struct{ server *dnsd.Server }

type explainInput struct {
	Name string `query:"name" required:"true" maxLength:"255" doc:"The name; its last dot may be left out."`
	Type string `query:"type" default:"A" maxLength:"16" doc:"The type of record, as in AAAA."`
	View string `query:"view" maxLength:"64" doc:"The listener: its address, or the clone of a resolver. The first one if empty."`
}

type explainOutput struct{ Body *dnsd.Explanation }

func (o *operations) explain(ctx context.Context, in *explainInput) (*explainOutput, error) {
	e, err := o.server.Explain(ctx, in.View, in.Name, in.Type)
	if missing, ok := errors.AsType[*dnsd.NoListenerError](err); ok {
		return nil, api.Refusal(http.StatusNotFound, "no-listener", "%v", missing)
	}
	if err != nil {
		return nil, api.Refusal(http.StatusBadRequest, "bad-question", "%v", err)
	}
	return &explainOutput{e}, nil
}

type topInput struct {
	View string `query:"view" maxLength:"64" doc:"The listener: its address, or the clone of a resolver. The first one if empty."`
}

type topOutput struct{ Body *dnsd.Top }

func (o *operations) top(_ context.Context, in *topInput) (*topOutput, error) {
	top, err := o.server.Top(in.View)
	if err != nil {
		return nil, api.Refusal(http.StatusNotFound, "no-listener", "%v", err)
	}
	return &topOutput{top}, nil
}

// A Flush says what to forget.
type Flush struct {
	Name   string `json:"name" maxLength:"255" doc:"The name; . with suffix stands for everything."`
	Suffix bool   `json:"suffix,omitempty" doc:"Also all names beneath it."`
}

// Flushed says how much was forgotten.
type Flushed struct {
	Answers int `json:"answers"`
}

type flushInput struct{ Body Flush }

type flushOutput struct{ Body Flushed }

func (o *operations) flush(_ context.Context, in *flushInput) (*flushOutput, error) {
	n, err := o.server.Flush(in.Body.Name, in.Body.Suffix)
	if err != nil {
		return nil, api.Refusal(http.StatusBadRequest, "bad-name", "%v", err)
	}
	return &flushOutput{Flushed{n}}, nil
}

type logInput struct {
	Clone  string `query:"clone" maxLength:"20" doc:"Only questions to the resolver of this clone."`
	Suffix string `query:"suffix" maxLength:"255" doc:"Only this name and those beneath it."`
	Client string `query:"client" maxLength:"64" doc:"Only questions from this network, as in 10.0.0.0/8, or address."`
	Rcode  string `query:"rcode" maxLength:"16" doc:"Only answers with this code, as in NXDOMAIN."`
}

func (in *logInput) filter() (dnsd.LogFilter, error) {
	f := dnsd.LogFilter{Clone: registry.ID(in.Clone), Suffix: in.Suffix, Rcode: in.Rcode}
	if in.Client == "" {
		return f, nil
	}
	var err error
	if strings.Contains(in.Client, "/") {
		f.Client, err = netip.ParsePrefix(in.Client)
	} else {
		var a netip.Addr
		if a, err = netip.ParseAddr(in.Client); err == nil {
			f.Client = netip.PrefixFrom(a, a.BitLen())
		}
	}
	return f, err
}

// patience bounds a write to a reader of the log that has gone away silently.
const patience = 10 * time.Second

func (o *operations) log(_ context.Context, in *logInput) (*huma.StreamResponse, error) {
	filter, err := in.filter()
	if err != nil {
		return nil, api.Refusal(http.StatusBadRequest, "bad-filter", "client: %v", err)
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		r, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("X-Accel-Buffering", "no")
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		out := json.NewEncoder(w)
		if send(control, nil) != nil || r.Method == http.MethodHead {
			return
		}
		// What ends it, the reader knows: it has gone, or sees the end.
		_ = o.server.Watch(r.Context(), filter, func(e dnsd.LogEntry) error {
			return send(control, func() error { return out.Encode(e) })
		})
	}}, nil
}

// send writes to a stream and then lets it rest without a deadline.
func send(control *http.ResponseController, write func() error) error {
	if err := control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if write != nil {
		if err := write(); err != nil {
			return err
		}
	}
	if err := control.Flush(); err != nil {
		return err
	}
	return control.SetWriteDeadline(time.Time{})
}

// stream documents an answer of lines of JSON.
func stream(op huma.Operation) huma.Operation {
	op.Responses["200"] = &huma.Response{
		Description: "One entry a line, until the client leaves.",
		Content:     map[string]*huma.MediaType{"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}
	return op
}
