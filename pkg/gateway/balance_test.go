package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
)

// policy is a change of settings: the service user has the policy p.
func policy(p gateway.Policy) func(*gateway.Settings) {
	return func(s *gateway.Settings) { s.Policies = gateway.Policies{"user": p} }
}

// named starts n nodes that answer with their number.
func named(t testing.TB, n int) (addrs []string) {
	t.Helper()
	for i := range n {
		addrs = append(addrs, node(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) }))
	}
	return addrs
}

// until asks cond for at most ten seconds.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestHashSticks(t *testing.T) {
	f := func(on string, request func(key string) string, sticks bool) {
		t.Helper()
		b := start(t, policy(gateway.Policy{Balance: "hash", HashOn: on}), named(t, 4)...)
		all := map[string]bool{}
		for i := range 40 {
			seen := map[string]bool{}
			for range 3 {
				answer := b.raw("GET " + request(fmt.Sprint("k", i)))
				_, body, _ := strings.Cut(answer, "\r\n\r\n")
				seen[body], all[body] = true, true
			}
			if len(seen) != 1 {
				t.Errorf("%s: requests of one key went to %d nodes", on, len(seen))
			}
		}
		if want := 1; sticks && len(all) != want || !sticks && len(all) != 4 {
			t.Errorf("%s: all keys went to %d nodes", on, len(all))
		}
	}
	const tail = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	f("header:X-User", func(k string) string { return "/api/user/login" + tail + "x-user: " + k + "\r\n\r\n" }, false)
	f("cookie:sid", func(k string) string {
		return "/api/user/login" + tail + "Cookie: xsid=1; sid=" + k + "; other=" + k + "\r\n\r\n"
	}, false)
	f("header:X-User", func(string) string { return "/api/user/login" + tail + "\r\n" }, true) // by address
	f("clientAddress", func(k string) string { return "/api/user/login?" + k + tail + "\r\n" }, true)
	f("path", func(k string) string { return "/api/user/login?" + k + tail + "\r\n" }, true)
	f("cookie:sid", func(k string) string { return "/api/user/login" + tail + "Cookie: sid2=" + k + "\r\n\r\n" }, true)
}

func TestFullPoolIsShedAtOnce(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "wait" {
			entered <- struct{}{}
			<-leave
		}
	})
	b := start(t, policy(gateway.Policy{MaxInFlightPerNode: ptr(1)}), addr)
	first := make(chan int)
	go func() { status, _ := b.get("/api/user/login?wait"); first <- status }()
	<-entered
	began := time.Now()
	answer := b.raw("GET /api/user/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	took := time.Since(began)
	for _, part := range []string{"HTTP/1.1 503 ", "\r\nRetry-After: 1\r\n", `"reason":"overloaded"`} {
		if !strings.Contains(answer, part) {
			t.Errorf("answer of a full service lacks %q:\n%s", part, answer)
		}
	}
	if took > 10*time.Second {
		t.Errorf("it took %s to refuse", took)
	}
	c := b.g.Cluster(true).Services["user"]
	if c.Balance == nil || c.Balance.Refused != 1 || c.Balance.InFlight != 1 || c.Balance.Policy != "roundRobin" {
		t.Errorf("Cluster() balance = %+v, want 1 refused and 1 in flight", c.Balance)
	}
	close(leave)
	if status := <-first; status != 200 {
		t.Errorf("the request that was in flight = %d, want 200", status)
	}
	until(t, "there is room again", func() bool { status, _ := b.get("/api/user/login"); return status == 200 })
}

