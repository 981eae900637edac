package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/route"
)

// outcome is how a request ended for its client.
type outcome struct {
	id, method string
	status     int
	took       time.Duration
	err        error
}

// storm sends n requests to addr, every fourth a POST, one each few milliseconds, and waits for all of them.
func storm(c *http.Client, addr string, n int) []outcome {
	outcomes := make([]outcome, n)
	var all sync.WaitGroup
	tick := time.NewTicker(8 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		o := &outcomes[i]
		o.id, o.method = fmt.Sprint("id", i), "GET"
		var body io.Reader
		if i%4 == 0 { // not in step with the turns of the nodes
			o.method, body = "POST", strings.NewReader("once")
		}
		all.Go(func() {
			req, err := http.NewRequest(o.method, "http://"+addr+"/api/user/do?"+o.id, body)
			if err != nil {
				o.err = err
				return
			}
			began := time.Now()
			res, err := c.Do(req)
			if o.err = err; err == nil {
				o.status = res.StatusCode
				_, o.err = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			o.took = time.Since(began)
		})
		<-tick.C
	}
	all.Wait()
	return outcomes
}

// TestRequestsLeaveASilentNode: what may be repeated does not wait for a node that is found to answer nothing, though the
// retry budget has nothing to give. What may have been done there waits, and is not done twice.
func TestRequestsLeaveASilentNode(t *testing.T) {
	clients := map[string]*http.Client{"HTTP/1.1": client, "HTTP/2": priorKnowledge(t)}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			silent, first, second := scripted(t, hang), scripted(t, ok), scripted(t, ok)
			b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
				s.AnswerTimeout, s.RetryBudget = 10*time.Second, gateway.RetryBudget{}
			}), silent.addr, first.addr, second.addr)
			outcomes := storm(c, b.also(gateway.Listener{H2C: true}), 300)

			seen, at, waiting := map[string]int{}, map[string]int{}, map[string]bool{}
			for _, s := range []*script{silent, first, second} {
				for _, r := range s.requests() {
					seen[r.URL.RawQuery]++
				}
			}
			moved := 0
			for _, r := range silent.requests() {
				at[r.URL.RawQuery]++
				if r.Method == "GET" {
					moved++
				} else {
					waiting[r.URL.RawQuery] = true
				}
			}
			if moved < 5 || len(waiting) == 0 {
				t.Fatalf("%d GETs and %d POSTs met the silent node: the test tests nothing", moved, len(waiting))
			}
			slowest := time.Duration(0)
			for _, o := range outcomes {
				want, times := 200, 1
				switch {
				case waiting[o.id]:
					want = 504
				case o.method == "GET":
					slowest = max(slowest, o.took)
					times = 1 + at[o.id] // once more where nobody answers
				}
				if o.err != nil || o.status != want || seen[o.id] != times {
					t.Errorf("%s %s = %d %v after %v, seen %d times, want %d, seen %d times", o.method, o.id, o.status, o.err, o.took, seen[o.id], want, times)
				}
			}
			t.Logf("%d GETs moved; the slowest GET took %v", moved, slowest) // one that had waited for the node would have been 504
			if n := b.metric("goms_retries_total"); n != moved {
				t.Errorf("goms_retries_total = %d, want %d", n, moved)
			}
			for _, n := range b.g.Cluster(true).Services["user"].Detail {
				if n.Ejected != (n.Addr == silent.addr) || n.Ejected && n.Cause != "silent" {
					t.Errorf("node %+v, want only the silent one left out", n)
				}
			}
		})
	}
}

