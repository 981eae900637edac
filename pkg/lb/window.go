package lb

import (
	"sync/atomic"
	"time"
)

// windowSlots is how many parts a window has; outcomes leave it a part at a time.
const windowSlots = 8

// Each part of a window is one word: when it was begun, how many outcomes it holds, and
// how many of them were bad.
const (
	countBits = 20
	countMax  = 1<<countBits - 1
	epochMask = 1<<(64-2*countBits) - 1
)

// window counts outcomes over a sliding time. All methods may run together.
type window struct{ slots [windowSlots]atomic.Uint64 }

// add counts one outcome.
func (w *window) add(now int64, length time.Duration, bad bool) {
	epoch := now / (int64(length)/windowSlots + 1)
	slot := &w.slots[epoch%windowSlots]
	for {
		old := slot.Load()
		total, failed := old>>countBits&countMax, old&countMax
		if old>>(2*countBits) != uint64(epoch)&epochMask {
			total, failed = 0, 0
		}
		if total == countMax {
			return
		}
		total++
		if bad {
			failed++
		}
		if slot.CompareAndSwap(old, uint64(epoch)&epochMask<<(2*countBits)|total<<countBits|failed) {
			return
		}
	}
}

// sum returns how many outcomes the window holds, and how many of them were bad.
func (w *window) sum(now int64, length time.Duration) (total, bad int) {
	epoch := now / (int64(length)/windowSlots + 1)
	for i := range w.slots {
		v := w.slots[i].Load()
		if age := (uint64(epoch) - v>>(2*countBits)) & epochMask; age < windowSlots {
			total += int(v >> countBits & countMax)
			bad += int(v & countMax)
		}
	}
	return total, bad
}

// clear forgets everything.
func (w *window) clear() {
	for i := range w.slots {
		w.slots[i].Store(0)
	}
}

// exceeds reports whether the window holds at least the given number of outcomes, of
// which at least rate percent were bad.
func (w *window) exceeds(rate, minimum int, now int64, length time.Duration) bool {
	total, bad := w.sum(now, length)
	return total >= minimum && bad*100 >= rate*total
}
