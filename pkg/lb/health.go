package lb

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Cause says why a node is ejected.
type Cause int32

// The causes. NotEjected is the zero value.
const (
	NotEjected  Cause = iota
	Unreachable       // failures in a row
	BadAnswers        // a rate of failures, bad answers and slow ones far above the others'
	Silence           // no answer at all while the others answer
)

// String returns a word for logs and status: "" for NotEjected.
func (c Cause) String() string {
	switch c {
	case Unreachable:
		return "unreachable"
	case BadAnswers:
		return "bad answers"
	case Silence:
		return "silent"
	}
	return ""
}

const (
	// compareInterval is how often a node's rate is compared with the others', at most.
	compareInterval = int64(100 * time.Millisecond)
	// silentPauseMax bounds the pauses of a silent node: the one that was stopped and
	// goes on is wanted back.
	silentPauseMax = int64(4 * time.Second)
)

// Failed tells the pool that an attempt on n failed: a refused or timed out dial, a
// connection that broke before anything of an answer came, or no answer in time. What a
// client did wrong must not be reported here. It reports whether n was ejected by this
// call.
//
// After Eject.After failures in a row the node is ejected: Pick leaves it out for a
// pause, then gives it one request. If that fails the pause doubles, and so on up to
// Eject.PauseMax; if its outcome is never reported the node gets another request a pause
// later. Never more than half of the nodes that would be picked are ejected, so a single
// one never is. Failures of requests picked before the ejection do not lengthen it.
func (p *Pool) Failed(n *Node) (ejected bool) {
	n.failures.Add(1)
	n.heard.Add(1)
	p.count(n, true, p.now())
	p.mu.Lock()
	defer p.mu.Unlock()
	failed := n.failed.Add(1)
	if n.Ejected() {
		p.failedReturn(n)
		return false
	}
	st := p.state.Load()
	after := int64(st.options.Eject.After)
	if after >= 0 && failed >= after && p.mayEject(n) {
		return p.eject(n, Unreachable)
	}
	return p.outlier(n)
}

// Succeeded is Answered for an answer that was good and whose time is not known.
func (p *Pool) Succeeded(n *Node) (restored bool) {
	_, restored = p.Answered(n, 0, false)
	return restored
}

// Answered tells the pool that n answered an attempt. took is the time from the whole
// request to the answer's head; 0 means that it says nothing. bad marks an answer that
// says that the node cannot serve, such as 502, 503 and 504. Report every answer.
//
// A good answer forgets the node's failures in a row, and an ejected node takes turns
// again at once. It reports whether n was ejected by this call, or was before it.
func (p *Pool) Answered(n *Node, took time.Duration, bad bool) (ejected, restored bool) {
	return p.answered(n, took, bad, p.now())
}

// AnsweredSince is Answered for an attempt whose node had the whole request at the time
// asked, by the pool's clock; the zero time means that it says nothing. It looks at the
// clock once, where to measure first costs another look.
func (p *Pool) AnsweredSince(n *Node, asked time.Time, bad bool) (ejected, restored bool) {
	now, took := p.now(), time.Duration(0)
	if !asked.IsZero() {
		took = time.Duration(now) - asked.Sub(p.born)
	}
	return p.answered(n, took, bad, now)
}

