package etcd_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// backup copies the data of a stopped store, and returns how to put the copy in its place.
func (s *store) backup() (restore func()) {
	s.t.Helper()
	aside := filepath.Join(s.t.TempDir(), "backup")
	if err := os.CopyFS(aside, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		s.empty()
		if err := os.CopyFS(s.dir, os.DirFS(aside)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestHeldNodeLeavesWhenItFailsItsCallers holds that a hold ends early when the data path disagrees with it.
func TestHeldNodeLeavesWhenItFailsItsCallers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	doomed := start(t, s.addr, node(1), node(2))
	var dead atomic.Bool
	w := watch(t, s.addr, etcd.Config{TTL: time.Minute, Dead: func(n registry.Node) bool { return dead.Load() && n == node(1) }})
	w.await(patience, node(0), node(1), node(2))
	s.down()
	w.awaitLink(false, patience)
	doomed.kill()
	s.empty()
	s.up()
	eventually(t, "resync", patience, func() bool { return w.Status().Resyncs["revision"] == 1 })
	w.noLeaves(ttl)
	dead.Store(true)
	w.await(patience, node(0), node(2)) // the hold is two minutes
	if n := w.leavesOf(node(2)); n != 0 {
		t.Error("a held node left that fails nobody")
	}
}

// TestStoreRestoredFromOldBackup puts back a store in which a node stands that has ended since, and one lacks that came later: the
// ghost goes, the others never leave.
func TestStoreRestoredFromOldBackup(t *testing.T) {
	t.Parallel()
	f := func(name string, newer int, cause string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			start(t, s.addr, node(0))
			ghost := start(t, s.addr, node(1))
			w := watch(t, s.addr, etcd.Config{})
			w.await(patience, node(0), node(1))
			s.down()
			restore := s.backup()
			s.up()
			w.awaitLink(true, patience)
			ghost.withdraw(node(1))
			ghost.kill()
			start(t, s.addr, node(2))
			w.await(patience, node(0), node(2))
			for i := range 20 {
				s.put("other", fmt.Sprint(i))
			}

			s.down()
			w.awaitLink(false, patience)
			restore()
			s.up()
			began := time.Now()
			s.do(func(ctx context.Context, c *clientv3.Client) error {
				for i := range newer { // with enough of them the new history has overtaken what the watch has seen
					if _, err := c.Put(ctx, "other", fmt.Sprint("new", i)); err != nil {
						return err
					}
				}
				return nil
			})
			eventually(t, "registered again", patience, func() bool { _, lease := s.entry(node(2).Key(project)); return lease != 0 })
			if cause != "" {
				eventually(t, "noticed", patience, func() bool { return w.Status().Resyncs[cause] > 0 })
			}
			// The ghost is back with the lease of the backup, which nobody renews.
			eventually(t, "ghost gone from the store", patience, func() bool { v, _ := s.entry(node(1).Key(project)); return v == "" })
			w.await(patience, node(0), node(2))
			t.Logf("without the ghost %v after the restore, resyncs %v", time.Since(began).Round(10*time.Millisecond), w.Status().Resyncs)
			for i := range 3 {
				if i == 1 {
					continue
				}
				if n := w.leavesOf(node(i)); n != 0 {
					t.Errorf("node %d, which lives, left %d times", i, n)
				}
			}
			start(t, s.addr, node(3))
			w.await(patience, node(0), node(2), node(3))
		})
	}
	f("behind", 0, "revision")
	f("ahead", 200, "")
}
