//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/test/process"
)

// TestF37TenThousandNodes registers 10,000 nodes.
func TestF37TenThousandNodes(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	g, c := s.gateways[0], s.client()
	base := s.calm()
	l := s.gentle()
	const nodes = 10_000
	began := time.Now()
	s.crowd(c, 0, nodes)
	written := time.Since(began)
	process.Eventually(r, 60*time.Second, "the gateway knows all nodes", func() error {
		n, err := g.size("crowd")
		if err == nil && n != nodes {
			err = fmt.Errorf("it knows %d", n)
		}
		return err
	})
	synced := time.Since(began)
	g.collect()
	rss, _ := g.Memory()
	asked := time.Now()
	page, err := get("http://" + g.addr() + "/cluster")
	if err != nil {
		t.Fatal(err)
	}
	r.set("cluster_kib", len(page)>>10)
	shown := time.Since(asked)
	r.set("cluster_ms", shown)
	pick := pickAmong(nodes)
	again := s.addGateway()
	started := time.Now()
	again.ready()
	process.Eventually(r, 60*time.Second, "a gateway that starts knows all nodes", func() error {
		n, err := again.size("crowd")
		if err == nil && n != nodes {
			err = fmt.Errorf("it knows %d", n)
		}
		return err
	})
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("nodes", nodes)
	r.set("written_ms", written)
	r.set("known_after_the_last_write_ms", synced-written)
	r.set("known_at_start_ms", time.Since(started))
	r.set("rss_growth_kib", (rss-base.rss)>>10)
	r.set("pick_ns", pick.Nanoseconds())
	r.must(pick <= time.Microsecond, "to pick one node of %d takes %v", nodes, pick)
	r.must(len(page) <= nodes<<8 && shown <= 2*time.Second, "/cluster has %d KiB and took %v", len(page)>>10, shown)
	r.must(synced-written <= 5*time.Second, "all nodes were known %v after the last was written", synced-written)
	r.must(rss-base.rss <= 100<<20, "memory grew by %d MiB", (rss-base.rss)>>20)
}

// pickAmong returns how long it takes to pick one node of so many, as the gateway does by default.
func pickAmong(nodes int) time.Duration {
	set := make([]lb.Spec, nodes)
	for i := range set {
		set[i] = lb.Spec{ID: fmt.Sprintf("10.0.%d.%d:80", i>>8, i&255), Weight: 1}
	}
	p := lb.NewPool("crowd", lb.Options{})
	p.Update(set)
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if p.Pick(nil, 0) == nil {
				b.Fatal("there is no node")
			}
		}
	})
	return time.Duration(result.NsPerOp())
}

// TestF38Churn has a thousand nodes a second join and leave beside a service that stays.
func TestF38Churn(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	g, c := s.gateways[0], s.client()
	l := s.gentle()
	used := processorTime(t, g.PID())
	span := lasting(60*time.Second, 10*time.Second)
	began := time.Now()
	const batch = 100 // nodes that join in one transaction, and then leave in one
	changes, first := 0, 0
	var lag []time.Duration
	for time.Since(began) < span {
		s.crowd(c, first, first+batch)
		if first >= 5*batch {
			s.disperse(c, first-5*batch, first-4*batch)
			changes += batch
		}
		changes += batch
		first += batch
		if first%1000 == 0 { // how late is the gateway?
			at := time.Now()
			want := min(first, 5*batch)
			process.Eventually(r, 10*time.Second, "the gateway follows", func() error {
				n, err := g.size("crowd")
				if err == nil && n != want {
					err = fmt.Errorf("it knows %d nodes of %d", n, want)
				}
				return err
			})
			lag = append(lag, time.Since(at))
		}
		if ahead := time.Duration(changes)*time.Millisecond - time.Since(began); ahead > 0 {
			wait(t, ahead)
		}
	}
	took := time.Since(began)
	share := (processorTime(t, g.PID()) - used).Seconds() / took.Seconds()
	var keys map[string]int64
	process.Eventually(r, 30*time.Second, "etcd lists the nodes", func() (err error) {
		keys, err = registered(t.Context(), c, "crowd")
		return err
	})
	process.Eventually(r, 10*time.Second, "gateway and etcd agree", func() error {
		nodes, err := g.pool("crowd")
		if err != nil {
			return err
		}
		if len(nodes) != len(keys) {
			return fmt.Errorf("etcd has %d, the gateway %d", len(keys), len(nodes))
		}
		for _, id := range nodes {
			if _, there := keys["goms_crowd_"+id]; !there {
				return errors.New(id + " is not in etcd")
			}
		}
		return nil
	})
	var worst time.Duration
	for _, d := range lag {
		worst = max(worst, d)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("changes", changes)
	r.set("changes_per_s", float64(changes)/took.Seconds())
	r.set("worst_lag_ms", worst)
	r.set("cpu_percent", share*100)
	r.must(worst <= 5*time.Second, "the gateway was %v late", worst)
	r.must(share <= 1, "it took %.0f %% of a core", share*100)
}
