package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// sdkNode is a node of the SDK that counts how often its handler sees each request.
type sdkNode struct {
	*servicetest.Node
	addr string
	seen *sync.Map // id → *atomic.Int64, shared by the nodes of a test
	mine atomic.Int64
}

func startSDK(t testing.TB, seen *sync.Map, edit func(*service.NodeConfig), work time.Duration) *sdkNode {
	t.Helper()
	c := service.DefaultConfig()
	c.CallServiceKey = testKey
	c.Service.DrainDelay = 0
	if edit != nil {
		edit(&c.Service)
	}
	n := &sdkNode{seen: seen}
	n.Node = servicetest.Start(t, "user", func(s *service.Service) error {
		s.Any("/do", func(c *gin.Context) {
			n.mine.Add(1)
			count, _ := n.seen.LoadOrStore(c.Query("id"), new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
			body, err := io.ReadAll(c.Request.Body)
			if err != nil {
				service.Failure(c, 400, 400, "no body")
				return
			}
			time.Sleep(work)
			c.String(200, "%s:%s", c.Query("id"), body)
		})
		return nil
	}, servicetest.Options{Config: &c})
	n.addr = n.Service.Node().HTTPAddr
	return n
}

// twice returns the ids that handlers saw more than once.
func twice(seen *sync.Map) (ids []string) {
	seen.Range(func(id, count any) bool {
		if n := count.(*atomic.Int64).Load(); n != 1 {
			ids = append(ids, fmt.Sprintf("%s: %d times", id, n))
		}
		return true
	})
	return ids
}

// TestNodesThatAreFull: POSTs that one node refuses are done by others, each of them once.
func TestNodesThatAreFull(t *testing.T) {
	var seen sync.Map
	alone := func(c *service.NodeConfig) { c.MaxInFlight = 1 }
	small, large := startSDK(t, &seen, alone, 5*time.Millisecond), startSDK(t, &seen, nil, 5*time.Millisecond)
	b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
		s.RetryBudget = gateway.RetryBudget{Percent: 100}
	}), small.addr, large.addr)
	var wg sync.WaitGroup
	var lost atomic.Int64
	for w := range 8 {
		wg.Go(func() {
			for i := range 25 {
				id := fmt.Sprintf("%d-%d", w, i)
				if status, body := b.do("POST", "/api/user/do?id="+id, strings.NewReader("x")); status != 200 || body != id+":x" {
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	refused := b.metric("goms_refusals_total")
	if got := small.mine.Load() + large.mine.Load(); got != 200-lost.Load() || len(twice(&seen)) != 0 {
		t.Errorf("%d of 200 POSTs were done, %d lost, more than once: %v", got, lost.Load(), twice(&seen))
	}
	if lost.Load() != 0 || refused == 0 {
		// The node without a limit takes what the other refuses.
		t.Errorf("%d POSTs lost, %d refused, want none and some", lost.Load(), refused)
	}
}

// TestNodeLeavesWithoutRegistry: the gateway never hears of it, except from the node itself.
func TestNodeLeavesWithoutRegistry(t *testing.T) {
	var seen sync.Map
	delay := func(c *service.NodeConfig) { c.DrainDelay = time.Second }
	leaving, staying := startSDK(t, &seen, delay, time.Millisecond), startSDK(t, &seen, delay, time.Millisecond)
	b := startRoutes(t, one(route.Route{}), nil, settings(nil), leaving.addr, staying.addr)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sent atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			c := b.dial()
			defer c.Close()
			br := bufio.NewReader(c)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", w, i)
				c.SetDeadline(time.Now().Add(20 * time.Second))
				fmt.Fprintf(c, "POST /api/user/do?id=%s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", id)
				res, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Errorf("POST %s: %v", id, err)
					return
				}
				body, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != 200 || string(body) != id+":x" {
					t.Errorf("POST %s = %d %s %v", id, res.StatusCode, body, err)
				}
				sent.Add(1)
			}
		})
	}
	waitUntil(t, "both nodes serve", func() bool { return leaving.mine.Load() > 20 && staying.mine.Load() > 20 })
	leaving.Leave()
	waitUntil(t, "the gateway knows", func() bool {
		for _, s := range b.g.Cluster(true).Services["user"].Detail {
			if strings.HasSuffix(s.ID, leaving.addr) && s.Draining {
				return true
			}
		}
		return false
	})
	if err := leaving.Stop(); err != nil {
		t.Errorf("the node that left: %v", err)
	}
	after := staying.mine.Load()
	waitUntil(t, "the other serves on", func() bool { return staying.mine.Load() > after+50 })
	close(stop)
	wg.Wait()
	if ids := twice(&seen); len(ids) != 0 {
		t.Errorf("done more than once: %v", ids)
	}
	if got := leaving.mine.Load() + staying.mine.Load(); got != sent.Load() {
		t.Errorf("%d requests were done of %d", got, sent.Load())
	}
}

// TestDeadlineEndsTheHandler: the handler's context ends when nobody waits any more.
func TestDeadlineEndsTheHandler(t *testing.T) {
	c := service.DefaultConfig()
	c.CallServiceKey = testKey
	c.Service.DrainDelay = 0
	left := make(chan time.Duration, 1)
	ended := make(chan error, 1)
	n := servicetest.Start(t, "user", func(s *service.Service) error {
		s.Any("/do", func(c *gin.Context) {
			until, _ := c.Deadline()
			left <- time.Until(until)
			<-c.Request.Context().Done()
			ended <- c.Request.Context().Err()
		})
		return nil
	}, servicetest.Options{Config: &c, Registry: registry.NewMemory()})
	b := startRoutes(t, one(route.Route{Timeout: 400 * time.Millisecond}), nil, settings(nil), n.Service.Node().HTTPAddr)
	if status, _ := b.get("/api/user/do"); status != 504 {
		t.Errorf("GET = %d, want 504", status)
	}
	if d := <-left; d > 400*time.Millisecond || d < -10*time.Second {
		t.Errorf("the handler had %v, want at most the route's 400 ms", d)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the handler's context does not end")
	}
}

// TestFullNodeCostsNoRequest: a node that is full for long is left alone, so that the retry budget, which is small, lasts for
// every POST that it refuses.
func TestFullNodeCostsNoRequest(t *testing.T) {
	var seen sync.Map
	alone := func(c *service.NodeConfig) { c.MaxInFlight = 1 }
	small, large := startSDK(t, &seen, alone, 3*time.Second), startSDK(t, &seen, nil, 0)
	b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
		s.RetryBudget = gateway.RetryBudget{Percent: 1, Floor: 1} // 12 in 10 s, for 200 requests
	}), small.addr, large.addr)
	var held sync.WaitGroup
	defer held.Wait()
	for i := range 2 { // one of them meets the small node, and keeps it full
		held.Go(func() { b.do("POST", fmt.Sprint("/api/user/do?id=held", i), strings.NewReader("x")) })
	}
	until(t, "the small node is full", func() bool { return small.mine.Load() == 1 })
	lost := 0
	for i := range 200 {
		id := fmt.Sprint("id", i)
		if status, body := b.do("POST", "/api/user/do?id="+id, strings.NewReader("x")); status != 200 || body != id+":x" {
			lost++
		}
	}
	if refused := b.metric("goms_refusals_total"); lost != 0 || refused == 0 || refused > 12 || len(twice(&seen)) != 0 {
		t.Errorf("%d of 200 POSTs lost, %d refused, done twice: %v; want none lost, and a few refused", lost, refused, twice(&seen))
	}
}
