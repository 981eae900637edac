package lb

import (
	"sync/atomic"
	"time"
)

const (
	// loadHalving is after how long what a node said of its load counts half, and so on: a
	// node that is spared for it says nothing new.
	loadHalving = time.Second
	// loadStep is how exactly the age of such a word is kept.
	loadStep = int64(10 * time.Millisecond)
)

// others is how many requests a node has of others than this pool, as far as its answers
// tell: other gateways', say. All methods may run together; what two answers of one
// moment say may be mixed.
type others struct {
	count atomic.Int64
	last  atomic.Int64 // what the last answer said
	seen  atomic.Int64 // when it came, in the pool's clock
}

// heed takes in how many requests besides its own an answer speaks of. own is how many
// the pool has at the node, the answered one included. An answer may have been overtaken
// by others, and what they took with them would look like somebody else's: so the lower
// of two words in a row counts.
func (o *others) heed(load, own, now int64) {
	theirs := max(load+1-own, 0)
	last := o.last.Load()
	if theirs == 0 && last == 0 {
		return
	}
	if theirs != last {
		o.last.Store(theirs)
	}
	if count := min(theirs, last); count != o.count.Load() {
		o.count.Store(count)
	}
	if now-o.seen.Load() >= loadStep {
		o.seen.Store(now)
	}
}

// at is how many there probably are now.
func (o *others) at(now int64) int64 {
	count := o.count.Load()
	if count == 0 {
		return 0
	}
	age := max(now-o.seen.Load(), 0)
	return count >> min(age/int64(loadHalving), 62)
}

// busy is how many requests n probably has, of this pool and of others. now is the time
// of the pool's clock.
func (n *Node) busy(now int64) float64 { return float64(n.inFlight.Load() + n.others.at(now)) }
