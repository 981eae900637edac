package lb_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// life is a pool to which anything happens, and what must hold all the time.
type life struct {
	*testing.T
	*clock
	r      *rand.Rand
	pool   *lb.Pool
	flying []*lb.Node // an attempt each
}

// TestLife: whatever happens, each node of positive weight can be reached, others cannot, one at least is not left out, and
// nothing in flight is lost.
func TestLife(t *testing.T) {
	for seed := range uint64(40) {
		l := &life{T: t, clock: newClock(), r: rand.New(rand.NewPCG(seed, 1))}
		o := l.options()
		o.Now = l.Now
		l.pool = lb.NewPool("user", o)
		for step := range 200 {
			what := l.step()
			if problem := l.problem(); problem != "" {
				t.Fatalf("seed %d, step %d, after %s: %s\n%+v", seed, step, what, problem, l.pool.Status())
			}
		}
	}
}

func (l *life) options() lb.Options {
	var all []lb.Policy
	every(l, func(_ string, p lb.Policy) { all = append(all, p) })
	maybe := func(n int) int { return l.r.IntN(3) / 2 * n }
	o := lb.Options{
		Policy: all[l.r.IntN(len(all))], Zone: []string{"", "x", "y", "z"}[l.r.IntN(4)],
		SlowStart: time.Duration(maybe(10)) * time.Second, ZoneMinimum: maybe(1 + l.r.IntN(100)), PanicThreshold: maybe(l.r.IntN(102) - 1),
		MaxInFlight: maybe(1 + l.r.IntN(40)), MaxInFlightPerNode: maybe(1 + l.r.IntN(8)), Adaptive: maybe(1) == 1,
	}
	o.Breaker.Enabled, o.NodeBreaker.Enabled = maybe(1) == 1, maybe(1) == 1
	return o
}

func (l *life) specs() (out []lb.Spec) {
	weights := []int{0, 1, 1, 1, 2, 3, 100, lb.MaxWeight, math.MaxInt, math.MinInt, -1}
	for i := range l.r.IntN(9) {
		id := fmt.Sprint("n", i)
		out = append(out, lb.Spec{
			ID: id, Addr: id, Weight: weights[l.r.IntN(len(weights))], Draining: l.r.IntN(4) == 0, Backup: l.r.IntN(4) == 0,
			Zone: []string{"", "x", "y"}[l.r.IntN(3)],
		})
	}
	return slices.DeleteFunc(out, func(lb.Spec) bool { return l.r.IntN(4) == 0 })
}

// step does something, and says what.
func (l *life) step() string {
	var n *lb.Node
	if nodes := l.pool.Nodes(); len(nodes) > 0 {
		n = nodes[l.r.IntN(len(nodes))]
	}
	switch kind := l.r.IntN(16); {
	case kind == 0:
		l.pool.Update(l.specs())
		return "Update"
	case kind == 1 && l.r.IntN(4) == 0:
		l.pool.Configure(l.options())
		return "Configure"
	case kind <= 3 && n != nil:
		l.pool.Failed(n)
		return "Failed"
	case kind == 4 && n != nil:
		l.pool.SetHealth(n, l.r.IntN(2) == 0)
		return "SetHealth"
	case kind == 5 && n != nil:
		l.pool.Heed(n, lb.Report{Draining: l.r.IntN(3) == 0, Load: l.r.IntN(20)})
		return "Heed"
	case kind == 6 && n != nil:
		l.pool.Full(n)
		return "Full"
	case kind <= 8:
		l.Advance(time.Duration(l.r.IntN(3000)) * time.Millisecond)
		l.pool.Tick(nil)
		l.pool.Refresh()
		return "Tick"
	case kind <= 12:
		acquire := l.pool.Acquire
		if l.r.IntN(2) == 0 {
			acquire = l.pool.AcquireOnce
		}
		if n, err := acquire(nil, l.r.Uint64()); err == nil {
			l.flying = append(l.flying, n)
		}
		return "Acquire"
	case len(l.flying) > 0:
		i := l.r.IntN(len(l.flying))
		n := l.flying[i]
		l.flying = slices.Delete(l.flying, i, i+1)
		if l.r.IntN(3) > 0 {
			l.pool.Answered(n, time.Duration(l.r.IntN(2000))*time.Millisecond, l.r.IntN(3) == 0)
		}
		n.End()
	}
	return "End"
}

// problem says what is wrong, "" when nothing is.
func (l *life) problem() string {
	positive, in, out := 0, 0, 0
	for _, n := range l.pool.Nodes() {
		if n.Weight() > 0 {
			positive++
			if n.Ejected() {
				out++
			} else {
				in++
			}
		}
	}
	if out > 0 && in == 0 {
		return "all nodes are left out"
	}
	if n := l.pool.Pick(nil, l.r.Uint64()); (n == nil) != (positive == 0) || n != nil && n.Weight() <= 0 {
		return fmt.Sprintf("Pick() = %s, of %d nodes of weight", name(n), positive)
	}
	var tried []*lb.Node
	for {
		n := l.pool.Pick(tried, 7)
		if n == nil {
			break
		}
		if slices.Contains(tried, n) {
			return "Pick(tried) = " + n.ID() + ", which was tried"
		}
		tried = append(tried, n)
	}
	if len(tried) != positive {
		return fmt.Sprintf("%d of %d nodes of weight can be tried", len(tried), positive)
	}
	if got := l.pool.Status().InFlight; got != int64(len(l.flying)) {
		return fmt.Sprintf("%d in flight, want %d", got, len(l.flying))
	}
	return ""
}
