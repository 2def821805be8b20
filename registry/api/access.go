package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests. Its labels are bounded: an operation's ID and a
// status class.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "clonegate_api_requests_total",
			Help: "Requests to the API by operation and class of status.",
		}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "clonegate_api_request_seconds",
			Help:    "Time to answer, streams excepted.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}, []string{"operation"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "clonegate_api_streams",
			Help: "Open streams of changes and events.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.streams} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("API metrics: %w", err)
		}
	}
	return m, nil
}

// record is the outermost layer: it gives each request its exchange, counts it
// and writes its line in the access log.
func (a *API) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		e := &exchange{operation: "none", actor: nobody(peer(r))}
		rec := &recorder{ResponseWriter: w}
		defer func() {
			a.note(r, e, rec, time.Since(start))
		}()
		a.recoverPanics(next, rec, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)))
	})
}

// recoverPanics answers 500 if a handler panics, and logs where.
func (a *API) recoverPanics(next http.Handler, rec *recorder, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler || r.Context().Err() != nil {
			rec.status = statusClientLeft
			return
		}
		a.log.Error("panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		if rec.status == 0 {
			ProblemOf(fmt.Errorf("panic: %v", v)).write(rec)
			return
		}
		panic(http.ErrAbortHandler)
	}()
	next.ServeHTTP(rec, r)
}

// note counts and logs one answered request. Only paths are logged, no
// queries, bodies or headers: they may hold secrets.
func (a *API) note(r *http.Request, e *exchange, rec *recorder, dur time.Duration) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	a.metrics.requests.WithLabelValues(e.operation, fmt.Sprintf("%dxx", status/100)).Inc()
	if !e.stream {
		a.metrics.seconds.WithLabelValues(e.operation).Observe(dur.Seconds())
	}
	attrs := []slog.Attr{
		slog.String("operation", e.operation),
		slog.Int("status", status),
		slog.String("method", r.Method),
		slog.String("path", clip(r.URL.Path)),
		slog.String("token", e.actor.Token.ID),
		slog.String("from", e.actor.From),
		slog.Duration("dur", dur),
	}
	if e.err != nil {
		attrs = append(attrs, slog.String("err", e.err.Error()))
	}
	a.log.LogAttrs(r.Context(), level(r, e, status), "request", attrs...)
}

// level makes the routine of reading and renewing quiet.
func level(r *http.Request, e *exchange, status int) slog.Level {
	switch {
	case status >= 500:
		return slog.LevelError
	case status < 400 && (r.Method == http.MethodGet || r.Method == http.MethodHead || e.operation == opRenew):
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// A recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController its deadlines and flushes.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
