package lb

import (
	"slices"
	"time"
)

// slowSteps is in how many steps the share of a new node grows.
const slowSteps = 10

// tickInterval is how often Tick looks at the nodes.
const tickInterval = 100 * time.Millisecond

// pausedAfter is how late a tick must be for the process to have been stopped meanwhile.
const pausedAfter = 5 * tickInterval

// busyRate is how many requests a second must be finished for a new node to start slowly:
// with fewer there is nothing that could be too much for it.
const busyRate = 20

// enough is how many attempts must tell of a silence: sent to the silent node without an
// answer, and answered by each of the others on average.
const enough = 5

// silence is what Tick remembers of a node that does not answer. Pool.mu guards it.
type silence struct {
	since int64 // when the node was last heard, or had nothing to answer
	heard int64 // what it had answered then
	begun int64 // what it had been sent then
	other int64 // what all active nodes had answered then
}

// Tick does what needs the time: it lets the share of new nodes grow, finds nodes that
// accept requests and answer none, and adapts the limit of Options.Adaptive. Call it
// about ten times a second. ejected is called for each node that it takes out; nil is
// allowed. Tick may be called at any time, and by several goroutines.
func (p *Pool) Tick(ejected func(*Node)) {
	p.mu.Lock()
	now := p.now()
	if now-p.ticked < int64(tickInterval)*9/10 {
		p.mu.Unlock()
		return
	}
	paused := now-p.ticked > int64(pausedAfter)
	p.ticked = now
	p.coarse.Store(now)
	p.measure(now)
	st := p.state.Load()
	if st.options.Adaptive {
		p.shed.adjust(now, p.waiting.Load(), len(st.active))
	} else {
		p.shed.lift()
	}
	changed := p.warm(st)
	silent := p.silent(st, now, paused)
	if changed || len(silent) > 0 {
		p.rebuild(st.nodes)
	}
	p.mu.Unlock()
	if ejected != nil {
		for _, n := range silent {
			ejected(n)
		}
	}
}

// measure finds out, once a second, whether the pool is busy. p.mu is held.
func (p *Pool) measure(now int64) {
	if age := now - p.measured; age >= int64(time.Second) {
		finished := p.finished.Load()
		p.busy = (finished-p.before)*int64(time.Second) >= busyRate*age
		p.measured, p.before = now, finished
	}
}

// warm reports whether the share of a new node has grown. p.mu is held.
func (p *Pool) warm(st *state) (changed bool) {
	for _, n := range st.nodes {
		if n.joined.Load() == 0 {
			continue
		}
		if step := p.stepOf(n, &st.options); step != n.step {
			n.step, changed = step, true
		}
		if n.step == slowSteps {
			n.joined.Store(0)
		}
	}
	return changed
}

// weights returns the weights that nodes have in the choice among them: less than their own
// while they start slowly, unless the others have less than half of the weight and would be
// crushed meanwhile. p.mu is held.
func (p *Pool) weights(o *Options, nodes []*Node) []float64 {
	out := make([]float64, len(nodes))
	all, warm := 0.0, 0.0
	for i, n := range nodes {
		w, step := float64(n.Weight()), p.stepOf(n, o)
		all += w
		if step == slowSteps {
			warm += w
		}
		out[i] = w * float64(step) / slowSteps
	}
	if 2*warm < all {
		for i, n := range nodes {
			out[i] = float64(n.Weight())
		}
	}
	return out
}

// stepOf is how much of its share n has, in tenths.
func (p *Pool) stepOf(n *Node, o *Options) int {
	joined := n.joined.Load()
	if joined == 0 || o.SlowStart <= 0 {
		return slowSteps
	}
	age := p.now() - joined
	return min(slowSteps, 1+int(age*(slowSteps-1)/int64(o.SlowStart)))
}

// silent ejects the nodes that answer nothing while the others do, and returns them. p.mu
// is held. paused says that this process has not run for a while: then it is we who did not
// listen.
func (p *Pool) silent(st *state, now int64, paused bool) (found []*Node) {
	e := &st.options.Eject
	if e.Silence < 0 || len(st.active) < 2 {
		return nil
	}
	patience := p.patience(e)
	other := int64(0)
	for _, n := range st.active {
		other += n.heard.Load()
	}
	for _, n := range st.active {
		s := &n.silence
		heard := n.heard.Load()
		if heard != s.heard || n.InFlight() == 0 || s.since == 0 || paused {
			*s = silence{since: now, heard: heard, begun: n.begun.Load(), other: other}
			continue
		}
		if !st.outdone(n, now, patience, other) || !p.mayEject(n) {
			continue
		}
		p.lengthen(n, Silence)
		found = append(found, n)
		if len(found)+len(st.ejected)+1 > half(len(st.active)+len(st.ejected)) {
			break
		}
	}
	return found
}

// outdone reports whether the silence of n says that it will not answer: enough others have
// meanwhile, of those that are asked. Where it is the only one that is asked, since all others
// are in other zones, it is held against what it used to do, for twice the time. all is what all
// active nodes have answered. Pool.mu is held.
func (st *state) outdone(n *Node, now, patience, all int64) bool {
	s := &n.silence
	waited, sent, others := now-s.since, n.begun.Load()-s.begun, all-s.other
	if waited < patience || sent < enough {
		return false
	}
	far := st.spare[farTier]
	asked := int64(len(st.active) - len(far))
	if !slices.Contains(far, n) {
		asked--
	}
	if asked == 0 && others < enough {
		return s.heard > 0 && waited >= 2*patience && sent >= 2*enough
	}
	return others >= enough*max(asked, 1)
}

// patience is how long a node may be silent.
func (p *Pool) patience(e *Eject) int64 {
	return max(int64(e.Silence), int64(e.Slow)*p.typical.value.Load())
}
