package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/rpc"
)

// discovery is what a node knows of the others: a pool of HTTP addresses for each
// service, and the gRPC connections that were asked for.
type discovery struct {
	log     *slog.Logger
	trust   *registry.Trust
	dial    func(service string) (*rpc.Conn, error)
	nodeTLS *tls.Config

	applying map[string]registry.Node // apply's own: the nodes of one service, by ID

	pools   atomic.Pointer[map[string]*lb.Pool] // swapped whole; pools stay
	budgets sync.Map                            // service → *lb.Budget
	known   chan struct{}                       // closed at the first snapshot

	mu       sync.Mutex // guards what follows
	self     registry.Node
	snapshot registry.Snapshot
	conns    map[string]*rpc.Conn
	closed   bool
}

func newDiscovery(log *slog.Logger, trust *registry.Trust, nodeTLS *tls.Config, dial func(string) (*rpc.Conn, error)) *discovery {
	d := &discovery{log: log, trust: trust, dial: dial, nodeTLS: nodeTLS, known: make(chan struct{}), conns: map[string]*rpc.Conn{}}
	d.pools.Store(&map[string]*lb.Pool{})
	return d
}

// apply takes a snapshot of the nodes that are believed; the watch calls it, one at a
// time.
func (d *discovery) apply(s registry.Snapshot) {
	d.updatePools(s)
	old, self := d.swap(s)
	select {
	case <-d.known:
	default:
		close(d.known) // who is there at the start did not join
		return
	}
	joined, left := registry.Diff(old, s)
	d.tell("join", joined, self)
	d.tell("leave", left, self)
}

// dead reports whether a node that etcd no longer holds need not be called any more.
func (d *discovery) dead(n registry.Node) bool {
	if pool := d.pool(n.Service); pool != nil {
		for _, known := range pool.Nodes() {
			if known.ID() == n.ID() && known.Ejected() {
				return true
			}
		}
	}
	return d.trust.Dead(n)
}

func (d *discovery) tell(what string, nodes []registry.Node, self registry.Node) {
	for _, n := range nodes {
		if n.Service != self.Service || n.ID() != self.ID() {
			d.log.Info(what, "service", n.Service, "node", n.ID())
		}
	}
}

func (d *discovery) updatePools(s registry.Snapshot) {
	old := *d.pools.Load()
	services := map[string][]registry.Node{}
	for name := range old {
		services[name] = nil
	}
	for _, n := range s.Nodes {
		services[n.Service] = append(services[n.Service], n)
	}
	pools := maps.Clone(old)
	for name, nodes := range services {
		if pools[name] == nil {
			pools[name] = lb.NewPool(name, lb.Options{NewData: d.newUpstream, DropData: dropUpstream})
		}
		d.updatePool(pools[name], nodes)
	}
	d.pools.Store(&pools)
}

func (d *discovery) updatePool(pool *lb.Pool, nodes []registry.Node) {
	specs := make([]lb.Spec, len(nodes))
	d.applying = make(map[string]registry.Node, len(nodes))
	for i, n := range nodes {
		specs[i] = lb.Spec{ID: n.ID(), Addr: n.HTTPAddr, Weight: n.Weight, Draining: n.State == registry.Draining, Zone: n.Zone, Backup: n.Backup}
		d.applying[n.ID()] = n
	}
	for _, n := range pool.Nodes() {
		if word, ok := d.applying[n.ID()]; ok {
			upstreamOf(n).learn(word, d.nodeTLS, d.trust.Control)
		}
	}
	pool.Update(specs)
	d.applying = nil
}

// newUpstream makes the upstream of a node that joins. It knows how to speak to it
// before it is picked.
func (d *discovery) newUpstream(n *lb.Node) any {
	u := &upstream{}
	u.learn(d.applying[n.ID()], d.nodeTLS, d.trust.Control)
	return u
}

func dropUpstream(data any) { data.(*upstream).close() } //nolint:forcetypeassert // see newUpstream

// swap keeps s and hands it to the gRPC connections. That is done under the lock so
// that a connection made meanwhile is not left with an older set; it only passes
// values on.
func (d *discovery) swap(s registry.Snapshot) (old registry.Snapshot, self registry.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, d.snapshot = d.snapshot, s
	for service, conn := range d.conns {
		conn.Update(targets(s.Of(service)))
	}
	return old, d.self
}

// targets are nodes as calls see them.
func targets(nodes []registry.Node) []rpc.Target {
	all := make([]rpc.Target, len(nodes))
	for i, n := range nodes {
		all[i] = rpc.Target{Addr: n.RPCAddr, Weight: n.Weight, TLS: n.TLS, Draining: n.State == registry.Draining, Backup: n.Backup}
	}
	return all
}

func (d *discovery) setSelf(n registry.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.self = n
}

func (d *discovery) of(service string) []registry.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.snapshot.Of(service)
}

// pool returns the pool of a service, nil when no node of it was ever seen.
func (d *discovery) pool(service string) *lb.Pool { return (*d.pools.Load())[service] }

// budget returns what bounds the further attempts of calls of a service.
func (d *discovery) budget(service string) *lb.Budget {
	b, ok := d.budgets.Load(service)
	if !ok {
		b, _ = d.budgets.LoadOrStore(service, new(lb.Budget))
	}
	return b.(*lb.Budget) //nolint:forcetypeassert // nothing else is stored
}

// wait returns when the first snapshot is there, else the context's error.
func (d *discovery) wait(ctx context.Context) error {
	select {
	case <-d.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// conn returns the gRPC connection to a service, the same one each time.
func (d *discovery) conn(service string) (*rpc.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("dial service %q: the node has stopped", service)
	}
	if c := d.conns[service]; c != nil {
		return c, nil
	}
	c, err := d.dial(service)
	if err != nil {
		return nil, err
	}
	c.Update(targets(d.snapshot.Of(service)))
	d.conns[service] = c
	return c, nil
}

func (d *discovery) close() {
	d.mu.Lock()
	conns := d.conns
	d.conns, d.closed = nil, true
	d.mu.Unlock()
	for _, c := range conns {
		// Close fails only when called twice.
		_ = c.Close()
	}
	for _, pool := range *d.pools.Load() {
		for _, n := range pool.Nodes() {
			dropUpstream(n.Data)
		}
	}
}

// Dial returns a connection to the nodes of another service for generated gRPC
// clients. It carries the call-service key, the trace and the deadline, spreads calls
// over the live nodes by weight, and gives unary calls without a deadline 10 s. A unary
// call that a node proves to have refused before its handler, because it leaves or has
// service.maxInFlight, goes to another node, whatever its method; no other call is
// repeated. It may be
// used in the setup function to make clients; calls work once the node runs. While
// the service has no node, calls end at once with codes.Unavailable. The node closes
// it.
func (s *Service) Dial(service string) grpc.ClientConnInterface {
	return dialed{d: s.nodes, service: service}
}

// dialed finds the connection when it is used.
type dialed struct {
	d       *discovery
	service string
}

// Invoke makes a unary call.
func (c dialed) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := c.ready(ctx)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream.
func (c dialed) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, method, opts...)
}

// ready waits, a little, for the first snapshot: a node may be called before it has
// heard of the others.
func (c dialed) ready(ctx context.Context) (*rpc.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, firstSnapshot)
	defer cancel()
	_ = c.d.wait(ctx) // without a snapshot the call fails and says so
	conn, err := c.d.conn(c.service)
	if err != nil {
		return nil, unavailable(err)
	}
	return conn, nil
}
