package registry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Memory is a registry within this process: a handle on a store that lives as long as something refers to it. Several handles
// on one store, from [Memory.Open], act like several processes. All methods are safe for concurrent use.
type Memory struct {
	store *memoryStore
	once  sync.Once
	done  chan struct{} // closed by Close
}

// memoryStore is what the handles share.
type memoryStore struct {
	mu      sync.Mutex // guards what follows
	now     Snapshot
	changed chan struct{} // closed and replaced at each change
}

// NewMemory returns a handle on a new, empty store.
func NewMemory() *Memory {
	return open(&memoryStore{changed: make(chan struct{})})
}

func open(s *memoryStore) *Memory { return &Memory{store: s, done: make(chan struct{})} }

// Open returns another handle on the same store, also when m is closed.
func (m *Memory) Open() *Memory { return open(m.store) }

// Publish adds n, or replaces the node with the same service and ID.
func (m *Memory) Publish(_ context.Context, n Node) error {
	if err := n.Validate(); err != nil {
		return fmt.Errorf("publish node %q: %w", n.ID(), err)
	}
	if n.State == "" {
		n.State = Up
	}
	return m.change([]Node{n}, nil)
}

// Withdraw removes n. It is no error when n is not there.
func (m *Memory) Withdraw(_ context.Context, n Node) error {
	return m.change(nil, []Node{n})
}

// Watch calls fn with the whole set, then again after each change, from the calling goroutine, until ctx is done or m is closed.
// Changes that happen while fn runs are one call.
func (m *Memory) Watch(ctx context.Context, fn func(Snapshot)) error {
	told := int64(-1)
	for {
		if err := m.over(ctx); err != nil {
			return err
		}
		now, changed := m.store.read()
		if now.Revision != told {
			told = now.Revision
			fn(now)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-m.done:
		}
	}
}

// Run waits until ctx is done: nothing in memory has to be kept alive.
func (m *Memory) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-m.done:
		return ErrClosed
	}
}

// Status says that all is well, until Close.
func (m *Memory) Status() Status {
	now, _ := m.store.read()
	open := m.over(context.Background()) == nil
	return Status{Connected: open, LastContact: time.Now(), Revision: now.Revision, Resyncs: map[string]int64{}}
}

// Close ends the watches of this handle. The nodes stay in the store. Closing twice is no error.
func (m *Memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

// over returns why a loop of this handle has to end, nil when it has not.
func (m *Memory) over(ctx context.Context) error {
	select {
	case <-m.done:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

func (m *Memory) change(put, removed []Node) error {
	if err := m.over(context.Background()); err != nil {
		return err
	}
	s := m.store
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.now.Apply(s.now.Revision+1, put, removed)
	if slices.Equal(s.now.Nodes, next.Nodes) {
		return nil
	}
	s.now = next
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *memoryStore) read() (Snapshot, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.changed
}
