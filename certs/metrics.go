package certs

import (
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// caMetrics counts what the CA does.
type caMetrics struct {
	issued  prometheus.Counter
	evicted prometheus.Counter
	leaf    prometheus.Gauge
}

func newCAMetrics(to prometheus.Registerer, ca *CA) (*caMetrics, error) {
	m := &caMetrics{
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clonegate_certs_leaves_issued_total",
			Help: "Leaf certificates signed by the internal CA.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clonegate_certs_leaf_evictions_total",
			Help: "Leaf certificates forgotten because too many clones were asked for.",
		}),
		leaf: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "clonegate_certs_leaf_expiry_timestamp_seconds",
			Help: "When the leaf certificate presented last expires. Leaves are renewed in handshakes: without any, this may lie in the past.",
		}),
	}
	cached := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "clonegate_certs_leaves_cached",
		Help: "Leaf certificates remembered by the internal CA.",
	}, func() float64 { return float64(ca.leaves.Len()) })
	expiry := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "clonegate_certs_root_expiry_timestamp_seconds",
		Help: "When the root of the internal CA expires.",
	})
	expiry.Set(float64(ca.authority.root.NotAfter.Unix()))
	return m, register(to, m.issued, m.evicted, m.leaf, cached, expiry)
}

func (m *caMetrics) presented(l *leaf) { m.leaf.Set(float64(l.until.Unix())) }

// acmeMetrics counts what the authority did for us.
type acmeMetrics struct{ issued, renewed, failed prometheus.Counter }

func newACMEMetrics(to prometheus.Registerer, a *ACME) (*acmeMetrics, error) {
	m := &acmeMetrics{
		issued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clonegate_certs_acme_issued_total",
			Help: "Certificates issued by ACME for names that had none.",
		}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clonegate_certs_acme_renewed_total",
			Help: "Certificates renewed by ACME.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "clonegate_certs_acme_failures_total",
			Help: "Attempts to have a certificate issued or renewed by ACME that failed; they are repeated.",
		}),
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "clonegate_certs_acme_expiry_timestamp_seconds",
		Help: "When the first of the zones' ACME certificates expires; 0 as long as one has never been issued, or has expired.",
	}, a.firstExpiry)
	return m, register(to, m.issued, m.renewed, m.failed, expiry)
}

// firstExpiry returns when the first of the zones' certificates expires, in
// seconds since 1970; 0 if one is missing.
func (a *ACME) firstExpiry() float64 {
	select {
	case <-a.loaded:
	default:
		return 0
	}
	first := math.Inf(1)
	for _, name := range a.names() {
		cert := a.find(name)
		if cert == nil {
			return 0
		}
		first = min(first, float64(cert.Leaf.NotAfter.Unix()))
	}
	return first
}

// newFileExpiry returns the gauge of when each certificate file expires.
func newFileExpiry(to prometheus.Registerer) (*prometheus.GaugeVec, error) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "clonegate_certs_file_expiry_timestamp_seconds",
		Help: "When the certificate in use from a file expires.",
	}, []string{"file"})
	return g, register(to, g)
}

func register(to prometheus.Registerer, all ...prometheus.Collector) error {
	if to == nil {
		return nil
	}
	for _, c := range all {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("metrics of certificates: %w", err)
		}
	}
	return nil
}