// TestNodeThatTimesOutIsLeftOut: a node that accepts and never answers fails by the time of its attempts.
func TestNodeThatTimesOutIsLeftOut(t *testing.T) {
	silent := rawNode(t, func(_ net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	b := start(t, policy(gateway.Policy{Eject: gateway.EjectPolicy{Pause: time.Minute, PauseMax: time.Minute}}), silent, named(t, 1)[0])
	timeouts := 0
	for range 12 {
		if status, _ := b.get("/api/user/short"); status == 504 {
			timeouts++
		}
	}
	if timeouts != 3 {
		t.Errorf("%d requests timed out, want 3 before the node is left out", timeouts)
	}
	for _, n := range b.g.Cluster(true).Services["user"].Detail {
		if n.Ejected != (n.Addr == silent) || n.Ejected && n.Cause != "unreachable" {
			t.Errorf("node %+v, want only the silent one left out", n)
		}
	}
}

// TestSilentNodeIsLeftOutBeforeItsTime: requests to it still wait when the others show that it is not
// the service that is slow.
func TestSilentNodeIsLeftOutBeforeItsTime(t *testing.T) {
	log, out := written(t, "text", nil)
	silent := rawNode(t, func(_ net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	b := startWith(t, log, nil, silent, named(t, 1)[0])
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	until(t, "the silent node is left out", func() bool {
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+b.addr+"/api/user/login", nil)
		go func() {
			if resp, err := http.DefaultTransport.RoundTrip(r); err == nil {
				resp.Body.Close()
			}
		}()
		for _, n := range b.g.Cluster(true).Services["user"].Detail {
			if n.Ejected && n.Addr == silent && n.Cause == "silent" {
				return true
			}
		}
		return false
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the node was left out after %s, want about 1 s", took)
	}
	if n := strings.Count(out.String(), "is left out"); n != 1 {
		t.Errorf("told %d times that the node is left out, want once:\n%s", n, out.String())
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestSlowNodeLosesItsShare(t *testing.T) {
	var slow, all atomic.Int64
	lame := node(t, func(_ http.ResponseWriter, r *http.Request) {
		slow.Add(1)
		select {
		case <-time.After(700 * time.Millisecond):
		case <-r.Context().Done():
		}
	})
	b := start(t, nil, append(named(t, 2), lame)...)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer wg.Wait()
	load := func() {
		time.Sleep(5 * time.Millisecond)
		all.Add(1)
		wg.Go(func() {
			if resp, err := client.Get("http://" + b.addr + "/api/user/login"); err != nil || resp.StatusCode != 200 {
				t.Errorf("answer = %v, %v, want 200", resp, err)
			} else {
				resp.Body.Close()
			}
		})
	}
	until(t, "the slow node is left out", func() bool {
		load()
		for _, n := range b.g.Cluster(true).Services["user"].Detail {
			if n.Ejected && n.Addr == lame {
				return true
			}
		}
		return false
	})
	before, whole := slow.Load(), all.Load()
	for range 400 {
		load()
	}
	if n, of := slow.Load()-before, all.Load()-whole; n*20 > of {
		t.Errorf("the slow node had %d of %d requests after it was left out, want at most 5%%", n, of)
	}
}

func TestFailingNodeIsLeftOut(t *testing.T) {
	bad := node(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	b := start(t, policy(gateway.Policy{Eject: gateway.EjectPolicy{Pause: time.Minute, PauseMax: time.Minute}}), bad, named(t, 1)[0])
	failures := 0
	for range 400 {
		if status, _ := b.get("/api/user/login"); status == 503 {
			failures++
		}
	}
	if failures < 20 || failures > 100 {
		t.Errorf("%d of 400 requests met the failing node, want 20 or a few more", failures)
	}
	// 500 is an answer like any other: a handler's business.
	b = start(t, nil, node(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), named(t, 1)[0])
	for range 100 {
		b.get("/api/user/login")
	}
	for _, n := range b.g.Cluster(true).Services["user"].Detail {
		if n.Ejected {
			t.Errorf("a node is left out for 500: %+v", n)
		}
	}
}

func TestZonesAndBackups(t *testing.T) {
	addrs := named(t, 3)
	b := start(t, func(s *gateway.Settings) { s.Zone = "x" })
	nodes := make([]registry.Node, 3)
	for i, zone := range []string{"x", "y", "x"} {
		nodes[i] = registry.NewNode("user", addrs[i], addrs[i])
		nodes[i].Zone = zone
	}
	nodes[2].Backup = true
	only := func(want string) {
		t.Helper()
		for range 6 {
			if status, body := b.get("/api/user/login"); status != 200 || body != want {
				t.Fatalf("answer = %d %q, want that of node %s", status, body, want)
			}
		}
	}
	b.g.Apply(registry.NewSnapshot(1, nodes))
	only("0")
	if err := b.g.SetPolicies("y", nil); err != nil {
		t.Fatal(err)
	}
	only("1")
	nodes[0].Weight, nodes[1].Weight = 0, 0
	b.g.Apply(registry.NewSnapshot(2, nodes))
	only("2")
}

func TestSetPolicies(t *testing.T) {
	b := start(t, nil, named(t, 2)...)
	for range 10 {
		b.get("/api/user/login")
	}
	if err := b.g.SetPolicies("", gateway.Policies{"user": {Balance: "hsah"}}); err == nil || !strings.Contains(err.Error(), "user.balance") {
		t.Errorf("SetPolicies() = %v, want an error that names user.balance", err)
	}
	until(t, "all are counted", func() bool { return b.g.Cluster(false).Services["user"].RequestFinish == 10 })
	before := b.g.Cluster(true).Services["user"]
	if before.Balance.Policy != "roundRobin" {
		t.Errorf("policy = %s after a broken one, want that of before", before.Balance.Policy)
	}
	if err := b.g.SetPolicies("", gateway.Policies{"default": {Balance: "p2c"}}); err != nil {
		t.Fatal(err)
	}
	after := b.g.Cluster(true).Services["user"]
	if after.Balance.Policy != "p2c" || after.RequestFinish != 10 || after.Detail[0].Requests != before.Detail[0].Requests {
		t.Errorf("after SetPolicies: %+v, want p2c with the figures of before", after)
	}
	b.get("/api/user/login")
	until(t, "the eleventh is counted", func() bool { return b.g.Cluster(false).Services["user"].RequestFinish == 11 })
}

func TestBalanceFigures(t *testing.T) {
	b := start(t, policy(gateway.Policy{Breaker: gateway.BreakerPolicy{Minimum: 5}, NodeBreaker: gateway.BreakerPolicy{Rate: ptr(60)}}), named(t, 1)...)
	b.get("/api/user/login")
	w := httptest.NewRecorder()
	b.g.AdminHandler().ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/metrics", nil))
	for _, line := range []string{
		`goms_node_healthy{node=`, `goms_node_breaker_open{node=`, `goms_service_breaker_open{service="user"} 0`,
		`goms_service_overloaded_total{service="user"} 0`, `goms_service_in_flight{service="user"} `, `goms_service_limit{service="user"} 0`,
	} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	if c := b.g.Cluster(true).Services["user"]; c.Balance.Breaker != "closed" || c.Detail[0].Breaker != "closed" {
		t.Errorf("Cluster() = %+v, want closed breakers", c)
	}
}

// checkEvery is a policy that checks often.
func checkEvery(c gateway.CheckPolicy) gateway.Policy {
	c.Interval, c.Timeout, c.Healthy, c.Unhealthy = 100*time.Millisecond, 100*time.Millisecond, 2, 2
	return gateway.Policy{Check: c, PanicThreshold: ptr(0)}
}

// ill returns the addresses of the nodes that fail their checks.
func ill(b *bench) (addrs []string) {
	for _, n := range b.g.Cluster(true).Services["user"].Detail {
		if !n.Healthy {
			addrs = append(addrs, n.Addr)
		}
	}
	return addrs
}

func TestChecksByHTTP(t *testing.T) {
	var well, checks atomic.Int64
	well.Store(200)
	checkedNode := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/well" {
			checks.Add(1)
			if r.Header.Get("Call-Service-Key") != testKey || r.Method != "GET" {
				t.Errorf("check = %s with key %q", r.Method, r.Header.Get("Call-Service-Key"))
			}
			w.WriteHeader(int(well.Load()))
			return
		}
		fmt.Fprint(w, "checked")
	})
	other := node(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") })
	b := start(t, policy(checkEvery(gateway.CheckPolicy{Type: "http", Path: "/well"})), checkedNode, other)
	until(t, "both were checked and are well", func() bool { return checks.Load() > 3 && len(ill(b)) == 0 })
	well.Store(500)
	until(t, "the node is ill", func() bool { a := ill(b); return len(a) == 1 && a[0] == checkedNode })
	for range 6 {
		if status, body := b.get("/api/user/login"); status != 200 || body != "other" {
			t.Fatalf("answer = %d %q, want that of the well node", status, body)
		}
	}
	well.Store(204)
	until(t, "the node is well again", func() bool { return len(ill(b)) == 0 })
	// What nobody asks for any longer is not asked, and not held against anybody.
	well.Store(500)
	until(t, "the node is ill again", func() bool { return len(ill(b)) == 1 })
	if err := b.g.SetPolicies("", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "the node is well without checks", func() bool { return len(ill(b)) == 0 })
	seen := checks.Load()
	b.set(checkedNode, other)
	if err := b.g.SetPolicies("", gateway.Policies{"user": checkEvery(gateway.CheckPolicy{Type: "http", Path: "/well"})}); err != nil {
		t.Fatal(err)
	}
	until(t, "checks go on", func() bool { return checks.Load() > seen })
	b.set(other)
	until(t, "checks of a node that left end", func() bool {
		before := checks.Load()
		time.Sleep(300 * time.Millisecond) // several intervals, in which none may come
		return checks.Load() == before
	})
}

func TestChecksByTCP(t *testing.T) {
	dead := deadAddr(t)
	// A node that accepts and says nothing is well by tcp, and ill by http.
	mute := rawNode(t, func(_ net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	b := start(t, policy(checkEvery(gateway.CheckPolicy{Type: "tcp"})), dead, mute)
	until(t, "the dead node is ill", func() bool { a := ill(b); return len(a) == 1 && a[0] == dead })
	if err := b.g.SetPolicies("", gateway.Policies{"default": checkEvery(gateway.CheckPolicy{Type: "http"})}); err != nil {
		t.Fatal(err)
	}
	until(t, "both are ill", func() bool { return len(ill(b)) == 2 })
}

func TestChecksByGRPC(t *testing.T) {
	var asked atomic.Pointer[string]
	b := startChanged(t, func(c *gateway.Config) {
		c.Settings.Policies = gateway.Policies{"user": checkEvery(gateway.CheckPolicy{Type: "grpc", Service: "a.B"})}
		c.CheckGRPC = func(ctx context.Context, addr, service string, _ *tls.Config) error {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("a check has no deadline")
			}
			text := addr + " " + service
			asked.Store(&text)
			return fmt.Errorf("not serving")
		}
	})
	n := registry.NewNode("user", "127.0.0.1:7001", "127.0.0.1:7002")
	b.g.Apply(registry.NewSnapshot(1, []registry.Node{n}))
	until(t, "the node is ill", func() bool { return len(ill(b)) == 1 })
	if got := *asked.Load(); got != "127.0.0.1:7001 a.B" {
		t.Errorf("asked %q, want the RPC address and the service", got)
	}
}

// BenchmarkShed is a request that is refused because its service is full, client and gateway together.
func BenchmarkShed(b *testing.B) {
	leave := make(chan struct{})
	t := start(b, policy(gateway.Policy{MaxInFlight: ptr(1)}), node(b, func(http.ResponseWriter, *http.Request) { <-leave }))
	first := make(chan struct{})
	go func() { defer close(first); t.get("/api/user/login") }()
	defer func() { close(leave); <-first }()
	until(b, "the service is full", func() bool { return t.g.Cluster(true).Services["user"].Balance.InFlight == 1 })
	conn := t.dial()
	defer conn.Close()
	request, buf := []byte("GET /api/user/login HTTP/1.1\r\nHost: x\r\n\r\n"), make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		conn.Write(request)
		if n, err := conn.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 503 ") {
			b.Fatalf("answer %q %v", buf[:n], err)
		}
	}
}
