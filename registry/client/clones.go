package client

import (
	"context"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

func clonePath(id registry.ID, more ...string) string {
	return Path(append([]string{"v1", "clones", string(id)}, more...)...)
}

// Register begins a life of a clone, or changes the living one; isNew tells
// which. takeover takes the ID over from another living instance.
func (c *Client) Register(ctx context.Context, id registry.ID, reg registry.Registration, takeover bool) (g *api.Grant, isNew bool, err error) {
	req := Request{Method: http.MethodPut, Path: clonePath(id), Body: reg}
	if takeover {
		req.Query = url.Values{"takeover": {"true"}}
	}
	g = new(api.Grant)
	status, err := c.Do(ctx, req, g)
	if err != nil {
		return nil, false, err
	}
	return g, status == http.StatusCreated, nil
}

// Renew keeps the lease of a living instance.
func (c *Client) Renew(ctx context.Context, id registry.ID, instance string) (*api.Grant, error) {
	return get[api.Grant](ctx, c, Request{
		Method: http.MethodPost, Path: clonePath(id, "renew"), Body: api.RenewRequest{Instance: instance}, Repeatable: true,
	})
}

// Unregister ends the life of an instance; an empty one means whichever life
// there is. gone is false while a provider still stops it.
func (c *Client) Unregister(ctx context.Context, id registry.ID, instance string) (clone *api.Clone, gone bool, err error) {
	req := Request{Method: http.MethodDelete, Path: clonePath(id)}
	if instance != "" {
		req.Query = url.Values{"instance": {instance}}
	}
	clone = new(api.Clone)
	status, err := c.Do(ctx, req, clone)
	if err != nil {
		return nil, false, err
	}
	return clone, status == http.StatusOK, nil
}

// Create asks for a clone of a template. It is registered when it is returned,
// and starts then. It is not repeated, lest there be two.
func (c *Client) Create(ctx context.Context, req registry.CreateRequest) (*api.Clone, error) {
	return get[api.Clone](ctx, c, Request{Method: http.MethodPost, Path: "/v1/clones", Body: req})
}

// Clone returns one clone.
func (c *Client) Clone(ctx context.Context, id registry.ID) (*api.Clone, error) {
	return get[api.Clone](ctx, c, Request{Method: http.MethodGet, Path: clonePath(id)})
}

// Clones returns the clones that f selects, in the order of their IDs, reading
// page by page. It ends after an error.
func (c *Client) Clones(ctx context.Context, f api.CloneFilter) iter.Seq2[*api.Clone, error] {
	query := url.Values{"limit": {"1000"}}
	for _, s := range f.State {
		query.Add("state", string(s))
	}
	for _, l := range f.Label {
		query.Add("label", l)
	}
	for name, value := range map[string]string{"owner": f.Owner, "template": f.Template, "q": f.Q} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if f.All {
		query.Set("all", strconv.FormatBool(f.All))
	}
	return pages(ctx, c, "/v1/clones", query, func(l *api.CloneList) ([]*api.Clone, string) { return l.Clones, l.Next })
}

// get sends a request whose answer is a T.
func get[T any](ctx context.Context, c *Client, req Request) (*T, error) {
	out := new(T)
	if _, err := c.Do(ctx, req, out); err != nil {
		return nil, err
	}
	return out, nil
}

// pages reads a list page by page. split returns what is on a page and the
// cursor of the next.
func pages[L, T any](ctx context.Context, c *Client, path string, query url.Values, split func(*L) ([]T, string)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := maps.Clone(query)
		for {
			page, err := get[L](ctx, c, Request{Method: http.MethodGet, Path: path, Query: query})
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			items, next := split(page)
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			query.Set("cursor", next)
		}
	}
}
