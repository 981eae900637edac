package lb

import (
	"math"
	"sync/atomic"
)

// latency is how long a node's answers lately took. All methods may run together.
type latency struct {
	value atomic.Uint64 // a float64, in nanoseconds; 0 when nothing is known
	seen  atomic.Int64  // when the value was last changed, in the pool's clock
}

// observe takes in one answer time.
func (l *latency) observe(took, now int64) {
	bits := l.value.Load()
	old := math.Float64frombits(bits)
	value := float64(took)
	if old > value {
		// An observation weighs by the time it stands for, so that a burst of quick
		// answers says no more than its last. One of many at the same moment weighs little.
		age := max(now-l.seen.Load(), int64(halving)/1024)
		value += (old - value) * fade(age)
	}
	// A lost race loses one observation of several at one moment.
	if l.value.CompareAndSwap(bits, math.Float64bits(value)) {
		l.seen.Store(now)
	}
}

// at returns the answer time that is to be expected now, in nanoseconds; 0 when nothing
// is known.
func (l *latency) at(now int64) float64 {
	v := math.Float64frombits(l.value.Load())
	if v == 0 {
		return 0
	}
	return v * fade(now-l.seen.Load())
}

// fade is what is left of the weight of something so old: a half after halving. It is no
// exponential, which would cost more than all the rest of a choice.
func fade(age int64) float64 {
	if age <= 0 {
		return 1
	}
	return float64(halving) / float64(int64(halving)+age)
}

// typical is the usual answer time of a pool: about the median of what it observed.
type typical struct{ value atomic.Int64 }

// observe takes in one answer time: the value moves towards it by a small step, so that
// half of the times lie on either side.
func (t *typical) observe(took int64) {
	old := t.value.Load()
	value := max(took, 1)
	if old != 0 {
		step := max(old/64, 1000)
		switch {
		case value > old:
			value = min(value, old+step)
		case value < old:
			value = max(value, old-step)
		}
	}
	if value != old {
		t.value.CompareAndSwap(old, value) // one lost observation does not matter
	}
}
