package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/route"
)

// hedgedPair is two nodes behind a route that asks the second one early.
func hedgedPair(t testing.TB, r route.Route, change func(*gateway.Settings), first, second func(*answerer, *http.Request)) (*bench, *script, *script) {
	t.Helper()
	if r.Hedge == 0 {
		r.Hedge = 20 * time.Millisecond
	}
	a, b := scripted(t, first), scripted(t, second)
	return startRoutes(t, one(r), nil, settings(change), a.addr, b.addr), a, b
}

// gone is a node that does not answer and tells when the attempt has ended.
func gone(ended chan<- struct{}) func(*answerer, *http.Request) {
	return func(a *answerer, _ *http.Request) {
		a.hang()
		ended <- struct{}{}
	}
}

func TestHedge(t *testing.T) {
	ended := make(chan struct{}, 100)
	b, x, y := hedgedPair(t, route.Route{}, nil, gone(ended), ok)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReader(c)
	for i := range 8 { // over one connection, which goes on
		io.WriteString(c, "GET /api/user/do HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("GET %d = %v %v", i, res, err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "ok" {
			t.Fatalf("GET %d = %q %v", i, body, err)
		}
	}
	lost := x.count() // an attempt may be given up before it is sent
	if lost > b.metric("goms_hedges_total") || y.count() != 8 {
		t.Errorf("the nodes saw %d and %d requests, want at most one for each of %d hedges, and 8", lost, y.count(), b.metric("goms_hedges_total"))
	}
	if b.metric("goms_hedges_total") == 0 {
		t.Error("no request is hedged")
	}
	for range lost {
		waitFor(t, "the attempt that lost to end", ended)
	}
	for i, s := range b.g.Cluster(true).Services["user"].Detail {
		if s.Failures != 0 {
			t.Errorf("node %s has %d failures, want none", s.ID, s.Failures)
		}
		eventually(t, "nothing to be in flight", func() bool { return b.g.Cluster(true).Services["user"].Detail[i].InFlight == 0 })
	}
}

// TestHedgeIsForWhatMayBeRepeated, and for what is slow.
func TestHedgeIsForWhatMayBeRepeated(t *testing.T) {
	slow := func(a *answerer, r *http.Request) {
		time.Sleep(100 * time.Millisecond)
		a.say(200)
	}
	b, x, y := hedgedPair(t, route.Route{}, nil, slow, slow)
	for range 3 {
		b.do("POST", "/api/user/do", strings.NewReader("x"))
		b.do("POST", "/api/user/do", nil)
		b.do("PUT", "/api/user/do", strings.NewReader("x"))
	}
	if n := x.count() + y.count(); n != 9 || b.metric("goms_hedges_total") != 0 {
		t.Errorf("the nodes saw %d of 9 requests, %d hedged", n, b.metric("goms_hedges_total"))
	}
	for name, c := range map[string]struct {
		r      route.Route
		change func(*gateway.Settings)
	}{
		"fast enough": {r: route.Route{Hedge: 5 * time.Second}},
		"no budget":   {change: func(s *gateway.Settings) { s.RetryBudget = gateway.RetryBudget{} }},
		"no retries":  {change: func(s *gateway.Settings) { s.Retries = 0 }},
	} {
		b, x, y := hedgedPair(t, c.r, c.change, slow, slow)
		for range 3 {
			if status, _ := b.get("/api/user/do"); status != 200 {
				t.Errorf("%s: %d", name, status)
			}
		}
		if n := x.count() + y.count(); n != 3 || b.metric("goms_hedges_total") != 0 {
			t.Errorf("%s: the nodes saw %d of 3 requests, %d hedged", name, n, b.metric("goms_hedges_total"))
		}
	}
}

