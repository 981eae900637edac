package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

// script is a node that does with each request what the test says, and remembers what it saw.
type script struct {
	t    testing.TB
	addr string

	mu   sync.Mutex // guards what follows
	seen []*http.Request
	do   func(w *answerer, r *http.Request)
}

// answerer is one connection of a script, with the request's body read.
type answerer struct {
	net.Conn
	body string
}

// say answers with a status and fields, and a body of two bytes.
func (a *answerer) say(status int, fields ...string) {
	text := fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 2\r\n", status)
	for _, f := range fields {
		text += f + "\r\n"
	}
	io.WriteString(a, text+"\r\nok")
}

// hang waits until the other side closes, or the test ends.
func (a *answerer) hang() {
	io.Copy(io.Discard, a.Conn)
}

func scripted(t testing.TB, do func(*answerer, *http.Request)) *script {
	t.Helper()
	s := &script{t: t, do: do}
	s.addr = rawNode(t, func(c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.seen = append(s.seen, r)
			do := s.do
			s.mu.Unlock()
			do(&answerer{c, string(body)}, r)
			if r.Header.Get("X-Hang-Up") != "" {
				return
			}
		}
	})
	return s
}

// requests returns what the node has seen.
func (s *script) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.seen...)
}

func (s *script) count() int { return len(s.requests()) }

// then changes what the node does.
func (s *script) then(do func(*answerer, *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

func ok(a *answerer, _ *http.Request) { a.say(200) }

func hang(a *answerer, _ *http.Request) { a.hang() }

// refuseWith refuses like a node that has the given keys.
func refuseWith(t testing.TB, key string, fields ...string) func(*answerer, *http.Request) {
	keys, err := auth.NewCallKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	return func(a *answerer, r *http.Request) {
		a.say(503, append(fields, "Goms-Refused: "+keys.Refusal(r.Header.Get("Goms-Attempt")))...)
	}
}

// settings are those of tests, changed.
func settings(change func(*gateway.Settings)) gateway.Settings {
	s := gateway.DefaultSettings()
	s.DrainDelay, s.DrainTimeout, s.ConnectTimeout = 0, 2*time.Second, 10*time.Second
	if change != nil {
		change(&s)
	}
	return s
}

// one returns services with one route, /api/user/do.
func one(r route.Route) route.Services {
	r.Path = "/do"
	return route.Services{"user": {"do": r}}
}

// metric returns a figure of the gateway.
func (b *bench) metric(name string) int {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.g.AdminHandler().ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+" "); found {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.t.Fatal(err)
			}
			return int(n)
		}
	}
	b.t.Fatalf("no metric %s", name)
	return 0
}

// TestRefusedGoesElsewhere: what a node proves to have refused before its handler is repeated, whatever the
// method; anything less is passed on as it is.
func TestRefusedGoesElsewhere(t *testing.T) {
	refusing := scripted(t, refuseWith(t, testKey))
	serving := scripted(t, ok)
	b := startRoutes(t, one(route.Route{}), nil, settings(nil), refusing.addr, serving.addr)
	for i := range 10 {
		if status, body := b.do("POST", fmt.Sprintf("/api/user/do?%d", i), strings.NewReader("once")); status != 200 || body != "ok" {
			t.Fatalf("POST %d = %d %s, want 200", i, status, body)
		}
	}
	if r, s := refusing.count(), serving.count(); r == 0 || s != 10 {
		t.Errorf("the nodes saw %d and %d requests, want some refused and 10 served", r, s)
	}
	if n := b.metric("goms_refusals_total"); n != refusing.count() {
		t.Errorf("goms_refusals_total = %d, want %d", n, refusing.count())
	}
	names := map[string]bool{}
	for _, r := range append(refusing.requests(), serving.requests()...) {
		name := r.Header.Get("Goms-Attempt")
		if name != "" && (len(name) != 16 || names[name]) {
			t.Errorf("attempt %q: not 16 digits, or named twice", name)
		}
		names[name] = true
	}
	for _, s := range b.g.Cluster(true).Services["user"].Detail {
		if s.Failures != 0 {
			t.Errorf("node %s has %d failures, want none: it is well", s.ID, s.Failures)
		}
	}

	// The body of a refusal is not a reason for another connection.
	conns := map[string]bool{}
	for _, r := range refusing.requests() {
		conns[r.RemoteAddr] = true
	}
	if len(conns) > 1 {
		t.Errorf("%d connections to the node that refuses, want 1", len(conns))
	}
}

