package lb

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// shedInterval is how often the limit is looked at, if there are enough answers: at
	// every tick, even if one comes a little early. shedLongest is how long it waits for
	// them.
	shedInterval = tickInterval * 9 / 10
	shedLongest  = 500 * time.Millisecond
	// shedSamples is how many answers an interval must have to tell of a queue.
	shedSamples = 10
	// shedFactor and shedFloor say when a queue is standing: when even the quickest
	// answer of an interval took so many times as long as the quickest ones used to, and
	// so much longer. The limit aims at half of that.
	shedFactor = 4
	shedFloor  = 100 * time.Millisecond
	// shedRoom is the least number of waiting attempts that are always let through, for
	// each node.
	shedRoom = 8
	// shedLearn is how long what is usual takes to follow answers that get slower;
	// shedRelax how long a limit takes to grow by its own size.
	shedLearn = time.Minute
	shedRelax = 4 * time.Second
	// shedLifted is how long nothing must have come near the limit until there is none.
	shedLifted = 5 * time.Second

	// A limit that is in force hides how quick the nodes would be without a queue. So
	// one attempt a node is let through, first shedSoon after the limit was set, then
	// every shedAgain. The queue is given twice the time that it should take to go, and
	// shedDrain at least; shedProbe is how long the answers are measured then.
	shedSoon  = time.Second
	shedAgain = 10 * time.Second
	shedDrain = 2 * time.Second
	shedProbe = 200 * time.Millisecond
)

// shedder bounds the attempts that wait for their answer while a queue is standing before
// the nodes. A single slow request, or a slow route, says nothing: only when the quickest
// answer is late are all requests waiting for each other (the idea of CoDel, RFC 8289).
// The bound is what the nodes do in the time that an answer may take (Little's law), so
// that the queue is short as soon as what stood in it is answered.
type shedder struct {
	limit    atomic.Int64 // 0 is none
	quickest atomic.Int64 // answer time of this interval
	samples  atomic.Int64
	peak     atomic.Int64 // most waiting attempts in this interval

	// Pool.mu guards these.
	looked int64   // when this interval began
	usual  float64 // the quickest answer without a queue
	late   float64 // the quickest answer for which the limit was set
	calm   int64   // when something last came near the limit
	next   int64   // when to probe
	probe  sounding
}

// sounding is the measurement of what is usual while a limit is in force.
type sounding struct {
	limit int64 // to return to; 0 when there is no probe
	until int64 // when the queue should have gone
	clear int64 // when it had; 0 before
}

// note takes in the number of attempts that wait.
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
func (s *shedder) adjust(now, waiting int64, nodes int) {
	if s.probe.limit > 0 {
		s.probing(now, waiting, int64(nodes))
		return
	}
	age := now - s.looked
	if age < int64(shedInterval) || s.samples.Load() < shedSamples && age < int64(shedLongest) {
		return
	}
	quickest, samples, peak := s.interval(now)
	limit, room := s.limit.Load(), s.room(samples/float64(age))
	if peak >= limit/2 {
		s.calm = now
	}
	switch {
	case samples >= shedSamples && s.isLate(quickest):
		if limit == 0 && waiting <= room {
			break // it was a hiccup: no queue is left of it
		}
		if limit == 0 {
			limit, s.late, s.next = room, quickest, now+int64(shedSoon)
		}
		s.limit.Store(max(min(limit, room), int64(shedRoom*nodes)))
	case limit > 0:
		if samples > 0 {
			s.usual = min(s.usual, quickest)
		}
		if quickest < s.soon() || samples == 0 {
			s.relax(now, age, limit)
		}
	case samples > 0:
		s.learn(quickest, age)
	}
	if s.limit.Load() > 0 && now >= s.next && s.calm == now {
		drain := max(2*float64(waiting*age)/max(samples, 1), float64(shedDrain))
		s.probe = sounding{limit: s.limit.Load(), until: now + int64(drain)}
		s.limit.Store(max(int64(nodes), 1))
	}
}

// interval begins a new interval and returns what there was in the last one.
func (s *shedder) interval(now int64) (quickest, samples float64, peak int64) {
	s.looked = now
	return float64(s.quickest.Swap(math.MaxInt64)), float64(s.samples.Swap(0)), s.peak.Swap(0)
}

// isLate reports whether such a quickest answer tells of a queue.
func (s *shedder) isLate(quickest float64) bool {
	return s.usual > 0 && quickest > shedFactor*s.usual && quickest > s.usual+float64(shedFloor)
}

// room is how many attempts the nodes answer soon, at their rate a nanosecond.
func (s *shedder) room(rate float64) int64 { return int64(rate * s.soon()) }

// soon is how long the quickest answers may take while there is a limit.
func (s *shedder) soon() float64 {
	return max(shedFactor/2*s.usual, s.usual+float64(shedFloor)/2)
}

// learn moves what is usual towards an interval's quickest answer: down at once, up slowly.
func (s *shedder) learn(quickest float64, age int64) {
	if s.usual == 0 || quickest < s.usual {
		s.usual = quickest
		return
	}
	s.usual += (quickest - s.usual) * float64(age) / float64(shedLearn)
}

// relax raises the limit, and lifts it when nothing has come near it for a while.
func (s *shedder) relax(now, age, limit int64) {
	if now-s.calm >= int64(shedLifted) {
		s.limit.Store(0)
		return
	}
	s.limit.Store(limit + max(1, limit*age/int64(shedRelax)))
}

// probing is adjust while one attempt a node is let through.
func (s *shedder) probing(now, waiting, nodes int64) {
	p := &s.probe
	if p.clear == 0 {
		if waiting > 2*nodes {
			if now < p.until {
				return
			}
			s.limit.Store(waiting + nodes) // those that wait are no queue: long polls, say
		}
		p.clear = now
		s.interval(now)
		return
	}
	// An answer that took longer than that stood in the queue.
	age := now - p.clear
	if age < int64(shedProbe) || s.quickest.Load() > age && age < int64(shedDrain) {
		return
	}
	if quickest, samples, _ := s.interval(now); samples > 0 {
		s.usual = quickest
	}
	s.limit.Store(p.limit)
	if s.late < shedFactor/2*s.usual {
		s.limit.Store(0) // that is about how long it takes: there was no queue
	}
	s.probe, s.next = sounding{}, now+int64(shedAgain)
}

// lift ends the limit, for nobody asks for one any more.
func (s *shedder) lift() {
	s.limit.Store(0)
	s.probe = sounding{}
}
