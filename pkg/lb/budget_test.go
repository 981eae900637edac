package lb_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

func TestBudget(t *testing.T) {
	var b lb.Budget
	now := int64(0)
	after := func(d time.Duration) { now += int64(d) }
	requests := func(n int) {
		for range n {
			b.Request(now)
		}
	}
	granted := func(want, percent, floor int) {
		t.Helper()
		got := 0
		for range want + 10 {
			if b.Retry(now, percent, floor) {
				got++
			}
		}
		if got != want {
			t.Errorf("at %v: %d further attempts are granted, want %d", time.Duration(now), got, want)
		}
	}
	granted(30, 20, 3) // the floor alone
	granted(0, 20, 3)
	requests(1000)
	granted(200, 20, 3)
	after(4 * time.Second)
	granted(0, 20, 3)
	after(time.Second) // the other half: both count
	granted(0, 20, 3)
	requests(100)
	granted(20, 20, 3)
	after(5 * time.Second) // the first half is over
	granted(30, 20, 3)
	after(5 * time.Second)
	granted(0, 20, 3)
	after(5 * time.Second)
	granted(30, 20, 3)
	after(time.Hour)
	requests(50)
	granted(10, 20, 0)
	granted(0, 0, 0)
	granted(40, 100, 0)
	after(time.Hour)
	granted(0, 100, 0)
}

func TestBudgetUnderConcurrentUse(t *testing.T) {
	var b lb.Budget
	var granted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				b.Request(1)
			}
		})
	}
	wg.Wait()
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Retry(1, 20, 0) {
					granted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// A refused one that is being counted may refuse another, never grant one too many.
	if n := granted.Load(); n > 1600 || n < 1500 {
		t.Errorf("%d of 8000 requests are repeated, want 1600", n)
	}
}

func BenchmarkBudget(b *testing.B) {
	var budget lb.Budget
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Request(1)
		}
	})
}
