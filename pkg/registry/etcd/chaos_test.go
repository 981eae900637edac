package etcd_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestWatchConvergesAfterTrouble changes nodes while the watch loses its connection and the store its history again and again.
// Nodes that never change must never leave, and in the end the watch must tell what the store holds.
func TestWatchConvergesAfterTrouble(t *testing.T) {
	t.Parallel()
	const steady, restless = 3, 8
	s := newStore(t)
	r := newRelay(t, s.addr)
	for i := range steady {
		start(t, s.addr, node(100+i))
	}
	w := watch(t, r.addr, etcd.Config{})
	a := start(t, s.addr)

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			n := node(rand.IntN(restless))
			n.Weight = rand.IntN(3)
			if rand.IntN(2) == 0 {
				a.publish(n)
			} else {
				a.withdraw(n)
			}
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			r.cut()
			pause(rand.N(300 * time.Millisecond))
			r.heal()
			pause(rand.N(300 * time.Millisecond))
		}
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			s.do(func(ctx context.Context, c *clientv3.Client) error {
				resp, err := c.Get(ctx, "x")
				if err == nil {
					_, err = c.Compact(ctx, resp.Header.Revision)
				}
				if errors.Is(err, rpctypes.ErrCompacted) { // nothing was written since the last time
					return nil
				}
				return err
			})
			pause(200 * time.Millisecond)
		}
	})
	wg.Wait()

	want := s.nodes()
	w.await(patience, want...)
	for i := range steady {
		if n := w.leavesOf(node(100 + i)); n != 0 {
			t.Errorf("node %d, which never changed, left %d times", i, n)
		}
	}
	t.Logf("resyncs %v, %d nodes in the end", w.Status().Resyncs, len(want))
}

// nodes returns what the store holds.
func (s *store) nodes() (out []registry.Node) {
	s.t.Helper()
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, registry.Prefix(project), clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			n, err := registry.Parse(project, string(kv.Key), string(kv.Value))
			if err != nil {
				return err
			}
			out = append(out, n)
		}
		return nil
	})
	return out
}
