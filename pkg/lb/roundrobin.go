package lb

import (
	"math"
	"sync/atomic"
)

// maxTurns bounds the length of a round, give or take one turn a node. Pools whose
// weights want a longer one, such as seventeen nodes of coprime weights near 1000, get
// the nearest smaller weights, at least 1.
const maxTurns = 1 << 14

// RoundRobin is smooth weighted round robin, the default: over a round each node gets as
// many turns as its weight, spread as evenly as they can be.
type RoundRobin struct{}

// String returns "roundRobin".
func (RoundRobin) String() string { return "roundRobin" }

func (RoundRobin) build(s set) choice { return newRoundRobin(s) }

// roundRobin computes the order of a round once, so that a choice is one atomic addition.
type roundRobin struct {
	nodes []*Node // the nodes that take turns, in the pool's order
	order []int32 // one round, as places in nodes

	_     [cacheLine]byte
	pos   atomic.Uint64 // the next turn, modulo the length of order
	_     [cacheLine - 8]byte
	later atomic.Uint64 // the same for further attempts of requests; see count
}

// newRoundRobin returns the choice among the nodes of s, whose turn stays where it was.
func newRoundRobin(s set) *roundRobin {
	r := &roundRobin{nodes: s.nodes, order: round(whole(s.weights))}
	switch old := s.old.(type) {
	case *roundRobin:
		r.resume(old)
	case *least:
		r.resume(old.roundRobin)
	}
	return r
}

func (r *roundRobin) next(uint64) *Node {
	if len(r.order) == 0 {
		return nil
	}
	return r.nodes[r.order[(r.pos.Add(1)-1)%uint64(len(r.order))]]
}

// except returns the node whose turn it is, or the first after it that is not excluded,
// or nil.
func (r *roundRobin) except(_ uint64, x exception) *Node {
	if len(r.order) == 0 {
		return nil
	}
	turn := int((r.count(&x).Add(1) - 1) % uint64(len(r.order)))
	for range len(r.order) {
		if n := r.nodes[r.order[turn]]; !x.excludes(n) {
			return n
		}
		if turn++; turn == len(r.order) {
			turn = 0
		}
	}
	return nil
}

// count returns what counts the turns of a choice that leaves x out. Further attempts have their own: where each that fails
// on one of two nodes took the other's turn, it would be the first one's again for every request.
func (r *roundRobin) count(x *exception) *atomic.Uint64 {
	if x.n > 0 {
		return &r.later
	}
	return &r.pos
}

// peek returns the node whose turn it is, or nil, and leaves the turn with it.
func (r *roundRobin) peek() *Node {
	if len(r.order) == 0 {
		return nil
	}
	return r.nodes[r.order[r.turn()]]
}

// turn returns the place in order that is next. order is not empty.
func (r *roundRobin) turn() int { return int(r.pos.Load() % uint64(len(r.order))) }

// resume gives the turn to the node that has it in old, or the next one after it there
// that r has, at about the same point of the round. A round that nobody has entered
// begins at its beginning.
func (r *roundRobin) resume(old *roundRobin) {
	r.later.Store(old.later.Load())
	if len(r.order) == 0 || len(old.order) == 0 || old.pos.Load() == 0 {
		return
	}
	stays := make(map[*Node]bool, len(r.nodes))
	for _, n := range r.nodes {
		stays[n] = true
	}
	turn := old.turn()
	for range len(old.order) {
		if n := old.nodes[old.order[turn]]; stays[n] {
			r.pos.Store(r.nearest(n, turn*len(r.order)/len(old.order)))
			return
		}
		turn = (turn + 1) % len(old.order)
	}
}

// nearest returns n's first turn at or after the given one.
func (r *roundRobin) nearest(n *Node, turn int) uint64 {
	for r.nodes[r.order[turn]] != n {
		turn = (turn + 1) % len(r.order)
	}
	return uint64(turn)
}

// whole returns whole numbers in the proportions of weights, for a round that is not too
// long: exactly, if the weights are whole and small enough.
func whole(weights []float64) []int {
	out := make([]int, len(weights))
	sum, exact := 0.0, true
	for i, w := range weights {
		out[i] = int(w)
		exact = exact && float64(out[i]) == w
		sum += w
	}
	if !exact {
		for i, w := range weights {
			out[i] = int(max(1, math.Round(w/sum*maxTurns)))
		}
	}
	return reduce(out)
}

// reduce returns the smallest weights of the same proportions, or nearly so when the
// exact ones would make a round longer than maxTurns. It overwrites weights.
func reduce(weights []int) []int {
	if sum := divide(weights); sum > maxTurns {
		for i, w := range weights {
			weights[i] = int(max(1, (int64(w)*maxTurns+int64(sum)/2)/int64(sum)))
		}
		divide(weights)
	}
	return weights
}

// divide divides weights by their greatest common divisor and returns their sum.
func divide(weights []int) (sum int) {
	divisor := 0
	for _, w := range weights {
		for a := w; a != 0; {
			divisor, a = a, divisor%a
		}
	}
	for i := range weights {
		weights[i] /= divisor
		sum += weights[i]
	}
	return sum
}

// class is the nodes of one weight within round.
type class struct {
	weight int
	nodes  []int32
	turns  int // how many turns they have had together
}

// round returns the places of weights in the order in which smooth weighted round robin
// visits them. That is: every turn adds each weight to its node's credit, the largest
// credit (the first of equals) wins and pays the sum of all weights.
//
// Nodes of one weight differ only in what they have paid, so they win one after the
// other, and it is enough to compare the head of each class: the cost is the length of
// the round times the number of different weights, at most about 180 of them.
func round(weights []int) []int32 {
	var classes []*class
	byWeight := map[int]*class{}
	sum := 0
	for i, w := range weights {
		c := byWeight[w]
		if c == nil {
			c = &class{weight: w}
			byWeight[w] = c
			classes = append(classes, c)
		}
		c.nodes = append(c.nodes, int32(i))
		sum += w
	}
	order := make([]int32, 0, sum)
	for t := 1; t <= sum; t++ {
		var best *class
		var most int
		for _, c := range classes {
			credit := t*c.weight - c.turns/len(c.nodes)*sum
			if best == nil || credit > most || credit == most && c.head() < best.head() {
				best, most = c, credit
			}
		}
		order = append(order, best.head())
		best.turns++
	}
	return order
}

// head is the node of the class that wins next.
func (c *class) head() int32 { return c.nodes[c.turns%len(c.nodes)] }
