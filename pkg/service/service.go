// Package service turns a Gin program into a node of a goms project: it listens,
// registers in etcd, serves HTTP and gRPC to holders of the call-service key, calls
// other services by name, and leaves without losing a request.
//
// A whole node:
//
//	func main() {
//		service.Main("user", func(s *service.Service) error {
//			s.POST("/login", login)                 // Gin's routes
//			pb.RegisterUserServer(s.RPC(), users{}) // gRPC's services
//			return nil
//		})
//	}
//
//	func login(c *gin.Context) { service.Success(c, gin.H{"token": "…"}) }
//
// The paths /livez, /readyz and /metrics of the HTTP port belong to the SDK. The
// first two answer anybody; everything else, metrics included, wants the
// call-service key in the header Call-Service-Key and is 403 without it.
//
// The package knows nothing of gateways and their routing.
package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gin-gonic/gin"
	"github.com/openzipkin/zipkin-go"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/rpc"
	"github.com/goms-io/goms/pkg/trace"
)

// Service is one node. Its embedded Gin engine takes routes and middlewares in the
// setup function, before Run; the engine's own ways to listen (RunTLS, RunUnix, …)
// must not be used. All other methods are safe for concurrent use.
type Service struct {
	*gin.Engine

	name   string
	config Config
	log    *slog.Logger
	keys   *auth.CallKeys // those of now, at each use
	host   string         // published in the registry

	registry Registry          // nil until Run opens etcd
	members  *registry.Members // nil where the registry does not know what operators set; set before it is watched
	reporter *trace.Reporter   // nil without a collector
	tracer   *zipkin.Tracer
	metrics  *metrics
	rpc      *grpc.Server
	health   *health.Server
	nodes    *discovery
	certs    *certs.Store // nil without TLS

	now     atomic.Pointer[auth.CallKeys] // see followKeys
	keysSum string                        // tells the files that they were read from from changed ones
	asked   <-chan os.Signal              // to read them now; nil is never

	running   atomic.Bool
	published atomic.Bool
	closing   atomic.Bool   // the node has left: what can go elsewhere does
	busy      atomic.Int64  // requests and calls in handlers
	ready     chan struct{} // closed when registered
	draining  chan struct{} // closed when the node begins to leave

	mu      sync.Mutex // guards what follows
	http    net.Listener
	grpc    net.Listener
	onStop  []func()
	started registry.Node // zero until both ports listen
}

