package lb_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// every policy, by name.
func every(t testing.TB, f func(name string, p lb.Policy)) {
	t.Helper()
	for _, name := range lb.PolicyNames() {
		p, err := lb.ParsePolicy(name)
		if err != nil || p.String() != name {
			t.Fatalf("ParsePolicy(%q) = %v, %v", name, p, err)
		}
		f(name, p)
	}
}

func with(t testing.TB, p lb.Policy, nodes string) *lb.Pool {
	t.Helper()
	pool := lb.NewPool("user", lb.Options{Policy: p})
	pool.Update(specs(t, nodes))
	return pool
}

func TestParsePolicyNamesWhatThereIs(t *testing.T) {
	_, err := lb.ParsePolicy("fastest")
	if err == nil {
		t.Fatal("ParsePolicy(fastest) succeeds")
	}
	for _, part := range append(lb.PolicyNames(), `"fastest"`) {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %s", err, part)
		}
	}
}

// TestDistribution picks with nothing in flight and nothing known of latencies.
func TestDistribution(t *testing.T) {
	const n = 100_000
	f := func(p lb.Policy, nodes string, want map[string]float64) {
		t.Helper()
		pool := with(t, p, nodes)
		got := map[string]int{}
		for i := range n {
			got[pool.Pick(nil, uint64(i)).ID()]++
		}
		for id, share := range want {
			if s := float64(got[id]) / n; math.Abs(s-share) > 0.05*share {
				t.Errorf("%s among %s: %s has %.4f of the picks, want %.4f", p, nodes, id, s, share)
			}
		}
		if len(got) > len(want) {
			t.Errorf("%s among %s: picks = %v, want only %v", p, nodes, got, want)
		}
	}
	equal := map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3}
	weighted := map[string]float64{"a": 5. / 7, "b": 1. / 7, "c": 1. / 7}
	every(t, func(name string, p lb.Policy) {
		f(p, "a b c", equal)
		f(p, "a b c d*0 e! f?", equal)
		if name == "random" {
			f(p, "a*5 b c", equal)
			return
		}
		f(p, "a*5 b c", weighted)
		f(p, "a*500 b*100 c*100", weighted)
	})
}

func TestEveryPolicyLeavesOutTheTried(t *testing.T) {
	every(t, func(name string, p lb.Policy) {
		for _, size := range []int{1, 3, 9, 40} {
			pool := lb.NewPool("user", lb.Options{Policy: p})
			if pool.Pick(nil, 1) != nil || pool.Pick(make([]*lb.Node, 1), 1) != nil {
				t.Errorf("%s: Pick() of an empty pool is not nil", name)
			}
			pool.Update(crowd(size, func(i int) int { return i%3 + 1 }))
			for key := range uint64(50) {
				var tried []*lb.Node
				seen := map[*lb.Node]bool{}
				for range size {
					n := pool.Pick(tried, key)
					if n == nil || seen[n] {
						t.Fatalf("%s, %d nodes: Pick() with %d tried = %s", name, size, len(tried), show(n))
					}
					seen[n] = true
					tried = append(tried, n)
				}
				if n := pool.Pick(tried, key); n != nil {
					t.Fatalf("%s: Pick() with all tried = %s, want nil", name, n.ID())
				}
			}
		}
	})
}

func show(n *lb.Node) string { return name(n) }

// TestTriedIsSharedOut: what a tried node does not get goes to the others alike.
func TestTriedIsSharedOut(t *testing.T) {
	every(t, func(name string, p lb.Policy) {
		pool := with(t, p, "a b c")
		tried := []*lb.Node{node(t, pool, "a")}
		got := map[string]int{}
		for key := range uint64(10_000) {
			got[pool.Pick(tried, key).ID()]++
		}
		if name == "roundRobin" || name == "leastRequests" {
			// The turn passes to the next node, so that one of them has both.
			return
		}
		if d := got["b"] - got["c"]; d < -500 || d > 500 {
			t.Errorf("%s without a: picks = %v, want b and c alike", name, got)
		}
	})
}

