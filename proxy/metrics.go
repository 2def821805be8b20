package proxy

import (
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clonegate/clonegate/proxy/http2"
)

// metrics are the gateway's own numbers. Those of clones are read from the
// tenants whenever somebody asks, so a clone that leaves takes its series along.
type metrics struct {
	latency *histogram
	reasons *prometheus.CounterVec
	refused prometheus.Counter
	faults  *prometheus.CounterVec
	http2   *prometheus.CounterVec
	events  [http2.NumEvents]prometheus.Counter // of http2
	journal prometheus.Collector
	clones  *cloneMetrics
}

func newMetrics(ts *tenants) *metrics {
	m := &metrics{
		latency: newHistogram("clonegate_proxy_request_duration_seconds",
			"Time from a request's head to the end of its answer, tunnels excepted."),
		reasons: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_proxy_gateway_answers_total",
			Help: "Requests that the gateway answered, cut or lost itself, by reason.",
		}, []string{"reason"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_proxy_faults_total",
			Help: "Times that a request met a fault on demand, by kind.",
		}, []string{"kind"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clonegate_proxy_connections_refused_total",
			Help: "Connections closed at once because their source had too many.",
		}),
		http2: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_proxy_http2_events_total",
			Help: "What happened to HTTP/2 connections and was not as it should be, by event.",
		}, []string{"event"}),
		journal: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "clonegate_proxy_record_bytes",
			Help: "Octets of memory that hold the last requests of clones.",
		}, func() float64 { return float64(ts.journals.bytes.Load()) }),
		clones: newCloneMetrics(ts),
	}
	for e := range m.events {
		m.events[e] = m.http2.WithLabelValues(http2.Event(e).String())
	}
	return m
}

// count counts an event of an HTTP/2 connection.
func (m *metrics) count(e http2.Event) { m.events[e].Inc() }

// register registers all metrics, or none. A nil registerer takes none.
func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var done []prometheus.Collector
	for _, c := range []prometheus.Collector{m.latency, m.reasons, m.refused, m.faults, m.http2, m.journal, m.clones} {
		if err := r.Register(c); err != nil {
			for _, d := range done {
				r.Unregister(d)
			}
			return errors.New("proxy: metrics: " + err.Error())
		}
		done = append(done, c)
	}
	return nil
}

// cloneMetrics collects the numbers of the clones that were asked for.
type cloneMetrics struct {
	tenants                                   *tenants
	requests, atWork, tunnels, sent, received *prometheus.Desc
	conns, waiting, turned, escaped           *prometheus.Desc
}

func newCloneMetrics(ts *tenants) *cloneMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("clonegate_proxy_"+name, help, append([]string{"clone"}, labels...), nil)
	}
	return &cloneMetrics{
		tenants:  ts,
		requests: desc("requests_total", "Requests answered for a service of a clone, by class of status.", "service", "class"),
		atWork:   desc("requests_at_work", "Requests of a clone that are at work."),
		tunnels:  desc("tunnels", "Open WebSockets of a clone."),
		sent:     desc("sent_bytes_total", "Octets of answers sent for a service of a clone.", "service"),
		received: desc("received_bytes_total", "Octets of requests received for a service of a clone.", "service"),
		conns:    desc("endpoint_connections", "Open connections to the endpoints of a clone."),
		waiting:  desc("requests_waiting", "Requests of a clone that wait for a connection to an endpoint."),
		turned:   desc("overloaded_total", "Requests of a clone that were refused because it or its endpoints had too many."),
		escaped:  desc("escapes_total", "Names of production in headers of answers of a clone that has names of production."),
	}
}

// Describe implements prometheus.Collector.
func (m *cloneMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.requests, m.atWork, m.tunnels, m.sent, m.received, m.conns, m.waiting, m.turned, m.escaped} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *cloneMetrics) Collect(out chan<- prometheus.Metric) {
	for _, t := range m.tenants.all() {
		id := string(t.id)
		out <- prometheus.MustNewConstMetric(m.atWork, prometheus.GaugeValue, float64(t.atWork.Load()), id)
		out <- prometheus.MustNewConstMetric(m.tunnels, prometheus.GaugeValue, float64(t.openTunnels()), id)
		conns, waiting := t.load()
		out <- prometheus.MustNewConstMetric(m.conns, prometheus.GaugeValue, float64(conns), id)
		out <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting), id)
		out <- prometheus.MustNewConstMetric(m.turned, prometheus.CounterValue, float64(t.turned.Load()), id)
		if t.production.Load().isDeclared() {
			out <- prometheus.MustNewConstMetric(m.escaped, prometheus.CounterValue, float64(t.escapes.total.Load()), id)
		}
		for service, p := range *t.pools.Load() {
			m.collectService(out, id, service, &p.traffic)
		}
	}
}

// collectService collects the numbers of a service, if it was ever asked for.
func (m *cloneMetrics) collectService(out chan<- prometheus.Metric, id, service string, t *traffic) {
	asked := false
	for class := range t.answered {
		if n := t.answered[class].Load(); n > 0 {
			asked = true
			out <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), id, service, strconv.Itoa(class)+"xx")
		}
	}
	if asked {
		out <- prometheus.MustNewConstMetric(m.sent, prometheus.CounterValue, float64(t.sent.Load()), id, service)
		out <- prometheus.MustNewConstMetric(m.received, prometheus.CounterValue, float64(t.received.Load()), id, service)
	}
}

// traffic is what was counted of the requests of one service.
type traffic struct {
	answered [6]atomic.Uint64 // by the first digit of the status
	sent     atomic.Uint64    // octets of answers
	received atomic.Uint64    // octets of requests
}

func (t *traffic) count(x *exchange) {
	t.answered[min(x.status/100, len(t.answered)-1)].Add(1)
	t.sent.Add(x.sent.Load())
	if n := x.received.Load(); n > 0 {
		t.received.Add(n)
	}
}
