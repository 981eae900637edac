package lb_test

import (
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// says lets a node answer one of the pool's attempts with a load, n times.
func says(p *lb.Pool, node *lb.Node, load, n int) {
	for range n {
		node.Begin()
		p.Heed(node, lb.Report{Load: load})
		p.Answered(node, 10*time.Millisecond, false)
		node.End()
	}
}

// TestLoadOfOthers: what a node has of other gateways counts like what it has of this one.
func TestLoadOfOthers(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{Policy: lb.LeastRequests{}, Now: c.Now})
	p.Update(specs(t, "a b c"))
	a, b := node(t, p, "a"), node(t, p, "b")
	// begin has n attempts begun and returns how many a has of them.
	begin := func(n int) (onA int64) {
		t.Helper()
		before := a.InFlight()
		var begun []*lb.Node
		for range n {
			node := p.Pick(nil, 0)
			node.Begin()
			begun = append(begun, node)
		}
		onA = a.InFlight() - before
		for _, node := range begun {
			node.End()
		}
		return onA
	}
	if got := begin(30); got != 10 {
		t.Errorf("a has %d of 30 without news, want 10", got)
	}
	says(p, a, 12, 2)
	if got := begin(24); got != 0 {
		t.Errorf("a, which has 12 of others, has %d of the next 24, want none: all are even then", got)
	}
	if got := begin(36); got != 4 {
		t.Errorf("a, which has 12 of others, has %d of 36, want 4", got)
	}
	// What this pool sent it is not counted twice.
	for range 5 {
		b.Begin()
	}
	says(p, b, 5, 2)
	for range 5 {
		b.End()
	}
	if got := begin(24); got != 0 {
		t.Errorf("with its own 5 reported by b, a has %d of 24, want 0: b has none of others", got)
	}
	// A single answer is no proof: it may have been overtaken by others.
	says(p, a, 0, 1)
	if got := begin(30); got != 10 {
		t.Errorf("a, which is idle, has %d of 30, want 10", got)
	}
	says(p, a, 12, 1)
	if got := begin(30); got != 10 {
		t.Errorf("a has %d of 30 after one answer that says 12, want 10", got)
	}
	says(p, a, 12, 1)
	// It is forgotten, or a node that is not asked would never be asked again.
	for i, want := range []int64{0, 4, 6, 7, 8, 8} {
		if got := begin(24); got < want || got > want+1 {
			t.Errorf("%d s later a has %d of 24, want about %d", i, got, want)
		}
		c.Advance(time.Second)
		p.Tick(nil)
	}
	// Weights count.
	p.Update(specs(t, "a*4 b c"))
	says(p, a, 40, 2)
	if got := begin(20); got != 0 {
		t.Errorf("a*4 with 40 of others has %d of 20, want 0: the rest has 10 for each of its weight then", got)
	}
	if got := begin(80); got != 40 {
		t.Errorf("a*4 with 40 of others has %d of 80, want 40", got)
	}
	// Absurd words do no harm.
	says(p, a, 999_999_999, 2)
	if got := begin(100); got != 0 {
		t.Errorf("a node with a billion requests has %d of 100, want none", got)
	}
}

func TestLoadOfOthersP2C(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{Policy: lb.P2C{}, Now: c.Now})
	p.Update(specs(t, "a b c"))
	for _, n := range p.Nodes() {
		says(p, n, 0, 2)
	}
	says(p, node(t, p, "a"), 3, 2)
	if s := shares(p)["a"]; s < 0.09 || s > 0.13 {
		t.Errorf("a node that has 3 of others has %.3f of the picks, want 1/9: only when it is drawn twice", s)
	}
	c.Advance(5 * time.Second)
	p.Tick(nil)
	if s := shares(p)["a"]; s < 0.3 || s > 0.37 {
		t.Errorf("five seconds later it has %.3f of the picks, want 1/3", s)
	}
}

// TestLoadOfOthersEvensOut: two gateways of which one is busy share nodes with each other.
func TestLoadOfOthersEvensOut(t *testing.T) {
	for _, policy := range []lb.Policy{lb.LeastRequests{}, lb.P2C{}} {
		c := newClock()
		busy := lb.NewPool("user", lb.Options{Policy: lb.Hash{}, Now: c.Now}) // all at one node
		calm := lb.NewPool("user", lb.Options{Policy: policy, Now: c.Now})
		busy.Update(specs(t, "a b c d"))
		calm.Update(specs(t, "a b c d"))
		load := map[string]int{}
		hot := busy.Pick(nil, 1).ID()
		for range 20 {
			busy.Pick(nil, 1).Begin()
			load[hot]++
		}
		hits := 0
		for i := range 2000 {
			n := calm.Pick(nil, 0)
			n.Begin()
			if n.ID() == hot && i >= 100 {
				hits++
			}
			calm.Heed(n, lb.Report{Load: load[n.ID()]})
			calm.Answered(n, 10*time.Millisecond, false)
			n.End()
			c.Advance(time.Millisecond)
		}
		if hits > 200 {
			t.Errorf("%s: the node that another gateway keeps busy has %d of 1900, want few", policy, hits)
		}
	}
}

func TestLoadAllocatesNothing(t *testing.T) {
	for _, policy := range []lb.Policy{lb.LeastRequests{}, lb.P2C{}} {
		p := lb.NewPool("user", lb.Options{Policy: policy})
		p.Update(specs(t, "a b c"))
		if n := testing.AllocsPerRun(1000, func() {
			node := p.Pick(nil, 0)
			says(p, node, 7, 1)
		}); n != 0 {
			t.Errorf("%s: %v allocations an answer, want 0", policy, n)
		}
	}
}
