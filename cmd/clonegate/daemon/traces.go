package daemon

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/clonegate/clonegate/proxy"
)

// traceGrace bounds how long the last spans may take to be sent.
const traceGrace = 5 * time.Second

// openTraces prepares to send spans, if somebody is to get them. At most 2048
// wait to be sent; more are dropped, so that a collector that is slow or away
// never holds up a request. The gateway decides which requests are traced.
func (d *Daemon) openTraces(ctx context.Context) error {
	endpoint := d.cfg.Traces.Endpoint
	if endpoint == "" {
		return nil
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return fmt.Errorf("traces to %s: %w", endpoint, err)
	}
	log := d.log.With("room", "traces")
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("spans were not sent", "endpoint", endpoint, "err", err)
	}))
	d.traces = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithIDGenerator(proxy.SpanIDs{}),
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "clonegate"),
			attribute.String("service.version", d.version),
		)),
	)
	return nil
}

// closeTraces sends the spans that wait.
func (d *Daemon) closeTraces() {
	if d.traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceGrace)
	defer cancel()
	if err := d.traces.Shutdown(ctx); err != nil {
		d.log.Warn("the last spans were not sent", "endpoint", d.cfg.Traces.Endpoint, "err", err)
	}
}
