package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// Watch calls fn for every change of clones, templates and channels after a
// revision, in order, until fn returns an error, ctx ends, or the daemon
// refuses; it returns why. It keeps its place over lost connections and
// restarts of the daemon.
//
// With revision 0, and whenever changes were missed that are no longer kept,
// fn gets every record first: a change of kind api.KindList, one for each
// record, and one of kind api.KindListed. What was known and not listed is no
// longer there. A list that is cut short begins anew with api.KindList.
func (c *Client) Watch(ctx context.Context, after uint64, fn func(api.Change) error) error {
	return c.follow(ctx, "/v1/watch", after, func(m Message) error {
		ch := api.Change{Kind: m.Event}
		if err := json.Unmarshal(m.Data, &ch); err != nil {
			return fmt.Errorf("watch: message %s: %w", m.Event, err)
		}
		return fn(ch)
	})
}

// Events returns up to limit events after a sequence number, oldest first.
func (c *Client) Events(ctx context.Context, after uint64, limit int) (*api.EventPage, error) {
	query := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	return get[api.EventPage](ctx, c, Request{Method: http.MethodGet, Path: "/v1/events", Query: query})
}

// FollowEvents calls fn for every event after a sequence number, without gaps,
// until fn returns an error, ctx ends, or the daemon refuses; it returns why.
func (c *Client) FollowEvents(ctx context.Context, after uint64, fn func(registry.Event) error) error {
	return c.follow(ctx, "/v1/events", after, func(m Message) error {
		var e registry.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return fmt.Errorf("events: %w", err)
		}
		return fn(e)
	})
}
