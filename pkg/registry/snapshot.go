package registry

import (
	"cmp"
	"slices"
	"strings"
)

// Snapshot is the whole set of nodes of a project at one moment. It is immutable and shared: nobody changes Nodes.
type Snapshot struct {
	// Revision grows with each change of the store. It goes back only when the store itself was restored or emptied.
	Revision int64
	// Nodes are sorted by Service, then by ID, and each pair occurs once.
	Nodes []Node
}

// NewSnapshot returns a snapshot of nodes, which it copies and sorts. Of nodes with the same Service and ID the last one stays.
func NewSnapshot(revision int64, nodes []Node) Snapshot {
	return Snapshot{}.Apply(revision, nodes, nil)
}

// Of returns the nodes of one service, sorted by ID; empty when there are none. It is part of the snapshot: do not change it.
func (s Snapshot) Of(service string) []Node {
	i, _ := slices.BinarySearchFunc(s.Nodes, service, func(n Node, name string) int { return strings.Compare(n.Service, name) })
	j := i
	for j < len(s.Nodes) && s.Nodes[j].Service == service {
		j++
	}
	return s.Nodes[i:j:j]
}

// Apply returns a new snapshot at revision: s with the nodes of put added, or replaced where Service and ID are known, and
// without the nodes of removed, of which only Service and ID matter. Of the same node twice in put the last one counts; a node
// in both is put. s is not changed.
func (s Snapshot) Apply(revision int64, put, removed []Node) Snapshot {
	type change struct {
		node Node
		put  bool
	}
	changes := make([]change, 0, len(put)+len(removed))
	for _, n := range removed {
		changes = append(changes, change{n, false})
	}
	for _, n := range put {
		changes = append(changes, change{n, true})
	}
	slices.SortStableFunc(changes, func(a, b change) int { return compare(a.node, b.node) })

	out, old := make([]Node, 0, len(s.Nodes)+len(put)), s.Nodes
	for i, c := range changes {
		if i+1 < len(changes) && compare(c.node, changes[i+1].node) == 0 {
			continue // a later change of the same node counts
		}
		at, known := slices.BinarySearchFunc(old, c.node, compare)
		out = append(out, old[:at]...)
		if c.put {
			out = append(out, c.node)
		}
		if known {
			at++
		}
		old = old[at:]
	}
	return Snapshot{Revision: revision, Nodes: append(out, old...)}
}

// Diff returns the nodes that are in new but not in old, and those that are in old but not in new, told apart by Service and ID.
// A node whose weight, labels or state changed is in neither.
func Diff(old, new Snapshot) (joined, left []Node) {
	a, b := old.Nodes, new.Nodes
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) == 0:
			return append(joined, b...), left
		case len(b) == 0:
			return joined, append(left, a...)
		}
		switch c := compare(a[0], b[0]); {
		case c < 0:
			left, a = append(left, a[0]), a[1:]
		case c > 0:
			joined, b = append(joined, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return joined, left
}

// compare orders nodes by Service, then by ID, without building the IDs.
func compare(a, b Node) int {
	if c := strings.Compare(a.Service, b.Service); c != 0 {
		return c
	}
	if a.RPCAddr == b.RPCAddr {
		return strings.Compare(a.HTTPAddr, b.HTTPAddr)
	}
	// The byte after the shorter address is the underscore of its ID.
	x, y := a.RPCAddr, b.RPCAddr
	n := min(len(x), len(y))
	if c := strings.Compare(x[:n], y[:n]); c != 0 {
		return c
	}
	if len(x) == n && y[n] != '_' {
		return cmp.Compare('_', y[n])
	}
	if len(y) == n && x[n] != '_' {
		return cmp.Compare(x[n], '_')
	}
	return strings.Compare(a.ID(), b.ID())
}
