package rpc

import (
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/goms-io/goms/pkg/lb"
)

const balancerName = "goms_pool"

// poolKey is the attribute of a set of addresses that holds the *lb.Pool of their nodes,
// nodeKey that of an address that holds its *lb.Node.
type (
	poolKey struct{}
	nodeKey struct{}
)

// grpc finds balancers by name in one registry of the process, which may only be
// written before main starts.
func init() { balancer.Register(pooledBuilder{}) }

type pooledBuilder struct{}

// Name is the balancer's name in a service config.
func (pooledBuilder) Name() string { return balancerName }

// Build makes the balancer of one connection.
func (pooledBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return &pooled{cc: cc, service: opts.Target.Endpoint(), conns: map[string]*subConn{}}
}

// pooled keeps a connection to every address, and tells the pool of nodes which of them
// are ready; the pool chooses. grpc-go's base balancer is nearly this, but reports the
// last failure for a moment when the first node of a service has just joined. All
// methods are called from one goroutine at a time.
type pooled struct {
	cc      balancer.ClientConn
	service string
	pool    *lb.Pool            // nil until there was a set of addresses
	conns   map[string]*subConn // by address
	lastErr error
}

type subConn struct {
	addr  string
	name  string // that the node has to prove; "" is plain
	node  *lb.Node
	sc    balancer.SubConn
	state connectivity.State
}

// link is the Data of a node in the pool.
type link struct{ ready atomic.Pointer[subConn] } // nil while there is no connection

func linkOf(n *lb.Node) *link { return n.Data.(*link) } //nolint:forcetypeassert // see newPool

// newPool returns a pool of which a node without a connection is an unhealthy one.
func newPool(service string) *lb.Pool {
	var p *lb.Pool
	p = lb.NewPool(service, lb.Options{
		PanicThreshold: -1, // what is not connected cannot be asked, however many are
		NewData: func(n *lb.Node) any {
			p.SetHealth(n, false)
			return &link{}
		},
	})
	return p
}

// UpdateClientConnState takes a new set of addresses.
func (w *pooled) UpdateClientConnState(s balancer.ClientConnState) error {
	w.pool, _ = s.ResolverState.Attributes.Value(poolKey{}).(*lb.Pool)
	seen := make(map[string]bool, len(s.ResolverState.Addresses))
	for _, a := range s.ResolverState.Addresses {
		node, _ := a.Attributes.Value(nodeKey{}).(*lb.Node)
		name, _ := a.Attributes.Value(secureKey{}).(string)
		seen[a.Addr] = true
		if c := w.conns[a.Addr]; c != nil {
			if c.name == name && c.node == node {
				continue
			}
			w.drop(c) // plain or TLS, it was the other one
		}
		if err := w.add(&subConn{addr: a.Addr, name: name, node: node, state: connectivity.Idle}); err != nil {
			w.lastErr = err
		}
	}
	for addr, c := range w.conns {
		if !seen[addr] {
			w.drop(c)
		}
	}
	w.publish()
	return nil
}

func (w *pooled) add(c *subConn) error {
	to := resolver.Address{Addr: c.addr}
	if c.name != "" {
		to.Attributes = attributes.New(secureKey{}, c.name)
	}
	sc, err := w.cc.NewSubConn([]resolver.Address{to}, balancer.NewSubConnOptions{ //nolint:staticcheck // one address each, as the deprecation asks
		StateListener: func(s balancer.SubConnState) { w.changed(c, s) },
	})
	if err != nil {
		return fmt.Errorf("connect %s: %w", c.addr, err)
	}
	c.sc = sc
	w.conns[c.addr] = c
	sc.Connect()
	return nil
}

// drop gives a connection up. Calls in progress on it finish.
func (w *pooled) drop(c *subConn) {
	delete(w.conns, c.addr)
	w.unready(c)
	c.sc.Shutdown()
}

func (w *pooled) unready(c *subConn) {
	if linkOf(c.node).ready.CompareAndSwap(c, nil) {
		w.pool.SetHealth(c.node, false)
	}
}

func (w *pooled) changed(c *subConn, s balancer.SubConnState) {
	if w.conns[c.addr] != c {
		return // withdrawn
	}
	old := c.state
	switch {
	case s.ConnectivityState == connectivity.Idle:
		c.sc.Connect() // stay connected to all
	case s.ConnectivityState == connectivity.TransientFailure:
		w.lastErr = s.ConnectionError
	}
	// A node that failed counts as failed until it is ready again, else a service
	// of dead nodes would look like one that is about to answer.
	if old == connectivity.TransientFailure && s.ConnectivityState != connectivity.Ready {
		return
	}
	c.state = s.ConnectivityState
	if c.state == old {
		return
	}
	if c.state == connectivity.Ready {
		linkOf(c.node).ready.Store(c)
		w.pool.SetHealth(c.node, true)
	} else {
		w.unready(c)
	}
	w.publish()
}

// ResolverError does nothing: this resolver reports none.
func (w *pooled) ResolverError(error) {}

// UpdateSubConnState is never called: every connection has a StateListener.
func (w *pooled) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle does nothing: connections are never idle.
func (w *pooled) ExitIdle() {}

// Close leaves the pool without connections; grpc closes those.
func (w *pooled) Close() {
	for _, c := range w.conns {
		w.unready(c)
	}
	w.conns = nil
}

// publish hands the connection a picker that fits the states.
func (w *pooled) publish() {
	ready, failed := 0, 0
	for _, c := range w.conns {
		switch c.state {
		case connectivity.Ready:
			ready++
		case connectivity.TransientFailure:
			failed++
		}
	}
	state := balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
	switch {
	case ready > 0:
		state = balancer.State{ConnectivityState: connectivity.Ready, Picker: picker{w.pool}}
	case len(w.conns) == 0:
		state = w.failure(fmt.Errorf("no node of service %q", w.service))
	case failed == len(w.conns):
		state = w.failure(fmt.Errorf("no node of service %q answers: %w", w.service, w.lastErr))
	}
	w.cc.UpdateState(state)
}

func (w *pooled) failure(err error) balancer.State {
	return balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)}
}
