package lb

import "time"

// Status is what a pool is and has done, at about one moment.
type Status struct {
	// Policy is the name of the policy.
	Policy string
	// PollNext is the place in Nodes of the node that the next Pick(nil, 0) returns; 0
	// when it returns nil or that cannot be told.
	PollNext int
	// Nodes are all nodes of the pool, sorted by ID.
	Nodes []NodeStatus
	// RequestFinish counts the finished requests of the pool, also on nodes that have
	// left.
	RequestFinish int64
	// InFlight counts the attempts that are under way.
	InFlight int64
	// Refused counts the attempts that Acquire refused with ErrOverloaded.
	Refused int64
	// Limit is the present limit of Options.Adaptive; 0 is none.
	Limit int64
	// Breaker is "" without a circuit breaker, else closed, open or half-open.
	Breaker string
}

// NodeStatus is what one node is and has done.
type NodeStatus struct {
	ID, Addr string
	Weight   int
	Zone     string `json:",omitempty"`
	Backup   bool   `json:",omitempty"`
	Draining bool
	// Healthy is what the checks say; true without checks.
	Healthy bool
	Ejected bool
	// Cause is why the node is ejected, "" when it is not.
	Cause string `json:",omitempty"`
	// Starting says that the share of the node still grows.
	Starting bool `json:",omitempty"`
	// Breaker is "" without a circuit breaker, else closed, open or half-open.
	Breaker string `json:",omitempty"`
	// Latency is how long the node's answers lately took; 0 when that is not known.
	Latency time.Duration `json:"LatencyNanos,omitempty"`
	// InFlight counts the attempts that are under way.
	InFlight int64
	// Requests counts the requests the node has finished.
	Requests int64
	// Failures counts the connection failures.
	Failures int64
}

// Status returns the pool's status. Nodes is a new slice, never nil.
func (p *Pool) Status() Status {
	st := p.state.Load()
	o := &st.options
	now := p.now()
	s := Status{
		Policy: o.Policy.String(), Nodes: make([]NodeStatus, len(st.nodes)), RequestFinish: p.finished.Load(),
		InFlight: p.inFlight.Load(), Refused: p.refused.Load(), Limit: p.shed.limit.Load(), Breaker: p.breaker.name(now, &o.Breaker),
	}
	if n := p.upcoming(st); n != nil {
		s.PollNext, _ = find(st.nodes, n.id)
	}
	for i, n := range st.nodes {
		s.Nodes[i] = NodeStatus{
			ID: n.id, Addr: n.addr, Weight: n.Weight(), Zone: n.Zone(), Backup: n.Backup(),
			Draining: n.Draining(), Healthy: n.Healthy(), Ejected: n.Ejected(), Cause: n.Cause().String(),
			Starting: o.SlowStart > 0 && n.joined.Load() != 0, Breaker: n.breaker.name(now, &o.NodeBreaker),
			Latency: time.Duration(n.latency.at(now)), InFlight: n.InFlight(), Requests: n.Requests(), Failures: n.Failures(),
		}
	}
	return s
}
