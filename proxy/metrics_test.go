package proxy_test

import (
	"cmp"
	"net/http"
	"slices"
	"testing"

	"github.com/clonegate/clonegate/proxy"
)

// series returns the values of a metric by the values of its labels.
func (b *bench) series(name string) map[string]float64 {
	b.t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			key := ""
			for _, l := range m.GetLabel() {
				key += l.GetValue() + " "
			}
			out[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}

// gauge returns the value of a metric of one clone.
func (b *bench) gauge(name, clone string) float64 { return b.series(name)[clone+" "] }

func TestMetricsLiveAsLongAsTheirClone(t *testing.T) {
	b := newBench(t)
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
		w.Write([]byte("12345"))
	})
	url := "https://www-1." + zone
	for range 3 {
		b.get(url + "/")
	}
	b.get(url + "/missing")
	b.get("https://www-9."+zone+"/").wantReason(t, 404, proxy.UnknownClone)
	b.log.requests(t, 5)
	for name, want := range map[string]map[string]float64{
		"clonegate_proxy_requests_total":           {"2xx 1 www ": 3, "4xx 1 www ": 1},
		"clonegate_proxy_requests_at_work":         {"1 ": 0},
		"clonegate_proxy_sent_bytes_total":         {"1 www ": 20},
		"clonegate_proxy_request_duration_seconds": {"": 5},
		"clonegate_proxy_gateway_answers_total":    {"unknown-clone ": 1},
	} {
		got := b.series(name)
		for labels, value := range want {
			if got[labels] != value {
				t.Errorf("%s{%s} = %v; want %v (all: %v)", name, labels, got[labels], value, got)
			}
		}
	}
	b.unregister("1")
	eventually(t, "the clone's series are gone", func() bool { return len(b.series("clonegate_proxy_requests_total")) == 0 })
	b.get(url+"/").wantReason(t, 410, proxy.Gone)
	if got := b.series("clonegate_proxy_requests_at_work"); len(got) > 0 {
		t.Errorf("a clone that is gone has series again: %v", got)
	}
}

func TestAccessLog(t *testing.T) {
	b := newBench(t)
	s := b.serve("1", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello")) })
	b.get("https://www-1." + zone + "/a%20b?secret=1")
	b.log.requests(t, 1) // a line may be written after its answer
	b.get("https://www-9." + zone + "/")
	lines := b.log.requests(t, 2)
	for i, want := range []map[string]any{
		{
			"clone": "1", "service": "www", "host": "www-1." + zone, "method": "GET", "path": "/a%20b", "proto": "HTTP/1.1",
			"status": 200.0, "bytes": 5.0, "received": 0.0, "remote": "127.0.0.1", "addr": s.Listener.Addr().String(), "reason": nil,
		},
		{"clone": nil, "host": "www-9." + zone, "status": 404.0, "reason": "unknown-clone", "addr": nil},
	} {
		for key, value := range want {
			if lines[i][key] != value {
				t.Errorf("line %d: %s is %v; want %v", i, key, lines[i][key], value)
			}
		}
		if id, _ := lines[i]["request"].(string); len(id) != 16 || lines[i]["dur"] == nil {
			t.Errorf("line %d: no request or duration: %v", i, lines[i])
		}
	}
}

// TestAccessLogIsSampled sends requests that go well and some that do not: of
// the former, few are logged.
func TestAccessLogIsSampled(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.LogOneIn = 0 })
	b.serve("1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(500)
		}
	})
	b.get("https://www-1." + zone + "/")
	b.get("http://www-1." + zone + "/") // is redirected
	b.get("https://www-1." + zone + "/broken")
	b.get("https://www-9." + zone + "/")
	b.log.requests(t, 2)
	b.stop()
	got := b.log.records("request")
	slices.SortFunc(got, func(a, b map[string]any) int { return cmp.Compare(a["status"].(float64), b["status"].(float64)) })
	if len(got) != 2 || got[0]["reason"] != "unknown-clone" || got[1]["path"] != "/broken" {
		t.Errorf("logged without sampling: %v; want what did not go well", got)
	}

	const n, oneIn = 600, 3
	b = newBench(t, func(c *proxy.Config) { c.LogOneIn = oneIn })
	b.serve("1", func(http.ResponseWriter, *http.Request) {})
	for range n {
		b.get("https://www-1." + zone + "/")
	}
	if got := len(b.log.records("request")); got < n/oneIn/2 || got > 2*n/oneIn {
		t.Errorf("%d of %d requests were logged; want about one in %d", got, n, oneIn)
	}
}
