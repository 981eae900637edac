package service

import (
	"context"
	"sync"
	"time"
)

// headTime is the context of a request whose answer's head must leave by a certain time.
// Once the head has left the time holds no longer: an answer may be a long stream. So
// its Deadline is there at first and then is not, which no context of the standard
// library can do. What is derived from it, by the one child that it has, is of the
// standard library again.
type headTime struct {
	context.Context // the request's: its values, and its end
	done            chan struct{}

	mu    sync.Mutex // guards what follows
	until time.Time  // zero when the head has left
	err   error
	child func() // ends the child
}

// withHeadTime returns a context that ends with DeadlineExceeded after d, unless left is
// called before, and otherwise with ctx. stop frees what it holds; it is to be called
// once.
func withHeadTime(ctx context.Context, d time.Duration) (timed context.Context, left, stop func()) {
	h := &headTime{Context: ctx, done: make(chan struct{}), until: time.Now().Add(d)}
	timed, cancel := context.WithCancel(h)
	timer := time.AfterFunc(d, h.late)
	ended := context.AfterFunc(ctx, func() { h.end(ctx.Err()) })
	left = func() {
		timer.Stop()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.until = time.Time{}
	}
	stop = func() {
		timer.Stop()
		ended()
		cancel()
	}
	return timed, left, stop
}

// Deadline is the head's time until the head has left, then the request's.
func (h *headTime) Deadline() (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	outer, ok := h.Context.Deadline()
	if h.until.IsZero() || ok && outer.Before(h.until) {
		return outer, ok
	}
	return h.until, true
}

// Done is closed when the time is over or the request ends.
func (h *headTime) Done() <-chan struct{} { return h.done }

// Err says why.
func (h *headTime) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// AfterFunc lets package context end the child without a goroutine that waits for it.
func (h *headTime) AfterFunc(f func()) (stop func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		go f()
		return func() bool { return false }
	}
	h.child = f
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		had := h.child != nil
		h.child = nil
		return had
	}
}

// late ends the context unless the head has left.
func (h *headTime) late() {
	h.mu.Lock()
	left := h.until.IsZero()
	h.mu.Unlock()
	if !left {
		h.end(context.DeadlineExceeded)
	}
}

func (h *headTime) end(err error) {
	h.mu.Lock()
	if h.err != nil {
		h.mu.Unlock()
		return
	}
	h.err = err
	child := h.child
	h.child = nil
	close(h.done)
	h.mu.Unlock()
	if child != nil {
		child()
	}
}
