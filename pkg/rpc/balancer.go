package rpc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

const balancerName = "goms_weighted"

// weightKey is the attribute of an address that holds its weight, an int.
type weightKey struct{}

// grpc finds balancers by name in one registry of the process, which may only be
// written before main starts.
func init() { balancer.Register(weightedBuilder{}) }

type weightedBuilder struct{}

// Name is the balancer's name in a service config.
func (weightedBuilder) Name() string { return balancerName }

// Build makes the balancer of one connection.
func (weightedBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return &weighted{cc: cc, service: opts.Target.Endpoint(), conns: map[string]*subConn{}}
}

// weighted keeps a connection to every address and spreads calls over those that
// are ready, by weight. grpc-go's base balancer is nearly this, but reports the
// last failure for a moment when the first node of a service has just joined,
// and has no weights. All methods are called from one goroutine at a time.
type weighted struct {
	cc      balancer.ClientConn
	service string
	conns   map[string]*subConn // by address
	lastErr error
}

type subConn struct {
	addr   string
	name   string // that the node has to prove; "" is plain
	weight int
	sc     balancer.SubConn
	state  connectivity.State
}

// UpdateClientConnState takes a new set of addresses.
func (w *weighted) UpdateClientConnState(s balancer.ClientConnState) error {
	seen := make(map[string]bool, len(s.ResolverState.Addresses))
	for _, a := range s.ResolverState.Addresses {
		weight, ok := a.Attributes.Value(weightKey{}).(int)
		if !ok {
			weight = 1
		}
		name, _ := a.Attributes.Value(secureKey{}).(string)
		seen[a.Addr] = true
		if c := w.conns[a.Addr]; c != nil {
			if c.name == name {
				c.weight = weight
				continue
			}
			c.sc.Shutdown() // plain or TLS, it was the other one
		}
		if err := w.add(&subConn{addr: a.Addr, name: name, weight: weight, state: connectivity.Idle}); err != nil {
			w.lastErr = err
		}
	}
	for addr, c := range w.conns {
		if !seen[addr] {
			delete(w.conns, addr)
			c.sc.Shutdown() // calls in progress finish
		}
	}
	w.publish()
	return nil
}

func (w *weighted) add(c *subConn) error {
	delete(w.conns, c.addr)
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

func (w *weighted) changed(c *subConn, s balancer.SubConnState) {
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
	if c.state != old {
		w.publish()
	}
}

// ResolverError does nothing: this resolver reports none.
func (w *weighted) ResolverError(error) {}

// UpdateSubConnState is never called: every connection has a StateListener.
func (w *weighted) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle does nothing: connections are never idle.
func (w *weighted) ExitIdle() {}

// Close has nothing to free; the connection closes what belongs to it.
func (w *weighted) Close() {}

// publish hands the connection a picker that fits the states.
func (w *weighted) publish() {
	var ready []*subConn
	failed := 0
	for _, c := range w.conns {
		switch c.state {
		case connectivity.Ready:
			ready = append(ready, c)
		case connectivity.TransientFailure:
			failed++
		}
	}
	state := balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
	switch {
	case len(ready) > 0:
		state = balancer.State{ConnectivityState: connectivity.Ready, Picker: newPicker(ready)}
	case len(w.conns) == 0:
		state = w.failure(fmt.Errorf("no node of service %q", w.service))
	case failed == len(w.conns):
		state = w.failure(fmt.Errorf("no node of service %q answers: %w", w.service, w.lastErr))
	}
	w.cc.UpdateState(state)
}

func (w *weighted) failure(err error) balancer.State {
	return balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)}
}

// picker goes round a fixed sequence in which every node stands as often as its
// weight says, evenly spread.
type picker struct {
	turns []balancer.SubConn
	next  atomic.Uint64
}

func newPicker(ready []*subConn) *picker {
	slices.SortFunc(ready, func(a, b *subConn) int { return strings.Compare(a.addr, b.addr) })
	p := &picker{turns: spread(ready)}
	p.next.Store(rand.Uint64N(uint64(len(p.turns)))) // else each change of state favours the first
	return p
}

// Pick chooses the node of the next call.
func (p *picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	i := (p.next.Add(1) - 1) % uint64(len(p.turns))
	return balancer.PickResult{SubConn: p.turns[i]}, nil
}

// spread is smooth weighted round robin, worked out once for a whole round.
func spread(ready []*subConn) []balancer.SubConn {
	const longest = 1024 // turns in a round; weights are scaled down to fit
	divisor, sum := 0, 0
	for _, c := range ready {
		divisor = gcd(divisor, c.weight)
		sum += c.weight
	}
	weights := make([]int, len(ready))
	total := 0
	for i, c := range ready {
		weights[i] = c.weight / divisor
		if sum/divisor > longest {
			weights[i] = max(1, c.weight*longest/sum)
		}
		total += weights[i]
	}
	credit := make([]int, len(ready))
	turns := make([]balancer.SubConn, 0, total)
	for range total {
		best := 0
		for i := range credit {
			credit[i] += weights[i]
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		turns = append(turns, ready[best].sc)
	}
	return turns
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
