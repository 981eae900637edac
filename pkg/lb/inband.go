package lb

import (
	"math"
	"strconv"
	"sync/atomic"
	"time"
)

// ReportHeader is the header in which a node says how it is with each answer, as in
// "draining, load=12". It is for whoever chose the node and goes no further.
const ReportHeader = "Goms-Node"

// Report is what a node says of itself with an answer: news that need no registry. The
// zero Report is that of a node that says nothing, which is well and has nothing else
// to do, or does not speak of itself.
type Report struct {
	// Draining says that the node is about to leave.
	Draining bool
	// Load is how many other requests the node has at the moment.
	Load int
}

// reportHolds is for how long a node is left alone after it last said that it is
// draining: so long does one that comes back to its old address wait, when the registry
// does not tell that either. Then it is asked once more, and says so again or not.
const reportHolds = 10 * time.Second

// Append appends the report as the value of its header: nothing for the zero Report.
func (r Report) Append(dst []byte) []byte {
	if r.Draining {
		dst = append(dst, "draining"...)
	}
	if r.Load > 0 {
		if r.Draining {
			dst = append(dst, ", "...)
		}
		dst = append(dst, "load="...)
		dst = strconv.AppendInt(dst, int64(r.Load), 10)
	}
	return dst
}

// ParseReport reads the value of a node's header. What it does not know it passes over,
// so that nodes may learn to say more. It allocates nothing.
func ParseReport(value []byte) Report {
	var r Report
	for len(value) > 0 {
		word := value
		value = nil
		for i, c := range word {
			if c == ',' {
				word, value = word[:i], word[i+1:]
				break
			}
		}
		for len(word) > 0 && (word[0] == ' ' || word[0] == '\t') {
			word = word[1:]
		}
		for len(word) > 0 && (word[len(word)-1] == ' ' || word[len(word)-1] == '\t') {
			word = word[:len(word)-1]
		}
		const load = "load="
		switch {
		case string(word) == "draining":
			r.Draining = true
		case len(word) > len(load) && len(word) <= len(load)+9 && string(word[:len(load)]) == load:
			r.Load = number(word[len(load):], r.Load)
		}
	}
	return r
}

// number reads at most nine digits; what is no number is the other one.
func number(digits []byte, other int) int {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return other
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// told is what a node last said of itself.
type told struct {
	until atomic.Int64 // it is draining, until then on the pool's clock; 0 when it is not. Pool.mu is held to change it from or to 0
}

func (t *told) draining() bool { return t.until.Load() != 0 }

// Heed takes in what n said of itself with an answer; it is to be called with every
// answer of a node, the zero Report when the node said nothing, before Node.End. What n
// has of others than this pool counts with LeastRequests and P2C as what it has of this
// one: at once when two answers in a row say so, and half of it a second after the last
// one, on a clock that needs Tick. A node that says that
// it is draining is treated from now on as if the registry had said so: until it
// answers otherwise, or 10 s have passed since it last said it (see Refresh), or it
// leaves. Heed reports whether this call began that. For all other answers it is an
// atomic load or two.
func (p *Pool) Heed(n *Node, r Report) (drains bool) {
	if n.load.Load() != int64(r.Load) {
		n.load.Store(int64(r.Load))
	}
	n.others.heed(int64(r.Load), n.inFlight.Load(), p.coarse.Load())
	until := n.told.until.Load()
	if !r.Draining && until == 0 {
		return false
	}
	if r.Draining && until-p.now() > int64(reportHolds/2) {
		return false // said a moment ago
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	until = 0
	if r.Draining {
		until = max(1, p.now()+int64(reportHolds))
	}
	was := n.Draining()
	n.told.until.Store(until)
	if until != 0 && (p.toldUntil.Load() == 0 || until < p.toldUntil.Load()) {
		p.toldUntil.Store(until)
	}
	if n.gone || was == n.Draining() {
		return false
	}
	p.rebuild(p.state.Load().nodes)
	return r.Draining
}

// Refresh ends what nodes said of themselves too long ago. Call it now and then; when
// there is nothing to end it is an atomic load.
func (p *Pool) Refresh() {
	if until := p.toldUntil.Load(); until == 0 || p.now() < until {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now, next, changed := p.now(), int64(math.MaxInt64), false
	nodes := p.state.Load().nodes
	for _, n := range nodes {
		until := n.told.until.Load()
		switch {
		case until == 0:
		case until <= now:
			n.told.until.Store(0)
			changed = true
		default:
			next = min(next, until)
		}
	}
	if next == math.MaxInt64 {
		next = 0
	}
	p.toldUntil.Store(next)
	if changed {
		p.rebuild(nodes)
	}
}

// Load returns how many other requests the node had when it last answered, as it said
// itself; 0 when it says nothing.
func (n *Node) Load() int64 { return n.load.Load() }
