// Package api serves what the gateway has noted of clones over the API of the
// registry: their last requests, as a list and as a stream, and the names of
// production that escaped from them.
package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/clonegate/clonegate/proxy"
	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// Register adds the operations to an API. They ask gateway.
func Register(a *api.API, gateway *proxy.Gateway) {
	o := &operations{a, gateway}
	list := api.Operation("list-requests", "GET /v1/clones/{id}/requests", "List or follow the last requests of a clone", registry.Roles...)
	list.Description += " One of role clone is for the IDs it was issued for."
	list.Responses["200"] = &huma.Response{
		Description: "The records, oldest first; or, as server-sent events without an end, " +
			KindRequest + " with each record, " + KindMissed + " where some were forgotten before they could be sent, and " +
			KindEnd + " if the clone's life is over.",
		Content: map[string]*huma.MediaType{
			"application/json": {
				Schema: a.Huma().OpenAPI().Components.Schemas.Schema(reflect.TypeFor[RequestList](), true, "RequestList"),
			},
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
		},
	}
	api.Register(a.Huma(), list, o.requests)
	escapes := api.Operation("list-escapes", "GET /v1/clones/{id}/escapes", "List the names of production that escaped from a clone", registry.Roles...)
	escapes.Description += " One of role clone is for the IDs it was issued for."
	api.Register(a.Huma(), escapes, o.escapes)
}

// The kinds of messages of a stream, in SSE's field event.
const (
	KindRequest = "request" // a proxy.RequestRecord, whose number is the event's ID
	KindMissed  = "missed"  // a Missed
	KindEnd     = "end"     // nothing more will come; the stream ends
)

// A RequestList is the last requests of a clone.
type RequestList struct {
	Requests []proxy.RequestRecord `json:"requests" nullable:"false" doc:"Oldest first."`
}

// Missed says that records are missing in a stream.
type Missed struct {
	Requests uint64 `json:"requests" doc:"How many came faster than they could be sent."`
}

type operations struct {
	api     *api.API
	gateway *proxy.Gateway
}

type requestsInput struct {
	api.CloneID
	api.Position
	Service string `query:"service" maxLength:"63" doc:"Only those to this service."`
	Status  string `query:"status" pattern:"^[1-5]([0-9]{2}|xx)$" doc:"Only those with this status, as in 404, or class of status, as in 5xx."`
	Reason  string `query:"reason" maxLength:"63" doc:"Only those for which this is the gateway's reason."`
	Limit   int    `query:"limit" minimum:"0" maximum:"100000" default:"256" doc:"The newest so many; of a stream, so many of the past."`
	Follow  bool   `query:"follow" doc:"A stream; as Accept: text/event-stream."`
	Accept  string `header:"Accept" doc:"text/event-stream for a stream."`
}

// filter returns what the input asks for.
func (in *requestsInput) filter() proxy.RequestFilter {
	f := proxy.RequestFilter{Service: in.Service, Reason: proxy.Reason(in.Reason)}
	// The schema lets nothing else through than a number and a class.
	f.Status, _ = strconv.Atoi(strings.TrimSuffix(in.Status, "xx"))
	return f
}

func (o *operations) requests(ctx context.Context, in *requestsInput) (*huma.StreamResponse, error) {
	id, err := o.readable(ctx, &in.CloneID)
	if err != nil {
		return nil, err
	}
	after, _, err := in.Begin()
	if err != nil {
		return nil, err
	}
	if in.Follow || strings.Contains(in.Accept, "text/event-stream") {
		return o.follow(id, in, after)
	}
	records, err := o.gateway.Requests(id, in.filter(), after, in.Limit)
	if err != nil {
		return nil, err
	}
	if records == nil {
		records = []proxy.RequestRecord{}
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		json.NewEncoder(w).Encode(&RequestList{records}) // a client that left is no news
	}}, nil
}

func (o *operations) follow(id registry.ID, in *requestsInput, after uint64) (*huma.StreamResponse, error) {
	f, past, err := o.gateway.Follow(id, in.filter(), after, in.Limit)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer f.Close()
		o.api.Serve(hctx, func(ctx context.Context, s *api.Stream) error {
			if err := sendAll(s, past); err != nil {
				return err
			}
			return send(ctx, s, f)
		})
	}}, nil
}

// pace is how often a stream sends at most: a clone that is asked for all the
// time costs its followers no more than that.
const pace = 50 * time.Millisecond

// send sends records as they come, until the stream or the clone's life ends.
func send(ctx context.Context, s *api.Stream, f *proxy.Follower) error {
	for {
		records, missed := f.Read()
		if missed > 0 {
			if err := s.Send(KindMissed, 0, Missed{missed}); err != nil {
				return err
			}
		}
		if err := sendAll(s, records); err != nil {
			return err
		}
		news, over := f.News()
		if over {
			return s.Send(KindEnd, 0, struct{}{})
		}
		if err := s.Wait(ctx, news); err != nil {
			return err
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func sendAll(s *api.Stream, records []proxy.RequestRecord) error {
	for i := range records {
		if err := s.Send(KindRequest, records[i].Seq, &records[i]); err != nil {
			return err
		}
	}
	return nil
}
