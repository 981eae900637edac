package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
)

// counted is an HTTP server that knows how many connections it has and had.
type counted struct {
	*http.Server
	addr       string
	open, ever atomic.Int64
}

func countedNode(t testing.TB, idle time.Duration, h http.HandlerFunc) *counted {
	t.Helper()
	n := &counted{}
	n.Server = &http.Server{Handler: h, IdleTimeout: idle, ReadHeaderTimeout: 10 * time.Second, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			n.open.Add(1)
			n.ever.Add(1)
		case http.StateClosed:
			n.open.Add(-1)
		}
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = ln.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); n.Serve(ln) }()
	t.Cleanup(func() { n.Close(); <-done })
	return n
}

// apply makes the gateway's nodes of service user what they say of themselves.
func (b *bench) apply(nodes ...registry.Node) { b.g.Apply(registry.NewSnapshot(1, nodes)) }

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestNodesIdleLimit: requests come about when the node closes its idle connections, and none is lost, though
// a POST may not be repeated.
func TestNodesIdleLimit(t *testing.T) {
	const idle, clients, each = time.Second, 100, 50
	var seen atomic.Int64
	n := countedNode(t, idle, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		seen.Add(1)
	})
	b := start(t, nil)
	node := registry.NewNode("user", n.addr, n.addr)
	node.Idle = idle
	b.apply(node)
	var lost atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := b.dial()
			defer c.Close()
			br := bufio.NewReader(c)
			for j := range each {
				request := "GET /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n"
				if (i+j)%2 == 0 {
					request = "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
				}
				io.WriteString(c, request)
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					lost.Add(1)
					t.Errorf("%.4s: %v", request, err)
					return
				}
				if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 && lost.Add(1) < 10 {
					t.Errorf("%.4s = %d %s", request, res.StatusCode, body)
				}
				switch j % 10 { // pauses about as long as the node's limit, and as ours
				case 2, 6:
					time.Sleep(idle - 3*time.Millisecond + time.Duration(rand.Int64N(int64(4*time.Millisecond))))
				case 9:
					time.Sleep(idle/2 - 2*time.Millisecond + time.Duration(rand.Int64N(int64(4*time.Millisecond))))
				}
			}
		})
	}
	wg.Wait()
	if lost.Load() != 0 || seen.Load() != clients*each {
		t.Errorf("%d of %d requests were lost, the node saw %d", lost.Load(), clients*each, seen.Load())
	}
	if made := n.ever.Load(); made == 0 || made > clients*each/2 {
		t.Errorf("%d connections for %d requests: none was reused", made, clients*each)
	}
}

// TestIdleLimitBetweenSweeps: a limit shorter than the time from one sweep to the next holds.
func TestIdleLimitBetweenSweeps(t *testing.T) {
	n := countedNode(t, time.Minute, func(http.ResponseWriter, *http.Request) {})
	b := start(t, nil)
	node := registry.NewNode("user", n.addr, n.addr)
	node.Idle = 20 * time.Millisecond
	b.apply(node)
	b.get("/api/user/login")
	time.Sleep(10 * time.Millisecond) // the limit, less its margin, passes: that is the condition
	b.get("/api/user/login")
	if n.ever.Load() != 2 {
		t.Errorf("%d connections, want 2: the first one is too old", n.ever.Load())
	}
	b.idle() // the client has its answer a moment before the connection is given back
	node.Idle = 0
	b.apply(node)
	b.get("/api/user/login")
	if n.ever.Load() != 2 {
		t.Errorf("%d connections, want 2: the second one may be used once the node allows it", n.ever.Load())
	}
}

// TestUseCountsFromItsBeginning: when the node began to count is not known, so the time that a slow client takes does
// not make its connection look young.
func TestUseCountsFromItsBeginning(t *testing.T) {
	n := countedNode(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "slow" {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			time.Sleep(150 * time.Millisecond)
		}
	})
	b := start(t, nil)
	node := registry.NewNode("user", n.addr, n.addr)
	node.Idle = 200 * time.Millisecond
	b.apply(node)
	b.get("/api/user/login?slow")
	b.get("/api/user/login")
	if n.ever.Load() != 2 {
		t.Errorf("%d connections, want 2: the first was taken into use 150 ms ago, of 100", n.ever.Load())
	}
}

// TestDrainingAndLeaving: what is idle is closed at once, what is in flight finishes and is closed then, and no more
// than maxIdleUpstream are kept.
func TestDrainingAndLeaving(t *testing.T) {
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	n := countedNode(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "done")
	})
	b := start(t, func(s *gateway.Settings) { s.MaxIdleUpstream = 2 })
	node := registry.NewNode("user", n.addr, n.addr)
	b.apply(node)

	inFlight := func(count int) (finish func()) {
		t.Helper()
		var wg sync.WaitGroup
		for range count {
			wg.Go(func() {
				if status, body := b.get("/api/user/login"); status != 200 || body != "done" {
					t.Errorf("in flight = %d %q, want 200 done", status, body)
				}
			})
			waitFor(t, "a request to arrive", arrived)
		}
		return func() {
			for range count {
				release <- struct{}{}
			}
			wg.Wait()
		}
	}
	open := func(want int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d connections to the node", want), func() bool { return n.open.Load() == want })
	}
	inFlight(5)()
	open(2)
	if detail := b.g.Cluster(true).Services["user"].Detail; len(detail) != 1 || detail[0].Idle != 2 || detail[0].TLS || detail[0].IdleLimit != "1m0s" {
		t.Errorf("Cluster(verbose) = %+v, want 2 idle connections", detail)
	}

	finish := inFlight(1)
	open(2)
	node.State = registry.Draining
	b.apply(node)
	open(1) // that of the request in flight
	finish()
	open(1) // it may be used as long as there is no other node
	finish = inFlight(1)
	b.apply()
	open(1)
	finish()
	open(0)
}