// New makes a node that is not running: it opens no port and no connection. Its
// errors are about o; those about o.Config are of the kind that ExitCode calls an
// invalid configuration.
func New(o Options) (*Service, error) {
	c := DefaultConfig()
	if o.Config != nil {
		c = *o.Config
	}
	if o.Name == "" {
		return nil, &project.ConfigError{Msg: "the service has no name"}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	keysSum := keysSum(c)
	keys, err := c.Keys()
	if err != nil {
		return nil, err
	}
	trust := registry.NewTrust(registry.TrustConfig{Networks: c.NodeNetworks, Log: o.Log})
	s := &Service{
		name: o.Name, config: c, log: o.Log, keysSum: keysSum, asked: o.asked, registry: o.Registry,
		metrics: newMetrics(),
		ready:   make(chan struct{}), draining: make(chan struct{}),
	}
	s.now.Store(keys)
	s.keys = auth.Follow(s.now.Load)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.host, err = advertised(c, o.Registry != nil); err != nil {
		return nil, err
	}
	if err := s.node(1, 1).Validate(); err != nil { // the ports are known later
		return nil, &project.ConfigError{Msg: err.Error()}
	}
	if err := s.traced(); err != nil {
		return nil, err
	}
	nodeTLS, err := c.NodeClientTLS(s.log)
	if err != nil {
		return nil, err
	}
	s.nodes = newDiscovery(s.log, trust, nodeTLS, func(service string) (*rpc.Conn, error) {
		return rpc.Dial(rpc.DialConfig{Service: service, Keys: s.keys, Tracer: s.tracer, TLS: nodeTLS, Control: trust.Control})
	})
	var secure []grpc.ServerOption
	if c.Service.TLS.enabled() {
		if s.certs, err = certs.Open(c.Service.TLS.options(s.log)); err != nil {
			return nil, &project.ConfigError{Key: "service.tls", Msg: err.Error()}
		}
		secure = append(secure, grpc.Creds(credentials.NewTLS(s.certs.ServerConfig())))
	}
	s.rpc, s.health = rpc.NewServerHealth(rpc.ServerConfig{Keys: s.keys, Tracer: s.tracer, Log: s.log, Node: rpcSide{s}}, secure...)
	if s.Engine, err = newEngine(c.Service.TrustedProxies); err != nil {
		return nil, err
	}
	return s, nil
}

// advertised returns the host under which others reach this node.
func advertised(c Config, injected bool) (string, error) {
	switch {
	case c.AdvertiseHost != "":
		return c.AdvertiseHost, nil
	case injected && c.Service.ListenHost != "":
		return c.Service.ListenHost, nil
	}
	return registry.AdvertiseHost(c.EtcdAddr)
}

// traced makes tracer and, with a collector configured, reporter.
func (s *Service) traced() (err error) {
	if s.config.ZipkinAddr != "" {
		s.reporter, err = trace.NewReporter(trace.ReporterConfig{URL: s.config.ZipkinAddr, Log: s.log})
		if err != nil {
			return fmt.Errorf("zipkinAddr: %w", err)
		}
	}
	var local netip.AddrPort
	if ip, err := netip.ParseAddr(s.host); err == nil {
		local = netip.AddrPortFrom(ip, uint16(s.config.Service.HTTPPort))
	}
	s.tracer, err = trace.NewZipkinTracer(s.name, local, s.config.Zipkin.SampleRate, s.reporter)
	return err
}

// Name returns the name of the service.
func (s *Service) Name() string { return s.name }

// Config returns the configuration the node runs with, for the addresses that
// programs share (RedisAddr, EsAddr, AmqpAddr). The call-service keys and etcd's
// password are left out of it.
func (s *Service) Config() Config {
	c := s.config
	c.CallServiceKey, c.CallServiceKeyOld, c.Etcd.Password = "", "", ""
	return c
}

// Log returns the node's logger; it never writes the call-service key.
func (s *Service) Log() *slog.Logger { return s.log }

// RPC returns the gRPC server, for services to be registered in the setup
// function. Health and reflection are registered already.
func (s *Service) RPC() *grpc.Server { return s.rpc }

// Metrics returns the registry behind /metrics, for a program's own collectors.
func (s *Service) Metrics() *prometheus.Registry { return s.metrics.registry }

// Tracer returns the tracer. Handlers find their span with
// zipkin.SpanFromContext(c.Request.Context()).
func (s *Service) Tracer() *zipkin.Tracer { return s.tracer }

// Node returns the node as it is registered; zero until both ports listen.
func (s *Service) Node() registry.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// Nodes returns the live nodes of a service, sorted by ID, as last heard from the
// registry, with the weight and state that operators have set (gateway node drain,
// gateway node weight). The slice is shared: do not modify it.
func (s *Service) Nodes(service string) []registry.Node { return s.nodes.of(service) }

// Ready is closed when the node is registered for the first time.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Draining is closed when the node begins to leave. Handlers that would run for
// long (event streams, WebSockets) end when they see it.
func (s *Service) Draining() <-chan struct{} { return s.draining }

// OnStop registers f to be called when the last request has been answered and the
// node has left the registry: the place to close what setup opened. The functions
// are called in reverse order, each once, only if Run was called.
func (s *Service) OnStop(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onStop = append(s.onStop, f)
}

// leaving reports whether the node has begun to leave.
func (s *Service) leaving() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

var errRunning = errors.New("run service: it was run already")
