package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

// sighting is one call of Watch's callback.
type sighting struct {
	at   time.Time
	told registry.Snapshot
}

// written is one change that the store has confirmed.
type written struct {
	at       time.Time
	revision int64
}

// TestWatchAgainstModel has thousands of nodes joining, leaving, changing and expiring, and holds every snapshot that was told
// against a model: the store's own history, replayed to the snapshot's revision. The store orders all changes, so this is the whole
// of linearizability for a reader: each set was exactly that of one moment, moments never go back, and each change is told within
// bounded time. An event that was lost, doubled or reordered shows in the first set after it.
func TestWatchAgainstModel(t *testing.T) { // alone: it would starve the leases of others
	const crowd, changes, perSecond = 10_000, 3_000, 1_000
	s := newStore(t)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.addr}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	populate(ctx, t, c, crowd)

	// A listing that a busy machine does not answer in time would be an outage, in which deletes are held.
	log := &lines{}
	r := open(t, s.addr, etcd.Config{TTL: 10 * time.Second, CheckInterval: time.Minute, Log: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the watch:\n%s", log)
		}
	})
	var mu sync.Mutex
	var seen []sighting
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Watch(watching, func(told registry.Snapshot) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, sighting{time.Now(), told})
		})
	}()
	newest := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 {
			return 0
		}
		return seen[len(seen)-1].told.Revision
	}
	eventually(t, "first snapshot", patience, func() bool { return newest() > 0 })

	began := time.Now()
	writes := churn(ctx, t, c, changes, perSecond)
	took := time.Since(began)
	last := writes[len(writes)-1].revision
	eventually(t, "last change told", patience, func() bool { return newest() >= last })
	stop()
	<-done

	check(ctx, t, c, seen)
	lags := lagsOf(writes, seen)
	t.Logf("%d nodes, %d changes at %.0f/s, told in %d snapshots; lag p50 %v, p99 %v, most %v; resyncs %v", crowd, len(writes),
		float64(len(writes))/took.Seconds(), len(seen), lags[len(lags)/2], lags[len(lags)*99/100], lags[len(lags)-1], r.Status().Resyncs)
	if p99 := lags[len(lags)*99/100]; p99 > 10*time.Second {
		t.Errorf("lag p99 = %v", p99)
	}
	if len(seen) > len(writes)/2 {
		t.Errorf("%d snapshots for %d changes: they are not coalesced", len(seen), len(writes))
	}
}

func crowdNode(i int) registry.Node {
	host := fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
	return registry.NewNode(fmt.Sprintf("service%d", i%100), host+":9180", host+":9080")
}

// populate registers nodes 0 to n-1.
func populate(ctx context.Context, t *testing.T, c *clientv3.Client, n int) {
	t.Helper()
	const batch = 100
	for i := 0; i < n; i += batch {
		var ops []clientv3.Op
		for j := i; j < i+batch; j++ {
			ops = append(ops, clientv3.OpPut(crowdNode(j).Key(project), "0"))
		}
		if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// churn makes changes: joins, leaves, new weights, and leases with several nodes that end at once.
func churn(ctx context.Context, t *testing.T, c *clientv3.Client, changes, perSecond int) []written {
	t.Helper()
	const hands, restless = 20, 12_000
	var mu sync.Mutex
	var writes []written
	var wg sync.WaitGroup
	for hand := range hands {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(hand), 7))
			tick := time.NewTicker(time.Second * hands / time.Duration(perSecond))
			defer tick.Stop()
			for range changes / hands {
				<-tick.C
				revision, err := change(ctx, c, random, restless)
				if err != nil {
					t.Errorf("change: %v", err)
					return
				}
				mu.Lock()
				writes = append(writes, written{time.Now(), revision})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.SortFunc(writes, func(a, b written) int { return int(a.revision - b.revision) })
	return writes
}

func change(ctx context.Context, c *clientv3.Client, random *rand.Rand, restless int) (revision int64, err error) {
	n := crowdNode(random.IntN(restless))
	key := n.Key(project)
	switch random.IntN(20) {
	case 0: // some nodes of one process, whose lease ends
		lease, err := c.Grant(ctx, 60)
		if err != nil {
			return 0, err
		}
		var ops []clientv3.Op
		for i := range 5 {
			ops = append(ops, clientv3.OpPut(crowdNode(restless+i*7+random.IntN(7)).Key(project), "0", clientv3.WithLease(lease.ID)))
		}
		if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
			return 0, err
		}
		gone, err := c.Revoke(ctx, lease.ID)
		if err != nil {
			return 0, err
		}
		return gone.Header.Revision, nil
	case 1, 2, 3:
		n.Weight = random.IntN(registry.MaxWeight)
		resp, err := c.Put(ctx, key, n.Value())
		if err != nil {
			return 0, err
		}
		return resp.Header.Revision, nil
	case 4, 5, 6, 7, 8, 9, 10, 11:
		resp, err := c.Put(ctx, key, "0")
		if err != nil {
			return 0, err
		}
		return resp.Header.Revision, nil
	}
	resp, err := c.Delete(ctx, key)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// check replays the store's history beside what was told.
func check(ctx context.Context, t *testing.T, c *clientv3.Client, seen []sighting) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	last := seen[len(seen)-1].told.Revision
	model := map[string]string{}
	next := 0
	// catchUp checks what was told before the given revision.
	catchUp := func(before int64) {
		for ; next < len(seen) && seen[next].told.Revision < before; next++ {
			if next > 0 && seen[next].told.Revision < seen[next-1].told.Revision {
				t.Fatalf("snapshot %d is of revision %d, the one before it of %d", next, seen[next].told.Revision, seen[next-1].told.Revision)
			}
			compareTold(t, next, seen[next].told, model)
		}
	}
	for resp := range c.Watch(ctx, registry.Prefix(project), clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Events {
			catchUp(e.Kv.ModRevision)
			if e.Type == clientv3.EventTypeDelete {
				delete(model, string(e.Kv.Key))
			} else {
				model[string(e.Kv.Key)] = string(e.Kv.Value)
			}
		}
		if len(resp.Events) > 0 && resp.Events[len(resp.Events)-1].Kv.ModRevision >= last {
			break
		}
	}
	catchUp(last + 1)
	if next != len(seen) {
		t.Fatalf("%d of %d snapshots could be checked: the history ended early", next, len(seen))
	}
}

func compareTold(t *testing.T, i int, told registry.Snapshot, model map[string]string) {
	t.Helper()
	if len(told.Nodes) != len(model) {
		t.Fatalf("snapshot %d at revision %d has %d nodes, the store had %d", i, told.Revision, len(told.Nodes), len(model))
	}
	before := ""
	for _, n := range told.Nodes {
		key := n.Key(project)
		value, ok := model[key]
		if !ok || value != n.Value() {
			t.Fatalf("snapshot %d at revision %d has %s as %s, the store had %q (there: %t)", i, told.Revision, key, n.Value(), value, ok)
		}
		if key == before {
			t.Fatalf("snapshot %d has %s twice", i, key)
		}
		before = key
	}
}

// lagsOf returns how long each change took to be told, sorted.
func lagsOf(writes []written, seen []sighting) []time.Duration {
	lags := make([]time.Duration, 0, len(writes))
	i := 0
	for _, w := range writes {
		for seen[i].told.Revision < w.revision {
			i++
		}
		lags = append(lags, max(seen[i].at.Sub(w.at), 0))
	}
	slices.Sort(lags)
	return lags
}
