package etcd_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// watchFrom watches over addr, beginning with a seed.
func watchFrom(t *testing.T, addr string, seed registry.Snapshot) *watcher {
	t.Helper()
	w := newWatcher(t, addr, etcd.Config{})
	w.run(func(ctx context.Context) error { return w.WatchFrom(ctx, seed, w.take) })
	return w
}

func TestSeedIsToldWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.down()
	s.empty()
	gone := node(2)
	gone.State = registry.Draining
	w := watchFrom(t, s.addr, registry.NewSnapshot(900, []registry.Node{node(0), node(1), gone}))
	w.await(10*time.Second, node(0), node(1), gone)
	if st := w.Status(); !st.Stale || st.Connected || !st.LastContact.IsZero() {
		t.Errorf("Status() = %+v, want stale and not connected", st)
	}
	s.up()
	began := time.Now()
	start(t, s.addr, node(0))
	w.await(patience, node(0), node(1)) // who said goodbye is not waited for
	if st := w.Status(); st.Stale {
		t.Error("Stale = true after the store was read")
	}
	w.await(patience, node(0))
	if held := time.Since(began); held < 2*ttl {
		t.Errorf("a node that the store does not know left after %v, want it held for %v", held, 2*ttl)
	}
	if n := w.leavesOf(node(0)); n != 0 {
		t.Errorf("the node that lives left %d times", n)
	}
}

// TestSeedIsToldWhenTheStoreIsSilent has a store that takes connections and says nothing.
func TestSeedIsToldWhenTheStoreIsSilent(t *testing.T) {
	t.Parallel()
	w := watchFrom(t, blackHole(t), registry.NewSnapshot(9, []registry.Node{node(0)}))
	w.await(10*time.Second, node(0))
	if !w.Status().Stale {
		t.Error("Stale = false, want true")
	}
}

func TestSeedDoesNothingWhenTheStoreAnswers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	w := watchFrom(t, s.addr, registry.NewSnapshot(1, []registry.Node{node(1)}))
	w.await(patience, node(0))
	if n := w.leaves(); n != 0 {
		t.Errorf("%d leaves, want none: the seed was not to be told", n)
	}
}

func TestSeedIsHeldWhenTheStoreIsBehindIt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	w := watchFrom(t, s.addr, registry.NewSnapshot(1<<40, []registry.Node{node(1)}))
	w.await(patience, node(0), node(1))
	w.await(patience, node(0))
}

// blackHole is an address where connections are taken and nothing is said.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestNodesWithOneAddress(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	w := watch(t, s.addr, etcd.Config{})
	twin := func(rpc string, weight int) registry.Node {
		n := node(0)
		n.RPCAddr, n.Weight = rpc, weight
		return n
	}
	a, b, c := start(t, s.addr), start(t, s.addr), start(t, s.addr)
	first, second, third := twin("10.0.0.1:1", 1), twin("10.0.0.1:2", 2), twin("10.0.0.1:3", 3)
	a.publish(first, node(1))
	w.await(patience, first, node(1))
	b.publish(second)
	w.await(patience, second, node(1))
	c.publish(third)
	w.await(patience, third, node(1))
	if got := w.Status().Refused; got["duplicate"] != 2 {
		t.Errorf("Refused = %v, want 2, duplicate", got)
	}
	// Of another service it is none of their business.
	other := first
	other.Service = "order"
	a.publish(other)
	w.await(patience, other, third, node(1))
	// Whoever reads anew sees the same, and so does one that is told by events.
	watch(t, s.addr, etcd.Config{}).await(patience, other, third, node(1))
	first.Weight = 9
	a.publish(first) // the last writer
	w.await(patience, other, first, node(1))
	watch(t, s.addr, etcd.Config{}).await(patience, other, first, node(1))
	a.withdraw(first)
	w.await(patience, other, third, node(1)) // the newest of those left
	b.withdraw(second)
	c.withdraw(third)
	w.await(patience, other, node(1))
	eventually(t, "agreement with the store", patience, func() bool { return w.Status().LastContact.After(time.Now().Add(-time.Second)) })
	if got := w.Status().Resyncs; len(got) != 0 {
		t.Errorf("Resyncs = %v, want none", got)
	}
}

// TestPoisonNodesAreRefused puts nodes that read well and cannot be believed beside good ones.
func TestPoisonNodesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	self := registry.NewNode("gateway", "10.0.0.9:8180", "10.0.0.9:8080")
	own := &net.TCPAddr{IP: net.IPv4zero, Port: 8080}
	file := registry.NewFile(filepath.Join(t.TempDir(), "nodes"), project, nil)
	log := &lines{}
	trust := registry.NewTrust(registry.TrustConfig{Self: self, Own: []net.Addr{own}, Log: (&watcher{log: log}).logger()})
	start(t, s.addr, node(0), self)
	order := registry.NewNode("order", "10.0.0.2:1", "10.0.0.2:2")
	start(t, s.addr, order)
	m := members(t, s.addr, registry.MembersConfig{Trust: trust, File: file}, etcd.Config{})
	m.await(patience, self, node(0), order)
	for key, value := range map[string]string{
		"goms_user_10.0.0.3:1_10.0.0.9:8080":      "0",             // the gateway's own
		"goms_user_10.0.0.3:1_127.0.0.1:8080":     "0",             // the same, another way
		"goms_user_10.0.0.3:1_169.254.169.254:80": "0",             // a cloud's metadata
		"goms_user_8.8.8.8:1_10.0.0.3:2":          "0",             // the world
		"goms_user_10.0.0.3:1_10.0.0.3:3":         `{"weight":-1}`, // malformed from here on
		"goms_user_10.0.0.3:1_10.0.0.3:4":         `{"weight":1e9}`,
		"goms_user_10.0.0.3:1_10.0.0.3:5":         `{"weight":"x"}`,
		"goms_user_10.0.0.3:1_10.0.0.3:6":         "{\"zone\":\"\xff\"}",
		"goms_user_10.0.0.3:1_10.0.0.3:7":         `{"state":"best"}`,
		"goms_user_10.0.0.3:1_10.0.0.3:0":         "0",
		"goms_user_10.0.0.3:1_10.0.0.3:70000":     "0",
		"goms_user_10.0.0.3:1_../../etc:1":        "0",
		"goms_user_10.0.0.3:1_10.0.0.3:8":         "{\"zone\":\"" + strings.Repeat("z", 1<<20) + "\"}",
	} {
		s.put(key, value)
	}
	eventually(t, "all met", patience, func() bool {
		st := m.Status()
		return st.Ignored == 9 && st.Refused["own"] == 2 && st.Refused["network"] == 2
	})
	m.await(0, self, node(0), order)
	if n := m.log.count("registry entry ignored"); n != 9 {
		t.Errorf("%d lines about what cannot be read, want 9", n)
	}
	if n := log.count("is refused"); n != 4 {
		t.Errorf("%d lines about nodes that are refused, want 4:\n%s", n, log)
	}
	if n := m.leaves(); n != 0 {
		t.Errorf("%d leaves, want none", n)
	}
}
