//go:build linux

package faults_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// TestF31Overload sends five times what the nodes can do. What is let in is answered in time, and what is not is refused at once.
func TestF31Overload(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, gateway: "  policies:\n    default:\n      adaptive: true\n"})
	for _, n := range s.nodes { // 50 a second each, one at a time, in the order of a queue
		n.behave(r, "delay=20ms&alone=1")
	}
	const capacity = 150
	run := func(rate int, d time.Duration) *load.Result {
		l := &load.Load{Addrs: s.front, Path: "/api/count/hit", Rate: rate, Posts: -1}
		l.Start()
		wait(t, d)
		return l.Stop()
	}
	peak := run(capacity*8/10, 5*time.Second)
	perSecond := float64(peak.Requests-peak.Lost) / peak.Took.Seconds()
	span := lasting(2*time.Minute, 20*time.Second)
	l := &load.Load{Addrs: s.front, Path: "/api/count/hit", Rate: 5 * capacity, Posts: -1}
	l.Start()
	wait(t, span)
	res := l.Stop()
	shed := 0
	for reason, n := range res.Errors {
		if strings.HasPrefix(reason, "status 503") {
			shed += n
		}
	}
	goodput := float64(res.Requests-res.Lost) / res.Took.Seconds()
	slowestShed := res.LostLatency("status 503", 99)
	process.Eventually(t, 30*time.Second, "the queues are empty", func() error {
		if n, _ := s.gateways[0].metric("goms_node_in_flight"); n > 2 {
			return fmt.Errorf("%v requests are at nodes", n)
		}
		return nil
	})
	normal := run(capacity/2, 10*time.Second)
	_, late := normal.Between(5*time.Second, normal.Took)
	r.set("requests", res.Requests)
	r.set("shed_503", shed)
	r.set("lost_otherwise", res.Lost-shed)
	r.set("errors", res.Errors)
	r.set("goodput_per_s", goodput)
	r.set("goodput_before_per_s", perSecond)
	r.set("accepted_p99_ms", res.P99)
	r.set("shed_p99_ms", slowestShed)
	r.set("lost_in_5s_afterwards", normal.Lost-late)
	r.set("lost_after_5s", late)
	r.must(res.Lost == shed && shed > 0, "%d requests were lost otherwise than by 503, and %d by it: %v", res.Lost-shed, shed, res.Errors)
	r.must(res.P99 <= 2*time.Second, "99 of 100 accepted requests were answered within %v", res.P99)
	r.must(goodput >= 0.8*perSecond, "%.0f requests a second were served, of %.0f before", goodput, perSecond)
	r.must(late == 0, "%d requests were lost more than 5 s after the load was gone", late)
}

// TestF33NoFiles leaves a gateway few file descriptors.
func TestF33NoFiles(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	g := s.gateways[0]
	if err := limitFiles(g.PID(), 256); err != nil {
		process.Lacking(r, "limit the files of a process: %v", err)
	}
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range 400 {
		conn, err := net.DialTimeout("tcp", g.addr(), 2*time.Second)
		if err != nil {
			break
		}
		held = append(held, conn)
	}
	wait(t, time.Second)
	used := processorTime(t, g.PID())
	const watched = 5 * time.Second
	wait(t, watched)
	share := (processorTime(t, g.PID()) - used).Seconds() / watched.Seconds()
	files := g.Files()
	admin, adminErr := get(fmt.Sprintf("http://127.0.0.1:%d/livez", g.admin))
	for _, c := range held {
		c.Close()
	}
	freed := time.Now()
	process.Eventually(t, 20*time.Second, "the gateway accepts again", func() error {
		_, err := get("http://" + g.addr() + "/api/count/hit?id=x")
		return err
	})
	resumed := time.Since(freed)
	r.set("connections", len(held))
	r.set("files", files)
	r.set("cpu_percent", share*100)
	r.set("livez_for_operators", adminErr == nil && strings.HasPrefix(admin, "ok"))
	r.set("resumed_ms", resumed)
	r.must(g.Alive(), "the gateway has ended")
	r.must(share <= 0.2, "it took %.0f %% of a core to wait for a file", share*100)
	r.must(resumed <= 5*time.Second, "it accepted again after %v", resumed)
	r.must(adminErr == nil, "operators cannot see whether it lives: %v", adminErr)
	l := s.gentle()
	wait(t, 2*time.Second)
	r.account(l.Stop(), losses{}, s.witnesses()...)
}
