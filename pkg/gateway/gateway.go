// Package gateway is the data plane: it takes requests from clients, finds the route and a node for
// each, and carries it there and the answer back.
//
//	g, err := gateway.New(gateway.Config{Routes: table, Keys: keys, Settings: gateway.DefaultSettings()})
//	go g.Run(ctx)                      // keeps its times
//	go discovery.Watch(ctx, g.Apply)   // learns which nodes there are
//	err = g.Serve(listener)            // until Shutdown
//
// What a request means is decided by exchange, in steps over buffers that do no I/O; conn is the
// driver that reads, writes and waits for one connection in a goroutine. The package knows neither
// etcd nor flags, files or the environment.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/lb"
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
	Self      registry.Node   // the gateway's own node, whose join and leave are not printed
	Log       *slog.Logger    // nil discards
	Level     *slog.LevelVar  // what /log-level on the admin side changes; nil: nothing does
}

// Gateway serves any number of listeners. All methods are safe for concurrent use, except that Apply
// must not run beside itself.
type Gateway struct {
	set       Settings
	limits    http1.Limits
	keyLine   []byte // "Call-Service-Key: …\r\n"
	pseudonym string // who we are in Via
	discovery Discovery
	tracer    *trace.Tracer
	log       *slog.Logger
	level     *slog.LevelVar
	self      registry.Node
	endpoints map[string]func(*exchange) *local
	metrics   *metrics
	exchanges sync.Pool

	table    atomic.Pointer[table]
	view     atomic.Pointer[view]
	date     atomic.Pointer[date]
	now      atomic.Int64 // the sweep's clock
	draining atomic.Bool
	swept    []*conn // the sweep's own, kept for its memory

	base   context.Context // ends when connections are given up
	giveUp context.CancelFunc

	mu        sync.Mutex // guards what follows
	conns     map[*conn]struct{}
	room      *sync.Cond // a connection ended, or the listeners close
	listeners map[net.Listener]struct{}
	closed    bool
	serving   sync.WaitGroup // goroutines of connections
}

// table is one generation of routes with their figures.
type table struct {
	routes *route.Table
	stats  map[*route.Rule]*routeStats
}

// view is one generation of nodes.
type view struct {
	snapshot registry.Snapshot
	pools    map[string]*lb.Pool
}

// date is the Date field of the current second.
type date struct {
	unix int64
	line []byte
}