func TestEveryPolicyUnderConcurrentChange(t *testing.T) {
	every(t, func(name string, p lb.Policy) {
		pool := lb.NewPool("user", lb.Options{
			Policy: p, MaxInFlightPerNode: 3, MaxInFlight: 12, Adaptive: true, SlowStart: time.Second, Zone: "x",
			Breaker: lb.Breaker{Enabled: true}, NodeBreaker: lb.Breaker{Enabled: true},
		})
		pool.Update(specs(t, "a@x b@y c d? e!"))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for k := uint64(i); ; k += 4 {
					select {
					case <-stop:
						return
					default:
					}
					n, err := pool.Acquire(nil, k)
					if err != nil {
						continue
					}
					if k%16 == 0 {
						pool.Failed(n)
					} else {
						pool.Answered(n, time.Duration(k%1000)*time.Microsecond, k%8 == 0)
					}
					if again, err := pool.Acquire([]*lb.Node{n}, k); err == nil {
						if again == n {
							t.Errorf("%s: Acquire(tried) = a tried node", name)
						}
						again.End()
					}
					if k%64 < 4 {
						pool.SetHealth(n, k%128 < 64)
					}
					n.End()
					pool.Done(n)
				}
			})
		}
		for i := range 100 {
			pool.Update(specs(t, []string{"a@x b@y c d? e!", "a@x b*3@y c", "b@y c! d?", "a*0@x c"}[i%4]))
			pool.Tick(nil)
			pool.Status()
			if i%10 == 0 {
				pool.Configure(lb.Options{Policy: p, MaxInFlightPerNode: 2, Breaker: lb.Breaker{Enabled: i%20 == 0}})
			}
		}
		close(stop)
		wg.Wait()
		if s := pool.Status(); s.InFlight != 0 {
			t.Errorf("%s: %d in flight at the end, want 0", name, s.InFlight)
		}
		for _, n := range pool.Nodes() {
			if n.InFlight() != 0 {
				t.Errorf("%s: node %s has %d in flight at the end, want 0", name, n.ID(), n.InFlight())
			}
		}
	})
}

func TestLeastRequests(t *testing.T) {
	pool := with(t, lb.LeastRequests{}, "a b c")
	a, b := node(t, pool, "a"), node(t, pool, "b")
	a.Begin()
	b.Begin()
	for range 5 {
		if got := name(pool.Pick(nil, 0)); got != "c" {
			t.Errorf("Pick() = %s, want c, which alone is idle", got)
		}
	}
	a.End()
	b.End()
	wantPicks(t, pool, strings.Join([]string{"c", "a", "b"}, " ")) // five turns were taken

	// By weight: a may have four times as many.
	pool = with(t, lb.LeastRequests{}, "a*4 b")
	for range 100 {
		pool.Pick(nil, 0).Begin()
	}
	if got := node(t, pool, "a").InFlight(); got != 80 {
		t.Errorf("a*4 has %d of 100 in flight, want 80", got)
	}

	// Of many nodes a busy one is avoided nearly always.
	pool = lb.NewPool("user", lb.Options{Policy: lb.LeastRequests{}})
	pool.Update(crowd(100, equal))
	busy := pool.Nodes()[7]
	busy.Begin()
	hits := 0
	for range 10_000 {
		if pool.Pick(nil, 0) == busy {
			hits++
		}
	}
	if hits > 20 {
		t.Errorf("the busy one of 100 nodes had %d of 10,000 picks, want hardly any", hits)
	}
}

