package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

func TestStoreDownLongerThanTTL(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for i := range 3 {
		start(t, s.addr, node(i))
	}
	w := watch(t, s.addr, etcd.Config{})
	w.await(patience, node(0), node(1), node(2))

	s.down()
	w.awaitLink(false, patience)
	w.noLeaves(3 * ttl)
	before, _ := w.told()
	s.up()
	w.awaitLink(true, 10*time.Second)
	w.noLeaves(4 * ttl)
	for i := range 3 {
		if _, lease := s.entry(node(i).Key(project)); lease == 0 {
			t.Errorf("node %d is not registered again", i)
		}
	}
	if after, _ := w.told(); len(after.Nodes) != len(before.Nodes) {
		t.Errorf("nodes = %v, want %v", after.Nodes, before.Nodes)
	}
	if begin, end := w.log.count("registry unavailable"), w.log.count("registry available again"); begin != 1 || end != 1 {
		t.Errorf("outage logged %d times at its beginning and %d at its end, want once each:\n%s", begin, end, w.log)
	}
	start(t, s.addr, node(3))
	w.await(patience, node(0), node(1), node(2), node(3))
}

func TestStoreRestartedEmpty(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	start(t, s.addr, node(1))
	doomed := start(t, s.addr, node(2))
	w := watch(t, s.addr, etcd.Config{})
	w.await(patience, node(0), node(1), node(2))
	for range 20 { // so that the new store stays behind
		s.put("other", "x")
	}

	s.down()
	w.awaitLink(false, patience)
	doomed.kill()
	s.empty()
	s.up()
	began := time.Now()
	for i := range 2 {
		eventually(t, "registered again", patience, func() bool { _, lease := s.entry(node(i).Key(project)); return lease != 0 })
	}
	eventually(t, "resync", patience, func() bool { return w.Status().Resyncs["revision"] == 1 })
	if s, _ := w.told(); len(s.Nodes) != 3 {
		t.Errorf("nodes right after the resync = %v, want all held", s.Nodes)
	}
	w.await(patience, node(0), node(1))
	if held := time.Since(began); held < 2*ttl {
		t.Errorf("dead node left after %v, want it held for %v", held, 2*ttl)
	}
	if n := w.leaves(); n != 1 {
		t.Errorf("%d leaves, want only that of the dead node", n)
	}
	start(t, s.addr, node(3))
	w.await(patience, node(0), node(1), node(3))
}

func TestCompactionWhileDisconnected(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := newRelay(t, s.addr)
	a := start(t, s.addr, node(0), node(1))
	w := watch(t, r.addr, etcd.Config{CheckInterval: time.Minute})
	w.await(patience, node(0), node(1))

	r.cut()
	w.awaitLink(false, patience)
	a.withdraw(node(0))
	a.publish(node(2))
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Put(ctx, "other", "x")
		if err != nil {
			return err
		}
		_, err = c.Compact(ctx, resp.Header.Revision)
		return err
	})
	r.heal()
	w.await(patience, node(0), node(1), node(2)) // the delete is held
	w.await(patience, node(1), node(2))
	if got := w.Status().Resyncs; got["compacted"] != 1 || len(got) != 1 {
		t.Errorf("Resyncs = %v, want one, for compaction", got)
	}
	a.publish(node(3))
	w.await(patience, node(1), node(2), node(3))
}

func TestDeleteWhileDisconnectedIsHeld(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := newRelay(t, s.addr)
	a := start(t, s.addr, node(0), node(1), node(2))
	w := watch(t, r.addr, etcd.Config{TTL: 2 * ttl}) // so that there is time to come back
	w.await(patience, node(0), node(1), node(2))
	saying := node(1)
	saying.State = registry.Draining
	a.publish(saying)
	w.await(patience, node(0), saying, node(2))

	r.cut()
	w.awaitLink(false, patience)
	a.withdraw(node(0))
	a.withdraw(saying)
	a.withdraw(node(2))
	r.heal()
	w.await(1500*time.Millisecond, node(0), node(2)) // the draining one leaves at once
	a.publish(node(2))                               // and this one comes back in time
	w.await(patience, node(2))
	if w.leavesOf(node(2)) != 0 {
		t.Error("the node that came back within the hold left")
	}
	if got := w.Status().Resyncs; len(got) != 0 {
		t.Errorf("Resyncs = %v, want none: the watch goes on where it was", got)
	}
}

func TestDeleteOverHealthyWatchIsToldAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a := start(t, s.addr, node(0), node(1))
	w := watch(t, s.addr, etcd.Config{TTL: time.Minute})
	w.await(patience, node(0), node(1))
	a.withdraw(node(0))
	w.await(patience, node(1))
	a.kill()
	w.await(patience) // its lease expires
}

func TestLeaseRevokedByHand(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0), node(1))
	_, lease := s.entry(node(0).Key(project))
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, clientv3.LeaseID(lease))
		return err
	})
	for i := range 2 {
		eventually(t, "registered again", patience, func() bool {
			value, now := s.entry(node(i).Key(project))
			return value == "0" && now != lease && now != 0
		})
	}
}

func TestKeyDeletedByHand(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a := run(t, open(t, s.addr, etcd.Config{TTL: 30 * time.Second}))
	a.publish(node(0))
	_, lease := s.entry(node(0).Key(project))
	for range 3 {
		s.do(func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Delete(ctx, node(0).Key(project))
			return err
		})
		eventually(t, "registered again", 5*time.Second, func() bool { _, l := s.entry(node(0).Key(project)); return l == lease }) // no renewal is due
	}
}

func TestKeyPutByHandIsTakenBack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	s.put(node(0).Key(project), `{"weight":7}`)
	eventually(t, "own value", patience, func() bool { v, l := s.entry(node(0).Key(project)); return v == "0" && l != 0 })
}

func TestPublishWhileStoreIsDown(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.down()
	a := run(t, open(t, s.addr, etcd.Config{}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.Publish(ctx, node(0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Publish() = %v, want %v", err, context.DeadlineExceeded)
	}
	w := watchOnly(t, s.addr, etcd.Config{})
	w.awaitLink(false, 0)
	s.up()
	w.await(patience, node(0))
}

func TestFrozenConnection(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := newRelay(t, s.addr)
	start(t, s.addr, node(0))
	start(t, r.addr, node(1)) // it will be cut off for longer than its lease lasts
	w := watch(t, r.addr, etcd.Config{})
	w.await(patience, node(0), node(1))
	r.freeze()
	w.awaitLink(false, patience)
	w.noLeaves(2 * ttl)
	r.unfreeze()
	w.awaitLink(true, patience)
	w.noLeaves(3 * ttl)
	w.await(0, node(0), node(1))
}

func TestManyNodes(t *testing.T) { // alone: it would starve the leases of others
	const processes, each = 20, 10
	s := newStore(t)
	var want []registry.Node
	w := watch(t, s.addr, etcd.Config{TTL: 2 * ttl})
	for p := range processes {
		a := run(t, open(t, s.addr, etcd.Config{TTL: 2 * ttl}))
		for i := range each {
			want = append(want, node(p*each+i))
			a.publish(node(p*each + i))
		}
	}
	w.await(patience, want...)
	s.down()
	w.awaitLink(false, patience)
	s.empty()
	s.up()
	began := time.Now()
	eventually(t, "all registered again", patience, func() bool {
		n := int64(0)
		s.do(func(ctx context.Context, c *clientv3.Client) error {
			resp, err := c.Get(ctx, registry.Prefix(project), clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err == nil {
				n = resp.Count
			}
			return err
		})
		return n == processes*each
	})
	t.Logf("%d nodes of %d processes registered again %v after an empty store came up", processes*each, processes, time.Since(began).Round(time.Millisecond))
	w.noLeaves(4*ttl + time.Second) // longer than what is missing is held
	w.await(0, want...)
}

func TestStatusCountsOneContact(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	w := watch(t, s.addr, etcd.Config{CheckInterval: 100 * time.Millisecond})
	first := w.Status().LastContact
	eventually(t, "another contact without events", patience, func() bool { return w.Status().LastContact.After(first) })
}

func ExampleOpen() {
	reg, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{"127.0.0.1:2379"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer reg.Close()
	fmt.Println(reg.Status().Connected)
	// Output: false
}
