package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A DaemonStatus is how the daemon is.
type DaemonStatus struct {
	Status  string `json:"status" enum:"ok" doc:"Trouble is answered with a problem."`
	Version string `json:"version"`
}

type healthOutput struct {
	Body DaemonStatus
}

func (a *API) healthy() *healthOutput {
	return &healthOutput{Body: DaemonStatus{Status: "ok", Version: a.huma.OpenAPI().Info.Version}}
}

func (a *API) getHealth(context.Context, *struct{}) (*healthOutput, error) {
	if err := a.registry.Healthy(); err != nil {
		p := Refusal(http.StatusServiceUnavailable, "degraded", "routing goes on, but the registry's store takes no writes; the daemon's log says why").After(retryUnavailable)
		p.cause = err
		return nil, p
	}
	return a.healthy(), nil
}

func (a *API) getReadiness(context.Context, *struct{}) (*healthOutput, error) {
	if a.cfg.Ready != nil {
		if err := a.cfg.Ready(); err != nil {
			return nil, Refusal(http.StatusServiceUnavailable, "not-ready", "%s", err).After(retryUnavailable)
		}
	}
	return a.healthy(), nil
}

// A rawOutput is an answer that is not a value of ours.
type rawOutput struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

func (a *API) getCA(context.Context, *struct{}) (*rawOutput, error) {
	var pem []byte
	if a.cfg.CARoot != nil {
		pem = a.cfg.CARoot()
	}
	if len(pem) == 0 {
		return nil, Refusal(http.StatusNotFound, "no-ca", "this gateway has no CA of its own: its certificates come from elsewhere")
	}
	return &rawOutput{ContentType: "application/x-pem-file", Body: pem}, nil
}

// getOpenAPI describes what there is at the first request, when every room has
// added its operations.
func (a *API) getOpenAPI() func(context.Context, *struct{}) (*rawOutput, error) {
	document := sync.OnceValues(func() ([]byte, error) { return json.Marshal(a.huma.OpenAPI()) })
	return func(context.Context, *struct{}) (*rawOutput, error) {
		body, err := document()
		if err != nil {
			return nil, err
		}
		return &rawOutput{ContentType: "application/openapi+json", Body: body}, nil
	}
}

// A directOutput writes itself.
type directOutput struct {
	Body func(huma.Context)
}

func (a *API) getMetrics(context.Context, *struct{}) (*directOutput, error) {
	if a.cfg.Metrics == nil {
		return nil, Refusal(http.StatusNotFound, "no-metrics", "this daemon gathers no metrics")
	}
	h := promhttp.HandlerFor(a.cfg.Metrics, promhttp.HandlerOpts{})
	return &directOutput{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		h.ServeHTTP(w, r)
	}}, nil
}