func TestUnprovenRefusalIsAnAnswer(t *testing.T) {
	var replay string
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(*answerer, *http.Request){
		"plain":     func(a *answerer, _ *http.Request) { a.say(503) },
		"made up":   func(a *answerer, _ *http.Request) { a.say(503, "Goms-Refused: 0123456789abcdef0123456789abcdef") },
		"empty":     func(a *answerer, _ *http.Request) { a.say(503, "Goms-Refused:") },
		"other key": refuseWith(t, "another key, of another project"),
		"replayed": func(a *answerer, r *http.Request) {
			if replay == "" {
				replay = keys.Refusal(r.Header.Get("Goms-Attempt"))
			}
			a.say(503, "Goms-Refused: "+keys.Refusal("0123456789abcdef"))
		},
		"twice": func(a *answerer, r *http.Request) {
			line := "Goms-Refused: " + keys.Refusal(r.Header.Get("Goms-Attempt"))
			a.say(503, line, line)
		},
		"not a 503": func(a *answerer, r *http.Request) {
			a.say(500, "Goms-Refused: "+keys.Refusal(r.Header.Get("Goms-Attempt")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := [2]*script{scripted(t, do), scripted(t, do)}
			b := startRoutes(t, one(route.Route{}), nil, settings(nil), n[0].addr, n[1].addr)
			for _, method := range []string{"GET", "POST"} {
				got := b.raw(method + " /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				if !strings.HasPrefix(got, "HTTP/1.1 503 X") && !strings.HasPrefix(got, "HTTP/1.1 500 X") || !strings.HasSuffix(got, "ok") || strings.Contains(strings.ToLower(got), "goms-") {
					t.Errorf("%s = %q, want the node's answer without what is not for clients", method, got)
				}
			}
			if total := n[0].count() + n[1].count(); total != 2 {
				t.Errorf("the nodes saw %d requests, want 2", total)
			}
		})
	}
}

// TestRefusedByAll: the request was not begun anywhere, and the client is told so.
func TestRefusedByAll(t *testing.T) {
	n := [2]*script{scripted(t, refuseWith(t, testKey)), scripted(t, refuseWith(t, testKey))}
	b := startRoutes(t, one(route.Route{}), nil, settings(nil), n[0].addr, n[1].addr)
	got := b.raw("POST /api/user/do HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
	// The last node is not given a name: there is nobody to go to after it, so its answer is the answer.
	if !strings.HasPrefix(got, "HTTP/1.1 503 ") || strings.Contains(strings.ToLower(got), "goms-") {
		t.Errorf("answer %q, want a 503", got)
	}
	if n[0].count() != 1 || n[1].count() != 1 {
		t.Errorf("the nodes saw %d and %d requests, want 1 each", n[0].count(), n[1].count())
	}
}

// TestStreamedBodyIsNotNamed: what cannot be repeated is not offered for refusal.
func TestStreamedBodyIsNotNamed(t *testing.T) {
	n := [2]*script{scripted(t, ok), scripted(t, ok)}
	b := startRoutes(t, one(route.Route{}), nil, settings(nil), n[0].addr, n[1].addr)
	c := b.dial()
	defer c.Close()
	io.WriteString(c, "POST /api/user/do HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\non")
	time.AfterFunc(50*time.Millisecond, func() { io.WriteString(c, "ce") })
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 200 {
		t.Fatalf("answer %v %v", res, err)
	}
	for _, r := range append(n[0].requests(), n[1].requests()...) {
		if r.Header.Get("Goms-Attempt") != "" || r.Header.Get("X-Request-Timeout-Ms") != "" {
			t.Errorf("a request whose body is still coming is named %q, timed %q", r.Header.Get("Goms-Attempt"), r.Header.Get("X-Request-Timeout-Ms"))
		}
	}
}

// TestInBandDraining: a node that says that it leaves gets nothing further, without any word of the
// registry, until it says otherwise.
func TestInBandDraining(t *testing.T) {
	leaving := scripted(t, func(a *answerer, _ *http.Request) { a.say(200, "Goms-Node: draining, load=3") })
	other := scripted(t, ok)
	b := startRoutes(t, one(route.Route{}), nil, settings(nil), leaving.addr, other.addr)
	for range 20 {
		got := b.raw("GET /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200") || strings.Contains(strings.ToLower(got), "goms-") {
			t.Fatalf("answer %q", got)
		}
	}
	if leaving.count() != 1 || other.count() != 19 {
		t.Errorf("the nodes saw %d and %d requests, want 1 and 19", leaving.count(), other.count())
	}
	name := fmt.Sprintf("goms_node_load{node=%q,service=\"user\"}", leaving.addr+"_"+leaving.addr)
	if n := b.metric(name); n != 3 {
		t.Errorf("%s = %d, want 3", name, n)
	}
	idle := fmt.Sprintf("goms_node_idle_connections{node=%q,service=\"user\"}", leaving.addr+"_"+leaving.addr)
	waitUntil(t, "the node's idle connections are dropped", func() bool { return b.metric(idle) == 0 })
	// Another snapshot, which does not know, changes nothing.
	b.set(leaving.addr, other.addr)
	for range 6 {
		b.get("/api/user/do")
	}
	if leaving.count() != 1 {
		t.Errorf("the node that leaves saw %d requests after a snapshot, want 1", leaving.count())
	}
	// Alone it still serves, and when it is well again it takes turns.
	leaving.then(ok)
	b.set(leaving.addr)
	b.get("/api/user/do")
	b.set(leaving.addr, other.addr)
	before := leaving.count()
	for range 6 {
		b.get("/api/user/do")
	}
	if got := leaving.count() - before; got != 3 {
		t.Errorf("the node that is back saw %d of 6 requests, want 3", got)
	}
}

func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestGomsFieldsStayInside: no client's reach a node, no node's a client, in any spelling.
func TestGomsFieldsStayInside(t *testing.T) {
	n := scripted(t, func(a *answerer, _ *http.Request) {
		io.WriteString(a, "HTTP/1.1 103 Early Hints\r\nGoms-Node: load=1\r\nLink: x\r\n\r\n"+
			"HTTP/1.1 200 OK\r\ngoms_node: draining\r\nGOMS.NODE: draining\r\nGoms-Refused: x\r\nGoms-Attempt: x\r\nGoms-Whatever: x\r\nX-Kept: 1\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nGoms-Node: draining\r\ngoms_refused: x\r\nX-Late: 1\r\n\r\n")
	})
	b := start(t, nil, n.addr)
	got := b.raw("POST /api/user/login HTTP/1.1\r\nHost: a\r\nGoms-Attempt: 0123456789abcdef\r\ngoms_attempt: 1\r\nGoms.Node: draining\r\nGOMS-REFUSED: 1\r\nGomsless: 1\r\n" +
		"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nGoms-Attempt: 1\r\ngoms_x: 1\r\n\r\n")
	if strings.Contains(strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(got)), "goms-") {
		t.Errorf("the client sees %q", got)
	}
	for _, want := range []string{"103 Early Hints", "X-Kept: 1", "X-Late: 1", "Link: x"} {
		if !strings.Contains(got, want) {
			t.Errorf("answer %q, want %q in it", got, want)
		}
	}
	r := n.requests()[0]
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "goms") && lower != "gomsless" {
			t.Errorf("the node sees %s", name)
		}
	}
	if len(r.Trailer) != 0 || r.Header.Get("Gomsless") != "1" {
		t.Errorf("the node sees trailers %v, Gomsless %q", r.Trailer, r.Header.Get("Gomsless"))
	}
}

