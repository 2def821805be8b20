package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

// CreateToken makes a token. Its secret is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, req registry.TokenRequest) (*api.NewToken, error) {
	return get[api.NewToken](ctx, c, Request{Method: http.MethodPost, Path: "/v1/tokens", Body: req})
}

// Tokens returns every token, oldest first, reading page by page. It ends
// after an error.
func (c *Client) Tokens(ctx context.Context) iter.Seq2[*api.Token, error] {
	return pages(ctx, c, "/v1/tokens", url.Values{"limit": {"1000"}}, func(l *api.TokenList) ([]*api.Token, string) {
		return l.Tokens, l.Next
	})
}

// RevokeToken ends a token at once.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.Do(ctx, Request{Method: http.MethodDelete, Path: Path("v1", "tokens", id)}, nil)
	return err
}

// Whoami returns the token of this client, and from where it calls.
func (c *Client) Whoami(ctx context.Context) (*api.Who, error) {
	return get[api.Who](ctx, c, Request{Method: http.MethodGet, Path: "/v1/whoami"})
}

// Health returns nil if the daemon works and its store takes writes. It is
// asked once and not repeated.
func (c *Client) Health(ctx context.Context) (*api.DaemonStatus, error) {
	return c.status(ctx, "/healthz")
}

// Ready returns nil if the gateway can serve. It is asked once and not repeated.
func (c *Client) Ready(ctx context.Context) (*api.DaemonStatus, error) {
	return c.status(ctx, "/readyz")
}

func (c *Client) status(ctx context.Context, path string) (*api.DaemonStatus, error) {
	s := new(api.DaemonStatus)
	if _, err := c.once(ctx, &Request{Method: http.MethodGet, Path: path}, nil, s); err != nil {
		return nil, err
	}
	return s, nil
}

// CARoot returns the certificate of the gateway's own CA in PEM. The error is
// of code "no-ca" if it has none.
func (c *Client) CARoot(ctx context.Context) ([]byte, error) { return c.bytes(ctx, "/ca.pem") }

// Metrics returns the daemon's metrics in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) { return c.bytes(ctx, "/metrics") }

// OpenAPI returns the description of the API.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return c.bytes(ctx, "/openapi.json")
}

func (c *Client) bytes(ctx context.Context, path string) ([]byte, error) {
	var out []byte
	_, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path}, &out)
	return out, err
}
