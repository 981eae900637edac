package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestPoisonIsNamedButNotWithoutEnd has thousands of entries that cannot be used, of two kinds: some of each are named, then it is said
// that there are more, all are counted, and nodes are told beside them.
func TestPoisonIsNamedButNotWithoutEnd(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	w := watch(t, s.addr, etcd.Config{})
	const many, batch = 3000, 100
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		for i := 0; i < many; i += batch {
			var puts []clientv3.Op
			for j := i; j < i+batch; j++ {
				puts = append(puts, clientv3.OpPut(fmt.Sprintf("%s_user_10.0.0.1:%d_10.0.0.1:0", project, j+1), "0"))
				if j < many/2 { // one address for all
					same := registry.NewNode("twin", fmt.Sprintf("10.0.0.1:%d", j+1), "10.0.0.1:1")
					puts[len(puts)-1] = clientv3.OpPut(same.Key(project), same.Value())
				}
			}
			if _, err := c.Txn(ctx).Then(puts...).Commit(); err != nil {
				return err
			}
		}
		return nil
	})
	s.put(node(0).Key(project), node(0).Value())
	last := registry.NewNode("twin", fmt.Sprintf("10.0.0.1:%d", many/2), "10.0.0.1:1")
	eventually(t, "all are seen", patience, func() bool { return w.Status().Ignored == many/2 })
	w.await(patience, last, node(0))
	for kind, text := range map[string]string{"malformed": "registry entry ignored", "refused": "node refused"} {
		eventually(t, "word that there are more", patience, func() bool { return w.log.count(fmt.Sprintf("counted and not logged\" reason=%s", kind)) == 1 })
		if n := w.log.count(fmt.Sprintf("msg=%q", text)); n != 256 {
			t.Errorf("%q was logged %d times, want 256", text, n)
		}
	}
	if got := w.Status().Refused["duplicate"]; got != many/2-1 {
		t.Errorf("%d duplicates were counted, want %d", got, many/2-1)
	}
}

// TestWhoIsNotBelievedTakesNoPlace has somebody put nodes at the address of one that lives, which are not believed: that one stays, and so
// it does when they go.
func TestWhoIsNotBelievedTakesNoPlace(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	good := node(1)
	before, after := good, good
	before.RPCAddr, after.RPCAddr = "8.8.8.8:1", "8.8.8.8:2"
	s.put(before.Key(project), before.Value())
	s.put(good.Key(project), good.Value())
	w := watch(t, s.addr, etcd.Config{Believed: func(n registry.Node) bool { return n == good }})
	w.await(patience, good, before) // told, so that somebody can say why they are refused
	s.put(after.Key(project), after.Value())
	w.await(patience, good, before, after)
	for _, n := range []registry.Node{before, after} {
		s.do(func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Delete(ctx, n.Key(project))
			return err
		})
	}
	w.await(patience, good)
	if got := w.Status().Refused; got["duplicate"] != 0 {
		t.Errorf("Refused = %v, want no duplicate", got)
	}
}

// TestComplaintsBeginAgain has what is new named again after a while.
func TestComplaintsBeginAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log lines
		news, named := etcd.Complaints(slog.New(slog.NewTextHandler(&log, nil))), 0
		tell := func(key string) {
			if news(key) {
				named++
			}
		}
		want := func(lines, more int) {
			t.Helper()
			if m := log.count("counted and not logged"); named != lines || m != more {
				t.Errorf("%d lines and %d that there are more, want %d and %d", named, m, lines, more)
			}
		}
		for i := range 1000 {
			tell(fmt.Sprint(i % 300))
		}
		want(256, 1)
		time.Sleep(59 * time.Minute)
		tell("new")
		want(256, 1)
		time.Sleep(2 * time.Minute)
		tell("new")
		tell("new")
		want(257, 1)
	})
}