func TestDeadlineTravels(t *testing.T) {
	n := scripted(t, ok)
	b := startRoutes(t, one(route.Route{Timeout: 5 * time.Second}), nil, settings(nil), n.addr)
	f := func(fields string, least, most int, grpc string) {
		t.Helper()
		before := n.count()
		got := b.raw("GET /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + "\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("%q = %q", fields, got)
		}
		h := n.requests()[before].Header
		values := h.Values("X-Request-Timeout-Ms")
		if len(values) != 1 {
			t.Fatalf("%q: the node has the timeouts %q, want one", fields, values)
		}
		if ms, err := strconv.Atoi(values[0]); err != nil || ms < least || ms > most {
			t.Errorf("%q: the node has %s ms, want %d to %d", fields, values[0], least, most)
		}
		if got := h.Get("Grpc-Timeout"); (got == "") != (grpc == "") || !strings.HasSuffix(got, grpc) {
			t.Errorf("%q: Grpc-Timeout %q, want one with the unit %q", fields, got, grpc)
		}
		for name := range h {
			if strings.ContainsAny(name, "_.") {
				t.Errorf("the node sees %s", name)
			}
		}
	}
	f("", 5000, 5000, "")
	f("X-Request-Timeout-Ms: 1500\r\n", 1500, 1500, "")
	f("x-request-timeout-ms: 9999999999\r\n", 5000, 5000, "") // nobody gets more
	f("X-Request-Timeout-Ms: 3000\r\nX-Request-Timeout-Ms: 2000\r\nX-Request-Timeout-Ms: 4000\r\n", 2000, 2000, "")
	for _, not := range []string{"", "-1", "1s", "1.5", "+1", "99999999999", "0x1"} {
		f("X-Request-Timeout-Ms: "+not+"\r\n", 5000, 5000, "")
	}
	f("X_Request_Timeout_Ms: 1\r\n", 5000, 5000, "") // is not what it looks like
	f("Grpc-Timeout: 1S\r\n", 1000, 1000, "m")
	f("Grpc-Timeout: 2500000u\r\n", 2500, 2500, "m")
	f("Grpc-Timeout: 10H\r\n", 5000, 5000, "m")
	f("Grpc-Timeout: 99999999H\r\n", 5000, 5000, "m")
	f("Grpc-Timeout: 1\r\n", 5000, 5000, "")
	f("Grpc-Timeout: S\r\n", 5000, 5000, "")
	f("Grpc-Timeout: 123456789S\r\n", 5000, 5000, "")

	before := n.count()
	for _, zero := range []string{"X-Request-Timeout-Ms: 0", "Grpc-Timeout: 0n"} {
		got := b.raw("GET /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + zero + "\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 504") || !strings.Contains(got, `"deadline"`) {
			t.Errorf("%s = %q, want 504 deadline", zero, got)
		}
	}
	if n.count() != before {
		t.Error("a request whose time is over reached the node")
	}
}