func TestP2C(t *testing.T) {
	c := newClock()
	pool := lb.NewPool("user", lb.Options{Policy: lb.P2C{}, Now: c.Now, Eject: lb.Eject{Slow: -1}})
	pool.Update(specs(t, "a b c"))
	share := func(id string) float64 {
		const n = 20_000
		hits := 0
		for range n {
			if pool.Pick(nil, 0).ID() == id {
				hits++
			}
		}
		return float64(hits) / n
	}
	for _, n := range pool.Nodes() {
		pool.Answered(n, 10*time.Millisecond, false)
	}
	a := node(t, pool, "a")
	pool.Answered(a, 100*time.Millisecond, false)
	// A slow node is taken only when it is drawn twice.
	if s := share("a"); s < 0.09 || s > 0.13 {
		t.Errorf("the slow node has %.3f of the picks, want 1/9", s)
	}
	// One good answer does not hide it; time does.
	pool.Answered(a, 10*time.Millisecond, false)
	if s := share("a"); s > 0.13 {
		t.Errorf("after one quick answer the slow node has %.3f of the picks, want 1/9", s)
	}
	c.Advance(5 * time.Minute)
	pool.Answered(node(t, pool, "b"), 50*time.Millisecond, false)
	pool.Answered(node(t, pool, "c"), 50*time.Millisecond, false)
	if s := share("a"); s < 0.4 {
		t.Errorf("a node that was slow long ago has %.3f of the picks, want it asked again", s)
	}
	// In flight counts as time.
	pool = with(t, lb.P2C{}, "a b")
	for range 1000 {
		pool.Pick(nil, 0).Begin()
	}
	if got := node(t, pool, "a").InFlight(); got < 480 || got > 520 {
		t.Errorf("a has %d of 1000 in flight, want about half", got)
	}
	// A node that fails quickly does not look quick.
	pool = with(t, lb.P2C{}, "a b")
	for range 50 {
		pool.Answered(node(t, pool, "b"), 20*time.Millisecond, false)
		pool.Answered(node(t, pool, "a"), 20*time.Millisecond, false)
		pool.Answered(node(t, pool, "a"), time.Millisecond, true)
	}
	if s := pool.Status(); s.Nodes[0].Latency < s.Nodes[1].Latency {
		t.Errorf("latency of the failing node = %v, below %v", s.Nodes[0].Latency, s.Nodes[1].Latency)
	}
}

func TestWeightedPoolsKeepTheTurnAcrossPolicies(t *testing.T) {
	p := pool(t, "a b c")
	wantPicks(t, p, "a b")
	p.Configure(lb.Options{Policy: lb.LeastRequests{}})
	wantPicks(t, p, "c a")
	p.Configure(lb.Options{})
	wantPicks(t, p, "b c")
	p.Configure(lb.Options{Policy: lb.Random{}})
	if s := p.Status(); s.Policy != "random" || s.PollNext != 0 {
		t.Errorf("Status() = %+v, want random, which does not know who is next", s)
	}
}

func ExampleParsePolicy() {
	_, err := lb.ParsePolicy("rr")
	fmt.Println(err)
	// Output:
	// "rr" is no policy: there are roundRobin, random, weightedRandom, leastRequests, p2c, hash
}

// TestFurtherAttemptsTakeNoTurn: that what fails on one node goes on at the other leaves the next request where it was due.
func TestFurtherAttemptsTakeNoTurn(t *testing.T) {
	for _, policy := range []lb.Policy{lb.RoundRobin{}, lb.LeastRequests{}} {
		p := lb.NewPool("user", lb.Options{Policy: policy})
		p.Update([]lb.Spec{{ID: "a", Addr: "a:1", Weight: 1}, {ID: "b", Addr: "b:1", Weight: 1}, {ID: "c", Addr: "c:1", Weight: 1}})
		first, second := map[string]int{}, map[string]int{}
		for range 300 {
			n := p.Pick(nil, 0)
			first[n.ID()]++
			if n.ID() == "a" { // which fails
				second[p.Pick([]*lb.Node{n}, 0).ID()]++
			}
		}
		if first["a"] != 100 || first["b"] != 100 || first["c"] != 100 {
			t.Errorf("%v: first attempts go to %v, want 100 to each", policy, first)
		}
		if second["a"] != 0 || second["b"] < 30 || second["c"] < 30 {
			t.Errorf("%v: further attempts go to %v, want some to each of b and c", policy, second)
		}
	}
}
