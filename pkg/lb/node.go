package lb

import "sync/atomic"

// Node is one node of a pool. The same Node stays in the pool for as long as its ID and
// address do. All methods may run together, also after the node has left its pool.
type Node struct {
	// Data belongs to the pool's owner: connections, say. It is set once, by
	// Options.NewData, and must not be assigned afterwards.
	Data any

	pool      *Pool
	id, addr  string
	zone      atomic.Pointer[string]
	weight    atomic.Int64
	draining  atomic.Bool
	backup    atomic.Bool
	unhealthy atomic.Bool // by SetHealth
	cause     atomic.Int32

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
	// since is when the node was last ejected or came back: attempts begun before
	// that say nothing of its rate.
	since atomic.Int64
	// told is what the node said of itself; see Heed.
	told told

	// Pool.mu guards these.
	gone      bool  // the node has left
	looked    int64 // when its rate was last compared with the others'
	lastPause int64 // of its last ejection
	step      int   // of its slow start, in tenths
	silence   silence

	_        [cacheLine]byte
	inFlight atomic.Int64 // with what else a choice looks at
	others   others
	latency  latency
	full     atomic.Int64 // until when it is left out; 0 when it is not. See Full
	begun    atomic.Int64 // attempts ever begun
	heard    atomic.Int64 // outcomes ever reported
	requests atomic.Int64
	failures atomic.Int64
	load     atomic.Int64 // as the node says; see Heed
	joined   atomic.Int64 // when its slow start began, in the pool's clock; 0 when it is over
	breaker  breaker
	window   window
	_        [cacheLine]byte
}

// ID returns the node's ID.
func (n *Node) ID() string { return n.id }

// Addr returns where requests for the node go, host:port.
func (n *Node) Addr() string { return n.addr }

// Weight returns the node's present weight, at least 0.
func (n *Node) Weight() int { return int(n.weight.Load()) }

// Zone returns where the node is, "" when it does not say.
func (n *Node) Zone() string { return *n.zone.Load() }

// Backup reports whether the node serves only when no other can.
func (n *Node) Backup() bool { return n.backup.Load() }

// Draining reports whether the node is about to leave, by the registry or by its own
// word.
func (n *Node) Draining() bool { return n.draining.Load() || n.told.draining() }

// Healthy reports what Pool.SetHealth was last told of the node; true before.
func (n *Node) Healthy() bool { return !n.unhealthy.Load() }

// Ejected reports whether the node is out of the picks because of its failures.
func (n *Node) Ejected() bool { return n.until.Load() != 0 }

// Cause returns why the node is ejected; NotEjected when it is not.
func (n *Node) Cause() Cause {
	if !n.Ejected() {
		return NotEjected
	}
	return Cause(n.cause.Load())
}

// Begin counts an attempt on the node as in flight, until End or Finish.
func (n *Node) Begin() {
	n.inFlight.Add(1)
	n.begun.Add(1)
	n.pool.inFlight.Add(1)
	n.pool.waiting.Add(1)
}

// End ends what Begin, or Pool.Acquire, began, and what nothing answered; each wants
// exactly one End or Finish.
func (n *Node) End() {
	n.inFlight.Add(-1)
	n.pool.leave()
}

// Flow says that the answer to an attempt in flight has begun: from now on it waits for
// nobody, however long the answer is, and Options.Adaptive takes no notice of it. It is
// then ended by Finish.
func (n *Node) Flow() { n.pool.waiting.Add(-1) }

// Finish is End for an attempt of which Flow was called.
func (n *Node) Finish() {
	n.inFlight.Add(-1)
	n.pool.inFlight.Add(-1)
}

// InFlight returns how many attempts have begun on the node and not ended.
func (n *Node) InFlight() int64 { return n.inFlight.Load() }

// Requests returns how many requests the node has finished (Pool.Done).
func (n *Node) Requests() int64 { return n.requests.Load() }

// Failures returns how many connection failures the node ever had (Pool.Failed).
func (n *Node) Failures() int64 { return n.failures.Load() }