// answered is Answered at a time of the pool's clock.
func (p *Pool) answered(n *Node, took time.Duration, bad bool, now int64) (ejected, restored bool) {
	o := &p.state.Load().options
	n.heard.Add(1)
	if n.full.Load() != 0 {
		n.full.Store(0)
	}
	slow := p.observe(n, took, bad, now, o)
	since := n.since.Load()
	early := took > 0 && since != 0 && now-int64(took) < since
	if !early {
		p.count(n, bad || slow, now)
	}
	switch {
	case n.Ejected():
		return false, p.answeredEjected(n, bad || slow, early)
	case bad || slow:
		if o.Eject.Rate < 0 || early {
			return false, false
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.outlier(n), false
	case n.failed.Load() != 0:
		p.mu.Lock()
		defer p.mu.Unlock()
		n.failed.Store(0)
		n.pause.Store(0)
	}
	return false, false
}

// Heard tells the pool that something was heard of n that nobody waited for any more: the
// answer to an attempt that was given up (InVain). If n is ejected for its silence, the next
// attempt is sent to it, whichever that is: it shows whether n is well.
func (p *Pool) Heard(n *Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.gone || n.Cause() != Silence {
		return
	}
	n.until.Store(max(1, p.now()-silentPauseMax)) // and be it one that cannot go on elsewhere
	p.rebuild(p.state.Load().nodes)               // the moment of the next return is nearer than those who are choosing know
}

// InVain reports whether an attempt that has waited for an answer of n for so long had
// better be given up, because n is ejected and nothing is heard of it: it began before the
// ejection, or has had the time that Eject.Silence gives. unheard says that the last
// connection to n that could not be made had no word of it in time: one that refuses
// connections is heard, and may yet answer what it has. InVain is false of a node that is
// not ejected.
func (n *Node) InVain(waited time.Duration, unheard bool) bool {
	switch n.Cause() {
	case Silence:
	case Unreachable:
		if !unheard {
			return false
		}
	default:
		return false
	}
	p := n.pool
	if int64(waited) >= p.now()-n.since.Load() {
		return true
	}
	e := &p.state.Load().options.Eject
	return e.Silence >= 0 && int64(waited) >= p.patience(e)
}

// SetHealth tells the pool what a check from outside says of n. It reports whether that
// is news. Nodes that nobody checks are healthy. Pick leaves unhealthy nodes out as long
// as enough others are healthy: see Options.PanicThreshold.
func (p *Pool) SetHealth(n *Node, healthy bool) (changed bool) {
	if n.Healthy() == healthy {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = n.unhealthy.Swap(!healthy) == healthy
	if changed && !n.gone {
		st := p.state.Load()
		p.rebuild(st.nodes)
	}
	return changed
}

// observe takes in an answer's time, and reports whether it was slow.
func (p *Pool) observe(n *Node, took time.Duration, bad bool, now int64, o *Options) (slow bool) {
	if took <= 0 {
		return false
	}
	if bad {
		// A node that fails quickly must not look like a quick one.
		n.latency.observe(max(int64(took), int64(n.latency.at(now)), 2*p.typical.value.Load()), now)
		return false
	}
	p.coarse.Store(now)
	usual := p.typical.value.Load()
	p.typical.observe(int64(took))
	n.latency.observe(int64(took), now)
	if o.Adaptive {
		p.shed.observe(int64(took))
	}
	return o.Eject.Slow > 0 && took > slowFloor && usual > 0 && int64(took)/int64(o.Eject.Slow) > usual
}

// count takes one outcome into the windows and the breakers.
func (p *Pool) count(n *Node, bad bool, now int64) {
	o := &p.state.Load().options
	if o.Eject.Rate >= 0 || o.NodeBreaker.Enabled {
		n.window.add(now, o.Window, bad)
	}
	if o.NodeBreaker.Enabled {
		n.breaker.report(&n.window, bad, now, o, &o.NodeBreaker)
	}
	if o.Breaker.Enabled {
		p.window.add(now, o.Window, bad)
		p.breaker.report(&p.window, bad, now, o, &o.Breaker)
	}
}

// answeredEjected takes in an answer of an ejected node. early says that the attempt
// began before the ejection.
func (p *Pool) answeredEjected(n *Node, bad, early bool) (restored bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cause := n.Cause()
	switch {
	case cause == NotEjected:
		return false
	case cause == Silence: // whatever it says, it speaks
	case bad:
		if !early {
			p.failedReturn(n)
		}
		return false
	case cause == BadAnswers && (early || !n.probing.Load()):
		return false // the good ones among the bad
	}
	n.failed.Store(0)
	n.lastPause = n.pause.Swap(0)
	n.window.clear()
	n.since.Store(max(1, p.now()))
	n.release()
	if !n.gone {
		st := p.state.Load()
		p.rebuild(st.nodes)
	}
	return true
}

// failedReturn doubles the pause of an ejected node that had its request and failed.
// p.mu is held.
func (p *Pool) failedReturn(n *Node) {
	if n.probing.CompareAndSwap(true, false) {
		p.lengthen(n, n.Cause())
	}
}

// outlier ejects n if too much of what it did in the window was bad, and far more than
// with the others: what is wrong everywhere is not the node's. p.mu is held.
func (p *Pool) outlier(n *Node) (ejected bool) {
	st := p.state.Load()
	e := &st.options.Eject
	now := p.now()
	window := st.options.Window
	if e.Rate < 0 || n.Ejected() || !n.window.exceeds(e.Rate, e.Minimum, now, window) {
		return false
	}
	if n.looked != 0 && now-n.looked < compareInterval || !p.mayEject(n) {
		return false
	}
	n.looked = max(now, 1)
	total, bad := n.window.sum(now, window)
	others, worse := 0, 0
	for _, other := range st.active {
		if other != n {
			t, b := other.window.sum(now, window)
			others, worse = others+t, worse+b
		}
	}
	if others == 0 || worse*total*2 >= bad*others {
		return false
	}
	return p.eject(n, BadAnswers)
}

// eject takes n out of the picks. p.mu is held.
func (p *Pool) eject(n *Node, cause Cause) bool {
	p.lengthen(n, cause)
	st := p.state.Load()
	p.rebuild(st.nodes)
	return true
}

// probe claims the return of an ejected node: the first whose pause is over and that is
// not in tried, nil when there is none. The node's next return is a pause away,
// whatever becomes of this one. once says that the attempt cannot go on elsewhere when
// the node keeps it: a silent one is left to others, while there are any.
func (p *Pool) probe(st *state, tried []*Node, once bool) *Node {
	now := p.now()
	if now < st.wake.Load() {
		return nil
	}
	var found *Node
	wake := int64(math.MaxInt64)
	for _, n := range st.ejected {
		until := n.until.Load()
		if found == nil && due(until, now) && !(once && n.spares(now-until)) && !slices.Contains(tried, n) {
			pause := n.pause.Load()
			if n.until.CompareAndSwap(until, now+pause) {
				n.probing.Store(true)
				if Cause(n.cause.Load()) == Silence {
					// What it is sent it keeps: the outcome comes late.
					n.pause.CompareAndSwap(pause, max(pause, min(2*pause, silentPauseMax)))
				}
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

// spares reports whether n, whose return has been due for so long, is not to have it from
// an attempt that cannot go on elsewhere: such a node may keep what it is sent.
func (n *Node) spares(overdue int64) bool {
	return Cause(n.cause.Load()) == Silence && overdue < silentPauseMax
}

// upcoming returns the node that Pick(nil, 0) would return, or nil when that cannot be
// told.
func (p *Pool) upcoming(st *state) *Node {
	if len(st.ejected) != 0 {
		now := p.now()
		for _, n := range st.ejected {
			if due(n.until.Load(), now) {
				return n
			}
		}
	}
	return st.choice.peek()
}

// lengthen starts a pause for n, twice as long as the last. p.mu is held.
func (p *Pool) lengthen(n *Node, cause Cause) {
	e := &p.state.Load().options.Eject
	last := n.pause.Load()
	now := p.now()
	if !n.Ejected() {
		if cause != Unreachable && last == 0 && now-n.since.Load() < int64(e.PauseMax) {
			last = n.lastPause // it came back and is no better
		}
		n.probing.Store(false)
		n.cause.Store(int32(cause))
		n.since.Store(max(1, now))
	}
	pause := int64(e.Pause)
	if last > 0 {
		pause = int64(e.PauseMax)
		if last < pause/2 {
			pause = 2 * last
		}
	}
	if cause == Silence {
		pause = min(pause, max(silentPauseMax, int64(e.Pause)))
	}
	n.pause.Store(pause)
	n.until.Store(max(1, now+pause))
}

// mayEject reports whether n is picked and one more of those nodes may be ejected. p.mu
// is held.
func (p *Pool) mayEject(n *Node) bool {
	st := p.state.Load()
	if n.gone || !slices.Contains(st.active, n) {
		return false
	}
	return len(st.ejected)+1 <= half(len(st.active)+len(st.ejected))
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
