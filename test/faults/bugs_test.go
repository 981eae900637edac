//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestF39Panic has a handler of a node panic under load: its request gets 500 and nobody else notices, not even an event stream on the
// same connection of HTTP/2. Nobody outside can have the gateway itself panic: that is for its own tests.
func TestF39Panic(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateway: "  h2c: true\n", services: "  told:\n    sse: /sse\n    next: /next\n"})
	s.addNode("told")
	s.seen("told", 1)
	l := s.load()
	statuses := map[int]int{}
	h2, dialled := overHTTP2(t, nil)
	base := "http://" + s.gateways[0].addr() + "/api/"
	stream := openEvents(t.Context(), t, h2, "events", base+"told/sse", func() error {
		_, err := get(base + "told/next")
		return err
	})
	const beside = 50
	for i := range beside / 10 {
		var all sync.WaitGroup
		answered := make(chan int, 10)
		for range 10 {
			all.Go(func() {
				resp, err := h2.Get(base + "count/panic")
				if err != nil {
					answered <- 0
					return
				}
				resp.Body.Close()
				answered <- resp.StatusCode
			})
		}
		all.Wait()
		close(answered)
		for status := range answered {
			statuses[status]++
		}
		err := stream.alive(i)
		r.must(err == nil, "an event stream beside %d panics: %v", 10*i+10, err)
	}
	r.must(dialled.Load() == 1, "the streams lay on %d connections, want one", dialled.Load())
	const panics = 200 + beside
	for range panics - beside {
		resp, err := once.Get("http://" + s.front[0] + "/api/count/panic")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		statuses[resp.StatusCode]++
	}
	wait(t, time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	for _, p := range s.nodes {
		r.must(p.Alive(), "%s has ended", p.Name)
	}
	ejected, counted, told := 0.0, 0.0, 0
	for _, g := range s.gateways {
		r.must(g.Alive(), "%s has ended", g.Name)
		n, _ := g.metric("goms_node_ejected")
		ejected += n
		n, _ = g.metric("goms_requests_total", `code="5xx"`, `service="count"`)
		counted += n
	}
	for _, n := range s.nodes {
		told += strings.Count(n.Output(), "handler panicked")
	}
	r.set("panics", panics)
	r.set("statuses", statuses)
	r.set("counted_5xx", counted)
	r.set("lines_in_logs", told)
	r.must(statuses[500] == panics, "%d panics were answered %v", panics, statuses)
	r.must(counted == panics, "%v answers of 5xx are counted, want %d", counted, panics)
	r.must(ejected == 0, "%v nodes are ejected for their handler's bug", ejected)
	r.must(told >= panics, "the nodes said %d times that a handler panicked, want %d", told, panics)
	r.runs("./pkg/gateway", "^TestPanic")
}

