//go:build linux

package faults_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestF44PortInUse starts a second gateway on the ports of a first: it ends at once, says which port, and leaves nothing in etcd.
func TestF44PortInUse(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	l, c := s.load(), s.client()
	before, err := registered(t.Context(), c, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	second := s.gateways[0].launch
	second.Dir = t.TempDir()
	began := time.Now()
	stdout, stderr, code := process.Run(r, 20*time.Second, second)
	took := time.Since(began)
	after, err := registered(t.Context(), c, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("exit_code", code)
	r.set("took_ms", took)
	r.must(code != 0, "exit code %d", code)
	r.must(strings.Contains(stdout+stderr, fmt.Sprint(s.gateways[0].http)), "the port is not named: %s%s", stdout, stderr)
	r.must(took <= 5*time.Second, "it took %v", took)
	r.must(len(after) == len(before), "%d gateways are registered, %d were", len(after), len(before))
}

// TestF48Names registers nodes by a name that leads nowhere, by one of two families, and by an IPv6 address.
func TestF48Names(t *testing.T) {
	if !apart(t) { // no name server answers
		return
	}
	r := begin(t)
	s := open(r, props{})
	c := s.client()
	_, port, _ := strings.Cut(s.nodes[0].addr(), ":")
	s.put(c, "goms_count_localhost:1_localhost:"+port, "0")
	s.put(c, "goms_count_node.invalid:1_node.invalid:80", "0")
	s.put(c, "goms_count_[::1]:1_[::1]:1", "0") // refuses
	wait(t, 2*time.Second)
	l := s.load()
	wait(t, lasting(60*time.Second, 10*time.Second))
	res := l.Stop()
	r.account(res, losses{}, s.witnesses()...)
	nodes, err := s.gateways[0].pool("count")
	r.set("nodes", len(nodes))
	r.must(err == nil, "/cluster: %v", err)
	r.must(res.Max <= 5*time.Second, "a request waited for %v", res.Max)
}
