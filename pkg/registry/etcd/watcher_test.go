package etcd_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// watcher is a registry that is watched, and all it told.
type watcher struct {
	*etcd.Registry
	t    *testing.T
	log  *lines
	stop func()

	mu     sync.Mutex // guards what follows
	now    registry.Snapshot
	calls  int
	joined map[string]int // by ID
	left   map[string]int
}

// watch watches over addr, and waits for the first snapshot.
func watch(t *testing.T, addr string, c etcd.Config) *watcher {
	t.Helper()
	w := watchOnly(t, addr, c)
	eventually(t, "first snapshot", patience, func() bool {
		_, calls := w.told()
		return calls > 0
	})
	return w
}

func watchOnly(t *testing.T, addr string, c etcd.Config) *watcher {
	t.Helper()
	w := newWatcher(t, addr, c)
	w.run(func(ctx context.Context) error { return w.Watch(ctx, w.take) })
	return w
}

// newWatcher opens a registry over addr that is not watched yet.
func newWatcher(t *testing.T, addr string, c etcd.Config) *watcher {
	t.Helper()
	w := &watcher{t: t, log: &lines{}, joined: map[string]int{}, left: map[string]int{}}
	c.Log = w.logger()
	w.Registry = open(t, addr, c)
	t.Cleanup(func() {
		if told, calls := w.told(); t.Failed() {
			t.Logf("a watch of %s told %d times, at last %v; Status() = %+v\nlog:\n%s", addr, calls, told, w.Status(), w.log)
		}
	})
	return w
}

func (w *watcher) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.log, nil)) }

// run runs a watch until the test ends, or stop is called.
func (w *watcher) run(watch func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := watch(ctx); err == nil {
			w.t.Error("Watch() = nil, want the reason of its end")
		}
	}()
	w.stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(w.stop)
}

func (w *watcher) take(s registry.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	joined, left := registry.Diff(w.now, s)
	for _, n := range joined {
		w.joined[n.ID()]++
	}
	for _, n := range left {
		w.left[n.ID()]++
	}
	w.now = s
	w.calls++
}

func (w *watcher) told() (s registry.Snapshot, calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now, w.calls
}

// leaves returns how often any node left.
func (w *watcher) leaves() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := 0
	for _, n := range w.left {
		sum += n
	}
	return sum
}

func (w *watcher) leavesOf(n registry.Node) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left[n.ID()]
}

// await waits until the newest snapshot holds exactly want.
func (w *watcher) await(within time.Duration, want ...registry.Node) {
	w.t.Helper()
	sorted := registry.NewSnapshot(0, want).Nodes
	deadline := time.Now().Add(within)
	for {
		s, _ := w.told()
		if slices.Equal(s.Nodes, sorted) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("nodes after %v = %v, want %v\nlog:\n%s", within, s.Nodes, sorted, w.log)
		}
		pause(5 * time.Millisecond)
	}
}

// awaitLink waits until Status says connected or not.
func (w *watcher) awaitLink(connected bool, within time.Duration) {
	w.t.Helper()
	what := "disconnected"
	if connected {
		what = "connected"
	}
	eventually(w.t, what, within, func() bool { return w.Status().Connected == connected })
}

// noLeaves fails if a node leaves within d, or has left.
func (w *watcher) noLeaves(d time.Duration) {
	w.t.Helper()
	deadline := time.Now().Add(d)
	for {
		if n := w.leaves(); n > 0 {
			w.t.Fatalf("%d leaves, want none; log:\n%s", n, w.log)
		}
		if time.Now().After(deadline) {
			return
		}
		pause(10 * time.Millisecond)
	}
}

// lines is a log that several goroutines write.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) count(s string) int { return strings.Count(l.String(), s) }