// TestF40Poison writes what no node would into etcd. It is ignored and counted, other services are as before, and a gateway does not
// ask itself.
func TestF40Poison(t *testing.T) {
	if !apart(t) { // nobody may be asked whom the poison names
		return
	}
	r := begin(t)
	s := open(r, props{services: "  loop:\n    hit: /api/loop/hit\n"})
	l, c := s.load(), s.client()
	printed := s.printed()
	poison := map[string]string{
		"goms_":                                                                        "0",
		"goms_count":                                                                   "0",
		"goms_count__":                                                                 "0",
		"goms_count_127.0.0.1:0_127.0.0.1:0":                                           "0",
		"goms_count_127.0.0.1:1_127.0.0.1:99999":                                       "0",
		"goms_../x_127.0.0.1:1_127.0.0.1:2":                                            "0",
		"goms_co\nunt_127.0.0.1:1_127.0.0.1:2":                                         "0",
		"goms_co\xffunt_127.0.0.1:1_127.0.0.1:2":                                       "0",
		"goms_count_127.0.0.1:1_127.0.0.1:2":                                           "not JSON",
		"goms_count_127.0.0.1:1_127.0.0.1:3":                                           `{"weight":-1}`,
		"goms_count_127.0.0.1:1_127.0.0.1:4":                                           `{"weight":1e99}`,
		"goms_count_127.0.0.1:1_127.0.0.1:5":                                           `{"state":"confused"}`,
		"goms_count_127.0.0.1:1_127.0.0.1:6":                                           strings.Repeat("x", 1<<20),
		"goms_count_127.0.0.1:1_127.0.0.1:7":                                           strings.Repeat("[", 3000),
		"goms_count_127.0.0.1:1_evil.test@127.0.0.1:9":                                 "0",
		"goms_count_192.0.2.1:1_192.0.2.1:80":                                          "0", // outside of the networks that nodes live in
		"goms_count_169.254.169.254:1_169.254.169.254:80":                              "0", // where clouds tell secrets
		"goms_loop_127.0.0.1:1_" + s.gateways[0].addr():                                "0", // a gateway's own
		"goms_loop_127.0.0.1:1_" + s.gateways[1].addr():                                "0",
		fmt.Sprintf("goms_loop_127.0.0.1:1_127.0.0.1:%d", s.gateways[0].rpc):           "0",
		fmt.Sprintf("goms_loop_127.0.0.1:1_[::ffff:127.0.0.1]:%d", s.gateways[0].http): "0",
	}
	for key, value := range poison {
		s.put(c, key, value)
	}
	s.put(c, "goms_last_127.0.0.1:1_127.0.0.1:2", "0") // when it is seen, what came before has been
	s.seen("last", 1)
	wait(t, 2*time.Second)
	for _, g := range s.gateways {
		nodes, err := g.pool("count")
		r.must(err == nil && len(nodes) == len(s.nodes), "%s believes in %v, %v", g.Name, nodes, err)
		ignored, _ := g.metric("goms_registry_ignored_total")
		r.set("ignored", ignored)
		r.must(ignored >= 15, "%s counts %v ignored entries", g.Name, ignored)
	}
	status := 0
	if resp, err := once.Get("http://" + s.gateways[0].addr() + "/api/loop/hit"); err == nil {
		resp.Body.Close()
		status = resp.StatusCode
	}
	r.set("loop_status", status)
	r.must(status == http.StatusLoopDetected || status == http.StatusServiceUnavailable || status == http.StatusBadGateway, "a loop is answered %d", status)
	lines := s.printed() - printed
	r.set("lines_per_gateway", lines/len(s.gateways))
	r.must(lines <= 2*len(poison)*len(s.gateways), "%d entries made %d lines", len(poison), lines)
	r.account(l.Stop(), losses{}, s.witnesses()...)
}

// TestF41TwoOfOneAddress has a second entry claim the address of a node, and a third its whole key. It gets no second share.
func TestF41TwoOfOneAddress(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	c := s.client()
	twice := s.nodes[0]
	s.put(c, "goms_count_127.0.0.1:1_"+twice.addr(), "0")
	s.put(c, "goms_count_127.0.0.1:2_"+twice.addr(), `{"weight":1}`)
	wait(t, 2*time.Second)
	l := s.load()
	wait(t, lasting(20*time.Second, 5*time.Second))
	res := l.Stop()
	share := float64(twice.arrived()) / float64(res.Requests)
	r.account(res, losses{}, s.witnesses()...)
	r.set("share", share)
	r.must(share < 0.37, "the node that is there three times has a share of %.2f, want a third", share)
	// A key that somebody takes away comes back, and one that somebody overwrites is the node's again.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Delete(ctx, s.nodes[1].key()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	process.Eventually(t, 10*time.Second, "a key deleted by hand comes back", func() error {
		keys, err := registered(t.Context(), c, "count")
		if err == nil && keys[s.nodes[1].key()] == 0 {
			err = fmt.Errorf("it has not")
		}
		return err
	})
	r.set("deleted_key_back_ms", time.Since(began))
	r.must(time.Since(began) <= 4*time.Second, "it was back after %v", time.Since(began))
}
