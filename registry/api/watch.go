package api

import (
	"context"
	"errors"

	"github.com/clonegate/clonegate/registry"
	"github.com/danielgtaylor/huma/v2"
)

// The kinds of messages of a watch, in SSE's field event.
const (
	KindList     = "list"     // every record follows; forget what is not among them
	KindListed   = "listed"   // the list is complete as of its revision
	KindClone    = "clone"    // a clone's value
	KindTemplate = "template" // a template version's value, without its manifest
	KindChannel  = "channel"  // a channel's value
)

// A Change is one message of a watch. Which record it holds, its kind says.
type Change struct {
	Kind     string             `json:"-"`
	Revision uint64             `json:"revision" doc:"Of the change; in a list, of the record."`
	Event    *registry.Event    `json:"event,omitempty" doc:"Who did what; absent in a list."`
	Clone    *Clone             `json:"clone,omitempty"`
	Template *registry.Template `json:"template,omitempty"`
	Channel  *registry.Channel  `json:"channel,omitempty"`
}

type watchInput struct {
	Position
}

func (a *API) watch(_ context.Context, in *watchInput) (*directOutput, error) {
	after, resume, err := in.Begin()
	if err != nil {
		return nil, err
	}
	return &directOutput{Body: func(hctx huma.Context) {
		a.Serve(hctx, func(ctx context.Context, s *Stream) error { return a.follow(ctx, s, after, resume) })
	}}, nil
}

// follow sends every change after a revision. A client that brings no revision,
// one of a future we do not have, or one we no longer keep changes from, gets
// every record first.
func (a *API) follow(ctx context.Context, s *Stream, after uint64, resume bool) error {
	for {
		if !resume || after > a.view.Revision() {
			var err error
			if after, err = a.list(s); err != nil {
				return err
			}
		}
		changes, err := s.changes(ctx, after)
		if errors.Is(err, registry.ErrLagged) {
			resume = false
			continue
		}
		if err != nil {
			return err
		}
		for i := range changes {
			if err := a.tell(s, &changes[i]); err != nil {
				return err
			}
			after = changes[i].Revision
		}
		resume = true
	}
}

// tell sends one change. Tokens are nobody's business here.
func (a *API) tell(s *Stream, ch *registry.Change) error {
	out := &Change{Revision: ch.Revision, Event: ch.Event}
	switch {
	case ch.Clone != nil:
		out.Clone = a.show(ch.Clone)
		return s.Send(KindClone, ch.Revision, out)
	case ch.Template != nil:
		out.Template = withoutManifest(ch.Template)
		return s.Send(KindTemplate, ch.Revision, out)
	case ch.Channel != nil:
		out.Channel = ch.Channel
		return s.Send(KindChannel, ch.Revision, out)
	}
	return s.mark(ch.Revision)
}

// list sends every record and returns the revision from which changes complete
// it: the one before the first record was read. Only its last message has an
// id, so that a client that loses the connection in the middle lists again.
func (a *API) list(s *Stream) (uint64, error) {
	revision := a.view.Revision()
	if err := s.Send(KindList, 0, &Change{Revision: revision}); err != nil {
		return 0, err
	}
	for _, t := range a.view.Templates() {
		if err := s.Send(KindTemplate, 0, &Change{Revision: t.Revision, Template: withoutManifest(t)}); err != nil {
			return 0, err
		}
	}
	templates := ""
	for _, t := range a.view.Templates() {
		if t.Name == templates {
			continue
		}
		templates = t.Name
		for _, ch := range a.view.ChannelsOf(t.Name) {
			if err := s.Send(KindChannel, 0, &Change{Revision: ch.Revision, Channel: ch}); err != nil {
				return 0, err
			}
		}
	}
	for c := range a.view.Clones("") {
		if err := s.Send(KindClone, 0, &Change{Revision: c.Revision, Clone: a.show(c)}); err != nil {
			return 0, err
		}
	}
	if err := s.Send(KindListed, revision, &Change{Revision: revision}); err != nil {
		return 0, err
	}
	return revision, nil
}
