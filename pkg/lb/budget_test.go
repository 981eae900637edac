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

// TestBudgetInVain: where further attempts do not help there are few of them, and all again when they do.
func TestBudgetInVain(t *testing.T) {
	f := func(helped, vain, want int) {
		t.Helper()
		var b lb.Budget
		now := int64(time.Hour)
		for range 1000 {
			b.Request(now)
		}
		for range helped {
			b.Ended(now, true)
		}
		for range vain {
			b.Ended(now, false)
		}
		for _, later := range []time.Duration{0, 5 * time.Second} { // what is known outlasts a half of the window
			granted := 0
			for range 300 {
				if b.Retry(now+int64(later), 20, 1) {
					granted++
				}
			}
			if granted != want {
				t.Errorf("%d of 1000 requests are repeated %v after %d repetitions helped and %d did not, want %d", granted, later, helped, vain, want)
			}
			want = 0
		}
	}
	f(0, 0, 210)
	f(0, 19, 210) // too few to tell
	f(0, 20, 60)
	f(5, 20, 210) // one in five
	f(4, 20, 60)
	f(100, 400, 210)
	f(99, 400, 60)
	var b lb.Budget
	for range 100 {
		b.Request(1)
		b.Ended(1, false)
	}
	later := int64(time.Hour)
	for range 100 {
		b.Request(later)
	}
	granted := 0
	for b.Retry(later, 20, 0) {
		granted++
	}
	if granted != 20 {
		t.Errorf("%d of 100 requests are repeated long after repetitions were in vain, want 20", granted)
	}
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
