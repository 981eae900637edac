//go:build linux

package faults_test

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
)

// TestF50RetryStorm has all nodes answer 503, then all break off, then two of three. The gateways must not make more of it: where nothing helps
// hardly more than what clients send, and where it does what the retry budget gives.
func TestF50RetryStorm(t *testing.T) {
	const percent, floor = 20, 3 // the defaults
	r := begin(t)
	s := open(r, props{services: "  storm:\n    hit: /hit\n  half:\n    hit: /hit\n"})
	for _, n := range s.nodes {
		n.behave(r, "status=503")
	}
	span := lasting(30*time.Second, 10*time.Second)
	arrived := func() (all int) {
		for _, n := range s.nodes {
			all += n.arrived()
		}
		return all
	}
	before := arrived()
	l := s.load()
	wait(t, span)
	res := l.Stop()
	factor := float64(arrived()-before) / float64(res.Requests)
	r.set("requests", res.Requests)
	r.set("errors", res.Errors)
	r.set("factor", factor)
	r.must(res.Lost == res.Requests, "%d of %d requests were answered by nodes that answer 503", res.Requests-res.Lost, res.Requests)
	r.must(factor <= 1.1, "nodes that answer 503 saw %.3f times the requests of the clients", factor)

	broken, off := s.storm(r, "storm", 3, span)
	r.set("broken_errors", off.Errors)
	r.set("broken_factor", broken)
	r.must(off.Lost == off.Requests, "%d of %d requests were answered by nodes that break off", off.Requests-off.Lost, off.Requests)
	r.must(broken > 1, "nothing was tried again")
	r.must(broken <= 1.1, "nodes that all break off saw %.3f times the requests of the clients", broken)

	half, on := s.storm(r, "half", 2, span)
	gateways := float64(len(s.gateways))
	// Ten seconds of the floor are given at once. A hundredth is for what is free, of connections that a busy machine makes too late.
	bound := 1.01 + percent/100.0 + gateways*floor/400 + gateways*floor*10/float64(on.Requests)
	answered := float64(on.Requests-on.Lost) / float64(on.Requests)
	r.set("half_errors", on.Errors)
	r.set("half_factor", half)
	r.set("half_bound", bound)
	r.set("half_answered", answered)
	r.must(half <= bound, "nodes of which two of three break off saw %.3f times the requests of the clients, the budget gives %.3f", half, bound)
	// One of the two is left out, so half of the requests reach the third node at once, and a fifth by a further attempt.
	r.must(answered >= 0.6, "%.3f of the requests were answered while one of three nodes is well", answered)
	r.must(half >= 1.1, "nodes of which two of three break off saw %.3f times the requests: the budget was not used", half)
}

// storm sends GETs to a service of three nodes, some of which read a request and break off. It returns how many times the requests of the clients
// the nodes saw.
func (s *scene) storm(r *row, service string, breaking int, span time.Duration) (factor float64, res *load.Result) {
	r.Helper()
	var nodes []*peer
	var addrs []string
	for i := range 3 {
		p := peerOf(r, func(p *peer, conn net.Conn, br *bufio.Reader) {
			for {
				id, _, err := request(br)
				if err != nil {
					return
				}
				if p.asked.Add(1); i < breaking {
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
			}
		})
		nodes, addrs = append(nodes, p), append(addrs, p.addr)
	}
	s.join(service, addrs...)
	l := &load.Load{Addrs: s.front, Path: "/api/" + service + "/hit", Posts: -1}
	l.Start()
	wait(r, span)
	res = l.Stop()
	asked := int64(0)
	for _, p := range nodes {
		asked += p.asked.Load()
	}
	return float64(asked) / float64(res.Requests), res
}
