package etcd_test

import (
	"context"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// listening returns a node of service user at which somebody accepts connections until close is called.
func listening(t *testing.T) (n registry.Node, closing func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	addr := l.Addr().String()
	return registry.NewNode("user", addr, addr), func() { l.Close() }
}

// lend puts nodes under a lease of their own that nobody renews, and returns it.
func (s *store) lend(nodes ...registry.Node) (id clientv3.LeaseID) {
	s.t.Helper()
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		lease, err := c.Grant(ctx, 600)
		if err != nil {
			return err
		}
		id = lease.ID
		for _, n := range nodes {
			if _, err := c.Put(ctx, n.Key(project), n.Value(), clientv3.WithLease(id)); err != nil {
				return err
			}
		}
		return nil
	})
	return id
}

// end ends leases, one after the other.
func (s *store) end(ids ...clientv3.LeaseID) {
	s.t.Helper()
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		for _, id := range ids {
			if _, err := c.Revoke(ctx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// tried watches as a gateway does, which tries the ports of nodes.
func tried(t *testing.T, addr string, c etcd.Config) *watcher {
	t.Helper()
	c.Dead = registry.NewTrust(registry.TrustConfig{}).Dead
	return watch(t, addr, c)
}

const (
	bereft  = "most nodes of a service lost their registration, kept while they live"
	restful = "nodes of a service are registered again, or gone"
)

// TestLeaseEndsNeverEmptyAService ends the leases of all nodes of a service, which live, one after the other or all at once: all stay,
// each until it is gone too. Where the right to renew was taken from all, one could not carry the load of all.
func TestLeaseEndsNeverEmptyAService(t *testing.T) {
	t.Parallel()
	f := func(name string, lend func(s *store, nodes ...registry.Node) []clientv3.LeaseID) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			a, closingA := listening(t)
			b, _ := listening(t)
			c, closingC := listening(t)
			w := tried(t, s.addr, etcd.Config{})
			leases := lend(s, a, b, c)
			w.await(patience, a, b, c)
			s.end(leases...)
			eventually(t, "word of the nodes that are kept", patience, func() bool { return w.log.count(bereft) == 1 })
			pause(3 * ttl) // longer than any hold
			w.await(0, a, b, c)
			if w.leaves() != 0 || !w.Status().Connected || len(w.Status().Resyncs) != 0 {
				t.Errorf("%d leaves, Status() = %+v, want none and a watch that never was interrupted", w.leaves(), w.Status())
			}
			closingA()
			w.await(patience, b, c)
			closingC()
			w.await(patience, b)
			s.lend(b)
			eventually(t, "word of the end", patience, func() bool { return w.log.count(restful) == 1 })
			if n := w.log.count(bereft); n != 1 || w.leavesOf(b) != 0 {
				t.Errorf("it was said %d times that nodes are kept, want once, and %d leaves of the one that came back:\n%s", n, w.leavesOf(b), w.log)
			}
		})
	}
	f("one lease each", func(s *store, nodes ...registry.Node) (ids []clientv3.LeaseID) {
		for _, n := range nodes {
			ids = append(ids, s.lend(n))
		}
		return ids
	})
	f("one lease", func(s *store, nodes ...registry.Node) []clientv3.LeaseID { return []clientv3.LeaseID{s.lend(nodes...)} })
}

// TestFewLeasesEnd ends one lease of three: that node lost only its own way to the store. It stays two TTLs, in which the others would
// lose theirs if they were in the same case, and leaves. When two of three are gone they are the most.
func TestFewLeasesEnd(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, _ := listening(t)
	b, _ := listening(t)
	c, _ := listening(t)
	w := tried(t, s.addr, etcd.Config{})
	lost := s.lend(a)
	second := s.lend(b)
	s.lend(c)
	w.await(patience, a, b, c)
	began := time.Now()
	s.end(lost)
	eventually(t, "the node leaves", patience, func() bool { return w.leavesOf(a) == 1 })
	if held := time.Since(began); held < 2*ttl {
		t.Errorf("left after %v, want it held for %v", held, 2*ttl)
	}
	lost = s.lend(a)
	w.await(patience, a, b, c)
	s.end(lost, second)
	eventually(t, "word of the nodes that are kept", patience, func() bool { return w.log.count(bereft) == 1 })
	pause(3 * ttl)
	w.await(0, a, b, c)
	if n := w.leavesOf(b); n != 0 {
		t.Errorf("the second node left %d times, want never", n)
	}
}

// TestNodesThatTakeNothingDoNotCount has an operator drain all other nodes of a service: the one that is left stays when its lease ends.
func TestNodesThatTakeNothingDoNotCount(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, closing := listening(t)
	b, _ := listening(t)
	c, _ := listening(t)
	w := tried(t, s.addr, etcd.Config{Takes: func(n registry.Node) bool { return n.Takes() && n != b && n != c }})
	lease, idle := s.lend(a), s.lend(b)
	s.lend(c)
	w.await(patience, a, b, c)
	s.end(lease)
	eventually(t, "word of the node that is kept", patience, func() bool { return w.log.count(bereft) == 1 })
	s.end(idle) // whom nobody sends anything is not missed
	w.await(patience, a, c)
	pause(3 * ttl)
	w.await(0, a, c)
	closing()
	w.await(patience, c)
}

