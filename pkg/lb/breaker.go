package lb

import "sync/atomic"

// breaker is the state of one circuit breaker. All methods may run together.
type breaker struct {
	// until is when an open breaker lets the next attempt pass, in the pool's clock; 0
	// means that it is closed.
	until atomic.Int64
	// probing says that an attempt has passed since it opened, and has not failed.
	probing atomic.Bool
}

// open reports whether nobody may pass now.
func (b *breaker) open(now int64) bool {
	until := b.until.Load()
	return until != 0 && now < until
}

// enter reports whether an attempt may pass. Of an open breaker whose pause is over, the
// first may, and begins another pause: an outcome that is never reported is no reason to
// stay open.
func (b *breaker) enter(now int64, o *Breaker) bool {
	until := b.until.Load()
	if until == 0 {
		return true
	}
	if now < until || !b.until.CompareAndSwap(until, now+int64(o.Pause)) {
		return false
	}
	b.probing.Store(true)
	return true
}

// report takes in one outcome, which w already holds. It may open the breaker, or close
// it. Outcomes of attempts that passed before it opened can do neither.
func (b *breaker) report(w *window, bad bool, now int64, p *Options, o *Breaker) {
	until := b.until.Load()
	switch {
	case until == 0 && bad:
		if w.exceeds(o.Rate, o.Minimum, now, p.Window) {
			b.until.CompareAndSwap(0, now+int64(o.Pause))
		}
	case until != 0 && bad:
		b.probing.Store(false)
	case until != 0 && b.probing.CompareAndSwap(true, false):
		w.clear()
		b.until.Store(0)
	}
}

// name is "" without a breaker, else closed, open or half-open.
func (b *breaker) name(now int64, o *Breaker) string {
	switch {
	case !o.Enabled:
		return ""
	case b.until.Load() == 0:
		return "closed"
	case b.open(now):
		return "open"
	}
	return "half-open"
}
