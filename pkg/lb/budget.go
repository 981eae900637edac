package lb

import (
	"sync/atomic"
	"time"
)

// BudgetWindow is the time over which a Budget counts.
const BudgetWindow = 10 * time.Second

// Budget bounds further attempts of requests by the number of requests, so that nodes
// in trouble are not given more work for it. It counts the last ten seconds, or up to
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
	_        [cacheLine - 24]byte
}

// Request counts a request. now is the time in nanoseconds on a clock that does not go
// back.
func (b *Budget) Request(now int64) { b.present(now).requests.Add(1) }

// Retry asks for one more attempt of a request, and counts it when it is granted: as
// long as all of them are at most percent of the requests, and floor a second besides.
func (b *Budget) Retry(now int64, percent, floor int) bool {
	present := b.present(now)
	old := &b.halves[1-present.epoch.Load()&1]
	requests, retries := present.requests.Load(), present.retries.Add(1)
	if old.epoch.Load() == present.epoch.Load()-1 {
		requests += old.requests.Load()
		retries += old.retries.Load()
	}
	if retries > requests*int64(percent)/100+int64(floor)*int64(BudgetWindow/time.Second) {
		present.retries.Add(-1)
		return false
	}
	return true
}

// present returns the present half of the window, emptied when it holds old counts.
func (b *Budget) present(now int64) *tally {
	epoch := now/int64(BudgetWindow/2) + 1 // 0 is a half that was never used
	h := &b.halves[epoch&1]
	if old := h.epoch.Load(); old != epoch && h.epoch.CompareAndSwap(old, epoch) {
		h.requests.Store(0)
		h.retries.Store(0)
	}
	return h
}
