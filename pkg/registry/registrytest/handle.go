package registrytest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// store opens handles for one test.
type store struct {
	t      *testing.T
	handle func() Registry
}

// handle is a registry whose Run runs.
type handle struct {
	Registry
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{} // closed when Run returned
	err    error         // of Run; read it after done
}

func (s *store) open() *handle {
	ctx, cancel := context.WithCancel(context.Background())
	h := &handle{Registry: s.handle(), t: s.t, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.err = h.Run(ctx)
	}()
	s.t.Cleanup(func() {
		h.stop()
		if err := h.Close(); err != nil {
			s.t.Errorf("Close() = %v", err)
		}
	})
	return h
}

// stop ends Run and waits for it.
func (h *handle) stop() {
	h.cancel()
	<-h.done
}

func (h *handle) publish(n registry.Node) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Publish(ctx, n); err != nil {
		h.t.Errorf("Publish(%v) = %v", n, err)
	}
}

func (h *handle) withdraw(n registry.Node) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Withdraw(ctx, n); err != nil {
		h.t.Errorf("Withdraw(%v) = %v", n, err)
	}
}

// watch is a running Watch and the snapshots it told.
type watch struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{} // closed when Watch returned
	err    error         // of Watch; read it after done
	calls  int           // written by Watch's goroutine alone, without a lock: the race detector sees a second caller

	mu   sync.Mutex // guards what follows
	told []registry.Snapshot
	more chan struct{} // closed and replaced at each snapshot
}

func (h *handle) watch() *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{t: h.t, cancel: cancel, done: make(chan struct{}), more: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = h.Watch(ctx, w.take)
	}()
	h.t.Cleanup(w.stop)
	return w
}

// stop ends the watch and waits for it.
func (w *watch) stop() {
	w.cancel()
	<-w.done
}

// take is the fn of Watch: it checks what must hold for every snapshot.
func (w *watch) take(s registry.Snapshot) {
	w.calls++
	if !slices.Equal(s.Nodes, registry.NewSnapshot(0, s.Nodes).Nodes) {
		w.t.Errorf("snapshot %v is not sorted, or tells a node twice", s.Nodes)
	}
	for _, n := range s.Nodes {
		if err := n.Validate(); err != nil {
			w.t.Errorf("snapshot with invalid node: %v", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) > 0 && w.told[len(w.told)-1].Revision > s.Revision {
		w.t.Errorf("revision %d after %d", s.Revision, w.told[len(w.told)-1].Revision)
	}
	w.told = append(w.told, s)
	close(w.more)
	w.more = make(chan struct{})
}

// first returns the first snapshot.
func (w *watch) first() registry.Snapshot {
	w.t.Helper()
	w.until(func(registry.Snapshot) bool { return true })
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[0]
}

// await waits until the newest snapshot holds exactly want, in any order.
func (w *watch) await(want ...registry.Node) {
	w.t.Helper()
	sorted := registry.NewSnapshot(0, want).Nodes
	w.until(func(s registry.Snapshot) bool { return slices.Equal(s.Nodes, sorted) })
}

// until waits until the newest snapshot pleases ok, and returns it.
func (w *watch) until(ok func(registry.Snapshot) bool) registry.Snapshot {
	w.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		w.mu.Lock()
		told, more := w.told, w.more
		w.mu.Unlock()
		if len(told) > 0 && ok(told[len(told)-1]) {
			return told[len(told)-1]
		}
		select {
		case <-more:
		case <-timeout.C:
			if len(told) == 0 {
				w.t.Fatalf("no snapshot within %v", patience)
			}
			w.t.Fatalf("newest snapshot after %v = %v", patience, told[len(told)-1].Nodes)
		}
	}
}
