package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the Launcher does.
type metrics struct {
	starts   *prometheus.CounterVec // by result: ready, failed, cancelled
	seconds  prometheus.Histogram
	starting prometheus.Gauge
	waiting  prometheus.Gauge
	exits    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns, room = "clonegate", "pipeline"
	m := &metrics{
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: room, Name: "starts_total", Help: "Starts of clones, by result: ready, failed or cancelled.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: room, Name: "start_seconds", Help: "How long clones took to become ready.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300},
		}),
		starting: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: room, Name: "starting", Help: "Clones that are being started.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: room, Name: "waiting", Help: "Clones that wait for others to have started.",
		}),
		exits: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: room, Name: "process_exits_total", Help: "Processes of running clones that ended by themselves.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.starts, m.seconds, m.starting, m.waiting, m.exits} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) started(result string, took time.Duration) {
	m.starts.WithLabelValues(result).Inc()
	if result == "ready" {
		m.seconds.Observe(took.Seconds())
	}
}