// New returns a gateway that serves nothing yet. Until the first Apply, requests get 503 no_registry.
func New(c Config) (*Gateway, error) {
	if c.Routes == nil || c.Keys == nil {
		return nil, errors.New("make gateway: Routes and Keys are required")
	}
	if err := c.Settings.Validate(); err != nil {
		return nil, fmt.Errorf("make gateway: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		set:       c.Settings,
		limits:    http1.Limits{Head: int(c.Settings.MaxHead), Lines: c.Settings.MaxHeaderLines, Target: int(c.Settings.MaxTarget)},
		keyLine:   []byte(auth.CallKeyHeader + ": " + c.Keys.Current() + "\r\n"),
		pseudonym: fmt.Sprintf("goms-%08x", rand.Uint32()),
		discovery: c.Discovery, tracer: c.Tracer, log: c.Log, level: c.Level, self: c.Self,
		conns:     map[*conn]struct{}{},
		listeners: map[net.Listener]struct{}{},
	}
	g.room = sync.NewCond(&g.mu)
	g.base, g.giveUp = context.WithCancel(context.Background())
	g.metrics = newMetrics(g, c.Reporter)
	g.endpoints = map[string]func(*exchange) *local{"/cluster": clusterEndpoint, "/livez": livezEndpoint, "/readyz": readyzEndpoint}
	g.exchanges.New = func() any {
		return &exchange{gw: g, ans: make([]byte, answerBuffer), out: make([]byte, 0, readBuffer)}
	}
	g.SetRoutes(c.Routes)
	g.tick(time.Now())
	return g, nil
}

// SetRoutes swaps the route table. Requests already matched finish with the old one; the figures of
// routes that stay go on.
func (g *Gateway) SetRoutes(routes *route.Table) {
	t := &table{routes: routes, stats: map[*route.Rule]*routeStats{}}
	for _, rule := range routes.Rules() {
		t.stats[rule] = g.metrics.route(rule.Name, rule.Service)
	}
	g.table.Store(t)
}

// Apply takes in a whole set of nodes: pools are built, nodes that stay keep their connections and
// figures, joins and leaves are printed. It fits registry's Watch.
func (g *Gateway) Apply(snapshot registry.Snapshot) {
	old := g.view.Load()
	next := &view{snapshot: snapshot, pools: map[string]*lb.Pool{}}
	if old != nil {
		for name, pool := range old.pools {
			next.pools[name] = pool
		}
	}
	for nodes := snapshot.Nodes; len(nodes) > 0; {
		of := snapshot.Of(nodes[0].Service)
		g.applyService(next, of)
		nodes = nodes[len(of):]
	}
	for name, pool := range next.pools {
		if len(snapshot.Of(name)) == 0 {
			pool.Update(nil) // kept for its figures
		}
	}
	g.view.Store(next)
	if old == nil {
		g.log.Info("registry read", "nodes", len(snapshot.Nodes))
		return
	}
	joined, left := registry.Diff(old.snapshot, snapshot)
	g.announce("join", joined)
	g.announce("leave", left)
}

func (g *Gateway) applyService(v *view, nodes []registry.Node) {
	pool := v.pools[nodes[0].Service]
	if pool == nil {
		pool = lb.NewPool(nodes[0].Service, lb.Options{NewData: newUpstream, DropData: dropUpstream})
		v.pools[nodes[0].Service] = pool
	}
	specs := make([]lb.Spec, len(nodes))
	for i, n := range nodes {
		specs[i] = lb.Spec{ID: n.ID(), Addr: n.HTTPAddr, Weight: n.Weight, Draining: n.State == registry.Draining}
	}
	pool.Update(specs)
	for _, n := range pool.Nodes() {
		if n.Draining() {
			n.Data.(*upstream).drop() //nolint:forcetypeassert // see newUpstream
		}
	}
}

func newUpstream(n *lb.Node) any {
	u := &upstream{addr: n.Addr()}
	u.remote, _ = netip.ParseAddrPort(u.addr) // a host name has no address to report
	return u
}

func dropUpstream(data any) { data.(*upstream).leave() } //nolint:forcetypeassert // see newUpstream

func (g *Gateway) announce(what string, nodes []registry.Node) {
	for _, n := range nodes {
		if n.Service == g.self.Service && n.ID() == g.self.ID() {
			continue
		}
		g.log.Info(what, "service", n.Service, "node", n.ID())
	}
}

// sweepInterval is how exactly times are kept.
const sweepInterval = 100 * time.Millisecond

// Run keeps the gateway's times until ctx is done: without it nothing ever times out.
func (g *Gateway) Run(ctx context.Context) error {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			g.tick(now)
			g.sweep()
		}
	}
}

// clock is the time in nanoseconds as of the last tick.
func (g *Gateway) clock() int64 { return g.now.Load() }

var clockStart = time.Now()

func (g *Gateway) tick(now time.Time) {
	g.now.Store(int64(time.Since(clockStart)) + 1)
	if d := g.date.Load(); d == nil || d.unix != now.Unix() {
		g.date.Store(&date{now.Unix(), []byte("Date: " + now.UTC().Format(http.TimeFormat) + "\r\n")})
	}
}

// sweep looks at every connection once.
func (g *Gateway) sweep() {
	now := g.clock()
	g.swept = g.snapshotConns(g.swept[:0])
	for _, c := range g.swept {
		c.check(now, g.set.BodyTimeout, g.set.StreamTimeout)
	}
	clear(g.swept)
	if v := g.view.Load(); v != nil {
		for _, pool := range v.pools {
			for _, n := range pool.Nodes() {
				n.Data.(*upstream).expire(now - int64(g.set.UpstreamIdleTimeout)) //nolint:forcetypeassert // see newUpstream
			}
		}
	}
}

