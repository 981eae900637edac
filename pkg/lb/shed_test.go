package lb_test

import (
	"container/heap"
	"slices"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// station is a simulated service behind an adaptive pool: so many servers, each of which takes a time for a
// request, and one queue before them. Requests come at a steady rate.
type station struct {
	pool *lb.Pool
	c    *clock

	servers int
	takes   time.Duration

	free    times // when each server is free
	pending pendings
	now     time.Duration
	due     float64
}

type answer struct {
	at, took time.Duration
	node     *lb.Node
}

// outcome is what became of the requests of a while.
type outcome struct {
	accepted, refused int
	took              []time.Duration
}

func (o *outcome) p99() time.Duration {
	slices.Sort(o.took)
	return o.took[len(o.took)*99/100]
}

func newStation(t *testing.T, servers int, takes time.Duration) *station {
	c := newClock()
	s := &station{pool: lb.NewPool("user", lb.Options{Adaptive: true, Now: c.Now}), c: c, servers: servers, takes: takes}
	s.pool.Update(specs(t, "a b c"))
	return s
}

// run lets requests come for a while, at a rate a second.
func (s *station) run(rate float64, d time.Duration) (o outcome) {
	const step = time.Millisecond
	for end := s.now + d; s.now < end; s.now += step {
		s.c.Advance(step)
		for len(s.pending) > 0 && s.pending[0].at <= s.now {
			a := heap.Pop(&s.pending).(answer)
			s.pool.Answered(a.node, a.took, false)
			a.node.End()
			o.took = append(o.took, a.took)
		}
		for s.due += rate * step.Seconds(); s.due >= 1; s.due-- {
			n, err := s.pool.Acquire(nil, 0)
			if err != nil {
				o.refused++
				continue
			}
			o.accepted++
			at := s.serve()
			heap.Push(&s.pending, answer{at, at - s.now, n})
		}
		if s.now%(100*time.Millisecond) == 0 {
			s.pool.Tick(nil)
		}
	}
	return o
}

// serve returns when a request that comes now will have been answered.
func (s *station) serve() time.Duration {
	for len(s.free) < s.servers {
		heap.Push(&s.free, time.Duration(0))
	}
	for len(s.free) > s.servers {
		heap.Pop(&s.free)
	}
	at := max(s.free[0], s.now) + s.takes
	s.free[0] = at
	heap.Fix(&s.free, 0)
	return at
}

type times []time.Duration

func (h times) Len() int           { return len(h) }
func (h times) Less(i, j int) bool { return h[i] < h[j] }
func (h times) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *times) Push(x any)        { *h = append(*h, x.(time.Duration)) }
func (h *times) Pop() any          { last := len(*h) - 1; x := (*h)[last]; *h = (*h)[:last]; return x }

type pendings []answer

func (h pendings) Len() int           { return len(h) }
func (h pendings) Less(i, j int) bool { return h[i].at < h[j].at }
func (h pendings) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *pendings) Push(x any)        { *h = append(*h, x.(answer)) }
func (h *pendings) Pop() any          { last := len(*h) - 1; x := (*h)[last]; *h = (*h)[:last]; return x }

// TestOverload has five times as many requests come as a service can answer, for six minutes: what is let in
// is answered soon, and little of what the service could do is wasted, to the end.
func TestOverload(t *testing.T) {
	for name, c := range map[string]struct {
		servers int
		takes   time.Duration
	}{
		"one at a time": {3, 20 * time.Millisecond},
		"many at once":  {50, 50 * time.Millisecond},
		"quick":         {3, 2 * time.Millisecond},
		"slow":          {60, 400 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStation(t, c.servers, c.takes)
			capacity := float64(c.servers) / c.takes.Seconds()
			if o := s.run(capacity*0.8, 10*time.Second); o.refused != 0 {
				t.Fatalf("%d requests refused with room to spare, want 0", o.refused)
			}
			const span = 2 * time.Minute
			for n := range 3 {
				o := s.run(5*capacity, span)
				most := max(time.Second, 5*c.takes)
				if n == 0 {
					most = max(time.Second, 25*c.takes) // a queue is noticed by what has stood in it
				}
				if p99 := o.p99(); p99 > most {
					t.Errorf("span %d: 99 of 100 answers within %v, want %v", n, p99, most)
				}
				if got, can := float64(len(o.took)), span.Seconds()*capacity; got < 0.9*can {
					t.Errorf("span %d: %.0f answers, want nine tenths of %.0f", n, got, can)
				}
			}
			s.run(capacity*0.8, 10*time.Second)
			if o := s.run(capacity*0.8, 10*time.Second); o.refused != 0 {
				t.Errorf("%d requests refused ten seconds after the overload, want 0", o.refused)
			}
			if l := s.pool.Status().Limit; l != 0 {
				t.Errorf("limit = %d twenty seconds after the overload, want none", l)
			}
		})
	}
}

// TestSlowForGood has a service become twenty times slower, without a queue: it is refused for moments only.
func TestSlowForGood(t *testing.T) {
	s := newStation(t, 1000, 20*time.Millisecond)
	s.run(500, 10*time.Second)
	s.takes = 400 * time.Millisecond
	if o := s.run(500, 10*time.Second); o.refused > 2500 {
		t.Errorf("%d of 5000 requests refused because the service is slower now, want half at most", o.refused)
	}
	if o := s.run(500, time.Minute); o.refused > 0 {
		t.Errorf("%d requests refused though this is how long it always takes, want 0", o.refused)
	}
}

// TestHiccup stops the world for a moment: that one interval is late is no queue.
func TestHiccup(t *testing.T) {
	s := newStation(t, 100, 5*time.Millisecond)
	s.run(1000, 10*time.Second)
	for i := range s.pending {
		s.pending[i].at += 150 * time.Millisecond
		s.pending[i].took += 150 * time.Millisecond
	}
	if o := s.run(1000, 5*time.Second); o.refused > 0 {
		t.Errorf("%d requests refused for a hiccup, want 0", o.refused)
	}
}

// TestStreamsAreNoQueue holds a thousand streams open while a queue stands: they take no room of those that wait.
func TestStreamsAreNoQueue(t *testing.T) {
	s := newStation(t, 3, 20*time.Millisecond)
	var streams []*lb.Node
	for range 1000 {
		n, err := s.pool.Acquire(nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		n.Flow()
		streams = append(streams, n)
	}
	s.run(100, 10*time.Second)
	s.run(750, 10*time.Second)
	if o := s.run(750, 10*time.Second); len(o.took) < 1350 {
		t.Errorf("%d answers beside a thousand streams, want nine tenths of 1500", len(o.took))
	}
	for _, n := range streams {
		n.Finish()
	}
	if o := s.run(0, time.Second); o.accepted != 0 || s.pool.Status().InFlight != 0 {
		t.Errorf("%d in flight in the end, want 0", s.pool.Status().InFlight)
	}
}
