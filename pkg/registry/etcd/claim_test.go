package etcd_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestNewerProcessKeepsTheKey is a restart on the same ports that overlaps: the old process must not take the new one down.
func TestNewerProcessKeepsTheKey(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	older, newer := start(t, s.addr, node(0)), start(t, s.addr, node(0))
	key := node(0).Key(project)
	_, lease := s.entry(key)

	draining := node(0)
	draining.State = registry.Draining
	if err := older.Publish(t.Context(), draining); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("Publish() of the older process = %v, want a refusal", err)
	}
	older.withdraw(node(0))
	if value, now := s.entry(key); value != "0" || now != lease {
		t.Fatalf("entry = %q under lease %x, want that of the newer process, %x", value, now, lease)
	}
	newer.withdraw(node(0))
	if value, _ := s.entry(key); value != "" {
		t.Fatalf("entry after the newer withdrew = %q, want none", value)
	}
}

func TestOlderProcessComesBackWhenTheNewerLeaves(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	newer := start(t, s.addr, node(0))
	newer.withdraw(node(0))
	eventually(t, "registered again", patience, func() bool { v, _ := s.entry(node(0).Key(project)); return v == "0" })
}

func TestOneLeaseForAllNodes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a := start(t, s.addr, node(0), node(1), node(2))
	a.withdraw(node(1))
	_, first := s.entry(node(0).Key(project))
	_, third := s.entry(node(2).Key(project))
	if first == 0 || first != third {
		t.Errorf("leases = %x and %x, want one", first, third)
	}
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Leases(ctx)
		if err == nil && len(resp.Leases) != 1 {
			t.Errorf("%d leases, want 1", len(resp.Leases))
		}
		return err
	})
}

func TestRunOnceAtATime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a := start(t, s.addr, node(0))
	if err := a.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) {
		t.Fatalf("second Run() = %v, want a refusal", err)
	}
}

func TestRunAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := open(t, s.addr, etcd.Config{})
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		if err := r.Publish(t.Context(), node(0)); err != nil {
			t.Fatal(err)
		}
		cancel()
		wg.Wait()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	if err := r.Withdraw(t.Context(), node(0)); err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	if v, _ := s.entry(node(0).Key(project)); v != "" {
		t.Fatalf("entry = %q, want none", v)
	}
}

func TestPoisonEntries(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	poison := []string{
		"goms_", "goms_user", "goms_user_10.0.0.1:1_10.0.0.1:0", "goms_../x_10.0.0.1:1_10.0.0.1:1",
		"goms_\xff\xfe_10.0.0.1:1_10.0.0.1:1", "goms_user_0.0.0.0:1_10.0.0.1:1", "goms_evil\n[user] node join_10.0.0.1:1_10.0.0.1:1",
	}
	for _, key := range poison {
		s.put(key, "0")
	}
	s.put(node(7).Key(project), strings.Repeat(" ", 1<<20))
	s.put("gomsother_user_10.0.0.1:1_10.0.0.1:1", "0")
	n := int64(len(poison) + 1)

	w := watch(t, s.addr, etcd.Config{CheckInterval: 50 * time.Millisecond})
	start(t, s.addr, node(0))
	w.await(patience, node(0))
	if got := w.Status().Ignored; got != n {
		t.Errorf("Ignored = %d, want %d", got, n)
	}
	s.put(node(8).Key(project), "null")
	eventually(t, "one more ignored", patience, func() bool { return w.Status().Ignored == n+1 })
	s.put(node(8).Key(project), "[]")
	eventually(t, "one more ignored", patience, func() bool { return w.Status().Ignored == n+2 })
	if got := w.log.count("registry entry ignored"); got != int(n+1) {
		t.Errorf("ignored entries logged %d times, want once a key, %d:\n%.4000s", got, n+1, w.log)
	}
	// The value of a live node is spoilt, and the node taken for what it was until it puts itself right.
	s.put(node(0).Key(project), "spoilt")
	eventually(t, "one more ignored", patience, func() bool { return w.Status().Ignored == n+3 })
	w.noLeaves(ttl)
	w.await(0, node(0))
	if got := w.Status().Resyncs; len(got) != 0 {
		t.Errorf("Resyncs = %v, want none", got)
	}
}
