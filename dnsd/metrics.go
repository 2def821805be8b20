package dnsd

import (
	"errors"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counters whose labels take a handful of values each.
type metrics struct {
	queries          *prometheus.CounterVec // by listener_kind and rcode
	drops            *prometheus.CounterVec // by reason
	transfers        *prometheus.CounterVec // by kind and result
	notifies         *prometheus.CounterVec // by result
	rateLimited      *prometheus.CounterVec // by what became of the answer
	rateDropped      prometheus.Counter     // of those
	rateTruncated    prometheus.Counter     // of those
	cacheHits        prometheus.Counter
	cacheMisses      prometheus.Counter
	upstreamSeconds  prometheus.Histogram
	upstreamFailures prometheus.Counter
	upstreamIgnored  prometheus.Counter
	refusedPrivate   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_dns_queries_total", Help: "DNS queries answered, by kind of listener and response code.",
		}, []string{"listener_kind", "rcode"}),
		drops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_dns_dropped_total", Help: "DNS packets, questions and connections not served, by reason.",
		}, []string{"reason"}),
		transfers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_dns_transfers_total", Help: "Zone transfers to secondaries, by what was sent and how it ended.",
		}, []string{"kind", "result"}),
		notifies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_dns_notifies_total", Help: "Secondaries told of a change, by whether they answered.",
		}, []string{"result"}),
		rateLimited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_dns_rate_limited_total", Help: "Answers beyond the rate of one network, by whether they were dropped or sent truncated.",
		}, []string{"result"}),
		cacheHits:        counter("clonegate_dns_cache_hits_total", "Forwarded questions answered from the cache."),
		cacheMisses:      counter("clonegate_dns_cache_misses_total", "Forwarded questions that had to wait for upstream servers."),
		upstreamFailures: counter("clonegate_dns_upstream_failures_total", "Questions an upstream server did not answer."),
		upstreamIgnored:  counter("clonegate_dns_upstream_ignored_total", "Messages from upstream servers that were no reply to what was asked."),
		refusedPrivate:   counter("clonegate_dns_refused_private_total", "Answers of upstream servers without their addresses, because those were private."),
		upstreamSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "clonegate_dns_upstream_seconds", Help: "Time one upstream server took for one question.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2},
		}),
	}
	m.rateDropped, m.rateTruncated = m.rateLimited.WithLabelValues("dropped"), m.rateLimited.WithLabelValues("truncated")
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(
		reg.Register(m.queries), reg.Register(m.drops), reg.Register(m.cacheHits), reg.Register(m.cacheMisses),
		reg.Register(m.upstreamSeconds), reg.Register(m.upstreamFailures), reg.Register(m.upstreamIgnored),
		reg.Register(m.refusedPrivate), reg.Register(m.transfers), reg.Register(m.notifies),
		reg.Register(m.rateLimited),
	)
}

func (m *metrics) dropped(reason string) { m.drops.WithLabelValues(reason).Inc() }

// rcodeName names an rcode, "OTHER" if it has no name: upstreams may send any.
func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers { // the same number is BADSIG elsewhere
		return "BADVERS"
	}
	if name, ok := dns.RcodeToString[rcode]; ok {
		return name
	}
	return "OTHER"
}
