// Package lb chooses among the live nodes of one service and counts what they do.
//
// A Pool is given the whole set of nodes whenever it changes and is asked for a node
// for each attempt:
//
//	pool := lb.NewPool("user", lb.Options{})
//	pool.Update([]lb.Spec{{ID: "a", Addr: "10.0.0.1:80", Weight: 1}})
//
//	node := pool.Pick(nil)
//	node.Begin()
//	err := send(node.Addr())
//	node.End()
//	if err != nil {
//		pool.Failed(node)                    // it could not be reached: try another
//		node = pool.Pick([]*lb.Node{node})   // nil when there is none
//	} else {
//		pool.Succeeded(node)
//		pool.Done(node)
//	}
//
// Picking takes no lock and allocates nothing: request code reads one immutable value
// behind an atomic pointer and adds one to a counter.
//
// The package does not know where nodes come from, how they are reached, or what a
// request is. It opens no connection, probes nothing by itself and starts no goroutine.
package lb

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults of Options.
const (
	DefaultEjectAfter    = 3
	DefaultEjectPause    = time.Second
	DefaultEjectPauseMax = 30 * time.Second
)

// MaxWeight is the largest weight of a node.
const MaxWeight = 1 << 20

// cacheLine keeps counters that every request writes away from what every request reads.
const cacheLine = 64

// Spec says what a node is, as the registry has it.
type Spec struct {
	// ID names the node within its service; the pool is sorted by it.
	ID string
	// Addr is where requests for the node go, host:port.
	Addr string
	// Weight is the node's share of the picks relative to the others. A node of
	// weight 0 (or less) is listed and never picked; more than MaxWeight counts as that.
	Weight int
	// Draining marks a node that is about to leave: it still serves, and is picked
	// only when there is no other.
	Draining bool
}

