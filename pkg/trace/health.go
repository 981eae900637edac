package trace

import (
	"log/slog"
	"time"
)

// health writes the log of a delivery: a line when it begins to fail, one a minute
// while it does, one when it works again, and at most one a minute about spans that
// were lost although it works. A delivery that fails every now and then gets no more
// lines than one that fails all the time.
type health struct {
	log        *slog.Logger
	addr       string
	since      time.Time // of the first failure; zero while all is well
	warned     time.Time // the last line about failures
	overflowed time.Time // the last line about a full queue
	reported   int64     // the dropped spans that lines have told of
}

// bad notes a failed attempt. dropped is the total so far.
func (h *health) bad(err error, dropped int64) {
	now := time.Now()
	if h.since.IsZero() {
		h.since = now
	}
	if tooSoon(h.warned, now) {
		return
	}
	h.warned = now
	h.log.Warn("spans not delivered", "addr", h.addr, "err", err,
		"duration", now.Sub(h.since), "dropped", h.news(dropped))
}

// good notes a delivered batch.
func (h *health) good(dropped int64) {
	if h.since.IsZero() {
		return
	}
	if !h.warned.Before(h.since) { // there was a line about it
		h.log.Info("spans delivered again", "addr", h.addr,
			"duration", time.Since(h.since), "dropped", h.news(dropped))
	}
	h.since = time.Time{}
}

// overflow notes spans that were dropped while delivery works.
func (h *health) overflow(dropped int64) {
	now := time.Now()
	if !h.since.IsZero() || dropped == h.reported || tooSoon(h.overflowed, now) {
		return
	}
	h.overflowed = now
	h.log.Warn("spans dropped", "addr", h.addr, "reason", "queue_full", "dropped", h.news(dropped))
}

// news returns how many spans were dropped since the last line.
func (h *health) news(dropped int64) int64 {
	n := dropped - h.reported
	h.reported = dropped
	return n
}

func tooSoon(last, now time.Time) bool { return !last.IsZero() && now.Sub(last) < logEvery }