// TestPOSTDoesNotTryASilentNode: whether a node that fell silent is back is found out by what may go on elsewhere.
func TestPOSTDoesNotTryASilentNode(t *testing.T) {
	silent := scripted(t, hang)
	b := startRoutes(t, one(route.Route{}), nil, gateway.DefaultSettings(), silent.addr, scripted(t, ok).addr, scripted(t, ok).addr)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	get := func() {
		waiting.Go(func() {
			if status, _ := b.do("GET", "/api/user/do", nil); status != 200 {
				t.Errorf("a GET = %d, want 200", status)
			}
		})
	}
	out := func() bool {
		for _, n := range b.g.Cluster(true).Services["user"].Detail {
			if n.Ejected {
				return n.Addr == silent.addr && n.Cause == "silent"
			}
		}
		return false
	}
	until(t, "the silent node is left out", func() bool { get(); return out() })
	waiting.Wait()
	before := silent.count()
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(5 * time.Millisecond) { // its pause is 1 s
		if status, _ := b.do("POST", "/api/user/do", strings.NewReader("once")); status != 200 {
			t.Errorf("a POST = %d, want 200", status)
		}
	}
	if n := silent.count() - before; n != 0 {
		t.Errorf("%d POSTs were sent to a node that is known to be silent", n)
	}
	silent.then(ok)
	get()
	waiting.Wait()
	if n := silent.count() - before; n != 1 || out() {
		t.Errorf("a GET later the node has had %d requests, want 1, and is left out: %v", n, out())
	}
}

// TestHedgedRequestsLeaveASilentNode: so does what would have asked a second node beside it, had the budget allowed.
func TestHedgedRequestsLeaveASilentNode(t *testing.T) {
	silent := scripted(t, hang)
	b := startRoutes(t, one(route.Route{Hedge: 20 * time.Millisecond}), nil, settings(func(s *gateway.Settings) {
		s.AnswerTimeout, s.RetryBudget, s.Retries = 20*time.Second, gateway.RetryBudget{}, 1
	}), silent.addr, scripted(t, ok).addr, scripted(t, ok).addr)
	for _, o := range storm(client, b.addr, 250) {
		if o.method == "GET" && (o.status != 200 || o.took > 10*time.Second) {
			t.Errorf("GET %s = %d %v after %v, want 200 in about 1 s", o.id, o.status, o.err, o.took)
		}
	}
	if silent.count() < 5 {
		t.Errorf("the silent node had %d requests: the test tests nothing", silent.count())
	}
	if got := b.metric("goms_hedges_total"); got != 0 {
		t.Errorf("goms_hedges_total = %d with no budget for any", got)
	}
}

// TestThawedNodeIsHeard: a node that was stopped and goes on is back when it answers what it had, though nobody waits for that any more, and is not
// left alone for its pause.
func TestThawedNodeIsHeard(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			var frozen atomic.Bool
			thawed := make(chan struct{})
			freezer := scripted(t, func(a *answerer, r *http.Request) {
				if frozen.Load() {
					<-thawed
				}
				ok(a, r)
			})
			thaw := sync.OnceFunc(func() { close(thawed) })
			t.Cleanup(thaw)
			hour := gateway.Policy{Eject: gateway.EjectPolicy{Pause: time.Hour, PauseMax: time.Hour}}
			b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
				s.Policies = gateway.Policies{"user": hour}
			}), freezer.addr, scripted(t, ok).addr, scripted(t, ok).addr)
			out := func() bool {
				for _, n := range b.g.Cluster(true).Services["user"].Detail {
					if n.Ejected {
						return n.Addr == freezer.addr
					}
				}
				return false
			}
			frozen.Store(true)
			var all sync.WaitGroup
			until(t, "the silent node is left out", func() bool {
				all.Go(func() {
					if status, _ := b.get("/api/user/do"); status != 200 {
						t.Errorf("a GET = %d, want 200", status)
					}
				})
				return out()
			})
			all.Wait()
			for range 5 {
				b.get("/api/user/do")
			}
			if !out() {
				t.Fatal("the silent node is back")
			}
			thaw()
			until(t, "the node is back", func() bool {
				if status, _ := b.do(method, "/api/user/do", nil); status != 200 {
					t.Errorf("a %s = %d, want 200", method, status)
				}
				return !out()
			})
		})
	}
}
