package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// bounds are the upper ends of a histogram's buckets.
var bounds = [...]time.Duration{
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, 60 * time.Second, 300 * time.Second,
}

// A histogram counts durations. An observation is two atomic additions, where
// that of a prometheus.Histogram is four and a search. It implements
// prometheus.Collector.
type histogram struct {
	desc    *prometheus.Desc
	buckets [len(bounds) + 1]atomic.Uint64 // those above all bounds in the last
	nanos   atomic.Int64                   // of all together
}

func newHistogram(name, help string) *histogram {
	return &histogram{desc: prometheus.NewDesc(name, help, nil, nil)}
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.nanos.Add(int64(d))
}

// Describe implements prometheus.Collector.
func (h *histogram) Describe(out chan<- *prometheus.Desc) { out <- h.desc }

// Collect implements prometheus.Collector.
func (h *histogram) Collect(out chan<- prometheus.Metric) {
	buckets := make(map[float64]uint64, len(bounds))
	var n uint64
	for i, b := range bounds {
		n += h.buckets[i].Load()
		buckets[b.Seconds()] = n
	}
	n += h.buckets[len(bounds)].Load()
	out <- prometheus.MustNewConstHistogram(h.desc, n, time.Duration(h.nanos.Load()).Seconds(), buckets)
}