// Serve accepts connections on ln until Shutdown, and then returns nil. It closes ln.
func (g *Gateway) Serve(ln net.Listener) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ln.Close()
	}
	g.listeners[ln] = struct{}{}
	g.mu.Unlock()
	defer ln.Close()
	pause := time.Duration(0)
	for {
		if !g.waitForRoom() {
			return nil
		}
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			g.start(nc)
			continue
		}
		if g.stopped() {
			return nil
		}
		if !temporary(err) {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		if pause == 0 {
			g.log.Warn("accepting connections is held up", "addr", ln.Addr().String(), "err", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-g.base.Done():
		}
	}
}

// temporary reports whether an error of accept passes: too many files, a client that left early.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary() && !errors.Is(err, net.ErrClosed)
}

// waitForRoom waits until another connection may be accepted; false means that none will be.
func (g *Gateway) waitForRoom() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.conns) >= g.set.MaxConnections && !g.closed {
		g.metrics.full.Add(1)
		g.room.Wait()
	}
	return !g.closed
}

func (g *Gateway) stopped() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *Gateway) start(nc net.Conn) {
	c := newConn(g, nc)
	g.mu.Lock()
	g.conns[c] = struct{}{}
	g.serving.Add(1)
	g.mu.Unlock()
	go g.serveConn(c)
}

func (g *Gateway) serveConn(c *conn) {
	defer g.serving.Done()
	c.serve()
	g.mu.Lock()
	delete(g.conns, c)
	g.room.Signal()
	g.mu.Unlock()
}

// exchange takes a used exchange, or makes one.
func (g *Gateway) exchange() *exchange {
	x := g.exchanges.Get().(*exchange) //nolint:forcetypeassert // see New
	x.reset()
	return x
}

// release keeps an exchange for the next request, unless a large one made it large.
func (g *Gateway) release(x *exchange) {
	if cap(x.out) > keepBuffer || cap(x.first) > keepBuffer || len(x.ans) > keepBuffer {
		return
	}
	x.upload.spill = nil
	g.exchanges.Put(x)
}

// Drain begins to stop: /readyz answers 503 and every answer ends its connection. It may be called
// more than once.
func (g *Gateway) Drain() { g.draining.Store(true) }

// Shutdown drains, waits for the configured delay so that whoever sends requests has noticed, stops
// accepting, and waits for the requests in flight: until the configured time is over or ctx is done,
// when the rest is cut off. The error says how many were.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.Drain()
	wait(ctx, g.set.DrainDelay)
	g.closeListeners()
	limit, cancel := context.WithTimeout(ctx, g.set.DrainTimeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		g.serving.Wait()
		close(done)
	}()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		for _, c := range g.snapshotConns(nil) {
			c.endIdle()
		}
		select {
		case <-done:
			g.closePools()
			return nil
		case <-poll.C:
			continue
		case <-limit.Done():
		}
		break
	}
	g.giveUp()
	late := g.snapshotConns(nil)
	for _, c := range late {
		c.end(endDrain)
	}
	<-done
	g.closePools()
	if len(late) == 0 {
		return nil
	}
	return fmt.Errorf("drain: %d connections were cut off after %s", len(late), g.set.DrainTimeout)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// closeListeners takes what waits in the backlogs, then closes them.
func (g *Gateway) closeListeners() {
	g.mu.Lock()
	listeners := g.listeners
	g.listeners = map[net.Listener]struct{}{}
	g.closed = true
	g.room.Broadcast()
	g.mu.Unlock()
	for ln := range listeners {
		if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok && d.SetDeadline(time.Now().Add(20*time.Millisecond)) == nil {
			for {
				nc, err := ln.Accept()
				if err != nil {
					break
				}
				g.start(nc)
			}
		}
		ln.Close()
	}
}

// snapshotConns appends the connections that are open now.
func (g *Gateway) snapshotConns(list []*conn) []*conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		list = append(list, c)
	}
	return list
}

// closePools closes the idle connections to all nodes.
func (g *Gateway) closePools() {
	if v := g.view.Load(); v != nil {
		for _, pool := range v.pools {
			pool.Update(nil)
		}
	}
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
