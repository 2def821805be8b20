package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// bodyTimeout bounds how long a client may take to send a body.
const bodyTimeout = 10 * time.Second

// readBody reads and checks the JSON body of a request before huma sees it.
// Operations that take another content type read their bodies themselves.
func (a *API) readBody(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	op := ctx.Operation()
	if op.RequestBody == nil {
		if r.ContentLength != 0 {
			refuse(ctx, Refusal(http.StatusBadRequest, "body-unexpected", "%s %s takes no body", r.Method, op.Path))
			return
		}
		next(ctx)
		return
	}
	media, ok := op.RequestBody.Content["application/json"]
	if !ok {
		next(ctx)
		return
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); (err != nil || t != "application/json") && r.ContentLength != 0 {
		refuse(ctx, Refusal(http.StatusUnsupportedMediaType, "content-type",
			"the body is declared as %q; send JSON with the header Content-Type: application/json", clip(r.Header.Get("Content-Type"))))
		return
	}
	body, p := readAll(w, r, op.MaxBodyBytes)
	if p == nil && len(body) > 0 {
		p = checkJSON(body, media.Schema, a.huma.OpenAPI().Components.Schemas)
	}
	if p != nil {
		refuse(ctx, p)
		return
	}
	next(&readContext{ctx, bytes.NewReader(body)})
}

// readAll reads a body of at most limit bytes.
func readAll(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *Problem) {
	tooLarge := Refusal(http.StatusRequestEntityTooLarge, "too-large", "the body is larger than %d bytes", limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	control := http.NewResponseController(w)
	// Without the deadlines of a real connection there is nothing to bound.
	control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	control.SetReadDeadline(time.Time{})
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, Refusal(http.StatusRequestTimeout, "slow-body", "the body did not arrive within %s", bodyTimeout)
	}
	return nil, Refusal(http.StatusBadRequest, "truncated", "the body ended after %d bytes: %s", len(body), err)
}

// A readContext is a huma.Context whose body has been read.
type readContext struct {
	inner
	body io.Reader
}

type inner = huma.Context

func (c *readContext) BodyReader() io.Reader { return c.body }

// Header spells the content type as huma looks for it.
func (c *readContext) Header(name string) string {
	if name == "Content-Type" {
		return "application/json"
	}
	return c.inner.Header(name)
}

// Unwrap lets humago find the request below.
func (c *readContext) Unwrap() huma.Context { return c.inner }
