// Package gateway is the data plane: it takes requests from clients, finds the route and a node for
// each, and carries it there and the answer back.
//
//	g, err := gateway.New(gateway.Config{Routes: table, Keys: keys, Settings: gateway.DefaultSettings()})
//	go g.Run(ctx)                    // keeps its times
//	go discovery.Watch(ctx, g.Apply) // learns which nodes there are
//	err = g.Serve(gateway.Listener{Listener: ln}) // until Shutdown
//
// What a request means is decided by exchange, in steps over buffers that do no I/O; conn is the
// driver that reads, writes and waits for one connection in a goroutine. The package knows neither
// etcd nor flags, files or the environment.
package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/pkg/trace"
)

// Discovery is what the gateway asks about its source of nodes: whether it is in touch with it.
type Discovery interface {
	Status() registry.Status
}

// Config is what a Gateway is made of. Routes, Keys and Settings are required.
type Config struct {
	Routes    *route.Table
	Keys      *auth.CallKeys
	Settings  Settings
	Discovery Discovery       // nil: /readyz asks only whether there is a snapshot
	Tracer    *trace.Tracer   // nil: trace headers pass on, no spans
	Reporter  *trace.Reporter // nil: no figures of it in the metrics
	NodeTLS   *tls.Config     // for nodes that publish TLS; nil is the system's authorities and no certificate of ours
	Self      registry.Node   // the gateway's own node, whose join and leave are not printed
	Log       *slog.Logger    // nil discards
	// Control is called with each address a node is dialled at, after its host name was resolved; an
	// error of it is that of the connection. It fits registry.Trust. Nil allows all.
	Control func(network, address string, c syscall.RawConn) error
	// CheckGRPC is for checks of type grpc; nil means that there are none.
	CheckGRPC GRPCCheck
	Level     *slog.LevelVar // what /log-level on the admin side changes; nil: nothing does

	// Collectors are figures of others in the process, which /metrics on the admin side shows too. Each is
	// registered once, and its names are its own.
	Collectors []prometheus.Collector
}

// Gateway serves any number of listeners. All methods are safe for concurrent use, except that Apply
// must not run beside itself.
type Gateway struct {
	window    time.Duration // over which a client's pace is judged
	pseudonym string        // who we are in Via
	discovery Discovery
	dialer    *net.Dialer // to nodes
	tracer    *trace.Tracer
	log       *slog.Logger
	level     *slog.LevelVar
	self      registry.Node
	endpoints map[string]func(*exchange) *local
	metrics   *metrics
	exchanges sync.Pool
	http2     *http2Server
	reloads   reloads

	known chan struct{} // closed by the first Apply

	live     atomic.Pointer[generation]
	view     atomic.Pointer[view]
	balance  atomic.Pointer[balance]
	date     atomic.Pointer[date]
	now      atomic.Int64 // the sweep's clock
	draining atomic.Bool
	handed   atomic.Bool // another process has the listening sockets
	swept    []*conn     // the sweep's own, kept for its memory
	nodeTLS  *tls.Config
	applying []registry.Node // Apply's own: the nodes of the service whose pool is being updated

	base   context.Context // ends when connections are given up
	giveUp context.CancelFunc

	checks   *checks
	changing sync.Mutex // held while pools are made or configured

	mu        sync.Mutex // guards what follows
	conns     map[*conn]struct{}
	room      *sync.Cond // a connection ended, or the listeners close
	open      int        // of them, without streams
	listeners []Listener
	closed    bool
	serving   sync.WaitGroup // goroutines of connections
	accepting sync.WaitGroup // Serves
}

// New returns a gateway that serves nothing yet. Until the first Apply, requests get 503 no_registry.
func New(c Config) (*Gateway, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		pseudonym: fmt.Sprintf("goms-%08x", rand.Uint32()),
		discovery: c.Discovery, tracer: c.Tracer, log: c.Log, level: c.Level, self: c.Self, nodeTLS: c.NodeTLS,
		dialer: newDialer(c.Control),
		known:  make(chan struct{}), window: rateWindow,
		conns: map[*conn]struct{}{},
	}
	g.room = sync.NewCond(&g.mu)
	g.base, g.giveUp = context.WithCancel(context.Background())
	g.metrics = newMetrics(g, c.Reporter)
	first, err := g.generation(Live{c.Routes, c.Keys, c.Settings})
	if err != nil {
		return nil, fmt.Errorf("make gateway: %w", err)
	}
	g.live.Store(first)
	for _, more := range c.Collectors {
		if err := g.metrics.registry.Register(more); err != nil {
			return nil, fmt.Errorf("make gateway: %w", err)
		}
	}
	g.http2 = newHTTP2Server(g)
	g.endpoints = map[string]func(*exchange) *local{"/cluster": clusterEndpoint, "/livez": livezEndpoint, "/readyz": readyzEndpoint}
	g.exchanges.New = func() any {
		x := &exchange{gw: g, small: make([]byte, 0, readBuffer)}
		x.out = x.small
		return x
	}
	g.checks = newChecks(g, c.CheckGRPC)
	g.balance.Store(newBalance(c.Settings.Zone, c.Settings.Policies))
	g.tick(time.Now())
	return g, nil
}

// Known is closed once the nodes are known, by the first Apply.
func (g *Gateway) Known() <-chan struct{} { return g.known }

// exchange takes a used exchange, or makes one.
func (g *Gateway) exchange() *exchange {
	x := g.exchanges.Get().(*exchange) //nolint:forcetypeassert // see New
	x.reset()
	return x
}

// release keeps an exchange for the next request, unless a large one made it large.
func (g *Gateway) release(x *exchange) {
	x.ansR = x.ansW
	x.tidyAnswer()
	x.tidy()
	if cap(x.first) > keepBuffer {
		return
	}
	x.upload.spill = nil
	g.exchanges.Put(x)
}

// inVia reports whether a Via field names this gateway.
func (g *Gateway) inVia(value []byte) bool {
	for rest := value; ; {
		e, r, ok := http1.NextToken(rest)
		if !ok {
			return false
		}
		rest = r
		if i := strings.IndexByte(string(e), ' '); i >= 0 && strings.HasPrefix(strings.TrimLeft(string(e[i+1:]), " \t"), g.pseudonym) {
			return true
		}
	}
}
