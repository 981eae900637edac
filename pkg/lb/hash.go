package lb

import (
	"math"
	"slices"
)

// slots is how many groups Hash puts keys in; each group has one owner. More of them
// spread more evenly and take longer to hand out.
const (
	slotBits = 16
	slots    = 1 << slotBits
)

// Hash chooses by the request's key: the same key goes to the same node. When a node
// joins, leaves, is ejected or changes its weight, only keys move that must: from the
// node that has less, or to the one that has more. All gateways that see the same nodes
// choose alike.
//
// Keys fall into 65,536 slots; the owner of each is found by weighted rendezvous hashing
// when the set of nodes changes, so that a choice is one look at a table.
type Hash struct{}

// String returns "hash".
func (Hash) String() string { return "hash" }

func (Hash) build(s set) choice {
	h := &hashing{nodes: s.nodes, weights: s.weights, seeds: make([]uint64, len(s.nodes))}
	if len(s.nodes) == 0 {
		return h
	}
	for i, n := range s.nodes {
		h.seeds[i] = HashKey(n.id)
	}
	old, ok := s.old.(*hashing)
	if ok && slices.Equal(old.nodes, h.nodes) && slices.Equal(old.weights, h.weights) {
		h.owners = old.owners
		return h
	}
	h.owners = make([]int32, slots)
	if !ok || len(old.nodes) == 0 {
		for slot := range h.owners {
			h.owners[slot] = h.contest(slot)
		}
		return h
	}
	h.inherit(old)
	return h
}

// HashKey returns the key of a text or of bytes, for Pool.Pick. It is the same in every
// process.
func HashKey[T string | []byte](data T) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(data) {
		h = (h ^ uint64(data[i])) * 1099511628211
	}
	return mix(h)
}

type hashing struct {
	nodes   []*Node
	weights []float64
	seeds   []uint64
	owners  []int32 // of each slot, as places in nodes
}

func (h *hashing) next(key uint64) *Node {
	if len(h.nodes) == 0 {
		return nil
	}
	return h.nodes[h.owners[mix(key)>>(64-slotBits)]]
}

// except goes from slot to slot in an order that is the key's own, so that also a second
// choice is the same each time, and spreads.
func (h *hashing) except(key uint64, x exception) *Node {
	if len(h.nodes) == 0 {
		return nil
	}
	for range 4 * draws {
		if n := h.next(key); !x.excludes(n) {
			return n
		}
		key = mix(key) + 1
	}
	return scan(h.nodes, int(key%uint64(len(h.nodes))), &x)
}

func (h *hashing) peek() *Node { return nil }

// inherit hands out the slots as old did, but for those of nodes that left or have less
// weight, and those that nodes win that joined or have more.
func (h *hashing) inherit(old *hashing) {
	before := make(map[*Node]int, len(old.nodes))
	for i, n := range old.nodes {
		before[n] = i
	}
	heirs := make([]int32, len(old.nodes)) // the place of an old owner that keeps its slots, else -1
	for i := range heirs {
		heirs[i] = -1
	}
	var gained []int
	for i, n := range h.nodes {
		was, ok := before[n]
		if ok && h.weights[i] >= old.weights[was] {
			heirs[was] = int32(i)
		}
		if !ok || h.weights[i] > old.weights[was] {
			gained = append(gained, i)
		}
	}
	for slot := range h.owners {
		owner := heirs[old.owners[slot]]
		if owner < 0 {
			h.owners[slot] = h.contest(slot)
			continue
		}
		if len(gained) > 0 {
			salt := mix(uint64(slot) + 1)
			best := h.bid(int(owner), salt)
			for _, i := range gained {
				if bid := h.bid(i, salt); bid < best || bid == best && int32(i) < owner {
					owner, best = int32(i), bid
				}
			}
		}
		h.owners[slot] = owner
	}
}

// contest returns the place of the node that owns a slot: the lowest bid wins, which is
// each node's with a probability in proportion to its weight.
func (h *hashing) contest(slot int) int32 {
	salt := mix(uint64(slot) + 1)
	owner, best := 0, math.Inf(1)
	for i := range h.nodes {
		u := h.drawn(i, salt)
		if (1-u)/h.weights[i] >= best { // 1-u is never above -ln u: spare the logarithm
			continue
		}
		if bid := -math.Log(u) / h.weights[i]; bid < best {
			owner, best = i, bid
		}
	}
	return int32(owner)
}

func (h *hashing) bid(place int, salt uint64) float64 {
	return -math.Log(h.drawn(place, salt)) / h.weights[place]
}

// drawn is a number above 0 and at most 1 that depends on the node and the slot alone.
func (h *hashing) drawn(place int, salt uint64) float64 {
	return float64(mix(h.seeds[place]^salt)>>11+1) / (1 << 53)
}

// mix spreads every bit of h over all of them (the finaliser of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
