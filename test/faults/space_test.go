//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/test/process"
)

// TestF17SlowOrFullEtcd makes etcd two seconds late, then full, and then has its disk be full.
func TestF17SlowOrFullEtcd(t *testing.T) {
	if os.Geteuid() == 0 && !apart(t) { // only root may mount a disk
		return
	}
	r := begin(t)
	r.part("quota", slowThenFull)
	r.part("disk", fillDisk)
}

// slowThenFull makes etcd two seconds late for a time, and then has it reach its quota.
func slowThenFull(r *row) {
	etcd := process.StartEtcd(r, process.PinnedEtcd(r), 1, "--quota-backend-bytes", fmt.Sprint(4<<20))
	slow := relayTo(r, etcd.Addrs[0])
	s := open(r, props{etcd: etcd, registry: []string{slow.addr}})
	l := s.load()
	wait(r, 2*time.Second)
	slow.delay.Store(int64(time.Second)) // each way
	wait(r, lasting(60*time.Second, 25*time.Second))
	slow.delay.Store(0)
	r.set("leaves_while_slow", s.lines("leave"))
	r.must(s.lines("leave") == 0, "%d leaves were printed while etcd was slow", s.lines("leave"))
	c := s.client()
	full := false
	for i := 0; i < 40 && !full; i++ {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		_, err := c.Put(ctx, fmt.Sprintf("filler%d", i), strings.Repeat("x", 1<<20))
		cancel()
		full = err != nil && strings.Contains(err.Error(), "space exceeded")
	}
	r.must(full, "etcd is not full")
	s.nodes[0].Stop(30 * time.Second) // it can leave: a delete is let through
	n := s.launchNode("count")        // it cannot join
	n.listens()
	wait(r, lasting(30*time.Second, 12*time.Second))
	told := 0
	for _, p := range s.nodes[1:] {
		told += strings.Count(p.Output(), "space") + strings.Count(p.Output(), "NOSPACE")
	}
	r.set("alarm_told", told)
	r.must(told > 0, "no node says that etcd is full")
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Delete(ctx, "filler", clientv3.WithPrefix()); err != nil {
		r.Fatalf("make room in etcd: %v", err)
	}
	resp, err := c.Get(ctx, "filler")
	if err != nil {
		r.Fatalf("make room in etcd: %v", err)
	}
	c.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	if _, err := c.Defragment(ctx, etcd.Addrs[0]); err != nil {
		r.Fatalf("make room in etcd: %v", err)
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil {
		r.Fatalf("make room in etcd: %v", err)
	}
	for _, a := range alarms.Alarms {
		c.AlarmDisarm(ctx, (*clientv3.AlarmMember)(a))
	}
	began := time.Now()
	for _, g := range s.gateways {
		g.sees("count", 3)
	}
	r.set("recovered_ms", time.Since(began))
	wait(r, time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
}

// fillDisk leaves etcd no room on its disk, so that it can write no more and ends, and makes room after a time.
func fillDisk(r *row) {
	ttl := 5 * time.Second
	disk := smallDisk(r, "200m") // etcd takes 128 MiB of that at once
	etcd := process.StartEtcd(r, process.PinnedEtcd(r), 1, "--data-dir", filepath.Join(disk, "data"))
	s := open(r, props{etcd: etcd, ttl: ttl})
	l, c := s.load(), s.client()
	wait(r, 2*time.Second)
	filler := filepath.Join(disk, "filler")
	left := fill(r, filler)
	process.Eventually(r, 60*time.Second, "etcd fails", func() error {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if _, err := c.Put(ctx, "filler", strings.Repeat("x", 1<<20)); err == nil {
			return errors.New("it has written one more megabyte")
		}
		return nil
	})
	wait(r, lasting(25*time.Second, 10*time.Second))
	ended := !etcd.Members[0].Alive()
	leaves := s.lines("leave")
	if err := os.Remove(filler); err != nil {
		r.Fatalf("make room: %v", err)
	}
	if ended {
		etcd.Restart(0)
	}
	etcd.Ready()
	began := time.Now()
	s.registered(c)
	s.connected()
	back := time.Since(began)
	wait(r, 2*ttl+time.Second) // deletes are held for so long
	s.seen("count", len(s.nodes))
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("filled_bytes", left)
	r.set("etcd_ended", ended)
	r.set("leaves_during", leaves)
	r.set("leaves_after", s.lines("leave")-leaves)
	r.set("registered_after_ms", back)
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
	for _, p := range s.processes() {
		told := strings.Count(p.Output(), "registry unavailable")
		r.must(told > 0, "%s does not say that etcd is away:\n%s", p.Name, process.Tail(p.Output(), 10))
		r.must(p.Alive(), "%s has ended", p.Name)
	}
}

// fill writes a file until its disk is full, and returns its length.
func fill(r *row, path string) int64 {
	r.Helper()
	f, err := os.Create(path)
	if err != nil {
		r.Fatalf("fill a disk: %v", err)
	}
	defer f.Close()
	n, err := io.Copy(f, zeros{})
	if !errors.Is(err, syscall.ENOSPC) {
		r.Fatalf("fill a disk: %v", err)
	}
	return n
}
