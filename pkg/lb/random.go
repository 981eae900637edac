package lb

import "math/rand/v2"

// draws is how often a random choice is repeated when it fell on an excluded node,
// before the nodes are searched one by one.
const draws = 8

// Random chooses each node with the same probability, whatever its weight.
type Random struct{}

// String returns "random".
func (Random) String() string { return "random" }

func (Random) build(s set) choice { return &random{nodes: s.nodes} }

type random struct{ nodes []*Node }

func (r *random) next(uint64) *Node {
	if len(r.nodes) == 0 {
		return nil
	}
	return r.nodes[rand.IntN(len(r.nodes))]
}

func (r *random) except(_ uint64, x exception) *Node {
	return r.draw(&x)
}

func (r *random) draw(x *exception) *Node {
	if len(r.nodes) == 0 {
		return nil
	}
	for range draws {
		if n := r.nodes[rand.IntN(len(r.nodes))]; !x.excludes(n) {
			return n
		}
	}
	return scan(r.nodes, rand.IntN(len(r.nodes)), x)
}

func (r *random) peek() *Node { return nil }

// WeightedRandom chooses each node with a probability in proportion to its weight.
type WeightedRandom struct{}

// String returns "weightedRandom".
func (WeightedRandom) String() string { return "weightedRandom" }

func (WeightedRandom) build(s set) choice {
	// Where a node stands as often as its weight says, a uniform draw is a weighted one.
	order := round(whole(s.weights))
	drawn := make([]*Node, len(order))
	for i, place := range order {
		drawn[i] = s.nodes[place]
	}
	return &weightedRandom{random{drawn}}
}

type weightedRandom struct{ random }
