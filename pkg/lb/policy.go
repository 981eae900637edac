package lb

import (
	"fmt"
	"slices"
	"strings"
)

// Policy is a way to choose among the nodes of one generation of a pool. The policies
// are RoundRobin, Random, WeightedRandom, LeastRequests, P2C and Hash. A Policy is a
// value without state; what a policy remembers lives in the pool.
type Policy interface {
	// String returns the policy's name, as ParsePolicy reads it.
	String() string

	// build returns the choice among the nodes of s, all of positive weight.
	build(s set) choice
}

// set is what a policy chooses among.
type set struct {
	nodes   []*Node
	weights []float64    // one for each node, above 0; only their proportions matter
	now     func() int64 // the pool's clock, as of its last answer
	typical func() int64 // how long the pool's answers usually take; 0 when unknown
	old     choice       // of the generation before; nil at first
}

// choice is a policy over fixed nodes and weights. All methods may run together, and
// neither allocate nor lock.
type choice interface {
	// next returns the node for a request with the given key, or nil when there are no
	// nodes.
	next(key uint64) *Node
	// except is next among the nodes that x does not exclude.
	except(key uint64, x exception) *Node
	// peek returns the node that next would, if that can be told without a key, or nil.
	peek() *Node
}

// policies are all there are, in the order in which they are named to people.
var policies = []Policy{RoundRobin{}, Random{}, WeightedRandom{}, LeastRequests{}, P2C{}, Hash{}}

// ParsePolicy returns the policy with the given name: roundRobin, random,
// weightedRandom, leastRequests, p2c or hash.
func ParsePolicy(name string) (Policy, error) {
	for _, p := range policies {
		if p.String() == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%q is no policy: there are %s", name, strings.Join(PolicyNames(), ", "))
}

// PolicyNames returns what ParsePolicy reads, in a new slice.
func PolicyNames() []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.String()
	}
	return names
}

// maxTried is how many tried nodes a policy can leave out. Behind more of them the least
// busy of all other nodes is taken.
const maxTried = 8

// exception says which nodes may not be chosen. It is passed by value: a slice given to
// a method of an interface would make every caller allocate.
type exception struct {
	tried [maxTried]*Node
	n     int
	fit   fitness
}

// fitness says which nodes may take one more attempt. The zero value is: all.
type fitness struct {
	max     int64 // attempts in flight; 0 is no bound
	breaker bool  // breakers are kept
	now     int64
	heard   bool // who is ejected for its silence may not
	roomy   bool // who said that it is full, until later than moment, may not
	moment  int64
}

// excludes reports whether n may not be chosen.
func (x *exception) excludes(n *Node) bool {
	return slices.Contains(x.tried[:x.n], n) || !x.fit.admits(n)
}

// admits reports whether n may take one more attempt.
func (f *fitness) admits(n *Node) bool {
	if f.max > 0 && n.inFlight.Load() >= f.max {
		return false
	}
	if f.heard && n.Cause() == Silence {
		return false
	}
	if f.roomy && n.full.Load() > f.moment {
		return false
	}
	return !f.breaker || !n.breaker.open(f.now)
}

// scan returns the first node of nodes, from the given place on and round, that x does
// not exclude, or nil.
func scan(nodes []*Node, from int, x *exception) *Node {
	for i := range nodes {
		i += from
		if i >= len(nodes) {
			i -= len(nodes)
		}
		if n := nodes[i]; !x.excludes(n) {
			return n
		}
	}
	return nil
}
