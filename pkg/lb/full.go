package lb

import "time"

// fullPause is for how long a node that refused an attempt is left out at most: then it is
// asked again, and refuses again or not.
const fullPause = time.Second

// Full tells the pool that n refused an attempt because it has as many requests as it
// takes. Until it answers another one (Answered), which leaves it room, and for a second at
// most, it is left out of the picks while there are other nodes in best standing, or well
// ones in other zones. To go on asking it would cost an attempt each time, and the budget
// for those that are needed.
func (p *Pool) Full(n *Node) {
	until := max(1, p.now()+int64(fullPause))
	n.full.Store(until)
	for {
		old := p.fullUntil.Load()
		if until <= old || p.fullUntil.CompareAndSwap(old, until) {
			return
		}
	}
}

// roomy is st.pick, where nodes that said that they are full are left out if that leaves
// somebody who is well.
func (p *Pool) roomy(st *state, tried []*Node, key uint64, fit fitness) *Node {
	if until := p.fullUntil.Load(); until != 0 {
		room := fit
		room.roomy, room.moment = true, p.now()
		if room.moment >= until {
			p.fullUntil.CompareAndSwap(until, 0)
		} else if st.anyRoom(&room) { // else asking the choice would only cost a turn
			if n := st.well(tried, key, room); n != nil {
				return n
			}
		}
	}
	return st.pick(tried, key, fit)
}

// anyRoom reports whether an active node may take one more attempt.
func (st *state) anyRoom(fit *fitness) bool {
	for _, n := range st.active {
		if fit.admits(n) {
			return true
		}
	}
	return false
}
