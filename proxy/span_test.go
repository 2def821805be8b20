package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/clonegate/clonegate/proxy"
)

// traced has a gateway make spans, which are collected.
func traced(spans *tracetest.SpanRecorder, oneIn int) func(*proxy.Config) {
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithIDGenerator(proxy.SpanIDs{}), sdk.WithSampler(sdk.AlwaysSample()))
	return func(c *proxy.Config) { c.Tracer, c.TraceOneIn = provider.Tracer("clonegate"), oneIn }
}

const parentTrace, parentSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

func TestSpans(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		spans := tracetest.NewSpanRecorder()
		b := newBench(t, traced(spans, 0))
		var told, state string
		b.serve("1", func(w http.ResponseWriter, r *http.Request) {
			told, state = r.Header.Get("Traceparent"), r.Header.Get("Tracestate")
			if r.URL.Path == "/missing" {
				w.WriteHeader(404)
			}
		})
		client, url := b.client, "https://www-1."+zone
		if h2 {
			client = b.h2
		}
		wait := func(n int) []sdk.ReadOnlySpan {
			t.Helper()
			eventually(t, "spans", func() bool { return len(spans.Ended()) >= n })
			return spans.Ended()
		}
		unsampled := "00-" + parentTrace + "-" + parentSpan + "-00"
		b.do(client, url+"/")
		b.do(client, url+"/", header("Traceparent", unsampled))
		if told != unsampled {
			t.Errorf("the clone was told %q of a trace that is not sampled; want it as it came", told)
		}
		b.do(client, url+"/missing?secret", header("Traceparent", "00-"+parentTrace+"-"+parentSpan+"-01"), header("Tracestate", "a=1"))
		got := wait(2)
		if len(got) != 2 || got[0].SpanKind() != trace.SpanKindClient || got[1].SpanKind() != trace.SpanKindServer {
			t.Fatalf("%d spans; want a client's and a server's", len(got))
		}
		inner, outer := got[0], got[1]
		if want := "00-" + parentTrace + "-" + inner.SpanContext().SpanID().String() + "-01"; told != want || state != "a=1" {
			t.Errorf("the clone was told %q, %q; want %q, and the state", told, state, want)
		}
		if outer.SpanContext().TraceID().String() != parentTrace || outer.Parent().SpanID().String() != parentSpan || !outer.Parent().IsRemote() {
			t.Errorf("the server's span is %v beneath %v; want it beneath the client's", outer.SpanContext(), outer.Parent())
		}
		if inner.Parent().SpanID() != outer.SpanContext().SpanID() || inner.SpanContext().TraceID() != outer.SpanContext().TraceID() {
			t.Errorf("the way to the clone is %v beneath %v; want it beneath the server's", inner.SpanContext(), inner.Parent())
		}
		if outer.Status().Code == codes.Error || inner.Status().Code != codes.Error {
			t.Errorf("a 404 is %v for the server, %v for its client; want an error for the latter alone", outer.Status(), inner.Status())
		}
		attrs := map[string]string{}
		for _, a := range outer.Attributes() {
			attrs[string(a.Key)] = a.Value.String()
		}
		for key, want := range map[string]string{
			"http.request.method": "GET", "url.path": "/missing", "server.address": "www-1." + zone,
			"http.response.status_code": "404", "clonegate.clone": "1", "clonegate.service": "www", "client.address": "127.0.0.1",
		} {
			if attrs[key] != want {
				t.Errorf("attribute %s is %q; want %q", key, attrs[key], want)
			}
		}
		var id string
		for _, r := range b.records("1", 3) {
			if r.Path == "/missing?*" && r.Trace == parentTrace {
				id = r.ID
			}
		}
		if id != outer.SpanContext().SpanID().String() {
			t.Errorf("the request is recorded as %q; want the ID of its span, %s", id, outer.SpanContext().SpanID())
		}
		b.do(client, "https://www-9."+zone+"/", header("Traceparent", "00-"+parentTrace+"-"+parentSpan+"-01"))
		if got := wait(3)[2]; got.SpanKind() != trace.SpanKindServer || got.Status().Code != codes.Error || got.Parent().SpanID().String() != parentSpan {
			t.Errorf("of a request to no clone there is %v, %v", got.SpanKind(), got.Status())
		}
	}
}

// TestSampledTracesBegin has the gateway begin them by itself.
func TestSampledTracesBegin(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	b := newBench(t, traced(spans, 1))
	told := ""
	b.serve("1", func(_ http.ResponseWriter, r *http.Request) { told = r.Header.Get("Traceparent") })
	b.get("https://www-1." + zone + "/")
	eventually(t, "spans", func() bool { return len(spans.Ended()) == 2 })
	inner := spans.Ended()[0].SpanContext()
	if want := "00-" + inner.TraceID().String() + "-" + inner.SpanID().String() + "-01"; told != want {
		t.Errorf("the clone was told %q; want %q", told, want)
	}
	if outer := spans.Ended()[1]; outer.Parent().IsValid() {
		t.Errorf("the first span has a parent: %v", outer.Parent())
	}
}

// TestUnsampledRequestsAllocateNothing holds that tracing costs those nothing
// that it does not choose, whether they belong to a trace or not.
func TestUnsampledRequestsAllocateNothing(t *testing.T) {
	if raceDetected {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	tt := costs()["1KiB"]
	for name, fields := range map[string]string{
		"no trace": "", "another's trace": "traceparent: 00-" + parentTrace + "-" + parentSpan + "-00\r\ntracestate: a=1\r\n",
	} {
		request := strings.TrimSuffix(tt.request, "\r\n") + fields + "\r\n"
		b := newBench(t, quiet, traced(tracetest.NewSpanRecorder(), 1<<60))
		b.bareBackend("1", tt.head, tt.body)
		c := b.bareClient(request)
		got := allocations(t, c.turn)
		bare := *b
		bare.addr = bareTLS(t, c.buf[:c.size])
		if want := allocations(t, bare.bareClient(request).turn); got > want {
			t.Errorf("%s: %v allocations a request; a bare server has %v", name, got, want)
		}
	}
}

// TestUnsampledRequestsAllocateLittleOverHTTP2 holds that tracing costs them
// nothing over HTTP/2, either.
func TestUnsampledRequestsAllocateLittleOverHTTP2(t *testing.T) {
	if raceDetected {
		t.Skip("sync.Pool forgets at random under the race detector")
	}
	for name, fields := range map[string][]string{
		"no trace": nil, "another's trace": {"traceparent", "00-" + parentTrace + "-" + parentSpan + "-00", "tracestate", "a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, quiet, traced(tracetest.NewSpanRecorder(), 1<<60))
			b.wantLittle(t, costs()["1KiB"], fields...)
		})
	}
}
