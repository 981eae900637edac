package lb

import (
	"sync/atomic"
	"time"
)

// BudgetWindow is the time over which a Budget counts.
const BudgetWindow = 10 * time.Second

// While fewer than one further attempt in vainShare helps, and vainMinimum did not, the
// percentage is a quarter of itself: where all nodes fail another attempt is only more
// work for them, and a few show when that has changed.
const (
	vainMinimum = 20
	vainShare   = 5
)

// Budget bounds further attempts of requests by the number of requests, so that nodes
// in trouble are not given more work for it, least of all when it is in vain. It counts the last ten seconds, or up to
// five less. All methods may run together, allocate nothing and take no lock; what is
// counted in the very moment in which old counts are dropped may be dropped with them.
// The zero Budget is ready.
type Budget struct {
	halves [2]tally
}

// tally counts one half of the window.
type tally struct {
	_        [cacheLine]byte
	epoch    atomic.Int64 // which half of all time it is
	requests atomic.Int64
	retries  atomic.Int64
	helped   atomic.Int64 // of the retries
	vain     atomic.Int64 // of the retries
	_        [cacheLine - 40]byte
}

// Request counts a request. now is the time in nanoseconds on a clock that does not go
// back.
func (b *Budget) Request(now int64) { b.present(now).requests.Add(1) }

// Retry asks for one more attempt of a request, and counts it when it is granted: as
// long as all of them are at most percent of the requests, or a quarter of that while next to none
// helps, and floor a second besides.
func (b *Budget) Retry(now int64, percent, floor int) bool {
	present := b.present(now)
	old := &b.halves[1-present.epoch.Load()&1]
	requests, retries := present.requests.Load(), present.retries.Add(1)
	helped, vain := present.helped.Load(), present.vain.Load()
	if old.epoch.Load() == present.epoch.Load()-1 {
		requests += old.requests.Load()
		retries += old.retries.Load()
		helped += old.helped.Load()
		vain += old.vain.Load()
	}
	if vain >= vainMinimum && helped*vainShare < helped+vain {
		percent /= 4
	}
	if retries > requests*int64(percent)/100+int64(floor)*int64(BudgetWindow/time.Second) {
		present.retries.Add(-1)
		return false
	}
	return true
}

// Ended says what came of an attempt that Retry granted: whether it helped. To say nothing is
// to have all of them count as useful.
func (b *Budget) Ended(now int64, helped bool) {
	if helped {
		b.present(now).helped.Add(1)
	} else {
		b.present(now).vain.Add(1)
	}
}

// present returns the present half of the window, emptied when it holds old counts.
func (b *Budget) present(now int64) *tally {
	epoch := now/int64(BudgetWindow/2) + 1 // 0 is a half that was never used
	h := &b.halves[epoch&1]
	if old := h.epoch.Load(); old != epoch && h.epoch.CompareAndSwap(old, epoch) {
		h.requests.Store(0)
		h.retries.Store(0)
		h.helped.Store(0)
		h.vain.Store(0)
	}
	return h
}
