package lb_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

func crowd(n int, weight func(int) int) []lb.Spec {
	set := make([]lb.Spec, n)
	for i := range set {
		set[i] = lb.Spec{ID: fmt.Sprintf("10.0.0.%04d:80", i), Weight: weight(i)}
	}
	return set
}

func equal(int) int { return 1 }

// BenchmarkPick is one choice by each policy.
func BenchmarkPick(b *testing.B) {
	every(b, func(name string, policy lb.Policy) {
		for _, size := range []int{3, 1000} {
			p := lb.NewPool("user", lb.Options{Policy: policy})
			p.Update(crowd(size, equal))
			for _, n := range p.Nodes() {
				p.Answered(n, time.Millisecond, false)
			}
			b.Run(fmt.Sprintf("%s/nodes=%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				for key := uint64(0); b.Loop(); key++ {
					p.Pick(nil, key)
				}
			})
		}
	})
}

// BenchmarkPickAgain is the choice after a node was tried, or while one is ejected.
func BenchmarkPickAgain(b *testing.B) {
	every(b, func(name string, policy lb.Policy) {
		for _, size := range []int{3, 1000} {
			p := lb.NewPool("user", lb.Options{Policy: policy})
			p.Update(crowd(size, equal))
			b.Run(fmt.Sprintf("%s/nodes=%d/tried=1", name, size), func(b *testing.B) {
				b.ReportAllocs()
				for key := uint64(0); b.Loop(); key++ {
					p.Pick(p.Nodes()[:1], key)
				}
			})
		}
		p := lb.NewPool("user", lb.Options{Policy: policy, Eject: lb.Eject{After: 1}})
		p.Update(crowd(3, equal))
		p.Failed(p.Nodes()[0])
		b.Run(name+"/nodes=3/ejected=1", func(b *testing.B) {
			b.ReportAllocs()
			for key := uint64(0); b.Loop(); key++ {
				p.Pick(nil, key)
			}
		})
	})
}

// BenchmarkPickParallel is one choice by each policy, from all cores at once.
func BenchmarkPickParallel(b *testing.B) {
	every(b, func(name string, policy lb.Policy) {
		p := lb.NewPool("user", lb.Options{Policy: policy})
		p.Update(crowd(1000, equal))
		b.Run(name+"/nodes=1000", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for key := uint64(0); pb.Next(); key++ {
					p.Pick(nil, key)
				}
			})
		})
	})
}

// BenchmarkAcquire is a choice with every bound there is.
func BenchmarkAcquire(b *testing.B) {
	for _, size := range []int{3, 1000} {
		p := lb.NewPool("user", lb.Options{
			MaxInFlight: 1000, MaxInFlightPerNode: 100, Adaptive: true,
			Breaker: lb.Breaker{Enabled: true}, NodeBreaker: lb.Breaker{Enabled: true},
		})
		p.Update(crowd(size, equal))
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n, err := p.Acquire(nil, 0)
				if err != nil {
					b.Fatal(err)
				}
				n.End()
			}
		})
	}
	// Shedding must cost less than serving.
	p := lb.NewPool("user", lb.Options{MaxInFlightPerNode: 1})
	p.Update(crowd(1000, equal))
	for _, n := range p.Nodes() {
		n.Begin()
	}
	b.Run("nodes=1000/full", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Acquire(nil, 0); err == nil {
				b.Fatal("a full pool has room")
			}
		}
	})
}

// BenchmarkRequest is all that one request costs: pick, count, report.
func BenchmarkRequest(b *testing.B) {
	p := lb.NewPool("user", lb.Options{})
	p.Update(crowd(3, equal))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n, err := p.Acquire(nil, 0)
			if err != nil {
				b.Error(err)
				return
			}
			p.Answered(n, time.Millisecond, false)
			n.End()
			p.Done(n)
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	for _, c := range []struct {
		name   string
		size   int
		weight func(int) int
	}{
		{"nodes=3", 3, equal},
		{"nodes=1000", 1000, equal},
		{"nodes=1000/weights=1000", 1000, func(i int) int { return i + 1 }},
	} {
		set := crowd(c.size, c.weight)
		p := lb.NewPool("user", lb.Options{})
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Update(set)
			}
		})
	}
	for _, size := range []int{3, 100, 1000} {
		b.Run(fmt.Sprintf("hash/nodes=%d/new", size), func(b *testing.B) {
			for b.Loop() {
				lb.NewPool("user", lb.Options{Policy: lb.Hash{}}).Update(crowd(size, equal))
			}
		})
		b.Run(fmt.Sprintf("hash/nodes=%d/leave-join", size), func(b *testing.B) {
			p := lb.NewPool("user", lb.Options{Policy: lb.Hash{}})
			set := crowd(size, equal)
			p.Update(set)
			for b.Loop() {
				p.Update(set[1:])
				p.Update(set)
			}
		})
	}
}

// BenchmarkTick is what a pool costs ten times a second.
func BenchmarkTick(b *testing.B) {
	for _, size := range []int{3, 10_000} {
		c := newClock()
		p := lb.NewPool("user", lb.Options{Adaptive: true, SlowStart: time.Minute, Now: c.Now})
		p.Update(crowd(size, equal))
		for _, n := range p.Nodes() {
			n.Begin()
		}
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Advance(100 * time.Millisecond)
				p.Tick(nil)
			}
		})
	}
}
