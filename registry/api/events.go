package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// An EventPage is a stretch of the audit log.
type EventPage struct {
	Events   []registry.Event `json:"events" nullable:"false" doc:"Oldest first, without gaps."`
	Revision uint64           `json:"revision" doc:"Sequence number of the newest event there is."`
}

type listEventsInput struct {
	Position
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most; a stream has no end."`
	Accept string `header:"Accept" doc:"text/event-stream for a stream."`
}

func (a *API) listEvents(ctx context.Context, in *listEventsInput) (*directOutput, error) {
	after, _, err := in.Begin()
	if err != nil {
		return nil, err
	}
	if newest := a.view.Revision(); after > newest {
		return nil, invalidParam("query.after", "revision", fmt.Errorf("event %d has not happened yet; the newest is %d", after, newest))
	}
	if strings.Contains(in.Accept, "text/event-stream") {
		return &directOutput{Body: func(hctx huma.Context) {
			a.Serve(hctx, func(ctx context.Context, s *Stream) error { return a.followEvents(ctx, s, after) })
		}}, nil
	}
	page := EventPage{Revision: a.view.Revision()}
	if page.Events, err = a.registry.Events(ctx, after, in.Limit); err != nil {
		return nil, err
	}
	if page.Events == nil {
		page.Events = []registry.Event{}
	}
	return &directOutput{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		json.NewEncoder(w).Encode(&page) // a client that left is no news
	}}, nil
}

// eventBatch is how many old events are read from the store at once.
const eventBatch = 256

// followEvents sends every event after one: the newest from memory, older ones
// from the store.
func (a *API) followEvents(ctx context.Context, s *Stream, after uint64) error {
	for {
		changes, err := s.changes(ctx, after)
		var events []registry.Event
		switch {
		case errors.Is(err, registry.ErrLagged):
			if events, err = a.registry.Events(ctx, after, eventBatch); err != nil {
				return err
			}
		case err != nil:
			return err
		}
		for _, ch := range changes {
			events = append(events, *ch.Event)
		}
		for i := range events {
			if err := s.Send("event", events[i].Seq, &events[i]); err != nil {
				return err
			}
			after = events[i].Seq
		}
	}
}
