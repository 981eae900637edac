package lb

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Failed tells the pool that n could not be reached: a refused or timed out dial, or a
// connection that broke before anything of an answer came. What a client did wrong must
// not be reported here. It reports whether n was ejected by this call.
//
// After Options.EjectAfter failures in a row the node is ejected: Pick leaves it out
// for a pause, then gives it one request. If that fails the pause doubles, and so on
// up to Options.EjectPauseMax; if its outcome is never reported the node gets another
// request a pause later. Never more than half of the nodes that would take turns are
// ejected, so a single one never is. Failures of requests picked before the ejection
// do not lengthen it.
func (p *Pool) Failed(n *Node) (ejected bool) {
	n.failures.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	failed := n.failed.Add(1)
	if n.Ejected() {
		if n.probing.CompareAndSwap(true, false) {
			p.lengthen(n)
		}
		return false
	}
	after := int64(p.options.EjectAfter)
	if after < 0 || failed < after || !p.mayEject(n) {
		return false
	}
	p.lengthen(n)
	n.probing.Store(false)
	p.rebuild(p.state.Load().nodes)
	return true
}

// Succeeded tells the pool that n was reached: a dial succeeded or an answer came. It
// forgets the node's failures, and an ejected node takes turns again at once. It
// reports whether n was ejected before this call. Report every success: for a node
// without failures this is one atomic load.
func (p *Pool) Succeeded(n *Node) (restored bool) {
	if n.failed.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n.failed.Store(0)
	n.pause.Store(0)
	if !n.Ejected() {
		return false
	}
	n.release()
	if !n.gone {
		p.rebuild(p.state.Load().nodes)
	}
	return true
}

// probe claims the return of an ejected node: the first whose pause is over and that is
// not in tried, nil when there is none. The node's next return is a pause away,
// whatever becomes of this one.
func (p *Pool) probe(st *state, tried []*Node) *Node {
	now := p.now()
	if now < st.wake.Load() {
		return nil
	}
	var found *Node
	wake := int64(math.MaxInt64)
	for _, n := range st.ejected {
		until := n.until.Load()
		if found == nil && due(until, now) && !slices.Contains(tried, n) {
			if n.until.CompareAndSwap(until, now+n.pause.Load()) {
				n.probing.Store(true)
				found = n
			}
			until = n.until.Load()
		}
		wake = min(wake, until)
	}
	// While st is current an ejection's end only moves on, so that a minimum computed
	// beside another goroutine's is at worst early, which costs one more look.
	st.wake.Store(wake)
	return found
}

// upcoming returns the node that Pick(nil) would return, or nil.
func (p *Pool) upcoming(st *state) *Node {
	if len(st.ejected) != 0 {
		now := p.now()
		for _, n := range st.ejected {
			if due(n.until.Load(), now) {
				return n
			}
		}
	}
	return st.turns.peek()
}

// now returns the time since the pool was born: a clock that is set does not move it.
func (p *Pool) now() int64 { return int64(p.options.Now().Sub(p.born)) }

// lengthen starts a pause for n, twice as long as the last. p.mu is held.
func (p *Pool) lengthen(n *Node) {
	pause := p.options.EjectPause
	if last := time.Duration(n.pause.Load()); last > 0 {
		pause = p.options.EjectPauseMax
		if last < pause/2 {
			pause = 2 * last
		}
	}
	n.pause.Store(int64(pause))
	n.until.Store(max(1, p.now()+int64(pause)))
}

// mayEject reports whether n takes turns and one more of those nodes may be ejected.
// p.mu is held.
func (p *Pool) mayEject(n *Node) bool {
	st := p.state.Load()
	if n.gone || !slices.Contains(st.turns.nodes, n) {
		return false
	}
	return len(st.ejected)+1 <= half(len(st.turns.nodes)+len(st.ejected))
}

// eject sets aside the ejected nodes among the given ones and returns the others. When
// more than half are ejected, because the set shrank, those whose pause ends first are
// released. Pool.mu is held.
func (st *state) eject(nodes []*Node) (healthy []*Node) {
	for _, n := range nodes {
		if n.Ejected() {
			st.ejected = append(st.ejected, n)
		}
	}
	byEnd := func(a, b *Node) int { return cmp.Compare(a.until.Load(), b.until.Load()) }
	slices.SortStableFunc(st.ejected, byEnd)
	excess := max(0, len(st.ejected)-half(len(nodes)))
	for _, n := range st.ejected[:excess] {
		n.release()
	}
	st.ejected = st.ejected[excess:]
	// The zero wake is early: the first Pick finds the right one.
	for _, n := range nodes {
		if !n.Ejected() {
			healthy = append(healthy, n)
		}
	}
	return healthy
}

// release ends the node's ejection but forgets none of its failures. Pool.mu is held.
func (n *Node) release() {
	n.until.Store(0)
	n.probing.Store(false)
}

// due reports whether an ejection until the given time is over. An until of 0 is no
// ejection.
func due(until, now int64) bool { return until != 0 && until <= now }

// half is how many of n nodes may be ejected.
func half(n int) int { return n / 2 }
