package lb_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// acquire takes n nodes and reports how many it got.
func acquire(p *lb.Pool, n int) (got []*lb.Node, err error) {
	for range n {
		var node *lb.Node
		if node, err = p.Acquire(nil, 0); err != nil {
			return got, err
		}
		got = append(got, node)
	}
	return got, nil
}

func TestAcquire(t *testing.T) {
	p := pool(t, "")
	if _, err := p.Acquire(nil, 0); err != lb.ErrNoNode {
		t.Errorf("Acquire() of an empty pool = %v, want ErrNoNode", err)
	}
	p.Update(specs(t, "a b*0"))
	n, err := p.Acquire(nil, 0)
	if err != nil || n.ID() != "a" || n.InFlight() != 1 || p.Status().InFlight != 1 {
		t.Fatalf("Acquire() = %s, %v with %+v, want a in flight", name(n), err, p.Status())
	}
	if _, err := p.Acquire([]*lb.Node{n}, 0); err != lb.ErrNoNode {
		t.Errorf("Acquire() with all tried = %v, want ErrNoNode", err)
	}
	n.End()
	if s := p.Status(); s.InFlight != 0 || s.Refused != 0 || s.Nodes[0].InFlight != 0 {
		t.Errorf("Status() = %+v, want nothing in flight, nothing refused", s)
	}
}

func TestBoundsOfNodes(t *testing.T) {
	every(t, func(name string, policy lb.Policy) {
		p := lb.NewPool("user", lb.Options{Policy: policy, MaxInFlightPerNode: 2})
		p.Update(specs(t, "a*5 b c!"))
		got, err := acquire(p, 6)
		if err != nil {
			t.Fatalf("%s: %v with %d in flight, want room for 6", name, err, len(got))
		}
		count := map[string]int{}
		for _, n := range got {
			count[n.ID()]++
		}
		if count["a"] != 2 || count["b"] != 2 || count["c"] != 2 {
			t.Errorf("%s: in flight %v, want 2 each", name, count)
		}
		if _, err := p.Acquire(nil, 0); !errors.Is(err, lb.ErrOverloaded) {
			t.Errorf("%s: Acquire() of a full pool = %v, want ErrOverloaded", name, err)
		}
		if s := p.Status(); s.InFlight != 6 || s.Refused != 1 {
			t.Errorf("%s: Status() = %+v, want 6 in flight and 1 refused", name, s)
		}
		got[0].End()
		if n, err := p.Acquire(nil, 0); n != got[0] {
			t.Errorf("%s: Acquire() = %v, want the node with room", name, err)
		}
	})
}

func TestBoundOfThePool(t *testing.T) {
	p := lb.NewPool("user", lb.Options{MaxInFlight: 3})
	p.Update(specs(t, "a b"))
	got, err := acquire(p, 4)
	if len(got) != 3 || err != lb.ErrOverloaded {
		t.Fatalf("Acquire() gave %d, %v, want 3 and ErrOverloaded", len(got), err)
	}
	// What began before a bound was set counts.
	p.Configure(lb.Options{MaxInFlight: 2})
	got[0].End()
	if _, err := p.Acquire(nil, 0); err != lb.ErrOverloaded {
		t.Errorf("Acquire() with 2 of 2 in flight = %v, want ErrOverloaded", err)
	}
	got[1].End()
	if _, err := p.Acquire(nil, 0); err != nil {
		t.Errorf("Acquire() with 1 of 2 in flight = %v", err)
	}
}

func TestBoundsAreExact(t *testing.T) {
	p := lb.NewPool("user", lb.Options{MaxInFlightPerNode: 3, MaxInFlight: 5})
	p.Update(specs(t, "a b"))
	var most, served atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 2000 {
				n, err := p.Acquire(nil, 0)
				if err != nil {
					continue
				}
				served.Add(1)
				if v := n.InFlight(); v > 3 {
					most.Store(v)
				}
				n.End()
			}
		})
	}
	wg.Wait()
	if most.Load() > 0 || served.Load() == 0 {
		t.Errorf("a node had %d in flight, want 3 at most; %d served", most.Load(), served.Load())
	}
	if s := p.Status(); s.InFlight != 0 {
		t.Errorf("%d in flight at the end, want 0", s.InFlight)
	}
}