// TestClientsDeadline ends a request before the route's time is over, and is nobody's fault.
func TestClientsDeadline(t *testing.T) {
	n := scripted(t, hang)
	b := startRoutes(t, one(route.Route{Timeout: 30 * time.Second}), nil, settings(nil), n.addr)
	for range 5 {
		got := b.raw("GET /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Timeout-Ms: 100\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 504") || !strings.Contains(got, `"node_timeout"`) {
			t.Fatalf("answer %q, want 504 node_timeout", got)
		}
	}
	for _, s := range b.g.Cluster(true).Services["user"].Detail {
		if s.Failures != 0 || s.Ejected {
			t.Errorf("the node has %d failures, ejected %v", s.Failures, s.Ejected)
		}
	}
}

// TestAttemptTimeout: an attempt that hangs is followed by one elsewhere, for what may be repeated; the
// connection of the client goes on.
func TestAttemptTimeout(t *testing.T) {
	hanging, serving := scripted(t, hang), scripted(t, ok)
	b := startRoutes(t, one(route.Route{Timeout: 10 * time.Second, AttemptTimeout: 200 * time.Millisecond}), nil, settings(nil), hanging.addr, serving.addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReader(c)
	for i := range 4 {
		io.WriteString(c, "GET /api/user/do HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("GET %d = %v %v", i, res, err)
		}
		io.Copy(io.Discard, res.Body)
	}
	if hanging.count() < 2 || serving.count() != 4 {
		t.Errorf("the nodes saw %d and %d requests, want 2 and 4", hanging.count(), serving.count())
	}
	for _, r := range hanging.requests() {
		if ms, _ := strconv.Atoi(r.Header.Get("X-Request-Timeout-Ms")); ms != 200 {
			t.Errorf("the node that hangs was given %d ms, want those of the attempt", ms)
		}
	}
	if n := b.metric("goms_retries_total"); n != hanging.count() {
		t.Errorf("goms_retries_total = %d, want %d", n, hanging.count())
	}
}

// TestAttemptTimeoutNeverRepeatsPOST: a request that may have been processed has all the time there is.
func TestAttemptTimeoutNeverRepeatsPOST(t *testing.T) {
	var gets atomic.Int64
	slow := func(a *answerer, r *http.Request) {
		if r.Method == "GET" && gets.Add(1) == 1 {
			a.hang()
			return
		}
		time.Sleep(600 * time.Millisecond) // it is the node that is slow: longer than an attempt may take
		a.say(200)
	}
	n := [2]*script{scripted(t, slow), scripted(t, slow)}
	b := startRoutes(t, one(route.Route{AttemptTimeout: 100 * time.Millisecond}), nil, settings(nil), n[0].addr, n[1].addr)
	if status, body := b.do("POST", "/api/user/do", strings.NewReader("x")); status != 200 {
		t.Errorf("POST = %d %s, want 200", status, body)
	}
	if total := n[0].count() + n[1].count(); total != 1 {
		t.Errorf("the nodes saw %d requests, want 1", total)
	}
	// A GET that has nobody to go to after the second has all the time too.
	if status, body := b.get("/api/user/do"); status != 200 {
		t.Errorf("GET = %d %s, want 200", status, body)
	}
	if total := n[0].count() + n[1].count(); total != 3 {
		t.Errorf("the nodes saw %d requests, want 3", total)
	}
}

// TestRetryBudget: what was tried again is bounded by what was asked for.
func TestRetryBudget(t *testing.T) {
	closing := func(a *answerer, _ *http.Request) { a.Close() }
	n := [3]*script{scripted(t, closing), scripted(t, closing), scripted(t, closing)}
	b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
		s.RetryBudget = gateway.RetryBudget{Percent: 10, Floor: 0}
	}), n[0].addr, n[1].addr, n[2].addr)
	const asked = 100
	for range asked {
		if status, body := b.get("/api/user/do"); status != 502 || !strings.Contains(body, `"node_closed"`) {
			t.Fatalf("GET = %d %s, want 502 node_closed: the last error stands", status, body)
		}
	}
	if total := n[0].count() + n[1].count() + n[2].count(); total != asked+asked/10 {
		t.Errorf("the nodes saw %d requests of %d, want %d", total, asked, asked+asked/10)
	}
	if granted, denied := b.metric("goms_retries_total"), b.metric("goms_retries_denied_total"); granted != 10 || denied != asked {
		// Requests that were granted one are denied the second.
		t.Errorf("%d further attempts and %d denied, want 10 and %d", granted, denied, asked)
	}
}

