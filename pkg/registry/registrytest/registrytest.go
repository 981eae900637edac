// Package registrytest is the contract of a registry, as a test suite:
//
//	func TestContract(t *testing.T) {
//		registrytest.Run(t, func(t *testing.T) func() registrytest.Registry {
//			m := registry.NewMemory()
//			return func() registrytest.Registry { return m.Open() }
//		})
//	}
//
// It refuses to know what happens when a store fails: each store fails in its own way, and its own tests show it.
package registrytest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// patience bounds every wait for something that must happen.
const patience = 10 * time.Second

// Registry is what a registry can do. Its methods may be called by several goroutines at once, also several Watches; Run is
// called once at a time.
type Registry interface {
	Publish(ctx context.Context, n registry.Node) error
	Withdraw(ctx context.Context, n registry.Node) error
	Watch(ctx context.Context, fn func(registry.Snapshot)) error
	Status() registry.Status
	Run(ctx context.Context) error
	Close() error
}

// Run runs the suite. Each test calls open once, for an empty store of one project, and the function that open returns once for
// each handle on that store. The suite runs and closes the handles; the store is removed with t.Cleanup by open, which happens
// after.
func Run(t *testing.T, open func(t *testing.T) func() Registry) {
	tests := []struct {
		name string
		test func(t *testing.T, s *store)
	}{
		{"first call is the whole set", testFirstCall},
		{"join and leave are seen by both", testJoinLeave},
		{"publish replaces", testReplace},
		{"labels and weight travel", testValues},
		{"invalid node is refused", testInvalid},
		{"withdraw of an unknown node", testWithdrawUnknown},
		{"withdrawn node can come back", testComeBack},
		{"snapshots are sorted and immutable", testImmutable},
		{"burst arrives complete", testBurst},
		{"concurrent use settles", testConcurrent},
		{"several watches on one handle", testTwoWatches},
		{"watch ends with its context", testWatchEnds},
		{"end of run deletes nothing", testRunEnds},
		{"status", testStatus},
		{"close", testClose},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.test(t, &store{t: t, handle: open(t)})
		})
	}
}

func testFirstCall(t *testing.T, s *store) {
	a := s.open()
	if got := a.watch().first(); len(got.Nodes) != 0 {
		t.Fatalf("first snapshot of an empty store = %v, want no nodes", got.Nodes)
	}
	want := []registry.Node{node("user", 1), node("user", 2), node("order_api", 3)}
	for _, n := range want {
		a.publish(n)
	}
	b := s.open()
	got := b.watch().first()
	if want := registry.NewSnapshot(0, want).Nodes; !slices.Equal(got.Nodes, want) {
		t.Fatalf("first snapshot = %v, want %v", got.Nodes, want)
	}
	if got.Revision <= 0 {
		t.Fatalf("first snapshot's revision = %d, want more than 0", got.Revision)
	}
}

func testJoinLeave(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	atA, atB := a.watch(), b.watch()
	a.publish(node("user", 1))
	b.publish(node("user", 2))
	atA.await(node("user", 1), node("user", 2))
	atB.await(node("user", 1), node("user", 2))
	a.withdraw(node("user", 1))
	atA.await(node("user", 2))
	atB.await(node("user", 2))
	b.withdraw(node("user", 2))
	atA.await()
	atB.await()
}

func testReplace(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	n := node("user", 1)
	a.publish(n)
	a.publish(n)
	at.await(n)
	n.State = registry.Draining
	a.publish(n)
	at.await(n)
	n.State = "" // means up
	a.publish(n)
	n.State = registry.Up
	at.await(n)
	a.withdraw(n)
	at.await()
}

func testValues(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	want := []registry.Node{
		{Service: "a_b_c", RPCAddr: "[2001:db8::1]:9180", HTTPAddr: "node-1.example:9080", Weight: 0, State: registry.Up},
		{Service: "user", RPCAddr: "10.0.0.1:1", HTTPAddr: "10.0.0.1:65535", Weight: 1000, Version: "1.2.3 <é>", Zone: `z"1`, State: registry.Draining},
	}
	for _, n := range want {
		a.publish(n)
	}
	at.await(want...)
}

func testInvalid(t *testing.T, s *store) {
	a := s.open()
	at := a.watch()
	bad := node("user", 1)
	bad.HTTPAddr = "nowhere"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Publish(ctx, bad); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Publish of node without port = %v, want its complaint", err)
	}
	a.publish(node("user", 2))
	at.await(node("user", 2))
}

func testWithdrawUnknown(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	a.withdraw(node("user", 1))
	a.publish(node("user", 2))
	at.await(node("user", 2))
}

func testComeBack(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	for range 3 {
		a.publish(node("user", 1))
		at.await(node("user", 1))
		a.withdraw(node("user", 1))
		at.await()
	}
}

