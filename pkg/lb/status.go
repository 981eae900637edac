package lb

// Status is what a pool is and has done, at about one moment.
type Status struct {
	// PollNext is the place in Nodes of the node that the next Pick(nil) returns; 0
	// when it returns nil.
	PollNext int
	// Nodes are all nodes of the pool, sorted by ID.
	Nodes []NodeStatus
	// RequestFinish counts the finished requests of the pool, also on nodes that have
	// left.
	RequestFinish int64
}

// NodeStatus is what one node is and has done.
type NodeStatus struct {
	ID, Addr string
	Weight   int
	Draining bool
	Ejected  bool
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
	s := Status{Nodes: make([]NodeStatus, len(st.nodes)), RequestFinish: p.finished.Load()}
	if n := p.upcoming(st); n != nil {
		s.PollNext, _ = find(st.nodes, n.id)
	}
	for i, n := range st.nodes {
		s.Nodes[i] = NodeStatus{
			ID: n.id, Addr: n.addr,
			Weight: n.Weight(), Draining: n.Draining(), Ejected: n.Ejected(),
			InFlight: n.InFlight(), Requests: n.Requests(), Failures: n.Failures(),
		}
	}
	return s
}