// Options configure a Pool. The zero value is usable.
type Options struct {
	// EjectAfter is how many connection failures in a row take a node out of the
	// picks; 0 means DefaultEjectAfter, less than 0 means never.
	EjectAfter int
	// EjectPause is how long a node is left alone after its first ejection; 0 means
	// DefaultEjectPause. It doubles with each failed return, up to EjectPauseMax.
	EjectPause time.Duration
	// EjectPauseMax bounds the pause; 0 means DefaultEjectPauseMax.
	EjectPauseMax time.Duration
	// NewData makes the value of Node.Data for a node that joins, before any other
	// goroutine can see the node. nil leaves Data nil. It is called by Update.
	NewData func(*Node) any
	// DropData is given the Data of a node that left, once no new Pick can return it;
	// requests picked earlier may still be using it. nil does nothing. It is called by
	// Update.
	DropData func(any)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Pool holds the nodes of one service. All its methods may run together, except that
// Update must not run beside another Update of the same pool.
type Pool struct {
	service string
	options Options
	born    time.Time
	state   atomic.Pointer[state]
	// toldUntil is never later than the end of what a node said of itself; see Refresh.
	toldUntil atomic.Int64

	_        [cacheLine]byte
	finished atomic.Int64
	_        [cacheLine - 8]byte

	// mu guards changes of state and the health fields of every node that say so.
	// Pick never takes it.
	mu sync.Mutex
}

// state is one generation of a pool: immutable, but for the two counters that Pick
// moves (the position of turns, and wake).
type state struct {
	nodes   []*Node     // all of them, sorted by ID
	turns   *roundRobin // the nodes that take requests now
	spare   []*Node     // draining nodes, when there are others
	ejected []*Node     // nodes that would be in turns but for their failures

	// wake is never later than the earliest return of an ejected node.
	wake atomic.Int64
}

// NewPool returns an empty pool for the named service.
func NewPool(service string, o Options) *Pool {
	o.EjectAfter = cmp.Or(o.EjectAfter, DefaultEjectAfter)
	o.EjectPause = cmp.Or(max(o.EjectPause, 0), DefaultEjectPause)
	o.EjectPauseMax = max(cmp.Or(o.EjectPauseMax, DefaultEjectPauseMax), o.EjectPause)
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Pool{service: service, options: o, born: o.Now()}
	p.state.Store(&state{turns: newRoundRobin(nil)})
	return p
}

// Service returns the name the pool was made with.
func (p *Pool) Service() string { return p.service }

// Update makes specs the whole set of nodes; an empty set empties the pool. A node
// whose ID and Addr were there before keeps its Node, with counters, health and Data;
// the turn stays with the node that was next, or passes to the one after it. Of specs
// with the same ID the last counts. specs is neither modified nor kept.
func (p *Pool) Update(specs []Spec) {
	specs = normal(specs)
	old := p.state.Load().nodes
	nodes := make([]*Node, len(specs))
	for i, s := range specs {
		nodes[i] = p.node(old, s)
	}
	left := p.install(nodes, specs)
	if p.options.DropData == nil {
		return
	}
	for _, n := range left {
		p.options.DropData(n.Data)
	}
}

// Pick returns the node for the next attempt, or nil when there is none. It never
// returns a node in tried, nor one of weight 0.
//
// Nodes take turns by smooth weighted round robin. An ejected node whose pause is over
// gets one request, before it is anybody's turn. When every node that takes turns has
// been tried, a draining node is returned, and when those have been tried too, an
// ejected one; so Pick returns nil only when every node of positive weight was tried.
// When all nodes are draining they take turns as if none were.
func (p *Pool) Pick(tried []*Node) *Node {
	st := p.state.Load()
	if len(st.ejected) != 0 {
		if n := p.probe(st, tried); n != nil {
			return n
		}
	}
	if n := st.turns.next(tried); n != nil {
		return n
	}
	if n := untried(st.spare, tried); n != nil {
		return n
	}
	return untried(st.ejected, tried)
}

// Done counts one finished request, for the pool and for n, the node that answered it.
// With n nil it counts for the pool alone.
func (p *Pool) Done(n *Node) {
	p.finished.Add(1)
	if n != nil {
		n.requests.Add(1)
	}
}

// Nodes returns all nodes of the pool sorted by ID, also those that Pick skips. The
// slice is shared: do not modify it.
func (p *Pool) Nodes() []*Node { return p.state.Load().nodes }

// Len returns how many nodes the pool has, counting those that Pick skips.
func (p *Pool) Len() int { return len(p.state.Load().nodes) }

// node returns the node for s: the one in old that has the same ID and address, or a
// new one.
func (p *Pool) node(old []*Node, s Spec) *Node {
	if i, ok := find(old, s.ID); ok && old[i].addr == s.Addr {
		return old[i]
	}
	n := &Node{id: s.ID, addr: s.Addr}
	n.weight.Store(int64(s.Weight))
	n.draining.Store(s.Draining)
	if p.options.NewData != nil {
		n.Data = p.options.NewData(n)
	}
	return n
}

// install makes nodes the pool's nodes, as specs describe them, and returns those that
// were there and no longer are.
func (p *Pool) install(nodes []*Node, specs []Spec) (left []*Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, n := range nodes {
		n.weight.Store(int64(specs[i].Weight))
		n.draining.Store(specs[i].Draining)
	}
	for _, n := range p.state.Load().nodes {
		if i, ok := find(nodes, n.id); !ok || nodes[i] != n {
			n.gone = true
			left = append(left, n)
		}
	}
	p.rebuild(nodes)
	return left
}

// rebuild makes a new generation out of nodes and their present health. p.mu is held.
func (p *Pool) rebuild(nodes []*Node) {
	st := &state{nodes: nodes}
	var active, draining []*Node
	for _, n := range nodes {
		switch {
		case n.Weight() <= 0:
		case n.Draining():
			draining = append(draining, n)
		default:
			active = append(active, n)
		}
	}
	if len(active) == 0 {
		active, draining = draining, nil
	}
	st.spare = draining
	healthy := st.eject(active)
	st.turns = newRoundRobin(healthy)
	st.turns.resume(p.state.Load().turns)
	p.state.Store(st)
}

// normal returns specs as Update wants them: sorted, no ID twice, weights in range.
func normal(specs []Spec) []Spec {
	sorted := slices.Clone(specs)
	slices.SortStableFunc(sorted, func(a, b Spec) int { return cmp.Compare(a.ID, b.ID) })
	unique := sorted[:0]
	for i, s := range sorted {
		if i+1 < len(sorted) && sorted[i+1].ID == s.ID {
			continue
		}
		s.Weight = min(max(s.Weight, 0), MaxWeight)
		unique = append(unique, s)
	}
	return unique
}

// find returns the place of the node with the given ID in nodes, sorted by ID.
func find(nodes []*Node, id string) (int, bool) {
	return slices.BinarySearchFunc(nodes, id, func(n *Node, id string) int { return cmp.Compare(n.id, id) })
}

// untried returns the node among nodes that has the fewest requests in flight of those
// not in tried, or nil.
func untried(nodes, tried []*Node) *Node {
	var best *Node
	for _, n := range nodes {
		if slices.Contains(tried, n) {
			continue
		}
		if best == nil || n.InFlight() < best.InFlight() {
			best = n
		}
	}
	return best
}