func TestNodeBreaker(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{
		Now: c.Now, Eject: lb.Eject{After: -1, Rate: -1},
		NodeBreaker: lb.Breaker{Enabled: true, Rate: 50, Minimum: 4, Pause: time.Second},
	})
	p.Update(specs(t, "a b"))
	a := node(t, p, "a")
	state := func(want string) {
		t.Helper()
		if got := p.Status().Nodes[0].Breaker; got != want {
			t.Fatalf("breaker of a is %s, want %s", got, want)
		}
	}
	p.Succeeded(a)
	p.Succeeded(a)
	p.Failed(a)
	state("closed")
	p.Answered(a, 0, true)
	state("open")
	for range 4 {
		if n, err := p.Acquire(nil, 0); err != nil || n == a {
			t.Fatalf("Acquire() = %s, %v, want b: a's breaker is open", name(n), err)
		}
	}
	if _, err := p.Acquire([]*lb.Node{node(t, p, "b")}, 0); err != lb.ErrOverloaded {
		t.Errorf("Acquire() with b tried = %v, want ErrOverloaded: a breaker is kept", err)
	}
	p.Succeeded(a) // of an attempt from before
	state("open")
	c.Advance(time.Second)
	state("half-open")
	hits := 0
	for range 10 {
		if n, _ := p.Acquire(nil, 0); n == a {
			hits++
		}
	}
	if hits != 1 {
		t.Errorf("a half-open breaker let %d pass, want 1", hits)
	}
	p.Failed(a)
	state("open")
	c.Advance(time.Second)
	acquire(p, 4)
	p.Succeeded(a)
	state("closed")
	p.Failed(a) // the window is empty again
	state("closed")
}

func TestPoolBreaker(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{Now: c.Now, Breaker: lb.Breaker{Enabled: true, Minimum: 10, Pause: 2 * time.Second}})
	p.Update(specs(t, "a"))
	a := node(t, p, "a")
	for range 10 {
		p.Answered(a, time.Millisecond, true)
	}
	if _, err := p.Acquire(nil, 0); err != lb.ErrOverloaded || p.Status().Breaker != "open" {
		t.Fatalf("Acquire() = %v, breaker %s, want it open", err, p.Status().Breaker)
	}
	c.Advance(2 * time.Second)
	if _, err := p.Acquire(nil, 0); err != nil {
		t.Fatalf("Acquire() of a half-open breaker = %v", err)
	}
	if _, err := p.Acquire(nil, 0); err != lb.ErrOverloaded {
		t.Fatalf("second Acquire() of a half-open breaker = %v, want ErrOverloaded", err)
	}
	p.Succeeded(a)
	if _, err := p.Acquire(nil, 0); err != nil || p.Status().Breaker != "closed" {
		t.Errorf("Acquire() = %v, breaker %s, want it closed", err, p.Status().Breaker)
	}
	// Old failures leave the window.
	for range 9 {
		p.Answered(a, 0, true)
	}
	c.Advance(time.Minute)
	p.Answered(a, 0, true)
	if got := p.Status().Breaker; got != "closed" {
		t.Errorf("breaker = %s, want closed: nine failures are a minute old", got)
	}
}

func TestBoundedPathAllocatesNothing(t *testing.T) {
	every(t, func(name string, policy lb.Policy) {
		p := lb.NewPool("user", lb.Options{
			Policy: policy, MaxInFlight: 100, MaxInFlightPerNode: 50, Adaptive: true, Zone: "x",
			Breaker: lb.Breaker{Enabled: true}, NodeBreaker: lb.Breaker{Enabled: true},
		})
		p.Update(specs(t, "a@x b c*3 d? e!"))
		if got := testing.AllocsPerRun(1000, func() {
			n, err := p.Acquire(nil, 7)
			if err != nil {
				t.Fatal(err)
			}
			again, err := p.Acquire([]*lb.Node{n}, 7)
			if err != nil {
				t.Fatal(err)
			}
			p.Answered(n, time.Millisecond, false)
			p.Done(n)
			n.End()
			again.End()
		}); got != 0 {
			t.Errorf("%s: %v allocations, want 0", name, got)
		}
	})
}

// shed runs an adaptive pool of two nodes through intervals of half a second: each has
// the given number in flight at most, and answers of the given time.
func shed(p *lb.Pool, c *clock, intervals, load int, quickest time.Duration) (refused int) {
	for range intervals {
		var got []*lb.Node
		for range load {
			n, err := p.Acquire(nil, 0)
			if err != nil {
				refused++
				continue
			}
			got = append(got, n)
		}
		for i, n := range got {
			p.Answered(n, quickest*time.Duration(1+i%5), false)
			n.End()
		}
		c.Advance(500 * time.Millisecond)
		p.Tick(nil)
	}
	return refused
}

func TestAdaptive(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{Adaptive: true, Now: c.Now})
	p.Update(specs(t, "a b"))
	if n := shed(p, c, 20, 200, 2*time.Millisecond); n != 0 {
		t.Fatalf("%d refused in normal operation, want 0", n)
	}
	// Slow answers beside quick ones are no queue.
	for range 10 {
		for range 20 {
			n, _ := p.Acquire(nil, 0)
			p.Answered(n, 3*time.Second, false)
			n.End()
		}
		if n := shed(p, c, 1, 200, 2*time.Millisecond); n != 0 {
			t.Fatalf("%d refused beside slow requests, want 0", n)
		}
	}
	if p.Configure(lb.Options{}); shed(p, c, 1, 1, time.Second) != 0 || p.Status().Limit != 0 {
		t.Error("a limit is kept after adaptive was turned off")
	}
}
