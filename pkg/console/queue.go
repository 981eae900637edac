package console

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// queueLines is how many lines a Queue holds.
const queueLines = 4096

// Queue stands between a logger and a writer that may block, as a pipe that nobody reads does, or fail, as a file on a full
// disk does: a Write never waits, and lines that do not fit or cannot be written are dropped and counted. It is safe for concurrent use.
type Queue struct {
	w       io.Writer
	done    chan struct{} // closed when the writing goroutine has ended
	dropped atomic.Int64

	mu     sync.RWMutex // guards closed, and lines against a send after its close
	closed bool
	lines  chan []byte
}

// NewQueue returns a queue in front of w and starts the goroutine that writes. The caller calls Close.
func NewQueue(w io.Writer) *Queue {
	q := &Queue{w: w, done: make(chan struct{}), lines: make(chan []byte, queueLines)}
	go q.write()
	return q
}

// write is the goroutine of a queue.
func (q *Queue) write() {
	defer close(q.done)
	told := int64(0)
	for line := range q.lines {
		if _, err := q.w.Write(line); err != nil { // a full disk; there is nobody else to tell
			q.dropped.Add(1)
			continue
		}
		if n := q.dropped.Load(); n > told && len(q.lines) == 0 {
			if _, err := fmt.Fprintf(q.w, "%d lines were dropped: the output was not read, or could not be written\n", n-told); err == nil {
				told = n
			}
		}
	}
}

// Write takes a copy of the line. It always says that it took all of it: a logger can do nothing about
// a line that was dropped. After Close everything is dropped.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		q.dropped.Add(1)
		return len(line), nil
	}
	select {
	case q.lines <- append([]byte(nil), line...):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// Dropped returns how many lines were dropped.
func (q *Queue) Dropped() int64 { return q.dropped.Load() }

// Close writes what is queued, for as long as limit, and ends the goroutine unless the writer blocks
// it. It may be called more than once.
func (q *Queue) Close(limit time.Duration) {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-q.done:
	case <-t.C:
	}
}
