package lb

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// shedInterval is how often the limit is looked at.
	shedInterval = 500 * time.Millisecond
	// shedFactor and shedFloor say when a queue is standing: when even the quickest
	// answer of an interval took so many times as long as the quickest ones used to, and
	// so much longer.
	shedFactor = 4
	shedFloor  = 100 * time.Millisecond
	// shedSamples is how many answers an interval must have for that.
	shedSamples = 10
	// shedRoom is the least number of attempts in flight that are always let through,
	// for each node.
	shedRoom = 8
)

// shedder bounds the attempts in flight while a queue is standing before the nodes. A
// single slow request, or a slow route, says nothing: only when the quickest answer is
// late are all requests waiting for each other (the idea of CoDel, RFC 8289).
type shedder struct {
	limit    atomic.Int64 // 0 is none
	quickest atomic.Int64 // answer time of this interval
	samples  atomic.Int64
	peak     atomic.Int64 // most attempts in flight in this interval

	// Pool.mu guards these.
	looked int64
	usual  float64 // quickest answer of an interval without a queue
	calm   int     // intervals in a row without one
}

// note takes in the number of attempts that are in flight.
func (s *shedder) note(n int64) {
	for {
		old := s.peak.Load()
		if n <= old || s.peak.CompareAndSwap(old, n) {
			return
		}
	}
}

// observe takes in one answer time.
func (s *shedder) observe(took int64) {
	s.samples.Add(1)
	for {
		old := s.quickest.Load()
		if took >= old || s.quickest.CompareAndSwap(old, took) {
			return
		}
	}
}

// adjust ends an interval if it is time. Pool.mu is held.
func (s *shedder) adjust(now int64, nodes int) {
	if now-s.looked < int64(shedInterval) {
		return
	}
	s.looked = now
	quickest, samples, peak := float64(s.quickest.Swap(math.MaxInt64)), s.samples.Swap(0), s.peak.Swap(0)
	limit := s.limit.Load()
	queue := s.usual > 0 && samples >= shedSamples &&
		quickest > shedFactor*s.usual && quickest > s.usual+float64(shedFloor)
	switch {
	case queue:
		s.calm = 0
		// Who got slower for good is what is usual, a while later.
		s.usual *= 1.02
		if limit == 0 {
			limit = peak
		}
		s.limit.Store(max(limit*3/4, int64(shedRoom*nodes)))
	case samples > 0:
		s.learn(quickest)
		s.calm++
		if limit > 0 {
			s.relax(limit, peak)
		}
	case limit > 0:
		s.calm++
		s.relax(limit, peak)
	}
}

// learn moves what is usual towards an interval's quickest answer: down at once, up
// slowly.
func (s *shedder) learn(quickest float64) {
	if s.usual == 0 || quickest < s.usual {
		s.usual = quickest
		return
	}
	s.usual += (quickest - s.usual) / 16
}

// relax raises the limit, and lifts it when nothing has come near it for a while.
func (s *shedder) relax(limit, peak int64) {
	if s.calm >= 10 && peak < limit/2 {
		s.limit.Store(0)
		return
	}
	s.limit.Store(limit + max(1, limit/10))
}
