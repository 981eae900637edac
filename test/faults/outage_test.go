//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// TestF07LeaderDies kills the leader of three members: nobody leaves, and a node that joins then is seen soon.
func TestF07LeaderDies(t *testing.T) {
	r := begin(t)
	s := open(r, props{members: 3, ttl: 5 * time.Second})
	l := s.load()
	wait(t, 2*time.Second)
	leader := s.etcd.Leader()
	s.etcd.Members[leader].Kill()
	began := time.Now()
	fresh := s.addNode("late")
	for _, g := range s.gateways {
		g.Line(30*time.Second, regexp.QuoteMeta(fresh.id())+`\] join$`)
	}
	seen := time.Since(began)
	wait(t, lasting(45*time.Second, 12*time.Second))
	s.etcd.Restart(leader)
	wait(t, 3*time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("join_seen_ms", seen)
	r.set("leaves", s.lines("leave"))
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
	r.must(seen <= 15*time.Second, "a node that joined was seen after %v", seen)
}

// TestF10OldBackup brings etcd back as it was some time ago: with nodes that have left since, and without those that have joined.
func TestF10OldBackup(t *testing.T) {
	ttl := 5 * time.Second
	r := begin(t)
	s := open(r, props{ttl: ttl})
	ghost := s.addNode("count")
	s.seen("count", 4)
	l := s.load()
	wait(t, 2*time.Second)
	backup := filepath.Join(t.TempDir(), "data")
	s.etcd.Members[0].Kill()
	if err := os.CopyFS(backup, os.DirFS(s.etcd.Data(0))); err != nil {
		t.Fatal(err)
	}
	s.etcd.Restart(0)
	s.etcd.Ready()
	ghost.Stop(30 * time.Second)
	young := s.addNode("count")
	s.seen("count", 4)
	c := s.client()
	for i := range 200 { // time goes by, in revisions
		s.put(c, "else", fmt.Sprint(i))
	}
	s.etcd.Members[0].Kill()
	if err := os.RemoveAll(s.etcd.Data(0)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.etcd.Data(0), os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	s.etcd.Restart(0)
	s.etcd.Ready()
	returned := time.Now()
	registeredAfter := s.registered(s.client())
	last := s.addNode("count") // whoever knows it follows the etcd that has come back
	for _, g := range s.gateways {
		g.Line(30*time.Second, regexp.QuoteMeta(last.id())+`\] join$`)
	}
	followed := time.Since(returned)
	want := map[string]bool{young.id(): true, last.id(): true}
	for _, n := range s.nodes[:3] {
		want[n.id()] = true
	}
	process.Eventually(r, 15*time.Second+3*ttl, "the gateways know who is there, and no ghost", func() error {
		for _, g := range s.gateways {
			nodes, err := g.pool("count")
			if err != nil {
				return err
			}
			for _, id := range nodes {
				if !want[id] {
					return errors.New(g.Name + " knows a ghost")
				}
			}
			if len(nodes) != len(want) {
				return fmt.Errorf("%s knows %v", g.Name, nodes)
			}
		}
		return nil
	})
	agreed := time.Since(returned)
	wait(t, 2*time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("registered_ms", registeredAfter)
	r.set("followed_ms", followed)
	r.set("agreed_ms", agreed)
	r.must(followed <= 20*time.Second, "the etcd that came back was followed after %v", followed)
}

// TestF11ColdStart starts a gateway while etcd is away: it serves from what it knew, says that this is old, and without anything known
// it refuses and does not end.
func TestF11ColdStart(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	wait(t, 3*time.Second) // what is known is written down
	s.etcd.Members[0].Kill()
	g := s.gateways[0]
	g.Stop(60 * time.Second)
	began := time.Now()
	g.again()
	deadline := began.Add(15 * time.Second)
	var err error
	for time.Now().Before(deadline) {
		if _, err = get("http://" + g.addr() + "/api/count/hit?id=x"); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	served := time.Since(began)
	r.must(err == nil, "a gateway with a snapshot does not serve while etcd is away: %v", err)
	page, _ := get("http://" + g.addr() + "/readyz?verbose")
	r.must(strings.Contains(page, "last run") || strings.Contains(page, "stale"), "/readyz?verbose does not say that the nodes are old: %q", page)
	fresh := s.addGateway()
	process.Eventually(t, 20*time.Second, "a gateway without a snapshot answers", func() error {
		resp, err := once.Get("http://" + fresh.addr() + "/api/count/hit?id=x")
		if err != nil {
			return err
		}
		resp.Body.Close()
		r.set("without_snapshot", resp.StatusCode)
		r.must(resp.StatusCode == 503, "a gateway that knows nothing answers %d", resp.StatusCode)
		return nil
	})
	wait(t, 3*time.Second)
	r.must(fresh.Alive(), "a gateway that knows nothing has ended")
	s.etcd.Restart(0)
	s.etcd.Ready()
	for _, g := range s.gateways {
		g.sees("count", 3)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("served_ms", served)
	r.must(served <= 5*time.Second, "it served after %v", served)
}

// TestF13FreezeGateway stops the time of one of two gateways behind nginx. Nobody loses anything by the other, and when it wakes it
// does not send to nodes that have gone.
func TestF13FreezeGateway(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	span := lasting(30*time.Second, 15*time.Second)
	l := &load.Load{Addrs: s.front, Path: "/api/count/hit", Timeout: span + 30*time.Second}
	l.Start()
	wait(t, 2*time.Second)
	frozen := s.gateways[0]
	frozen.Signal(syscall.SIGSTOP)
	at := l.Elapsed()
	wait(t, 2*time.Second)
	s.nodes[0].Kill()
	wait(t, span)
	frozen.Signal(syscall.SIGCONT)
	thawed := l.Elapsed()
	wait(t, 5*time.Second)
	res := l.Stop()
	stuck := res.Slower(at, thawed, span/2)
	_, late := res.Between(thawed+2*time.Second, res.Took)
	r.account(res, losses{post: 20, twice: 20}, s.witnesses()...)
	r.set("stuck_in_the_frozen_one", stuck)
	r.set("lost_after_thaw", late)
	r.must(late == 0, "%d requests were lost more than 2 s after it woke", late)
	r.must(stuck <= 100, "%d requests waited for the frozen gateway", stuck)
}
