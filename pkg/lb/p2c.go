package lb

import (
	"math/rand/v2"
	"time"
)

// halving is the age at which an observed answer time counts half.
const halving = 10 * time.Second

// P2C draws two nodes by weight and chooses the one that is expected to answer first: by
// how long it lately took and how many requests it has, which are the attempts in flight
// and what it says that it has of others (see Pool.Heed). A time that goes up counts at
// once and one that goes down counts by and by (peak EWMA); without new answers it fades,
// so that a node that was slow once is asked again.
type P2C struct{}

// String returns "p2c".
func (P2C) String() string { return "p2c" }

func (P2C) build(s set) choice {
	return &p2c{nodes: s.nodes, order: round(whole(s.weights)), share: shares(s.weights), now: s.now, typical: s.typical}
}

type p2c struct {
	nodes   []*Node
	order   []int32
	share   []float64
	now     func() int64
	typical func() int64
}

func (c *p2c) next(uint64) *Node {
	switch len(c.nodes) {
	case 0:
		return nil
	case 1:
		return c.nodes[0]
	}
	return c.quicker(c.draw(), c.draw())
}

// draw returns the place of a random node.
func (c *p2c) draw() int { return int(c.order[rand.IntN(len(c.order))]) }

// quicker returns the node, of those at the two places, that will probably answer first.
func (c *p2c) quicker(a, b int) *Node {
	if a == b {
		return c.nodes[a]
	}
	now := c.now()
	if c.cost(b, now) < c.cost(a, now) {
		return c.nodes[b]
	}
	return c.nodes[a]
}

// cost is when the node at the given place would answer one more attempt.
func (c *p2c) cost(place int, now int64) float64 {
	n := c.nodes[place]
	latency := n.latency.at(now)
	if latency == 0 {
		latency = float64(max(c.typical(), 1))
	}
	return latency * (1 + n.busy(now)*c.share[place])
}

func (c *p2c) except(_ uint64, x exception) *Node {
	if len(c.nodes) == 0 {
		return nil
	}
	one := -1
	for range draws {
		place := c.draw()
		switch {
		case x.excludes(c.nodes[place]):
		case one < 0:
			one = place
		default:
			return c.quicker(one, place)
		}
	}
	if one >= 0 {
		return c.nodes[one]
	}
	return scan(c.nodes, c.draw(), &x)
}

func (c *p2c) peek() *Node { return nil }
