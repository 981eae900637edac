// Package lb chooses among the live nodes of one service and counts what they do.
//
// A Pool is given the whole set of nodes whenever it changes and is asked for a node
// for each attempt:
//
//	pool := lb.NewPool("user", lb.Options{})
//	pool.Update([]lb.Spec{{ID: "a", Addr: "10.0.0.1:80", Weight: 1}})
//
//	node, err := pool.Acquire(nil, 0)       // ErrNoNode, ErrOverloaded
//	answer, err := send(node.Addr())
//	node.End()
//	if err != nil {
//		pool.Failed(node)                        // it could not be reached: try another
//		node, err = pool.Acquire([]*lb.Node{node}, 0)
//	} else {
//		pool.Answered(node, took, answer.Status == 503)
//		pool.Done(node)
//	}
//
// Pick and Begin are the two halves of Acquire, without its bounds.
//
// Picking takes no lock and allocates nothing: request code reads one immutable value
// behind an atomic pointer and adds one to a counter.
//
// The package does not know where nodes come from, how they are reached, or what a
// request is. It opens no connection, probes nothing by itself and starts no goroutine:
// what needs the time is done by Tick, which the pool's owner calls.
package lb

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// cacheLine keeps counters that every request writes away from what every request reads.
const cacheLine = 64

// MaxWeight is the largest weight of a node.
const MaxWeight = 1 << 20

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
	// Zone is where the node is; "" is a zone like any other.
	Zone string
	// Backup marks a node that is picked only when no node without the mark can be.
	Backup bool
}

// Pool holds the nodes of one service. All its methods may run together, except that
// Update must not run beside another Update of the same pool.
type Pool struct {
	service string
	clock   func() time.Time // nil is the system's
	born    time.Time
	newData func(*Node) any
	dropped func(any)
	state   atomic.Pointer[state]
	// toldUntil is never later than the end of what a node said of itself; see Refresh.
	toldUntil atomic.Int64
	fullUntil atomic.Int64 // until when some node may be full; 0 when none is
	typical   typical
	coarse    atomic.Int64 // the clock as of the last answer or tick
	breaker   breaker
	window    window
	shed      shedder

	_        [cacheLine]byte
	finished atomic.Int64
	inFlight atomic.Int64
	waiting  atomic.Int64 // of those in flight, the ones whose answer has not begun
	refused  atomic.Int64 // by Acquire, for want of room
	_        [cacheLine - 32]byte

	// mu guards changes of state and the fields of every node that say so. Pick never
	// takes it.
	mu      sync.Mutex
	options Options // of the next generation
	ticked  int64   // when Tick last looked at the nodes
	// busy says that many requests were finished in the second before measured; before is
	// how many there had been then.
	busy             bool
	measured, before int64
}

// NewPool returns an empty pool for the named service.
func NewPool(service string, o Options) *Pool {
	p := &Pool{service: service, clock: o.Now, newData: o.NewData, dropped: o.DropData}
	p.born = time.Now()
	if p.clock != nil {
		p.born = p.clock()
	}
	p.shed.quickest.Store(math.MaxInt64)
	p.options = o.normal()
	p.rebuild(nil)
	return p
}

// Service returns the name the pool was made with.
func (p *Pool) Service() string { return p.service }

// Configure changes the pool's options, but for NewData, DropData and Now. Nodes keep
// their counters and health.
func (p *Pool) Configure(o Options) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.options = o.normal()
	p.rebuild(p.state.Load().nodes)
}

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
	if p.dropped == nil {
		return
	}
	for _, n := range left {
		p.dropped(n.Data)
	}
}

// Pick returns the node for the next attempt, or nil when there is none. It never
// returns a node in tried, nor one of weight 0. key is the request's, for the policy
// Hash: see HashKey; all others ignore it.
//
// The policy chooses among the nodes that are in best standing: that do not drain, are
// healthy, are not ejected, no backups and not full (see Full), of the own zone if enough
// of those are left there. An ejected node whose pause is over gets one request before it is anybody's
// turn. When all nodes in best standing have been tried, one of another zone is returned,
// then a backup, a draining node, an unhealthy one, and last an ejected one; so Pick
// returns nil only when every node of positive weight was tried. When all nodes are
// draining they are chosen among as if none were.
//
// Pick keeps no bounds: see Acquire.
func (p *Pool) Pick(tried []*Node, key uint64) *Node {
	return p.pick(p.state.Load(), tried, key, false)
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

// pick is Pick from a generation of the pool; once is as for probe.
func (p *Pool) pick(st *state, tried []*Node, key uint64, once bool) *Node {
	if len(st.ejected) != 0 {
		if n := p.probe(st, tried, once); n != nil {
			return n
		}
	}
	if len(tried) == 0 && p.fullUntil.Load() == 0 {
		if n := st.choice.next(key); n != nil {
			return n
		}
	}
	return p.roomy(st, tried, key, fitness{heard: once})
}

// Others reports whether a node that is not in tried could be picked and is well: neither
// ejected nor unhealthy (but see Options.PanicThreshold). It is the question whether one
// had better wait for the node that one has.
func (p *Pool) Others(tried []*Node) bool {
	st := p.state.Load()
	for _, list := range [...][]*Node{st.active, st.spare[mainTier], st.spare[backupTier], st.spare[drainingTier]} {
		for _, n := range list {
			if !n.Ejected() && !slices.Contains(tried, n) {
				return true
			}
		}
	}
	return false
}

// now returns the time since the pool was born: a system clock that is set does not move
// it.
func (p *Pool) now() int64 {
	if p.clock == nil {
		return int64(time.Since(p.born))
	}
	return int64(p.clock().Sub(p.born))
}

// node returns the node for s: the one in old that has the same ID and address, or a
// new one.
func (p *Pool) node(old []*Node, s Spec) *Node {
	if i, ok := find(old, s.ID); ok && old[i].addr == s.Addr {
		return old[i]
	}
	n := &Node{pool: p, id: s.ID, addr: s.Addr}
	n.describe(s)
	if p.newData != nil {
		n.Data = p.newData(n)
	}
	return n
}

// describe takes in what may change of a node.
func (n *Node) describe(s Spec) {
	n.weight.Store(int64(s.Weight))
	n.draining.Store(s.Draining)
	n.backup.Store(s.Backup)
	if z := n.zone.Load(); z == nil || *z != s.Zone {
		zone := s.Zone
		n.zone.Store(&zone)
	}
}

// install makes nodes the pool's nodes, as specs describe them, and returns those that
// were there and no longer are.
func (p *Pool) install(nodes []*Node, specs []Spec) (left []*Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, n := range nodes {
		n.describe(specs[i])
	}
	st := p.state.Load()
	for _, n := range st.nodes {
		if i, ok := find(nodes, n.id); !ok || nodes[i] != n {
			n.gone = true
			left = append(left, n)
		}
	}
	if p.busy && len(left) < len(st.nodes) { // else there is nobody beside whom to start slowly
		for _, n := range nodes {
			if i, ok := find(st.nodes, n.id); !ok || st.nodes[i] != n {
				n.joined.Store(max(1, p.now()))
			}
		}
	}
	p.rebuild(nodes)
	return left
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
