package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/lb"
)

// DefaultTimeout bounds a unary call whose context has no deadline.
const DefaultTimeout = 10 * time.Second

// Target is one node that may be given new calls.
type Target struct {
	Addr     string // host:port of the node's RPC listener
	Weight   int    // share of the calls relative to the others; below 1 is never chosen
	TLS      bool   // the node speaks TLS, and is spoken to in no other way
	Draining bool   // the node is about to leave: it gets calls only when there is no other
	Backup   bool   // the node gets calls only when none without the mark can be reached
}

// DialConfig says who is called and with what.
type DialConfig struct {
	Service string         // name of the called service; required
	Keys    *auth.CallKeys // the Current one of each call is sent; required
	Tracer  *zipkin.Tracer // client spans; nil = none
	Timeout time.Duration  // for unary calls without a deadline; 0 = DefaultTimeout
	// TLS is how to speak to targets with TLS: authorities, a certificate to show, and the
	// name to expect, the host of the target's address when it has none. nil = the
	// system's authorities. It is not changed.
	TLS *tls.Config

	// Control is called with each address that is dialled, after its host name was
	// resolved; an error of it is that of the connection. It fits registry.Trust. Nil
	// allows all.
	Control func(network, address string, c syscall.RawConn) error
}

// Conn is a connection to all nodes of one service. It implements
// grpc.ClientConnInterface, so generated clients take it. Safe for concurrent use.
//
// Calls go round the targets by weight, to those that are connected; a target that takes
// calls and answers none is left out while others answer. While there
// is no target a call ends at once with codes.Unavailable and the text
// `no node of service "x"` (or waits, with grpc.WaitForReady). A call that runs
// when its target is withdrawn is left to finish.
//
// A node of the SDK says with each answer whether it is about to leave and how loaded it
// is, which is heeded at once and kept from the caller. When it proves that it refused a
// unary call before its handler, because it leaves or has too many, the call goes to
// another target, whatever its method: nothing was done. Without that proof no call is
// repeated, and a stream never is.
type Conn struct {
	service string
	timeout time.Duration
	tracer  *zipkin.Tracer
	remote  *model.Endpoint
	keys    *auth.CallKeys
	pool    *lb.Pool
	budget  lb.Budget
	targets *targets
	cc      *grpc.ClientConn
}

// Dial makes a Conn without targets; Update gives it some. It connects to nobody
// yet. Close it when done.
func Dial(c DialConfig) (*Conn, error) {
	if c.Service == "" || c.Keys == nil {
		return nil, errors.New("dial: service and call-service key are required")
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	creds := perNode{c.TLS}
	pool := newPool(c.Service)
	t := &targets{pool: pool, serverName: creds.serverName}
	cc, err := grpc.NewClient(scheme+":///"+c.Service,
		grpc.WithResolvers(t),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+balancerName+`":{}}]}`),
		grpc.WithTransportCredentials(creds),
		grpc.WithPerRPCCredentials(callKey{c.Keys}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			d := net.Dialer{Control: c.Control}
			return d.DialContext(ctx, "tcp", addr)
		}),
		grpc.WithNoProxy(), // nodes are never behind the machine's web proxy
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaderList),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPingAfter, Timeout: clientPingWait, PermitWithoutStream: true}),
	)
	if err != nil {
		return nil, fmt.Errorf("dial service %q: %w", c.Service, err)
	}
	return &Conn{
		service: c.Service, timeout: c.Timeout, tracer: c.Tracer,
		remote: &model.Endpoint{ServiceName: c.Service}, keys: c.Keys, pool: pool, targets: t, cc: cc,
	}, nil
}

// Update replaces the set of targets. Those that stay keep their connections;
// those that go get no new calls and finish the ones they have. When Update
// returns, the next call uses the new set.
func (c *Conn) Update(set []Target) { c.targets.update(set) }

// Close ends all connections and the calls on them.
func (c *Conn) Close() error { return c.cc.Close() }

// Invoke makes one unary call; generated clients call it.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	span := c.startSpan(ctx, method)
	c.refresh()
	o := newOptions(opts)
	err := c.attempts(outgoing(ctx, span), method, args, reply, o.each)
	o.end(err)
	if span != nil {
		finishSpan(span, err)
	}
	return err
}

// NewStream opens a stream; generated clients call it. A stream has no deadline
// but that of ctx.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	span := c.startSpan(ctx, method)
	c.refresh()
	finish := func(error) {}
	if span != nil {
		var once sync.Once
		finish = func(err error) { once.Do(func() { finishSpan(span, err) }) }
		opts = append(opts[:len(opts):len(opts)], grpc.OnFinish(finish))
	}
	s, err := c.cc.NewStream(outgoing(ctx, span), desc, method, opts...)
	if err != nil {
		finish(err)
		return nil, err
	}
	return stream{s}, nil
}

// refresh does for the pool what needs the time.
func (c *Conn) refresh() {
	c.pool.Refresh()
	c.pool.Tick(nil)
}

func (c *Conn) startSpan(ctx context.Context, method string) zipkin.Span {
	if c.tracer == nil {
		return nil
	}
	span, _ := c.tracer.StartSpanFromContext(ctx, spanName(method),
		zipkin.Kind(model.Client), zipkin.RemoteEndpoint(c.remote))
	return span
}

const scheme = "goms"

// targets is the resolver of one Conn: it hands the set it was last given to
// the connection, each time the connection builds one (it forgets when idle).
type targets struct {
	pool       *lb.Pool
	serverName func(addr string) string // what a node with TLS has to prove

	mu  sync.Mutex // guards what follows
	cc  resolver.ClientConn
	set []resolver.Address
}

func (t *targets) update(set []Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	specs := make([]lb.Spec, 0, len(set))
	secure := map[string]bool{}
	for _, n := range set {
		if n.Weight < 1 {
			continue // no connection is kept to it either
		}
		specs = append(specs, lb.Spec{ID: n.Addr, Addr: n.Addr, Weight: n.Weight, Draining: n.Draining, Backup: n.Backup})
		secure[n.Addr] = n.TLS
	}
	t.pool.Update(specs)
	t.set = make([]resolver.Address, 0, len(specs))
	for _, n := range t.pool.Nodes() {
		a := attributes.New(nodeKey{}, n)
		if secure[n.Addr()] {
			a = a.WithValue(secureKey{}, t.serverName(n.Addr()))
		}
		t.set = append(t.set, resolver.Address{Addr: n.Addr(), Attributes: a})
	}
	t.push()
}

// push is called with the lock held, so that sets arrive in order; the
// connection does not call back into this resolver while it takes them.
func (t *targets) push() {
	if t.cc == nil {
		return
	}
	// An error means the connection is closing; there is nobody to tell.
	_ = t.cc.UpdateState(resolver.State{Addresses: t.set, Attributes: attributes.New(poolKey{}, t.pool)})
}

// Build is called by the connection when it leaves idle.
func (t *targets) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cc = cc
	t.push()
	return &watching{t: t, cc: cc}, nil
}

// Scheme names the targets this resolver answers for.
func (t *targets) Scheme() string { return scheme }

// watching is what Build returns: the tie between targets and one life of a connection.
type watching struct {
	t  *targets
	cc resolver.ClientConn
}

// ResolveNow does nothing: sets arrive by themselves.
func (w *watching) ResolveNow(resolver.ResolveNowOptions) {}

// Close stops pushing to this life of the connection.
func (w *watching) Close() {
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	if w.t.cc == w.cc {
		w.t.cc = nil
	}
}
