package gateway

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/pkg/trace"
)

// metrics are the gateway's figures: plain atomic counters on the request's path, read by Prometheus's
// registry when it is asked.
type metrics struct {
	gw       *Gateway
	reporter *trace.Reporter
	registry *prometheus.Registry

	mu        sync.Mutex // guards routes and budgets
	routes    map[string]*routeStats
	budgets   map[string]*lb.Budget // by service
	own       *routeStats           // the gateway's own endpoints, and heads that never became a request
	unmatched *routeStats           // requests without a route

	reasons         [reasonCount]atomic.Int64
	retries         atomic.Int64
	retriesDenied   atomic.Int64
	refusals        atomic.Int64
	hedges          atomic.Int64
	connectFailures atomic.Int64
	stale           atomic.Int64
	tunnels         atomic.Int64
	full            atomic.Int64

	handshakeFailures atomic.Int64
	proxyFailures     atomic.Int64
	streamErrors      atomic.Int64
}

// bounds are the upper bounds of the duration's buckets, in seconds.
var bounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// routeStats counts the requests of one route.
type routeStats struct {
	route, service string
	budget         *lb.Budget      // of the service
	classes        [6]atomic.Int64 // by the status's first digit; 0 for none
	buckets        [len(bounds) + 1]atomic.Int64
	nanos          atomic.Int64
}

func (s *routeStats) observe(status int, took time.Duration) {
	class := status / 100
	if class > 5 {
		class = 0
	}
	s.classes[class].Add(1)
	s.nanos.Add(int64(took))
	seconds := took.Seconds()
	i := 0
	for i < len(bounds) && seconds > bounds[i] {
		i++
	}
	s.buckets[i].Add(1)
}

var (
	requestsDesc  = prometheus.NewDesc("goms_requests_total", "Requests answered, by route and class of status.", []string{"route", "service", "code"}, nil)
	durationDesc  = prometheus.NewDesc("goms_request_duration_seconds", "Time from the request's head to the end of its answer.", []string{"route", "service"}, nil)
	reasonsDesc   = prometheus.NewDesc("goms_request_reasons_total", "Requests that a node did not answer, or not to its end, by reason.", []string{"reason"}, nil)
	retriesDesc   = prometheus.NewDesc("goms_retries_total", "Further attempts of requests.", nil, nil)
	deniedDesc    = prometheus.NewDesc("goms_retries_denied_total", "Further attempts that the retry budget did not allow.", nil, nil)
	refusalsDesc  = prometheus.NewDesc("goms_refusals_total", "Requests that a node refused, with proof, before its handler began.", nil, nil)
	hedgesDesc    = prometheus.NewDesc("goms_hedges_total", "Second attempts that were made beside a slow first one.", nil, nil)
	reportedDesc  = prometheus.NewDesc("goms_node_load", "Other requests that a node had when it last answered, as it says.", []string{"service", "node"}, nil)
	connectDesc   = prometheus.NewDesc("goms_connect_failures_total", "Failed connections to nodes.", nil, nil)
	deadDesc      = prometheus.NewDesc("goms_stale_connections_total", "Idle connections to nodes that ended as they were used again, before a byte of an answer.", nil, nil)
	tunnelsDesc   = prometheus.NewDesc("goms_tunnels", "Upgraded connections that are open.", nil, nil)
	connsDesc     = prometheus.NewDesc("goms_connections", "Client connections that are open.", nil, nil)
	fullDesc      = prometheus.NewDesc("goms_connections_full_total", "Times that accepting waited for the limit of connections.", nil, nil)
	handshakeDesc = prometheus.NewDesc("goms_tls_handshake_failures_total", "TLS handshakes that failed.", nil, nil)
	proxyDesc     = prometheus.NewDesc("goms_proxy_protocol_failures_total", "Connections of proxies that were closed for the want of a good PROXY header.", nil, nil)
	streamsDesc   = prometheus.NewDesc("goms_http2_errors_total", "Faults in HTTP/2 connections and streams of clients.", nil, nil)
	inFlightDesc  = prometheus.NewDesc("goms_node_in_flight", "Requests at a node.", []string{"service", "node"}, nil)
	nodeReqDesc   = prometheus.NewDesc("goms_node_requests_total", "Requests sent to a node.", []string{"service", "node"}, nil)
	nodeFailDesc  = prometheus.NewDesc("goms_node_failures_total", "Connections to a node that failed.", []string{"service", "node"}, nil)
	ejectedDesc   = prometheus.NewDesc("goms_node_ejected", "1 while a node is left out for its failures.", []string{"service", "node"}, nil)
	idleDesc      = prometheus.NewDesc("goms_node_idle_connections", "Idle connections kept to a node.", []string{"service", "node"}, nil)
	connectedDesc = prometheus.NewDesc("goms_registry_connected", "1 while the registry answers.", nil, nil)
	ageDesc       = prometheus.NewDesc("goms_registry_age_seconds", "Time since the registry last answered; while it has not been read since the start, the age of the nodes.", nil, nil)
	resyncsDesc   = prometheus.NewDesc("goms_registry_resyncs_total", "Times that all nodes were listed again, by cause.", []string{"cause"}, nil)
	ignoredDesc   = prometheus.NewDesc("goms_registry_ignored_total", "Entries of the registry that are not used, by cause: malformed, network, own, duplicate.", []string{"cause"}, nil)
	staleDesc     = prometheus.NewDesc("goms_registry_stale", "1 while the nodes are those of the last run, because the registry has not been read since the start.", nil, nil)
	reloadsDesc   = prometheus.NewDesc("goms_reloads_total", "Configurations read while the gateway ran, by what became of them.", []string{"result"}, nil)
	refusedDesc   = prometheus.NewDesc("goms_config_refused", "1 while the configuration that lies there cannot be used, and the one before is.", nil, nil)
	routesDesc    = prometheus.NewDesc("goms_routes_info", "1 for the digest of the routes that are served.", []string{"digest"}, nil)
	spansDesc     = prometheus.NewDesc("goms_spans_total", "Spans, by what became of them.", []string{"result"}, nil)
)

