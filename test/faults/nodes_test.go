//go:build linux

package faults_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// TestF01KillNode kills a node. What was in flight on it may be lost, if it may not be repeated; its lease ends within 12 s.
func TestF01KillNode(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l, c := s.load(), s.client()
	wait(t, 2*time.Second)
	killed, at := time.Now(), l.Elapsed()
	s.nodes[0].Kill()
	process.Eventually(t, 20*time.Second, "its lease ends", func() error {
		keys, err := registered(t.Context(), c, "count")
		if err == nil && keys[s.nodes[0].key()] != 0 {
			err = fmt.Errorf("its key is there")
		}
		return err
	})
	lease := time.Since(killed)
	s.seen("count", 2)
	wait(t, lasting(45*time.Second, 2*time.Second))
	res := l.Stop()
	_, late := res.Between(at+time.Second, res.Took)
	r.account(res, losses{post: 10, twice: 10}, s.witnesses()...)
	r.set("lease_gone_ms", lease)
	r.set("lost_after_1s", late)
	r.must(lease <= 15*time.Second, "the lease was there for %v", lease)
	r.must(late == 0, "%d requests were lost more than a second after the node died", late)
}

// TestF02StopNode ends a node with SIGTERM.
func TestF02StopNode(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	wait(t, 2*time.Second)
	began := time.Now()
	s.nodes[0].Stop(30 * time.Second)
	took := time.Since(began)
	wait(t, lasting(45*time.Second, 2*time.Second))
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("exit_ms", took)
	r.must(took <= 15*time.Second, "the node took %v to end", took)
}

// TestF03RollNodes restarts one node after the other, three rounds.
func TestF03RollNodes(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	rounds := times(3, 2)
	for range rounds {
		s.rollNodes()
	}
	wait(t, lasting(10*time.Second, time.Second))
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("restarts", rounds*len(s.nodes))
}

// rollNodes restarts one node after the other, each on its old ports.
func (s *scene) rollNodes() {
	s.t.Helper()
	for _, n := range s.nodes {
		n.Stop(30 * time.Second)
		s.again(n)
		s.seen("count", len(s.nodes))
	}
}

// TestF12FreezeNode stops a node's time for longer than its lease. It is told from a slow one within a second of failures, gets no share
// meanwhile, and is back soon after. So it is when its lease outlives the stop, and no request waits for it.
func TestF12FreezeNode(t *testing.T) {
	ttl := lasting(10*time.Second, 5*time.Second)
	r := begin(t)
	s := open(r, props{ttl: ttl, gateway: "  answerTimeout: 3s\n"})
	l := s.load()
	wait(t, 2*time.Second)
	n := s.nodes[0]
	n.Signal(syscall.SIGSTOP)
	at := l.Elapsed()
	wait(t, 3*ttl)
	leaves := s.lines("leave")
	n.Signal(syscall.SIGCONT)
	thawed := l.Elapsed()
	wait(t, lasting(15*time.Second, 5*time.Second))
	res := l.Stop()
	back, half := n.back(thawed)
	gets := (res.Requests + 1) / 2
	_, late := res.Between(at+4*time.Second, res.Took)
	// A POST that the frozen node has in its sockets may not go to another: those are lost until the node is found out.
	r.account(res, losses{get: gets / 200, post: 600, twice: 600}, s.witnesses()...)
	r.set("frozen_ms", 3*ttl)
	r.set("leaves", leaves)
	r.set("back_ms", back)
	r.set("half_share_ms", half)
	r.set("lost_after_4s", late)
	r.must(late == 0, "%d requests were lost more than 4 s after the node froze", late)
	r.must(back <= 2*time.Second, "the first request after the node went on was sent to it after %v", back)
	r.must(half <= 5*time.Second, "the node had half of its share back after %v", half)
	s.freezeBriefly(r, n, ttl*6/10)
}

// freezeBriefly stops a node that is sent nothing but GETs, which do not wait for it, and whose lease stands.
func (s *scene) freezeBriefly(r *row, n *node, span time.Duration) {
	r.Helper()
	s.seen("count", len(s.nodes))
	for _, n := range s.nodes {
		os.Truncate(n.counts, 0) // ids begin anew
	}
	l := &load.Load{Addrs: s.front, Path: "/api/count/hit", Posts: -1}
	l.Start()
	wait(r, 2*time.Second)
	n.Signal(syscall.SIGSTOP)
	wait(r, span)
	n.Signal(syscall.SIGCONT)
	thawed := l.Elapsed()
	wait(r, lasting(5*time.Second, 4*time.Second))
	res := l.Stop()
	back, half := n.back(thawed)
	r.prefix = "briefly_"
	defer func() { r.prefix = "" }()
	r.account(res, losses{twice: 600}, s.witnesses()...)
	r.set("frozen_ms", span)
	r.set("back_ms", back)
	r.set("half_share_ms", half)
	r.must(half <= 3*time.Second, "the node had half of its share back after %v", half)
}

// back returns how long after a time of the load the first request that was due later reached the node, and after how long it was sent half of
// what a third of 400 requests a second is. Ids say when their requests were due: what waited in its sockets meanwhile does not count.
func (n *node) back(since time.Duration) (first, half time.Duration) {
	const never, rate = time.Hour, 400
	seen := map[string]int{}
	n.count(seen)
	var due []time.Duration
	for id := range seen {
		k, err := strconv.Atoi(id[1:])
		if at := time.Duration(k) * time.Second / rate; err == nil && at >= since {
			due = append(due, at-since)
		}
	}
	slices.Sort(due)
	const window, enough = 500 * time.Millisecond, rate / 3 / 2 / 2
	first, half = never, never
	for i, at := range due {
		first = min(first, at)
		if j := i + enough - 1; j < len(due) && due[j]-at <= window {
			return first, at
		}
	}
	return first, half
}
