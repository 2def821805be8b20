package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"

	"github.com/clonegate/clonegate/registry"
	"github.com/clonegate/clonegate/registry/api"
)

func versionPath(name, version string, more ...string) string {
	return Path(append([]string{"v1", "templates", name, "versions", version}, more...)...)
}

// Templates returns every template by name, reading page by page. It ends
// after an error.
func (c *Client) Templates(ctx context.Context) iter.Seq2[*api.TemplateSummary, error] {
	return pages(ctx, c, "/v1/templates", url.Values{"limit": {"1000"}}, func(l *api.TemplateList) ([]*api.TemplateSummary, string) {
		return l.Templates, l.Next
	})
}

// Template returns the versions and channels of a template.
func (c *Client) Template(ctx context.Context, name string) (*api.TemplateDetail, error) {
	return get[api.TemplateDetail](ctx, c, Request{Method: http.MethodGet, Path: Path("v1", "templates", name)})
}

// Version returns one version of a template with its manifest.
func (c *Client) Version(ctx context.Context, name, version string) (*registry.Template, error) {
	return get[registry.Template](ctx, c, Request{Method: http.MethodGet, Path: versionPath(name, version)})
}

// Publish records a version of a template. isNew is false if the same content
// was published before.
func (c *Client) Publish(ctx context.Context, name, version string, p registry.Publication) (t *registry.Template, isNew bool, err error) {
	t = new(registry.Template)
	status, err := c.Do(ctx, Request{Method: http.MethodPut, Path: versionPath(name, version), Body: p}, t)
	if err != nil {
		return nil, false, err
	}
	return t, status == http.StatusCreated, nil
}

// Promote lets a channel point to a version.
func (c *Client) Promote(ctx context.Context, name, channel, version, why string) (*registry.Channel, error) {
	return get[registry.Channel](ctx, c, Request{
		Method: http.MethodPut, Path: Path("v1", "templates", name, "channels", channel),
		Body: api.PromoteRequest{Version: version, Why: why},
	})
}

// Revoke forbids new clones of a version; channels that point to it move back.
func (c *Client) Revoke(ctx context.Context, name, version, why string) (*registry.Template, error) {
	return get[registry.Template](ctx, c, Request{
		Method: http.MethodPost, Path: versionPath(name, version, "revoke"),
		Body: api.RevokeRequest{Why: why}, Repeatable: true,
	})
}
