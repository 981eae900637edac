//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/test/process"
)

// TestF08RegistryGone kills etcd for minutes and brings it back on its data: nobody leaves, nothing is lost, and no lease
// ends.
func TestF08RegistryGone(t *testing.T) {
	ttl := lasting(10*time.Second, 5*time.Second)
	r := begin(t)
	s := open(r, props{ttl: ttl})
	l := s.load()
	wait(t, time.Second)
	printed := s.printed()
	busy := s.cpu()
	wait(t, 5*time.Second)
	busy = (s.cpu() - busy) / 5
	s.etcd.Members[0].Kill()
	outage := lasting(10*time.Minute, 30*time.Second)
	before := s.cpu()
	wait(t, outage)
	extra := (s.cpu()-before)/outage.Seconds() - busy
	during := s.printed() - printed
	s.etcd.Restart(0)
	s.etcd.Ready()
	leaves := s.lines("leave")
	wait(t, 3*ttl)
	s.registered(s.client()) // nobody's lease has ended: each was renewed
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("outage_ms", outage)
	r.set("leaves_during", leaves)
	r.set("leaves_after", s.lines("leave")-leaves)
	r.set("log_lines_per_s", float64(during)/outage.Seconds()/float64(len(s.gateways)))
	r.set("cpu_delta_percent", extra*100)
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
	r.must(float64(during) <= outage.Seconds()*float64(len(s.gateways)), "the gateways printed %d lines in %v", during, outage)
	r.must(extra < 0.1, "the gateways took %.0f %% more of a core while etcd was away", extra*100)
	s.seen("count", len(s.nodes))
}

// registered waits until the key of every node that lives is in etcd under a lease, and returns how long that took.
func (s *scene) registered(c *clientv3.Client) time.Duration {
	s.t.Helper()
	began := time.Now()
	process.Eventually(s.t, 60*time.Second, "all nodes are registered", func() error {
		keys, err := registered(s.t.Context(), c, "count")
		if err != nil {
			return err
		}
		for _, n := range s.nodes {
			if n.Alive() && keys[n.key()] == 0 {
				return fmt.Errorf("%s is not", n.Name)
			}
		}
		return nil
	})
	return time.Since(began)
}

// printed returns how many lines the gateways have printed.
func (s *scene) printed() int {
	all := 0
	for _, g := range s.gateways {
		all += strings.Count(g.Output(), "\n")
	}
	return all
}

// cpu returns the processor time that the gateways have taken, in seconds.
func (s *scene) cpu() float64 {
	var all float64
	for _, g := range s.gateways {
		n, _ := g.metric("process_cpu_seconds_total")
		all += n
	}
	return all
}

// TestF09RegistryEmptied brings etcd back with nothing in it, as a careless restore does, while one node has died.
func TestF09RegistryEmptied(t *testing.T) {
	ttl := lasting(10*time.Second, 5*time.Second)
	r := begin(t)
	s := open(r, props{ttl: ttl})
	l := s.load()
	wait(t, 2*time.Second)
	s.etcd.Members[0].Kill()
	s.nodes[0].Kill()
	wait(t, 2*time.Second)
	if err := os.RemoveAll(s.etcd.Data(0)); err != nil {
		t.Fatal(err)
	}
	s.etcd.Restart(0)
	s.etcd.Ready()
	returned := time.Now()
	renewed := s.registered(s.client())
	// The gateways are told of a node that joins now: the watch is on the new etcd.
	fresh := s.addNode("count")
	joined := time.Now()
	for _, g := range s.gateways {
		g.Line(30*time.Second, regexp.QuoteMeta(fresh.id())+`\] join$`)
	}
	noticed := time.Since(joined)
	gone := regexp.MustCompile(regexp.QuoteMeta(s.nodes[0].id()) + `\] leave$`)
	process.Eventually(t, 4*ttl+15*time.Second, "the dead node is forgotten", func() error {
		for _, g := range s.gateways {
			if len(g.Lines(gone)) == 0 {
				return errors.New(g.Name + " has not")
			}
		}
		return nil
	})
	forgotten := time.Since(returned)
	wait(t, 2*time.Second)
	r.account(l.Stop(), losses{post: 10, twice: 10}, s.witnesses()...) // what was in flight on the node that was killed
	leaves := s.lines("leave")
	r.set("registered_ms", renewed)
	r.set("noticed_ms", noticed)
	r.set("dead_node_forgotten_ms", forgotten)
	r.set("leaves", leaves)
	r.must(renewed <= 15*time.Second, "all nodes were registered again after %v", renewed)
	r.must(noticed <= 15*time.Second, "a new node was seen after %v", noticed)
	r.must(leaves == len(s.gateways), "%d leaves were printed, want one of the dead node by each gateway", leaves)
}
