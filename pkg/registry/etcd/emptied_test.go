package etcd_test

import (
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestStoreRestartedEmptyAndOneIsLate has a node register with the emptied store after the store was listed: its revision is lower than the
// one it had, and it counts.
func TestStoreRestartedEmptyAndOneIsLate(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range 20 { // so that the new store stays behind
		s.put("other", "x")
	}
	s.put(node(0).Key(project), "0")
	s.put(node(1).Key(project), "0")
	w := watch(t, s.addr, etcd.Config{CheckInterval: time.Minute, TTL: 2 * ttl})
	w.await(patience, node(0), node(1))

	s.down()
	w.awaitLink(false, patience)
	s.empty()
	s.up()
	s.put(node(0).Key(project), "0")
	eventually(t, "resync", patience, func() bool { return w.Status().Resyncs["revision"] == 1 })
	s.put(node(1).Key(project), "0")
	w.noLeaves(4*ttl + time.Second) // longer than what is missing is held
}
