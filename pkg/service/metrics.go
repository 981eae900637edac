package service

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are a node's, in a registry of their own: the process's default one holds
// whatever any linked library thinks worth counting.
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	inFlight prometheus.Gauge
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	refusals *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "goms_node_requests_in_flight", Help: "HTTP requests being served.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "goms_node_requests_total", Help: "HTTP requests served.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "goms_node_request_duration_seconds", Help: "Time to serve an HTTP request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "goms_node_refusals_total", Help: "HTTP requests and RPC calls refused before their handler, by cause: late, leaving, full.",
		}, []string{"cause"}),
	}
	for _, cause := range refusalCauses {
		m.refusals.WithLabelValues(cause)
	}
	m.registry.MustRegister(m.inFlight, m.requests, m.duration, m.refusals,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) observe(rec *record, code int) {
	route := routeName(rec.route)
	m.requests.WithLabelValues(route, rec.method, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(route, rec.method).Observe(time.Since(rec.start).Seconds())
}
