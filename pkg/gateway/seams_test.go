package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/route"
)

// idle waits until no request is counted at a node of service user, and returns the failures of all.
func (b *bench) idle() (failures int64) {
	b.t.Helper()
	waitUntil(b.t, "no attempt is in flight", func() bool {
		failures = 0
		open := int64(0)
		for _, s := range b.g.Cluster(true).Services["user"].Detail {
			failures += s.Failures
			open += s.InFlight
		}
		return open == 0
	})
	return failures
}

// TestAttemptTimeEndsWithTheAttempt: the time of an attempt that was refused in time does not end the request while
// the next node is dialled.
func TestAttemptTimeEndsWithTheAttempt(t *testing.T) {
	var asked, dialled atomic.Int64
	refuse := refuseWith(t, testKey)
	do := func(a *answerer, r *http.Request) {
		if asked.Add(1) == 1 {
			refuse(a, r)
		} else {
			a.say(200)
		}
	}
	x, y := scripted(t, do), scripted(t, do)
	b := startServices(t, one(route.Route{Timeout: 20 * time.Second, AttemptTimeout: 300 * time.Millisecond}), func(c *gateway.Config) {
		c.Control = func(_, _ string, _ syscall.RawConn) error {
			if dialled.Add(1) == 2 {
				time.Sleep(time.Second) // more than the first attempt had
			}
			return nil
		}
	}, settings(func(s *gateway.Settings) { s.ConnectTimeout = 10 * time.Second }), x.addr, y.addr)
	if got := b.raw("GET /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("answer %q, want 200", got)
	}
}

// TestTunnelOutlivesItsAttempt: a tunnel that one attempt opened has a tunnel's time, and ends whole.
func TestTunnelOutlivesItsAttempt(t *testing.T) {
	open := func(a *answerer, _ *http.Request) {
		io.WriteString(a, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		a.hang()
	}
	x, y := scripted(t, open), scripted(t, open)
	r := route.Route{Timeout: 20 * time.Second, AttemptTimeout: 10 * time.Second}
	b := startRoutes(t, one(r), nil, settings(func(s *gateway.Settings) {
		s.StreamTimeout, s.BodyTimeout = time.Second, time.Second
	}), x.addr, y.addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("answer %v %v, want 101", res, err)
	}
	b.idle() // though the client's side is still open
	b.tunnels(0)
}

// TestPanicEndsItsAttempt: what the pool counted is counted back, and a node is not asked less for it.
func TestPanicEndsItsAttempt(t *testing.T) {
	for name, r := range map[string]route.Route{"plain": {}, "hedged": {Hedge: 10 * time.Second}} {
		most := 1
		var calm atomic.Bool
		x, y := scripted(t, ok), scripted(t, ok)
		b := startServices(t, one(r), func(c *gateway.Config) {
			c.Control = func(_, _ string, _ syscall.RawConn) error {
				if !calm.Load() {
					panic("for the test")
				}
				return nil
			}
		}, settings(func(s *gateway.Settings) { s.Policies = gateway.Policies{"default": {MaxInFlightPerNode: &most}} }), x.addr, y.addr)
		for range 4 {
			if status, body := b.get("/api/user/do"); status != 500 || !strings.Contains(body, `"internal"`) {
				t.Errorf("%s: panic = %d %s, want 500 internal", name, status, body)
			}
		}
		b.idle()
		calm.Store(true)
		for range 4 {
			if status, body := b.get("/api/user/do"); status != 200 {
				t.Errorf("%s: after the panics = %d %s, want 200", name, status, body)
			}
		}
	}
}

// TestFirstHeadHasOneTime: a client that is slow with its first byte is not given that time once more for the rest.
func TestFirstHeadHasOneTime(t *testing.T) {
	b := start(t, func(s *gateway.Settings) { s.HeadTimeout = 3 * time.Second })
	c := b.dial()
	defer c.Close()
	began := time.Now()
	time.Sleep(2500 * time.Millisecond) // it is the client that is slow
	io.WriteString(c, "GET /livez HTTP/1.1\r\nHo")
	c.SetDeadline(time.Now().Add(20 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 408 {
		t.Fatalf("answer %v %v, want 408", res, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the head was waited for for %v, want 3s", took)
	}
}

// TestReloadOfIdleTimeout: a new upstreamIdleTimeout holds for connections that are there.
func TestReloadOfIdleTimeout(t *testing.T) {
	n := countedNode(t, time.Minute, func(http.ResponseWriter, *http.Request) {})
	b := start(t, nil, n.addr)
	b.get("/api/user/login")
	if n.open.Load() != 1 {
		t.Fatalf("%d connections to the node, want 1", n.open.Load())
	}
	l := live(t, "/api", testKey, route.Services{"user": {"login": {Path: "/login"}}})
	l.Settings.DrainDelay, l.Settings.UpstreamIdleTimeout = 0, 100*time.Millisecond
	if err := b.g.Reload(l); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the idle connection is closed", func() bool { return n.open.Load() == 0 })
}

// TestHedgeAndStanding: a client that leaves is no fault of the nodes; that they do not answer in time is.
func TestHedgeAndStanding(t *testing.T) {
	b, x, y := hedgedPair(t, route.Route{}, nil, hang, hang)
	for i := range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+b.addr+"/api/user/do", nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if res, err := client.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		waitUntil(t, "both nodes are asked", func() bool { return x.count() == i+1 && y.count() == i+1 })
		cancel()
		<-done
		if n := b.idle(); n != 0 {
			t.Fatalf("%d failures after the client left, want none", n)
		}
	}
	b, _, _ = hedgedPair(t, route.Route{Timeout: 2 * time.Second}, nil, hang, hang)
	if status, body := b.get("/api/user/do"); status != 504 {
		t.Errorf("GET = %d %s, want 504", status, body)
	}
	if n := b.idle(); n != 2 {
		t.Errorf("%d failures of two nodes that do not answer, want 2", n)
	}
}
