package registry_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/goms-io/goms/pkg/registry"
)

// some returns a node from a small world, so that nodes meet again.
func some(r *rand.Rand) registry.Node {
	n := registry.NewNode(
		[]string{"a", "a_b", "user"}[r.IntN(3)],
		[]string{"a:1", "a:11", "a:1.b:1", "10.0.0.1:1", "10.0.0.1:12"}[r.IntN(5)],
		[]string{"a:1", "a:2"}[r.IntN(2)],
	)
	n.Weight = r.IntN(3)
	return n
}

// TestApplyAgainstModel compares snapshots with a map that is sorted by service and ID.
func TestApplyAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	type id struct{ service, id string }
	model := map[id]registry.Node{}
	var s registry.Snapshot
	for step := range 3000 {
		var put, removed []registry.Node
		for range r.IntN(4) {
			removed = append(removed, some(r))
		}
		for range r.IntN(4) {
			put = append(put, some(r))
		}
		for _, n := range removed {
			delete(model, id{n.Service, n.ID()})
		}
		for _, n := range put {
			model[id{n.Service, n.ID()}] = n
		}
		before, kept := s, slices.Clone(s.Nodes)
		s = s.Apply(int64(step), put, removed)
		want := slices.SortedFunc(maps.Values(model), func(a, b registry.Node) int {
			return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID(), b.ID()))
		})
		if !slices.Equal(s.Nodes, want) || s.Revision != int64(step) {
			t.Fatalf("step %d: Apply(%v, %v) = %v, want %v", step, put, removed, s.Nodes, want)
		}
		if !slices.Equal(before.Nodes, kept) {
			t.Fatalf("step %d: Apply changed the snapshot it was called on", step)
		}
		checkDiff(t, before, s)
		for _, service := range []string{"", "a", "a_b", "b", "user", "z"} {
			var of []registry.Node
			for _, n := range want {
				if n.Service == service {
					of = append(of, n)
				}
			}
			if got := s.Of(service); !slices.Equal(got, of) {
				t.Fatalf("step %d: Of(%q) = %v, want %v", step, service, got, of)
			}
		}
	}
}

func checkDiff(t *testing.T, old, new registry.Snapshot) {
	t.Helper()
	only := func(in, notIn registry.Snapshot) []registry.Node {
		var out []registry.Node
		for _, n := range in.Nodes {
			if !slices.ContainsFunc(notIn.Nodes, func(m registry.Node) bool { return m.Service == n.Service && m.ID() == n.ID() }) {
				out = append(out, n)
			}
		}
		return out
	}
	joined, left := registry.Diff(old, new)
	if !slices.Equal(joined, only(new, old)) || !slices.Equal(left, only(old, new)) {
		t.Fatalf("Diff(%v, %v) = %v, %v", old.Nodes, new.Nodes, joined, left)
	}
}

func TestNewSnapshotCopies(t *testing.T) {
	nodes := []registry.Node{registry.NewNode("b", "a:1", "a:1"), registry.NewNode("a", "a:1", "a:1")}
	s := registry.NewSnapshot(5, nodes)
	nodes[0].Service, nodes[1].Service = "x", "x"
	if s.Revision != 5 || len(s.Nodes) != 2 || s.Nodes[0].Service != "a" || s.Nodes[1].Service != "b" {
		t.Errorf("NewSnapshot() = %+v", s)
	}
	if cap(s.Of("a")) != 1 {
		t.Error("append to Of() would change the snapshot")
	}
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var nodes []registry.Node
			for i := range size {
				nodes = append(nodes, registry.NewNode(fmt.Sprintf("svc%d", i%20), fmt.Sprintf("10.0.%d.%d:1", i/250, 1+i%250), "10.0.0.1:2"))
			}
			s := registry.NewSnapshot(1, nodes)
			one := nodes[size/2 : size/2+1]
			b.ReportAllocs()
			for b.Loop() {
				s.Apply(2, one, nil)
			}
		})
	}
}

func ExampleDiff() {
	a, b := registry.NewNode("user", "10.0.0.1:1", "10.0.0.1:2"), registry.NewNode("user", "10.0.0.2:1", "10.0.0.2:2")
	joined, left := registry.Diff(registry.NewSnapshot(1, []registry.Node{a}), registry.NewSnapshot(2, []registry.Node{b}))
	fmt.Println(joined[0].ID(), "join")
	fmt.Println(left[0].ID(), "leave")
	// Output:
	// 10.0.0.2:1_10.0.0.2:2 join
	// 10.0.0.1:1_10.0.0.1:2 leave
}
