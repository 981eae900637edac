package lb

import "errors"

// The errors of Acquire.
var (
	// ErrNoNode means that there is no node of positive weight that was not tried.
	ErrNoNode = errors.New("no node")
	// ErrOverloaded means that there are nodes, but a bound on the attempts in flight is
	// reached, a circuit breaker is open, or a queue is standing before the nodes.
	ErrOverloaded = errors.New("overloaded")
)

// Acquire returns the node for the next attempt, as Pick chooses it, and counts the
// attempt as in flight until Node.End. It keeps the bounds of Options exactly: a node
// without room for one more attempt, or whose circuit breaker is open, is left out. The
// error is ErrNoNode or ErrOverloaded itself; it takes no time to find out.
func (p *Pool) Acquire(tried []*Node, key uint64) (*Node, error) { return p.take(tried, key, false) }

// AcquireOnce is Acquire for an attempt after which there can be no other, as of a POST
// that the node may have begun: it is not sent to find out whether a node that fell
// silent is back, unless for four seconds nobody else was, nor to such a node because there
// is no other.
func (p *Pool) AcquireOnce(tried []*Node, key uint64) (*Node, error) { return p.take(tried, key, true) }

func (p *Pool) take(tried []*Node, key uint64, once bool) (*Node, error) {
	st := p.state.Load()
	o := &st.options
	fit := fitness{max: int64(o.MaxInFlightPerNode), breaker: o.NodeBreaker.Enabled, heard: once}
	if fit.max == 0 && !fit.breaker && o.MaxInFlight == 0 && !o.Breaker.Enabled && !o.Adaptive {
		n := p.pick(st, tried, key, once)
		if n == nil {
			return nil, ErrNoNode
		}
		n.Begin()
		return n, nil
	}
	if fit.breaker || o.Breaker.Enabled {
		fit.now = p.now()
	}
	n := p.acquire(st, tried, key, fit, once)
	if n == nil {
		return nil, p.refusal(st, tried)
	}
	return n, nil
}

// acquire is Acquire where there are bounds. It returns nil when it has no node to give.
func (p *Pool) acquire(st *state, tried []*Node, key uint64, fit fitness, once bool) *Node {
	o := &st.options
	if !p.enter(o) {
		return nil
	}
	if o.Breaker.Enabled && len(tried) == 0 && !p.breaker.enter(fit.now, &o.Breaker) {
		p.leave()
		return nil
	}
	if len(st.ejected) != 0 {
		if n := p.probe(st, tried, once); n != nil && n.enter(&fit, o) {
			return n
		}
	}
	// Another goroutine may take the last room of the node between the choice and the
	// entry. Each time that happens somebody else got in.
	for range 4 * draws {
		n := p.roomy(st, tried, key, fit)
		if n == nil {
			break
		}
		if n.enter(&fit, o) {
			return n
		}
	}
	p.leave()
	return nil
}

// refusal says why there is no node.
func (p *Pool) refusal(st *state, tried []*Node) error {
	all := fitness{}
	if idlest(st.active, tried, all) == nil && idlest(st.ejected, tried, all) == nil {
		none := true
		for _, tier := range st.spare {
			none = none && idlest(tier, tried, all) == nil
		}
		if none {
			return ErrNoNode
		}
	}
	p.refused.Add(1)
	return ErrOverloaded
}

// enter counts one more attempt in flight on the pool, if there is room.
func (p *Pool) enter(o *Options) bool {
	n, waiting := p.inFlight.Add(1), p.waiting.Add(1)
	if limit := int64(o.MaxInFlight); limit > 0 && n > limit {
		p.leave()
		return false
	}
	if o.Adaptive {
		if limit := p.shed.limit.Load(); limit > 0 && waiting > limit {
			p.leave()
			return false
		}
		p.shed.note(waiting)
	}
	return true
}

// leave takes back what enter counted.
func (p *Pool) leave() {
	p.inFlight.Add(-1)
	p.waiting.Add(-1)
}

// enter counts one more attempt in flight on the node, if it may.
func (n *Node) enter(fit *fitness, o *Options) bool {
	for {
		v := n.inFlight.Load()
		if fit.max > 0 && v >= fit.max {
			return false
		}
		if n.inFlight.CompareAndSwap(v, v+1) {
			break
		}
	}
	if fit.breaker && !n.breaker.enter(fit.now, &o.NodeBreaker) {
		n.inFlight.Add(-1)
		return false
	}
	n.begun.Add(1)
	return true
}