// TestRetryBudgetInVain: nodes that all fail get hardly more requests than the clients send, whatever the budget.
func TestRetryBudgetInVain(t *testing.T) {
	closing := func(a *answerer, _ *http.Request) { a.Close() }
	n := [3]*script{scripted(t, closing), scripted(t, closing), scripted(t, closing)}
	b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
		s.RetryBudget = gateway.RetryBudget{Percent: 40, Floor: 0}
	}), n[0].addr, n[1].addr, n[2].addr)
	const asked = 500
	for range asked {
		if status, body := b.get("/api/user/do"); status != 502 {
			t.Fatalf("GET = %d %s, want 502", status, body)
		}
	}
	// Ten of a hundred when that is clear, and forty before: which is soon.
	if total := n[0].count() + n[1].count() + n[2].count(); total < asked+asked/20 || total > asked+asked/10+20 {
		t.Errorf("the nodes saw %d requests of %d, want about %d", total, asked, asked+asked/10)
	}
}

// TestRefusedConnectionsAreFree: attempts that reach nobody are not counted against the budget.
func TestRefusedConnectionsAreFree(t *testing.T) {
	serving := scripted(t, ok)
	b := startRoutes(t, one(route.Route{}), nil, settings(func(s *gateway.Settings) {
		s.RetryBudget = gateway.RetryBudget{}
	}), deadAddr(t), serving.addr)
	for range 20 {
		if status, body := b.get("/api/user/do"); status != 200 {
			t.Fatalf("GET = %d %s, want 200", status, body)
		}
	}
}

