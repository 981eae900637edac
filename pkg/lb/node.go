package lb

import "sync/atomic"

// Node is one node of a pool. The same Node stays in the pool for as long as its ID and
// address do. All methods may run together, also after the node has left its pool.
type Node struct {
	// Data belongs to the pool's owner: connections, say. It is set once, by
	// Options.NewData, and must not be assigned afterwards.
	Data any

	id, addr string
	weight   atomic.Int64
	draining atomic.Bool

	// until is when an ejected node may have its next request, in nanoseconds since
	// the pool was born; 0 means the node is not ejected. Pick moves it on when it
	// sends that request.
	until atomic.Int64
	// pause is how long the present, or else the next, ejection lasts, in
	// nanoseconds; 0 means there was none since the last success.
	pause atomic.Int64
	// probing says that an ejected node was sent a request and has not failed since.
	probing atomic.Bool
	// failed counts the connection failures since the last success. Pool.mu is held
	// to change it.
	failed atomic.Int64
	// gone says that the node has left. Pool.mu guards it.
	gone bool
	// told is what the node said of itself; see Heed.
	told told

	_        [cacheLine]byte
	inFlight atomic.Int64
	requests atomic.Int64
	failures atomic.Int64
	load     atomic.Int64 // as the node says; see Heed
	_        [cacheLine - 32]byte
}

// ID returns the node's ID.
func (n *Node) ID() string { return n.id }

// Addr returns where requests for the node go, host:port.
func (n *Node) Addr() string { return n.addr }

// Weight returns the node's present weight, at least 0.
func (n *Node) Weight() int { return int(n.weight.Load()) }

// Draining reports whether the node is about to leave, by the registry or by its own
// word.
func (n *Node) Draining() bool { return n.draining.Load() || n.told.draining() }

// Ejected reports whether the node is out of the picks because of its failures.
func (n *Node) Ejected() bool { return n.until.Load() != 0 }

// Begin counts an attempt on the node as in flight, until End.
func (n *Node) Begin() { n.inFlight.Add(1) }

// End ends what Begin began; each Begin wants exactly one End.
func (n *Node) End() { n.inFlight.Add(-1) }

// InFlight returns how many attempts have begun on the node and not ended.
func (n *Node) InFlight() int64 { return n.inFlight.Load() }

// Requests returns how many requests the node has finished (Pool.Done).
func (n *Node) Requests() int64 { return n.requests.Load() }

// Failures returns how many connection failures the node ever had (Pool.Failed).
func (n *Node) Failures() int64 { return n.failures.Load() }