func testImmutable(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	type kept struct {
		got  registry.Snapshot
		copy []registry.Node
	}
	var all []kept
	for i := range 20 {
		n := node("user", 1+(i*7)%20)
		a.publish(n)
		got := at.until(func(s registry.Snapshot) bool { return slices.Contains(s.Nodes, n) })
		all = append(all, kept{got, slices.Clone(got.Nodes)})
	}
	for _, k := range all {
		if !slices.Equal(k.got.Nodes, k.copy) {
			t.Fatalf("snapshot at revision %d changed after it was handed out", k.got.Revision)
		}
	}
}

func testBurst(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	var want []registry.Node
	var wg sync.WaitGroup
	for i := range 60 {
		n := node(fmt.Sprintf("svc%d", i%3), i+1)
		want = append(want, n)
		wg.Go(func() { a.publish(n) })
	}
	wg.Wait()
	at.await(want...)
	for _, n := range want[10:] {
		wg.Go(func() { a.withdraw(n) })
	}
	wg.Wait()
	at.await(want[:10]...)
}

func testConcurrent(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	at := b.watch()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for range 10 {
				n := node("user", 1+rand.IntN(5))
				n.Weight = g
				if rand.IntN(2) == 0 {
					a.publish(n)
				} else {
					a.withdraw(n)
				}
				a.Status()
			}
		})
	}
	wg.Wait()
	var want []registry.Node
	for i := range 5 {
		n := node("user", 1+i)
		if i%2 == 0 {
			a.publish(n)
			want = append(want, n)
		} else {
			a.withdraw(n)
		}
	}
	at.await(want...)
}

func testTwoWatches(t *testing.T, s *store) {
	a := s.open()
	one, two := a.watch(), a.watch()
	a.publish(node("user", 1))
	one.await(node("user", 1))
	two.await(node("user", 1))
	one.stop()
	a.publish(node("user", 2))
	two.await(node("user", 1), node("user", 2))
}

func testWatchEnds(t *testing.T, s *store) {
	a := s.open()
	w := a.watch()
	w.first()
	w.stop()
	if !errors.Is(w.err, context.Canceled) {
		t.Fatalf("Watch = %v, want %v", w.err, context.Canceled)
	}
	calls := w.calls
	a.publish(node("user", 1))
	a.watch().await(node("user", 1))
	if w.calls != calls {
		t.Fatal("Watch called fn after it returned")
	}
}

func testRunEnds(t *testing.T, s *store) {
	a, b := s.open(), s.open()
	a.publish(node("user", 1))
	a.stop()
	if !errors.Is(a.err, context.Canceled) {
		t.Fatalf("Run = %v, want %v", a.err, context.Canceled)
	}
	if got := b.watch().first(); len(got.Nodes) != 1 {
		t.Fatalf("nodes after Run ended = %v, want the published one", got.Nodes)
	}
}

func testStatus(t *testing.T, s *store) {
	a := s.open()
	before := time.Now()
	at := a.watch()
	a.publish(node("user", 1))
	at.await(node("user", 1))
	st := a.Status()
	if !st.Connected || st.LastContact.Before(before.Add(-time.Second)) || st.Revision <= 0 || st.Resyncs == nil || st.Ignored != 0 {
		t.Fatalf("Status() = %+v, want connected, recent, with a revision and counters", st)
	}
	st.Resyncs["mine"] = 1
	if a.Status().Resyncs["mine"] != 0 {
		t.Fatal("Status().Resyncs is shared, want a copy")
	}
}

func testClose(t *testing.T, s *store) {
	a := s.open()
	w := a.watch()
	w.first()
	for range 2 {
		if err := a.Close(); err != nil {
			t.Fatalf("Close() = %v", err)
		}
	}
	<-w.done
	<-a.done
	ctx := t.Context()
	for name, err := range map[string]error{
		"running Watch": w.err,
		"running Run":   a.err,
		"Watch":         a.Watch(ctx, func(registry.Snapshot) { t.Error("Watch called fn after Close") }),
		"Run":           a.Run(ctx),
		"Publish":       a.Publish(ctx, node("user", 1)),
		"Withdraw":      a.Withdraw(ctx, node("user", 1)),
	} {
		if !errors.Is(err, registry.ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", name, err, registry.ErrClosed)
		}
	}
	if a.Status().Connected {
		t.Error("Status().Connected after Close = true")
	}
}

// node returns a node with defaults on an address of its own.
func node(service string, i int) registry.Node {
	return registry.NewNode(service, fmt.Sprintf("10.0.0.1:%d", 20000+i), fmt.Sprintf("10.0.0.1:%d", 10000+i))
}
