//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/test/process"
)

// TestF14GatewayCutOff drops all packets between gateways and etcd.
func TestF14GatewayCutOff(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := openApart(r, props{})
	l := s.load()
	wait(t, 2*time.Second)
	partition(t, "127.0.0.11")
	cut := time.Now()
	process.Eventually(t, 30*time.Second, "the gateways notice", func() error {
		for _, g := range s.gateways {
			if n, ok := g.metric("goms_registry_connected"); !ok || n != 0 {
				return errors.New(g.Name + " does not")
			}
		}
		return nil
	})
	noticed := time.Since(cut)
	missed := s.addNode("count")
	wait(t, lasting(2*time.Minute, 15*time.Second))
	heal(t)
	healed := time.Now()
	for _, g := range s.gateways {
		g.Line(30*time.Second, regexp.QuoteMeta(missed.id())+`\] join$`)
	}
	back := time.Since(healed)
	wait(t, 22*time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("noticed_ms", noticed)
	r.set("healed_ms", back)
	r.set("leaves", s.lines("leave"))
	r.must(noticed <= 12*time.Second, "it was noticed after %v", noticed)
	r.must(back <= 8*time.Second, "a node that had joined meanwhile was seen %v after the heal", back)
	r.must(s.lines("leave") == 0, "%d leaves were printed", s.lines("leave"))
}

// openApart is open where gateways reach etcd by 127.0.0.11 and nodes by 127.0.0.12, so that each way can be cut on its own.
func openApart(r *row, p props) *scene {
	p.etcd = process.StartEtcdOn(r, "0.0.0.0", process.PinnedEtcd(r), 1)
	_, port, _ := strings.Cut(p.etcd.Addrs[0], ":")
	p.registry, p.nodeRegistry = []string{"127.0.0.11:" + port}, []string{"127.0.0.12:" + port}
	return open(r, p)
}

// TestF15NodeCutOff drops all packets between one node and etcd: its lease ends though it is well.
func TestF15NodeCutOff(t *testing.T) {
	if !apart(t) {
		return
	}
	ttl := 5 * time.Second
	r := begin(t)
	s := openApart(r, props{ttl: ttl})
	s.props.nodeRegistry = []string{strings.Replace(s.props.nodeRegistry[0], "127.0.0.12", "127.0.0.13", 1)}
	alone := s.addNode("count")
	s.seen("count", 4)
	l, c := s.load(), s.client()
	wait(t, 2*time.Second)
	partition(t, "127.0.0.13")
	process.Eventually(t, 30*time.Second, "its lease ends", func() error {
		keys, err := registered(t.Context(), c, "count")
		if err == nil && keys[alone.key()] != 0 {
			err = errors.New("its key is there")
		}
		return err
	})
	before := alone.arrived()
	wait(t, lasting(60*time.Second, 3*ttl))
	during := alone.arrived() - before
	heal(t)
	healed := time.Now()
	s.registered(c)
	back := time.Since(healed)
	s.seen("count", 4)
	wait(t, 2*time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("requests_to_it_while_cut_off", during)
	r.set("registered_after_heal_ms", back)
	r.set("leaves", s.lines("leave"))
	r.must(back <= 8*time.Second, "it was registered %v after the heal", back)
}

// TestF16Compaction compacts etcd while gateways are cut off, after a node has gone and another come.
func TestF16Compaction(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := openApart(r, props{})
	l, c := s.load(), s.client()
	wait(t, 2*time.Second)
	partition(t, "127.0.0.11")
	wait(t, 2*time.Second)
	gone, fresh := s.nodes[0], s.addNode("count")
	gone.Stop(30 * time.Second) // nobody can be told, but the data path sees it
	for i := range 50 {
		s.put(c, "else", fmt.Sprint(i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := c.Get(ctx, "else")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	wait(t, 10*time.Second)
	heal(t)
	healed := time.Now()
	process.Eventually(r, 60*time.Second, "the gateways know what etcd knows", func() error {
		for _, g := range s.gateways {
			nodes, err := g.pool("count")
			if err != nil {
				return err
			}
			all := strings.Join(nodes, " ")
			if len(nodes) != 3 || strings.Contains(all, gone.id()) || !strings.Contains(all, fresh.id()) {
				return fmt.Errorf("%s knows %v", g.Name, nodes)
			}
		}
		return nil
	})
	agreed := time.Since(healed)
	lost := losses{get: 0, post: 0, twice: 10}
	r.account(l.Stop(), lost, s.witnesses()...)
	r.set("agreed_ms", agreed)
	compacted := 0.0
	for _, g := range s.gateways {
		n, _ := g.metric("goms_registry_resyncs_total", "compact")
		compacted += n
	}
	r.set("resyncs_compacted", compacted)
	r.must(agreed <= 45*time.Second, "they agreed %v after the heal", agreed)
}
