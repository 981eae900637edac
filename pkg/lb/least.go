package lb

import (
	"math"
	"math/rand/v2"
)

const (
	// compareAll is how many nodes LeastRequests compares with each other. Of more it
	// compares a sample, else a choice would take the longer the more nodes there are.
	compareAll = 8
	sample     = 4
)

// LeastRequests chooses the node with the fewest requests for its weight: the attempts in
// flight and what it says that it has of others (see Pool.Heed). Among equals, nodes take
// turns as in RoundRobin. Of more than eight nodes it compares the one whose turn it is
// with three others.
type LeastRequests struct{}

// String returns "leastRequests".
func (LeastRequests) String() string { return "leastRequests" }

func (LeastRequests) build(s set) choice {
	return &least{roundRobin: newRoundRobin(s), share: shares(s.weights), now: s.now}
}

// shares returns, for each weight, the mean of all weights over it: what makes figures of
// unequal nodes comparable.
func shares(weights []float64) []float64 {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	out := make([]float64, len(weights))
	for i, w := range weights {
		out[i] = sum / float64(len(weights)) / w
	}
	return out
}

type least struct {
	*roundRobin
	share []float64
	now   func() int64
}

func (l *least) next(uint64) *Node { return l.choose(&exception{}) }

func (l *least) except(_ uint64, x exception) *Node {
	if n := l.choose(&x); n != nil {
		return n
	}
	if len(l.nodes) <= compareAll {
		return nil
	}
	return scan(l.nodes, rand.IntN(len(l.nodes)), &x)
}

// choose returns the least busy node of those it looks at, or nil.
func (l *least) choose(x *exception) *Node {
	if len(l.order) == 0 {
		return nil
	}
	first := int(l.order[(l.count(x).Add(1)-1)%uint64(len(l.order))])
	var best *Node
	least, now := math.Inf(1), l.now()
	look := func(place int) {
		n := l.nodes[place]
		if load := n.busy(now) * l.share[place]; load < least && !x.excludes(n) {
			best, least = n, load
		}
	}
	if len(l.nodes) > compareAll {
		look(first)
		for range sample - 1 {
			look(int(l.order[rand.IntN(len(l.order))]))
		}
		return best
	}
	for i := range l.nodes {
		look((first + i) % len(l.nodes))
	}
	return best
}