func newMetrics(g *Gateway, r *trace.Reporter) *metrics {
	m := &metrics{gw: g, reporter: r, registry: prometheus.NewRegistry(), routes: map[string]*routeStats{}, budgets: map[string]*lb.Budget{}}
	m.own = m.route("own", "")
	m.unmatched = m.route("unmatched", "")
	m.registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// route returns the figures of the named route. They stay when the route goes, for a time: see forget.
func (m *metrics) route(name, service string) *routeStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.routes[name]
	if s == nil || s.service != service { // another prefix may make another service of the same path
		if m.budgets[service] == nil {
			m.budgets[service] = new(lb.Budget)
		}
		s = &routeStats{route: name, service: service, budget: m.budgets[service]}
		m.routes[name] = s
	}
	return s
}

// keptRoutes is how many routes that are served no more have their figures kept.
const keptRoutes = 1000

// forget lets the figures go of all routes but those of stats, once there are many: a gateway whose routes change every day must not
// remember them all.
func (m *metrics) forget(stats map[*route.Rule]*routeStats) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.routes) <= len(stats)+keptRoutes {
		return
	}
	routes, budgets := make(map[string]*routeStats, len(stats)), map[string]*lb.Budget{}
	for _, s := range stats {
		routes[s.route], budgets[s.service] = s, s.budget
	}
	m.routes, m.budgets = routes, budgets
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		requestsDesc, durationDesc, reasonsDesc, retriesDesc, deniedDesc, refusalsDesc, hedgesDesc, reportedDesc, connectDesc, deadDesc, tunnelsDesc, connsDesc,
		fullDesc, handshakeDesc, proxyDesc, streamsDesc, inFlightDesc, nodeReqDesc, nodeFailDesc, ejectedDesc, idleDesc, connectedDesc, ageDesc, resyncsDesc, ignoredDesc, staleDesc, reloadsDesc, refusedDesc, routesDesc, spansDesc,
	} {
		ch <- d
	}
	for _, d := range balanceDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	m.collectRoutes(ch, counter)
	for r := ReasonLocal; r < reasonCount; r++ {
		counter(reasonsDesc, m.reasons[r].Load(), r.String())
	}
	counter(retriesDesc, m.retries.Load())
	counter(deniedDesc, m.retriesDenied.Load())
	counter(refusalsDesc, m.refusals.Load())
	counter(hedgesDesc, m.hedges.Load())
	counter(connectDesc, m.connectFailures.Load())
	counter(deadDesc, m.stale.Load())
	counter(fullDesc, m.full.Load())
	counter(handshakeDesc, m.handshakeFailures.Load())
	counter(proxyDesc, m.proxyFailures.Load())
	counter(streamsDesc, m.streamErrors.Load())
	counter(reloadsDesc, m.gw.reloads.taken.Load(), "taken")
	counter(reloadsDesc, m.gw.reloads.refused.Load(), "refused")
	gauge(refusedDesc, flag(m.gw.reloads.failing.Load() != nil))
	gauge(routesDesc, 1, m.gw.live.Load().routes.Digest())
	gauge(tunnelsDesc, float64(m.tunnels.Load()))
	gauge(connsDesc, float64(m.gw.connections()))
	m.collectNodes(counter, gauge)
	m.collectBalance(counter, gauge)
	if m.gw.discovery != nil {
		s := m.gw.discovery.Status()
		gauge(connectedDesc, flag(s.Connected))
		gauge(staleDesc, flag(s.Stale))
		switch {
		case s.Stale && !s.StaleSince.IsZero():
			gauge(ageDesc, time.Since(s.StaleSince).Seconds())
		case !s.LastContact.IsZero():
			gauge(ageDesc, time.Since(s.LastContact).Seconds())
		}
		for cause, n := range s.Resyncs {
			counter(resyncsDesc, n, cause)
		}
		counter(ignoredDesc, s.Ignored, "malformed")
		for cause, n := range s.Refused {
			counter(ignoredDesc, n, cause)
		}
	}
	if m.reporter != nil {
		sent, dropped := m.reporter.Stats()
		counter(spansDesc, sent, "sent")
		counter(spansDesc, dropped, "dropped")
	}
}

