package etcd_test

import (
	"slices"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestNodesComeBackOneByOne has all nodes of a service lose their leases for longer than any node whose lease ends is kept, and register
// again one after the other, as they do when the right to is given back. Nobody leaves meanwhile; who does not come back does.
func TestNodesComeBackOneByOne(t *testing.T) {
	t.Parallel()
	const grace, nodes = 4 * time.Second, 5
	w := etcd.NewView(project, grace)
	var all []registry.Node
	revision := int64(0)
	for i := range nodes {
		revision++
		w.Lend(node(i), revision)
		all = append(all, node(i))
	}
	all = registry.NewSnapshot(0, all).Nodes
	for i := range nodes {
		revision++
		w.End(node(i), revision)
	}
	w.Pass(10 * grace)
	for i := range nodes - 1 {
		revision++
		w.Lend(node(i), revision)
		w.Pass(700 * time.Millisecond)
		if got := w.Nodes(); !slices.Equal(got, all) {
			t.Fatalf("after %d of %d have come back the nodes are %v, want all", i+1, nodes, got)
		}
	}
	w.Pass(2 * grace)
	if got := w.Nodes(); len(got) != nodes-1 || slices.Contains(got, node(nodes-1)) {
		t.Errorf("in the end the nodes are %v, want those that came back", got)
	}
}