// TestPlainErrorsAreNotRepeated: the nodes see as many requests as the clients make.
func TestPlainErrorsAreNotRepeated(t *testing.T) {
	failing := func(a *answerer, _ *http.Request) { a.say(503) }
	n := [2]*script{scripted(t, failing), scripted(t, failing)}
	b := startRoutes(t, one(route.Route{}), nil, settings(nil), n[0].addr, n[1].addr)
	for range 50 {
		if status, _ := b.get("/api/user/do"); status != 503 {
			t.Fatalf("GET = %d, want 503", status)
		}
	}
	if total := n[0].count() + n[1].count(); total != 50 {
		t.Errorf("the nodes saw %d requests of 50", total)
	}
}

func TestIdempotencyKey(t *testing.T) {
	f := func(r route.Route, fields string, want int) {
		t.Helper()
		closing, serving := scripted(t, func(a *answerer, _ *http.Request) { a.Close() }), scripted(t, ok)
		b := startRoutes(t, one(r), nil, settings(nil), closing.addr, serving.addr)
		statuses := map[string]int{}
		for range 2 {
			got := b.raw("POST /api/user/do HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n" + fields + "\r\nx")
			statuses[got[9:12]]++
		}
		if statuses["200"] != want || statuses["200"]+statuses["502"] != 2 || serving.count() != want || closing.count() == 0 {
			t.Errorf("%+v %q: statuses %v, the nodes saw %d and %d, want %d of 2 answered", r, fields, statuses, closing.count(), serving.count(), want)
		}
	}
	knows := route.Route{IdempotencyKey: true}
	f(knows, "Idempotency-Key: abc\r\n", 2)
	f(knows, "", 1)
	f(knows, "Idempotency-Key:\r\n", 1)
	f(knows, "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", 1)
	f(knows, "Idempotency_Key: a\r\n", 1)
	f(knows, "Idempotency-Key: a\r\nConnection: Idempotency-Key\r\n", 1) // the node does not see it
	f(route.Route{}, "Idempotency-Key: abc\r\n", 1)
}