func (m *metrics) collectRoutes(ch chan<- prometheus.Metric, counter func(*prometheus.Desc, int64, ...string)) {
	m.mu.Lock()
	routes := make([]*routeStats, 0, len(m.routes))
	for _, s := range m.routes {
		routes = append(routes, s)
	}
	m.mu.Unlock()
	for _, s := range routes {
		for class := range s.classes {
			if n := s.classes[class].Load(); n > 0 {
				counter(requestsDesc, n, s.route, s.service, strconv.Itoa(class)+"xx")
			}
		}
		buckets, count := make(map[float64]uint64, len(bounds)), uint64(0)
		for i, b := range bounds {
			count += uint64(s.buckets[i].Load())
			buckets[b] = count
		}
		count += uint64(s.buckets[len(bounds)].Load())
		if count > 0 {
			ch <- prometheus.MustNewConstHistogram(durationDesc, count, time.Duration(s.nanos.Load()).Seconds(), buckets, s.route, s.service)
		}
	}
}

func (m *metrics) collectNodes(counter func(*prometheus.Desc, int64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	v := m.gw.view.Load()
	if v == nil {
		return
	}
	for name, pool := range v.pools {
		for _, n := range pool.Nodes() {
			counter(nodeReqDesc, n.Requests(), name, n.ID())
			counter(nodeFailDesc, n.Failures(), name, n.ID())
			gauge(inFlightDesc, float64(n.InFlight()), name, n.ID())
			gauge(reportedDesc, float64(n.Load()), name, n.ID())
			gauge(ejectedDesc, flag(n.Ejected()), name, n.ID())
			gauge(idleDesc, float64(n.Data.(*upstream).count()), name, n.ID()) //nolint:forcetypeassert // see newUpstream
		}
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
