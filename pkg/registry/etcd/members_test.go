package etcd_test

import (
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestSilentMembersAtTheStart has two of three members take connections and say nothing.
func TestSilentMembersAtTheStart(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	addrs := blackHole(t) + "|" + blackHole(t) + "|" + s.addr
	began := time.Now()
	start(t, addrs, node(0))
	w := watch(t, addrs, etcd.Config{})
	w.await(patience, node(0))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("registered and seen after %v, want the silent members to cost little", took)
	}
	w.noLeaves(3 * ttl)
	if !w.Status().Connected {
		t.Errorf("Connected = false; log:\n%s", w.log)
	}
}

// TestMemberThatFallsSilent freezes one of two ways to the store: whichever the watch uses, changes go on being told, and nobody
// leaves.
func TestMemberThatFallsSilent(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := newRelay(t, s.addr)
	a := start(t, s.addr, node(0))
	// Its lease is longer than a watch takes to notice, and shorter than the client does.
	b := run(t, open(t, r.addr+"|"+s.addr, etcd.Config{TTL: 3 * time.Second}))
	b.publish(node(1))
	var watchers []*watcher
	for range 3 {
		watchers = append(watchers, watch(t, r.addr+"|"+s.addr, etcd.Config{}))
	}
	for _, w := range watchers {
		w.await(patience, node(0), node(1))
	}
	r.freeze()
	began := time.Now()
	a.publish(node(2))
	for _, w := range watchers {
		w.await(15*time.Second, node(0), node(1), node(2))
		t.Logf("told %v after a member fell silent, resyncs %v", time.Since(began).Round(10*time.Millisecond), w.Status().Resyncs)
	}
	watchers[0].noLeaves(4 * time.Second)
	r.unfreeze()
	a.withdraw(node(2))
	for _, w := range watchers {
		w.await(15*time.Second, node(0), node(1))
		if n := w.leavesOf(node(0)) + w.leavesOf(node(1)); n != 0 {
			t.Errorf("%d leaves of nodes that live", n)
		}
	}
}
