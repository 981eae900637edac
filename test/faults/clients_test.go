//go:build linux

package faults_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// baseline is what a gateway holds when nobody but the load is there.
type baseline struct {
	g               *gateway
	rss             int64
	files, routines int
}

func (g *gateway) baseline() baseline {
	g.collect()
	g.ResetPeak()
	rss, _ := g.Memory()
	return baseline{g, rss, g.Files(), g.goroutines()}
}

// peak returns by how much the resident set has grown at its peak.
func (b baseline) peak() int64 {
	_, peak := b.g.Memory()
	return peak - b.rss
}

// settled waits until files and goroutines are back where they were, give or take some.
func (b baseline) settled(r *row, within time.Duration, some int) {
	r.Helper()
	began, deadline := time.Now(), time.Now().Add(within)
	var files, routines int
	for {
		files, routines = b.g.Files()-b.files, b.g.goroutines()-b.routines
		if files <= some && routines <= some || time.Now().After(deadline) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.set("settled_ms", time.Since(began))
	r.set("fds_left", files)
	r.set("goroutines_left", routines)
	r.must(files <= some && routines <= some, "after %v %d files and %d goroutines are left over", within, files, routines)
}

// gentle starts a load that shows how others fare.
func (s *scene) gentle() *load.Load {
	l := &load.Load{Addrs: []string{s.gateways[0].addr()}, Path: "/api/count/hit", Rate: 100}
	l.Start()
	return l
}

// calm has the gateway serve for a moment and returns what it holds when that is over.
func (s *scene) calm() baseline {
	s.t.Helper()
	warm := s.gentle()
	wait(s.t, time.Second)
	warm.Stop()
	for _, n := range s.nodes {
		os.Truncate(n.counts, 0) // ids begin anew
	}
	return s.gateways[0].baseline()
}

// TestF26ClientsLeave has clients go in the middle of their requests and of their answers. Nothing stays, and no node is blamed.
func TestF26ClientsLeave(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, gateway: "  upstreamIdleTimeout: 2s\n"})
	g := s.gateways[0]
	base := s.calm()
	l := s.gentle()
	failures, _ := g.metric("goms_node_failures_total")
	const each = 50
	gone := 0
	for gone < times(10_000, 2000) {
		var all sync.WaitGroup
		for i := range each {
			all.Go(func() {
				conn, err := net.DialTimeout("tcp", g.addr(), 5*time.Second)
				if err != nil {
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				switch i % 3 {
				case 0: // in its body
					io.WriteString(conn, "POST /api/count/up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf of it")
				case 1: // in the answer
					io.WriteString(conn, "GET /api/count/down?n=4000000 HTTP/1.1\r\nHost: a\r\n\r\n")
					io.ReadFull(conn, make([]byte, 1000))
				case 2: // while the node works, by reset
					io.WriteString(conn, "POST /api/count/sip HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"+strings.Repeat("x", 50))
					abort(conn)
				}
			})
		}
		all.Wait()
		gone += each
	}
	cancelled := time.Now()
	process.Eventually(r, 10*time.Second, "the nodes know that the clients are gone", func() error {
		open := 0
		for _, n := range s.nodes {
			open += n.open(t)
		}
		if n, _ := g.metric("goms_node_in_flight"); n > 5 || open > 5 { // those of the load
			return fmt.Errorf("%v requests are at nodes, which know %d", n, open)
		}
		return nil
	})
	r.set("cancelled_ms", time.Since(cancelled))
	after, _ := g.metric("goms_node_failures_total")
	ejected, _ := g.metric("goms_node_ejected")
	r.account(l.Stop(), losses{}, s.witnesses()...)
	base.settled(r, 15*time.Second, 10)
	r.set("clients_gone", gone)
	r.set("node_failures", after-failures)
	r.must(after == failures && ejected == 0, "%v failures were counted against nodes, %v ejected", after-failures, ejected)
}

// TestF27GiantHeads sends heads, cookies and targets that are far too large.
func TestF27GiantHeads(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, gateway: "  upstreamIdleTimeout: 2s\n"})
	g := s.gateways[0]
	base := s.calm()
	l := s.gentle()
	var slowest time.Duration
	statuses := map[int]int{}
	for i := range times(200, 40) {
		for want, request := range map[int]string{
			414: "GET /api/count/hit?x=" + strings.Repeat("u", 1<<20) + " HTTP/1.1\r\nHost: a\r\n\r\n",
			431: "GET /api/count/hit HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("c=1; ", 1<<18) + "\r\n\r\n",
			432: "GET /api/count/hit HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Crumb: 1\r\n", 3000) + "\r\n",
		} {
			if want == 432 {
				want = 431
			}
			began := time.Now()
			conn, err := net.DialTimeout("tcp", g.addr(), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			go io.WriteString(conn, request) // the gateway may answer before it has all, and close
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			conn.Close()
			if err != nil {
				statuses[0]++
				continue
			}
			statuses[resp.StatusCode]++
			slowest = max(slowest, time.Since(began))
			r.must(resp.StatusCode == want, "round %d: status %d, want %d", i, resp.StatusCode, want)
		}
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("statuses", statuses)
	r.set("slowest_ms", slowest)
	r.set("rss_growth_kib", base.peak()>>10)
	r.must(statuses[0] == 0, "%d connections ended without an answer", statuses[0])
	r.must(slowest <= time.Second, "the slowest refusal took %v", slowest)
	r.must(base.peak() <= 8<<20, "memory grew by %d KiB", base.peak()>>10)
}

// TestF29BodyFlood sends endless bodies, to a node that hardly reads and to one whose route has a limit.
func TestF29BodyFlood(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, gateway: "  upstreamIdleTimeout: 2s\n"})
	g := s.gateways[0]
	base := s.calm()
	l := s.gentle()
	var refused, cut atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), lasting(60*time.Second, 10*time.Second))
	defer cancel()
	var all sync.WaitGroup
	const flooders = 200
	for i := range flooders {
		all.Go(func() {
			conn, err := net.DialTimeout("tcp", g.addr(), 10*time.Second)
			if err != nil {
				return
			}
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			path := [...]string{"sip", "up"}[i%2] // up has the limit of all routes, 10 MiB
			fmt.Fprintf(conn, "POST /api/count/%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", path)
			answered := make(chan int, 1)
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					answered <- 0
					return
				}
				answered <- resp.StatusCode
			}()
			chunk := "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"
			for range 1 << 14 { // 1 GiB
				if _, err := io.WriteString(conn, chunk); err != nil {
					break
				}
			}
			if i%2 == 0 {
				return
			}
			switch <-answered {
			case 413:
				refused.Add(1)
			case 0:
				cut.Add(1)
			}
		})
	}
	all.Wait()
	peak := base.peak()
	r.set("refused_413", refused.Load())
	r.set("cut_without_answer", cut.Load())
	r.set("rss_growth_kib", peak>>10)
	r.account(l.Stop(), losses{}, s.witnesses()...)
	base.settled(r, 40*time.Second, 60)
	r.must(refused.Load()+cut.Load() == flooders/2 && refused.Load() > 0, "%d floods of %d were refused with 413, %d cut", refused.Load(), flooders/2, cut.Load())
	r.must(peak <= 64<<20, "memory grew by %d MiB", peak>>20)
}
