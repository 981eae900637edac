package etcd_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
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
	if took := time.Since(began); took > 15*time.Second {
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
	both := r.addr + "|" + newRelay(t, s.addr).addr // equally near, so that each gets a share
	a := start(t, s.addr, node(0))
	// Its lease is longer than a watch takes to notice, and shorter than the client does.
	all := []registry.Node{node(0)}
	for i := range 8 {
		all = append(all, node(10+i))
		run(t, open(t, both, etcd.Config{TTL: 5 * time.Second})).publish(node(10 + i))
	}
	var watchers []*watcher
	for range 3 {
		watchers = append(watchers, watch(t, both, etcd.Config{}))
	}
	for _, w := range watchers {
		w.await(patience, all...)
	}
	r.freeze()
	began := time.Now()
	a.publish(node(2))
	for _, w := range watchers {
		w.await(patience, append(all[:len(all):len(all)], node(2))...)
		t.Logf("told %v after a member fell silent, resyncs %v", time.Since(began).Round(10*time.Millisecond), w.Status().Resyncs)
	}
	watchers[0].noLeaves(6 * time.Second)
	// Not only was nobody told to leave: no lease was lost.
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		deleted := 0
		for resp := range c.Watch(ctx, registry.Prefix(project), clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithFilterPut()) {
			deleted += len(resp.Events)
		}
		if deleted > 0 {
			t.Errorf("%d nodes lost their keys while a member was silent, want none", deleted)
		}
		return nil
	})
	r.unfreeze()
	a.withdraw(node(2))
	for _, w := range watchers {
		w.await(patience, all...)
		if n := w.leaves(); n != 1 {
			t.Errorf("%d leaves, want only that of the node that left", n)
		}
	}
}
