package daemon_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

// A traceCollector takes spans by OTLP over HTTP.
type traceCollector struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*collector.ExportTraceServiceRequest // guarded by mu
}

func newTraceCollector(t *testing.T) *traceCollector {
	c := new(traceCollector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Error(err)
				return
			}
		}
		var b bytes.Buffer
		m := new(collector.ExportTraceServiceRequest)
		if _, err := b.ReadFrom(body); err != nil {
			t.Error(err)
		} else if err := proto.Unmarshal(b.Bytes(), m); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		if got := r.Header.Get("Content-Type"); r.URL.Path != "/v1/traces" || got != "application/x-protobuf" {
			t.Errorf("%s %s with %s; want /v1/traces with protobuf", r.Method, r.URL, got)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests = append(c.requests, m)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// spans returns those that came, by their kind.
func (c *traceCollector) spans(t *testing.T) map[spans.Span_SpanKind][]*spans.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[spans.Span_SpanKind][]*spans.Span{}
	for _, r := range c.requests {
		for _, rs := range r.ResourceSpans {
			if got := rs.Resource.String(); !strings.Contains(got, "clonegate") || !strings.Contains(got, "service.name") {
				t.Errorf("the resource is %s; want the service clonegate", got)
			}
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					out[s.Kind] = append(out[s.Kind], s)
				}
			}
		}
	}
	return out
}

// TestSpansAreSent has a daemon trace requests; what is not sent when it stops,
// it sends then.
func TestSpansAreSent(t *testing.T) {
	c := newTraceCollector(t)
	dir := t.TempDir()
	var told string
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told = r.Header.Get("Traceparent") }))
	defer up.Close()
	d, stop := start(t, configure(t, dir, "traces.endpoint="+c.URL+"/v1/traces", "traces.begin=all", "endpoints.allow=127.0.0.0/8"))
	put(t, d.Addresses().API.URL+"/v1/clones/7", dir, `{"instance": "a", "services": {"www": {"endpoints": ["`+up.Listener.Addr().String()+`"]}}}`)

	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", d.Addresses().Gateway.Listen)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	resp, err := client.Get("https://www-7.test_envs.localhost/a")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the clone answers %s", resp.Status)
	}
	stop()
	got := c.spans(t)
	server, way := got[spans.Span_SPAN_KIND_SERVER], got[spans.Span_SPAN_KIND_CLIENT]
	if len(server) != 1 || len(way) != 1 {
		t.Fatalf("%d and %d spans came; want one of the server and one of the way to the clone", len(server), len(way))
	}
	if !bytes.Equal(way[0].ParentSpanId, server[0].SpanId) || !bytes.Equal(way[0].TraceId, server[0].TraceId) || server[0].Name != "GET" {
		t.Errorf("spans %v, %v; want the latter beneath the former", server[0], way[0])
	}
	if want := hex.EncodeToString(way[0].TraceId) + "-" + hex.EncodeToString(way[0].SpanId) + "-01"; told != "00-"+want {
		t.Errorf("the clone was told %q; want 00-%s", told, want)
	}
	if took := server[0].EndTimeUnixNano - server[0].StartTimeUnixNano; took == 0 || took > 10e9 {
		t.Errorf("the span lasts %d ns", took)
	}
}

// TestLostCollectorIsNoTrouble has nobody take the spans.
func TestLostCollectorIsNoTrouble(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	_, stop := start(t, configure(t, t.TempDir(), "traces.endpoint=http://"+ln.Addr().String()+"/v1/traces"))
	stop()
}

// put sends a JSON body with the admin token in dir.
func put(t *testing.T, url, dir, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(daemon.AdminTokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("PUT %s: %s %s", url, resp.Status, text)
	}
}
