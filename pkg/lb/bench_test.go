package lb_test

import (
	"fmt"
	"testing"

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

func BenchmarkPick(b *testing.B) {
	for _, size := range []int{3, 1000} {
		p := lb.NewPool("user", lb.Options{})
		p.Update(crowd(size, equal))
		b.Run(fmt.Sprintf("nodes=%d/serial", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Pick(nil)
			}
		})
		b.Run(fmt.Sprintf("nodes=%d/parallel", size), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p.Pick(nil)
				}
			})
		})
		b.Run(fmt.Sprintf("nodes=%d/tried", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Pick(p.Nodes()[:1])
			}
		})
	}
	p := lb.NewPool("user", lb.Options{EjectAfter: 1})
	p.Update(crowd(3, equal))
	p.Failed(p.Nodes()[0])
	b.Run("nodes=3/ejected=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Pick(nil)
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
			n := p.Pick(nil)
			n.Begin()
			n.End()
			p.Succeeded(n)
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
}
