//go:build linux

package faults_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// TestF20SlowNode makes one node of three slow: its share falls, and soon nobody notices.
func TestF20SlowNode(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	wait(t, 2*time.Second)
	n := s.nodes[0]
	n.behave(r, "delay=2s")
	at := l.Elapsed()
	wait(t, 10*time.Second)
	before := n.arrived()
	settled := l.Elapsed()
	span := lasting(48*time.Second, 10*time.Second)
	wait(t, span)
	share := float64(n.arrived()-before) / (400 * span.Seconds())
	res := l.Stop()
	// In its first second it cannot be told from a node that is gone: GETs that it has go to another as well.
	r.account(res, losses{twice: 200}, s.witnesses()...)
	p99 := res.Latency(settled, res.Took, 99)
	r.set("p99_at_first_ms", res.Latency(at, settled, 99))
	r.set("p99_settled_ms", p99)
	r.set("share", share)
	r.must(share <= 0.05, "the slow node has a share of %.3f", share)
	r.must(p99 <= lasting(300*time.Millisecond, time.Second), "99 of 100 requests took at most %v ten seconds later", p99)
}

// TestF21NodeVanishes drops all packets to and from a node, as when its host is gone.
func TestF21NodeVanishes(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := open(r, props{gateway: "  answerTimeout: 3s\n"})
	s.nodeEnv = []string{"GOMS_SERVICE_LISTEN_HOST=127.0.0.21"}
	s.addNode("count", "-advertise_host", "127.0.0.21")
	for _, g := range s.gateways {
		g.sees("count", 4)
	}
	l := s.load()
	wait(t, 2*time.Second)
	at := l.Elapsed()
	partition(t, "127.0.0.21")
	wait(t, lasting(50*time.Second, 15*time.Second))
	heal(t)
	wait(t, 3*time.Second)
	res := l.Stop()
	_, late := res.Between(at+5*time.Second, res.Took)
	// What it has of POSTs when it vanishes may not go elsewhere.
	r.account(res, losses{post: 500, twice: 500}, s.witnesses()...)
	r.set("lost_after_5s", late)
	r.must(late == 0, "%d requests were lost more than 5 s after it vanished", late)
}

// TestF23Garbage has a node answer what is no HTTP, a head without an end, and a body without one.
func TestF23Garbage(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, gateway: "  upstreamIdleTimeout: 2s\n", services: "  garbage:\n    hit: /hit\n"})
	g := s.gateways[0]
	var how, reused atomic.Int64
	p := peerOf(t, func(_ *peer, conn net.Conn, br *bufio.Reader) {
		defer func() { // it does not close by itself
			if _, _, err := request(br); err == nil {
				reused.Add(1)
			}
		}()
		if _, _, err := request(br); err != nil {
			return
		}
		switch how.Load() {
		case 0:
			io.WriteString(conn, "SSH-2.0-OpenSSH_9.2p1 secret-of-the-node\r\n")
		case 1:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for line := "X-Line: " + strings.Repeat("secret-of-the-node", 50) + "\r\n"; ; {
				if _, err := io.WriteString(conn, line); err != nil {
					return
				}
			}
		case 2:
			conn.Write([]byte{0, 1, 2, 255, 254, '\n', 0, 0})
		case 3:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nsecret-of-the-node")
		case 4: // without an end, and no client that reads so much
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			for b := make([]byte, 64<<10); ; {
				if _, err := conn.Write(b); err != nil {
					return
				}
			}
		}
	})
	s.join("garbage", p.addr)
	base := s.calm()
	l := s.gentle()
	var slowest time.Duration
	names := []string{"not_http", "endless_head", "binary", "two_lengths"}
	for i, name := range names {
		how.Store(int64(i))
		statuses, leaked := map[int]int{}, 0
		for range times(100, 20) {
			began := time.Now()
			resp, err := once.Get("http://" + g.addr() + "/api/garbage/hit")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			statuses[resp.StatusCode]++
			slowest = max(slowest, time.Since(began))
			if strings.Contains(string(body)+fmt.Sprint(resp.Header), "secret-of-the-node") {
				leaked++
			}
		}
		r.set(name, statuses)
		r.must(statuses[502]+statuses[503] == times(100, 20) && statuses[502] > 0, "%s: statuses %v, want 502", name, statuses)
		r.must(leaked == 0, "%s: %d answers hold bytes of the garbage", name, leaked)
	}
	how.Store(4)
	for range 20 {
		conn, err := net.Dial("tcp", g.addr())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /api/garbage/hit HTTP/1.1\r\nHost: a\r\n\r\n")
		io.CopyN(io.Discard, conn, 8<<20)
		conn.Close()
	}
	peak := base.peak()
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("slowest_ms", slowest)
	r.set("rss_growth_kib", peak>>10)
	r.set("reused", reused.Load())
	r.must(reused.Load() == 0, "%d connections were used again after garbage", reused.Load())
	r.must(slowest <= 3*time.Second, "the slowest refusal took %v", slowest)
	r.must(peak <= 8<<20, "memory grew by %d KiB", peak>>10)
	base.settled(r, 10*time.Second, 10)
}

// TestF49AllNodesDie kills all nodes of a service. Its requests are refused at once, another service does not notice, and the first
// node that comes serves.
func TestF49AllNodesDie(t *testing.T) {
	r := begin(t)
	ttl := 5 * time.Second
	s := open(r, props{ttl: ttl, services: "  other:\n    hit: /hit\n"})
	other := s.addNode("other")
	s.seen("other", 1)
	well := &load.Load{Addrs: s.front, Path: "/api/other/hit", Rate: 100}
	well.Start()
	dead := &load.Load{Addrs: s.front, Path: "/api/count/hit", Rate: 100}
	dead.Start()
	wait(t, 2*time.Second)
	for _, n := range s.nodes[:3] {
		n.Kill()
	}
	died := dead.Elapsed()
	s.seen("count", 0)
	left := dead.Elapsed()
	wait(t, lasting(30*time.Second, 5*time.Second))
	comes := s.nodes[0]
	s.again(comes)
	joined := time.Now()
	process.Eventually(r, 10*time.Second, "the node that came serves", func() error {
		_, err := get("http://" + s.front[0] + "/api/count/hit?id=x")
		return err
	})
	back := time.Since(joined)
	wait(t, 2*time.Second)
	res := dead.Stop()
	refusal := res.LostLatency("status 50", 99)
	r.account(well.Stop(), losses{}, other)
	r.set("refused", res.Lost)
	r.set("refused_why", res.Errors)
	r.set("refusal_p99_ms", refusal)
	r.set("known_dead_ms", left-died)
	r.set("back_ms", back)
	r.must(res.Errors["status 503 no_node"] > 0, "no request was refused with 503 no_node: %v", res.Errors)
	r.must(refusal <= time.Second, "99 of 100 refusals took %v", refusal)
	r.must(back <= 5*time.Second, "it was back %v after the join", back)
}