// TestServicesAtOneAddress ends the lease of one of two services that have shared an address for long: nobody has taken its place.
func TestServicesAtOneAddress(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, _ := listening(t)
	b := a
	b.Service = "other"
	w := tried(t, s.addr, etcd.Config{})
	lease := s.lend(a)
	w.await(patience, a)
	s.lend(b)
	w.await(patience, a, b)
	pause(2*ttl + time.Second/2)
	s.end(lease)
	eventually(t, "word of the node that is kept", patience, func() bool { return w.log.count(bereft) == 1 })
	pause(ttl)
	w.await(0, a, b)
}

// TestKeptNodeRegistersAgain has the kept node come back: nobody was told that it left or joined.
func TestKeptNodeRegistersAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, closing := listening(t)
	w := tried(t, s.addr, etcd.Config{})
	lease := s.lend(a)
	w.await(patience, a)
	for range 2 { // and each time anew
		was := w.log.count(bereft)
		s.end(lease)
		eventually(t, "word of the node that is kept", patience, func() bool { return w.log.count(bereft) > was })
		lease = s.lend(a)
		other := registry.NewNode("other", "10.0.0.1:1", "10.0.0.1:2") // told after the registration
		s.put(other.Key(project), other.Value())
		w.await(patience, other, a)
		s.do(func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Delete(ctx, other.Key(project))
			return err
		})
		w.await(patience, a)
	}
	if n := w.leavesOf(a); n != 0 {
		t.Errorf("the node left %d times, want never", n)
	}
	closing()
	w.noLeavesOf(a, ttl) // it is registered: a closed port is for the data path to find
}

// noLeavesOf fails if a node leaves within d, or has left.
func (w *watcher) noLeavesOf(n registry.Node, d time.Duration) {
	w.t.Helper()
	for deadline := time.Now().Add(d); time.Now().Before(deadline); pause(10 * time.Millisecond) {
		if w.leavesOf(n) > 0 {
			w.t.Fatalf("node %s left, want it to stay", n.ID())
		}
	}
}

// TestKeptNodeLeavesWhenAnotherCame holds a kept node two TTLs, and not for ever once there is another.
func TestKeptNodeLeavesWhenAnotherCame(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a, _ := listening(t)
	b, _ := listening(t)
	w := tried(t, s.addr, etcd.Config{TTL: 2 * ttl})
	lease := s.lend(a)
	w.await(patience, a)
	began := time.Now()
	s.end(lease)
	s.lend(b)
	w.await(patience, registry.NewSnapshot(0, []registry.Node{a, b}).Nodes...)
	w.await(patience, b)
	if held := time.Since(began); held < 4*ttl {
		t.Errorf("left after %v, want it held for %v", held, 4*ttl)
	}
}

// TestLastNodeLeavesAtOnce has last nodes of whom there is no doubt.
func TestLastNodeLeavesAtOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	w := tried(t, s.addr, etcd.Config{TTL: time.Minute})
	f := func(name string, n registry.Node, leave func(registry.Node)) {
		t.Helper()
		w.await(patience, n)
		leave(n)
		began := time.Now()
		w.await(patience)
		t.Logf("%s: told after %v", name, time.Since(began).Round(time.Millisecond))
	}
	del := func(n registry.Node) {
		s.do(func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Delete(ctx, n.Key(project))
			return err
		})
	}

	killed, closing := listening(t)
	closing()
	lease := s.lend(killed)
	f("killed", killed, func(registry.Node) { s.end(lease) })

	byHand, _ := listening(t)
	s.put(byHand.Key(project), byHand.Value())
	f("put by hand", byHand, del)

	leaving, _ := listening(t)
	leaving.State = registry.Draining
	s.lend(leaving)
	f("said goodbye", leaving, del)

	idle, _ := listening(t)
	idle.Weight = 0
	lease = s.lend(idle)
	f("of weight 0", idle, func(registry.Node) { s.end(lease) })

	moved, _ := listening(t)
	lease = s.lend(moved)
	w.await(patience, moved)
	heir := moved
	heir.Service = "heir"
	s.lend(heir)
	w.await(patience, heir, moved)
	s.end(lease)
	w.await(patience, heir) // who answers there is another
}

// TestBlockingQuestionsDoNotStopTheWatch has a question take as long as it likes: the watch goes on meanwhile.
func TestBlockingQuestionsDoNotStopTheWatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	asked, answer := make(chan struct{}), make(chan bool)
	w := watch(t, s.addr, etcd.Config{Dead: func(registry.Node) bool {
		asked <- struct{}{}
		return <-answer
	}})
	t.Cleanup(w.stop)
	lease := s.lend(node(0))
	w.await(patience, node(0))
	s.end(lease)
	<-asked
	other := registry.NewNode("other", "10.0.0.1:1", "10.0.0.1:2")
	s.put(other.Key(project), other.Value())
	w.await(patience, other, node(0))
	// It comes back before the answer, which is then about another.
	s.lend(node(0))
	third := registry.NewNode("third", "10.0.0.1:3", "10.0.0.1:4")
	s.put(third.Key(project), third.Value())
	w.await(patience, other, third, node(0))
	answer <- true
	w.noLeaves(ttl)
}