// TestHedgeWaitsForTheBetterAnswer: a failure does not win while the other attempt may still succeed.
func TestHedgeWaitsForTheBetterAnswer(t *testing.T) {
	late := func(a *answerer, _ *http.Request) {
		time.Sleep(200 * time.Millisecond)
		a.say(200)
	}
	for name, bad := range map[string]func(*answerer, *http.Request){
		"503":     func(a *answerer, _ *http.Request) { time.Sleep(60 * time.Millisecond); a.say(503) },
		"refused": func(a *answerer, r *http.Request) { time.Sleep(60 * time.Millisecond); refuseWith(t, testKey)(a, r) },
		"closes":  func(a *answerer, _ *http.Request) { time.Sleep(60 * time.Millisecond); a.Close() },
	} {
		b, _, _ := hedgedPair(t, route.Route{}, nil, bad, late)
		for i := range 4 {
			if status, body := b.get("/api/user/do"); status != 200 || body != "ok" {
				t.Errorf("%s: GET %d = %d %s, want 200", name, i, status, body)
			}
		}
	}
	// Both fail: the client gets what there is.
	failing := func(a *answerer, _ *http.Request) { time.Sleep(60 * time.Millisecond); a.say(500) }
	b, x, y := hedgedPair(t, route.Route{}, nil, failing, failing)
	if status, body := b.get("/api/user/do"); status != 500 || body != "ok" || x.count() != 1 || y.count() != 1 {
		t.Errorf("two failures = %d %s, the nodes saw %d and %d", status, body, x.count(), y.count())
	}
}

// TestHedgeEndsWithItsRequest: the deadline and the client's leaving end both attempts.
func TestHedgeEndsWithItsRequest(t *testing.T) {
	ended := make(chan struct{}, 100)
	b, _, _ := hedgedPair(t, route.Route{Timeout: 300 * time.Millisecond}, nil, gone(ended), gone(ended))
	if status, body := b.get("/api/user/do"); status != 504 || !strings.Contains(body, `"node_timeout"`) {
		t.Errorf("GET = %d %s, want 504 node_timeout", status, body)
	}
	waitFor(t, "an attempt to end", ended)
	waitFor(t, "the other to end", ended)

	b, x, y := hedgedPair(t, route.Route{}, nil, gone(ended), gone(ended))
	c := b.dial()
	io.WriteString(c, "GET /api/user/do HTTP/1.1\r\nHost: a\r\n\r\n")
	waitUntil(t, "both nodes are asked", func() bool { return x.count() == 1 && y.count() == 1 })
	c.Close()
	waitFor(t, "an attempt to end", ended)
	waitFor(t, "the other to end", ended)
}

// TestHedgeAndDeadNodes: a connection that is refused is followed by another attempt at once.
func TestHedgeAndDeadNodes(t *testing.T) {
	serving := scripted(t, ok)
	b := startRoutes(t, one(route.Route{Hedge: 5 * time.Second}), nil, settings(nil), deadAddr(t), serving.addr)
	for i := range 10 {
		if status, body := b.get("/api/user/do"); status != 200 {
			t.Fatalf("GET %d = %d %s, want 200", i, status, body)
		}
	}
	// An idle connection that the node gave up is no failure of the node.
	closing := scripted(t, func(a *answerer, _ *http.Request) { a.say(200); a.Close() })
	b = startRoutes(t, one(route.Route{Hedge: 5 * time.Second}), nil, settings(nil), closing.addr, serving.addr)
	for i := range 20 {
		if status, body := b.get("/api/user/do"); status != 200 {
			t.Fatalf("GET %d = %d %s, want 200", i, status, body)
		}
	}
}

// TestHedgedAnswersAreWhole: whichever attempt wins, its answer is passed on to the end.
func TestHedgedAnswersAreWhole(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 16<<10)
	fast := func(a *answerer, _ *http.Request) {
		io.WriteString(a, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n"+big+"\r\n0\r\n\r\n")
	}
	slow := func(a *answerer, r *http.Request) {
		time.Sleep(50 * time.Millisecond)
		fast(a, r)
	}
	b, _, _ := hedgedPair(t, route.Route{Hedge: 10 * time.Millisecond}, nil, slow, fast)
	for i := range 6 {
		if status, body := b.get("/api/user/do"); status != 200 || body != big {
			t.Fatalf("GET %d = %d with %d bytes, want %d", i, status, len(body), len(big))
		}
	}
}