// TestGomsFieldsStayInsideHTTP2: the same for clients that speak HTTP/2.
func TestGomsFieldsStayInsideHTTP2(t *testing.T) {
	n := scripted(t, func(a *answerer, _ *http.Request) {
		io.WriteString(a, "HTTP/1.1 200 OK\r\nGoms-Node: load=1\r\ngoms_refused: x\r\nX-Kept: 1\r\nTrailer: X-Late, Goms-Node\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"2\r\nok\r\n0\r\nGoms-Node: draining\r\nX-Late: 1\r\n\r\n")
	})
	b := start(t, nil, n.addr)
	addr, pool := b.secure()
	c := protocol(t, pool, true)
	req, err := http.NewRequest("POST", "https://"+addr+"/api/user/login", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Goms-Attempt", "0123456789abcdef")
	req.Header["goms_node"] = []string{"draining"}
	req.Header.Set("X-Request-Timeout-Ms", "1234")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "ok" || res.ProtoMajor != 2 || res.Header.Get("X-Kept") != "1" || res.Trailer.Get("X-Late") != "1" {
		t.Errorf("answer %s %q %v, %v %v", res.Proto, body, err, res.Header, res.Trailer)
	}
	for _, h := range []http.Header{res.Header, res.Trailer, n.requests()[0].Header} {
		for name, values := range h {
			lower := strings.ToLower(name)
			if strings.HasPrefix(lower, "goms") && len(values) > 0 {
				t.Errorf("%s: %q got through", name, values)
			}
		}
	}
	if got := n.requests()[0].Header.Get("X-Request-Timeout-Ms"); got == "" || len(got) > 4 {
		t.Errorf("the node has %q ms, want at most 1234", got)
	}
}

// TestAttemptTimeoutNeedsAnother: an attempt after which there is nobody to ask has all the time of the request. Neither a
// node that is drained by its weight is somebody, nor one that is left out because it cannot be reached.
func TestAttemptTimeoutNeedsAnother(t *testing.T) {
	slow := scripted(t, func(a *answerer, r *http.Request) {
		if r.URL.RawQuery == "slow" {
			time.Sleep(600 * time.Millisecond) // it is the node that is slow
		}
		a.say(200)
	})
	b := startRoutes(t, one(route.Route{Timeout: 10 * time.Second, AttemptTimeout: 100 * time.Millisecond}), nil, settings(nil))
	f := func(what string, other func(*registry.Node)) {
		t.Helper()
		alone, second := registry.NewNode("user", slow.addr, slow.addr), registry.NewNode("user", deadAddr(t), deadAddr(t))
		other(&second)
		b.apply(alone, second)
		for range 8 { // which has one that cannot be reached left out
			if status, _ := b.get("/api/user/do"); status != 200 {
				t.Fatalf("%s: GET = %d, want 200", what, status)
			}
		}
		if status, body := b.get("/api/user/do?slow"); status != 200 {
			t.Errorf("%s: a slow GET = %d %s, want 200", what, status, body)
		}
	}
	f("weight 0", func(n *registry.Node) { n.Weight = 0 })
	f("dead", func(*registry.Node) {})
}

// TestRefusingNodeIsBack: a node that was left out and then refuses is there, which is told as its leaving was.
func TestRefusingNodeIsBack(t *testing.T) {
	var out lockedBuffer
	log, err := console.New(&out, "text", "gateway", nil)
	if err != nil {
		t.Fatal(err)
	}
	broken, serving := scripted(t, func(a *answerer, _ *http.Request) { a.Close() }), scripted(t, ok)
	b := startRoutes(t, one(route.Route{}), log, gateway.DefaultSettings(), broken.addr, serving.addr)
	told := func(what string) func() bool {
		return func() bool {
			b.get("/api/user/do")
			return strings.Contains(out.String(), "node ["+broken.addr+"_"+broken.addr+"] "+what)
		}
	}
	until(t, "it is left out", told("is left out"))
	broken.then(refuseWith(t, testKey))
	until(t, "it is taken back", told("is back"))
}
