package trace

import "sync/atomic"

// ring is a bounded queue of fixed records for many producers and one consumer, after
// Dmitry Vyukov's bounded queue: a producer claims a slot by one compare-and-swap,
// fills it, and publishes it by its sequence number. Nobody waits for anybody: a
// producer that finds the ring full gives up, a consumer that finds the next slot
// claimed but unpublished comes again later.
type ring[T any] struct {
	slots []slot[T]
	mask  uint64
	limit uint64 // how many records it may hold; at most len(slots)
	_     [64]byte
	tail  atomic.Uint64 // next position to claim
	_     [56]byte
	head  atomic.Uint64 // next position to consume; only the consumer stores it
	_     [56]byte
}

// slot holds a record. Its sequence is p when position p may be claimed, p+1 when the
// record of position p is published.
type slot[T any] struct {
	seq atomic.Uint64
	val T
}

func newRing[T any](limit int) *ring[T] {
	size := 2 // with one slot, "published" and "free for the next round" would be the same number
	for size < limit {
		size *= 2
	}
	q := &ring[T]{slots: make([]slot[T], size), mask: uint64(size - 1), limit: uint64(limit)}
	for i := range q.slots {
		q.slots[i].seq.Store(uint64(i))
	}
	return q
}

// reserve claims the next slot; nil means full. The caller fills the slot's val and
// must then publish it.
func (q *ring[T]) reserve() (*slot[T], uint64) {
	for {
		pos := q.tail.Load()
		s := &q.slots[pos&q.mask]
		d := int64(s.seq.Load() - pos)
		if d < 0 || q.limit <= q.mask && q.over(pos) {
			return nil, 0
		}
		if d == 0 && q.tail.CompareAndSwap(pos, pos+1) {
			return s, pos
		}
	}
}

// over keeps a limit that is not a power of two. pos may be stale, then the
// difference may be negative and the claim fails anyway.
func (q *ring[T]) over(pos uint64) bool { return int64(pos-q.head.Load()) >= int64(q.limit) }

// publish hands the slot of position pos, claimed by reserve, to the consumer.
func (s *slot[T]) publish(pos uint64) { s.seq.Store(pos + 1) }

// front returns the oldest record, nil when there is none that is published. It is
// the consumer's until release.
func (q *ring[T]) front() *T {
	pos := q.head.Load()
	s := &q.slots[pos&q.mask]
	if s.seq.Load() != pos+1 {
		return nil
	}
	return &s.val
}

// release frees the slot that front returned, and what it refers to.
func (q *ring[T]) release() {
	pos := q.head.Load()
	s := &q.slots[pos&q.mask]
	var zero T
	s.val = zero
	s.seq.Store(pos + uint64(len(q.slots)))
	q.head.Store(pos + 1)
}

// len counts the records that are claimed or published. nil is empty.
func (q *ring[T]) len() int {
	if q == nil {
		return 0
	}
	head := q.head.Load() // before tail, so that the difference is not negative
	return int(q.tail.Load() - head)
}

func (q *ring[T]) full() bool { return uint64(q.len()) >= q.limit }
