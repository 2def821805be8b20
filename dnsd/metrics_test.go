package dnsd_test

import (
	"strings"
	"testing"

	"github.com/clonegate/clonegate/dnsd"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	up := newUpstream(t, says(0, []string{" 60 IN A 198.51.100.1"}, nil))
	var log logBuffer
	s := serve(t, dnsd.Config{Directory: newWorld(t, shop("1234")), Metrics: reg, Log: log.logger()}, nil, to(up))
	ask(t, s.addrs[0], "www-1234."+zone+".", dns.TypeA)
	ask(t, s.addrs[0], "www-9."+zone+".", dns.TypeA)
	ask(t, s.addrs[1], "WWW.example.", dns.TypeA)
	ask(t, s.addrs[1], "www.example.", dns.TypeA)
	raw(t, s.addrs[0], header(0x8000), 0)
	ask(t, s.addrs[0], zone+".", dns.TypeTXT) // the packet before has been read
	raw(t, s.addrs[0], wire(opt(1)), 1e9)
	got := gather(t, reg)
	for name, want := range map[string]float64{
		"clonegate_dns_cache_hits_total":                     1,
		"clonegate_dns_cache_misses_total":                   1,
		"clonegate_dns_dropped_total no_query":               1,
		"clonegate_dns_queries_total authoritative BADVERS":  1,
		"clonegate_dns_queries_total authoritative NOERROR":  2,
		"clonegate_dns_queries_total authoritative NXDOMAIN": 1,
		"clonegate_dns_queries_total resolver NOERROR":       2,
		"clonegate_dns_rate_limited_total dropped":           0,
		"clonegate_dns_rate_limited_total truncated":         0,
		"clonegate_dns_refused_private_total":                0,
		"clonegate_dns_upstream_failures_total":              0,
		"clonegate_dns_upstream_ignored_total":               0,
		"clonegate_dns_upstream_seconds":                     1,
	} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	if len(got) != 13 {
		t.Errorf("there are other series: %v", got)
	}
	for _, want := range []string{"name=WWW.example. type=A", "from=upstream", "from=cache", "from=zone", "rcode=NXDOMAIN", "kind=resolver"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the query log does not mention %q:\n%s", want, log.String())
		}
	}
	if _, err := dnsd.New(dnsd.Config{Directory: newWorld(t), Gateway: addrs("192.0.2.1"), Metrics: reg}); err == nil {
		t.Error("two servers share one set of metrics")
	}
}

// gather returns every series by its name and label values; of histograms
// the count.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}
