package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/test/ports"
)

// rawNode accepts connections and gives each to serve, which must return before the test ends.
func rawNode(t testing.TB, serve func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// deadAddr is an address that refuses connections.
func deadAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestRefusedConnectionsGoElsewhere holds for every method: nothing had reached the dead nodes.
func TestRefusedConnectionsGoElsewhere(t *testing.T) {
	alive := node(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	b := start(t, nil, deadAddr(t), alive, deadAddr(t))
	for i := range 20 {
		if status, body := b.do("POST", "/api/user/login", strings.NewReader("once")); status != 200 || body != "once" {
			t.Fatalf("request %d = %d %q, want 200 once", i, status, body)
		}
	}
}

func TestNoNode(t *testing.T) {
	b := start(t, nil)
	if status, body := b.get("/api/user/login"); status != 503 || !strings.Contains(body, `"no_node"`) {
		t.Errorf("without nodes = %d %s, want 503 no_node", status, body)
	}
	b.set(deadAddr(t))
	if status, body := b.get("/api/user/login"); status != 502 || !strings.Contains(body, `"connect_failed"`) {
		t.Errorf("with a dead node = %d %s, want 502 connect_failed", status, body)
	}
}

// TestNodeThatClosesWithoutAnswer is tried elsewhere for what may be repeated, and only for that.
func TestNodeThatClosesWithoutAnswer(t *testing.T) {
	var seen sync.Map
	closing := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if req, err := http.ReadRequest(br); err == nil {
			n, _ := seen.LoadOrStore(req.Method+req.URL.RawQuery, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		}
	})
	alive := node(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := seen.LoadOrStore(r.Method+r.URL.RawQuery, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	})
	b := start(t, nil, closing, alive)
	lost := 0
	for i := range 20 {
		method := "GET"
		if i%4 >= 2 { // nodes take turns: both methods meet both
			method = "POST"
		}
		status, body := b.do(method, fmt.Sprintf("/api/user/login?%d", i), nil)
		if method == "POST" && status == 502 && strings.Contains(body, `"node_closed"`) {
			lost++
		} else if status != 200 {
			t.Errorf("%s %d = %d %s", method, i, status, body)
		}
		if n, ok := seen.Load(fmt.Sprintf("POST%d", i)); method == "POST" && (!ok || n.(*atomic.Int64).Load() != 1) {
			t.Errorf("POST %d was not seen exactly once", i)
		}
	}
	if lost == 0 {
		t.Error("no POST met the closing node: the test tests nothing")
	}
}

// TestStaleConnections lets the node close every connection after one answer without saying so.
func TestStaleConnections(t *testing.T) {
	var seen sync.Map
	closed := make(chan struct{}, 1)
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, twice := seen.LoadOrStore(req.URL.RawQuery, true); twice {
			t.Errorf("request %s reached the node twice", req.URL.RawQuery)
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
		closed <- struct{}{}
	})
	b := start(t, nil, addr)
	for i := range 50 {
		if status, body := b.do("POST", fmt.Sprintf("/api/user/login?%d", i), strings.NewReader("x")); status != 200 || body != "ok" {
			t.Fatalf("POST %d = %d %q, want 200 ok", i, status, body)
		}
		waitFor(t, "the node to close", closed)
	}
}

// TestHostileAnswers: a clear error where nothing was sent yet, a visibly broken answer where it was,
// and never a byte of one answer in another.
func TestHostileAnswers(t *testing.T) {
	answers := map[string]string{
		"garbage":      "\x16\x03\x01 not http at all\r\n\r\n",
		"ssh":          "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"two lengths":  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"both":         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bare lf":      "HTTP/1.1 200 OK\nContent-Length: 1\n\na",
		"bad chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
		"giant head":   "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"unasked 101":  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"endless 1xx":  strings.Repeat("HTTP/1.1 102 Processing\r\nA: b\r\n\r\n", 100),
		"half head":    "HTTP/1.1 200 OK\r\nContent-",
		"half body":    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"half chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"too much":     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
	}
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			name, _ := strings.CutPrefix(req.URL.RawQuery, "n=")
			io.WriteString(c, answers[strings.ReplaceAll(name, "+", " ")])
			if strings.HasPrefix(name, "half") {
				return
			}
		}
	})
	b := start(t, nil, addr)
	for name := range answers {
		got := b.raw("POST /api/user/login?n=" + strings.ReplaceAll(name, " ", "+") + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		br := bufio.NewReader(strings.NewReader(got))
		res, err := http.ReadResponse(br, nil)
		for err == nil && res.StatusCode < 200 {
			res, err = http.ReadResponse(br, nil)
		}
		if err != nil {
			t.Errorf("%s: answer %.100q: %v", name, got, err)
			continue
		}
		body, err := io.ReadAll(res.Body)
		switch name {
		case "half body", "half chunked":
			if err == nil {
				t.Errorf("%s: the cut answer looks whole: %q", name, got)
			}
		case "too much":
			if string(body) != "ok" {
				t.Errorf("%s: body %q, want ok", name, body)
			}
		case "half head":
			if res.StatusCode != 502 || !strings.Contains(string(body), `"node_closed"`) {
				t.Errorf("%s: %d %s, want 502 node_closed", name, res.StatusCode, body)
			}
		default:
			if res.StatusCode != 502 || !strings.Contains(string(body), `"bad_answer"`) {
				t.Errorf("%s: %d %s, want 502 bad_answer", name, res.StatusCode, body)
			}
		}
	}
}

func TestNodeTimeout(t *testing.T) {
	gone := make(chan struct{}, 10)
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	})
	b := start(t, nil, addr)
	if status, body := b.get("/api/user/short"); status != 504 || !strings.Contains(body, `"node_timeout"`) {
		t.Errorf("slow node = %d %s, want 504 node_timeout", status, body)
	}
	waitFor(t, "the node to see the attempt end", gone)
}

// patient is a node that answers nothing. It says when a request has arrived, and when that was given up.
func patient(t testing.TB) (addr string, arrived, gone chan struct{}) {
	arrived, gone = make(chan struct{}, 1), make(chan struct{}, 1)
	return node(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}), arrived, gone
}

func TestClientGoneCancelsTheAttempt(t *testing.T) {
	addr, arrived, gone := patient(t)
	b := start(t, nil, addr)
	c := b.dial()
	io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n")
	waitFor(t, "the request to arrive", arrived)
	c.Close()
	waitFor(t, "the node to see that the client left", gone)
}

func waitFor(t testing.TB, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}

// TestSlowClients: a head, a body and an idle connection each have their time.
func TestSlowClients(t *testing.T) {
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	b := start(t, func(s *gateway.Settings) {
		s.HeadTimeout, s.BodyTimeout, s.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	}, addr)
	if got := b.raw("GET /api/user/login HTTP/1.1\r\nHo"); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, `"client_timeout"`) {
		t.Errorf("half a head = %q, want 408", got)
	}
	if got := b.raw("POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, `"client_timeout"`) {
		t.Errorf("half a body = %q, want 408", got)
	}
	if got := b.raw(""); got != "" {
		t.Errorf("a silent connection got %q, want nothing", got)
	}
	if got := b.raw("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"); strings.Count(got, "HTTP/1.1 ") != 1 {
		t.Errorf("an idle connection got %q, want one answer", got)
	}
}

// TestClientFaultsDoNotCountAgainstNodes sends broken bodies and leaves early, many times over.
func TestClientFaultsDoNotCountAgainstNodes(t *testing.T) {
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	b := start(t, nil, addr)
	for range 10 {
		b.raw("POST /api/user/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX")
		c := b.dial()
		io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhe")
		c.Close()
	}
	for _, s := range b.g.Cluster(true).Services["user"].Detail {
		if s.Failures != 0 || s.Ejected {
			t.Errorf("node %s has %d failures, ejected %v", s.ID, s.Failures, s.Ejected)
		}
	}
}

// TestLeavingNodeDrainsItsConnections: what is in flight finishes, and nothing idle is left open.
func TestLeavingNodeDrainsItsConnections(t *testing.T) {
	var open atomic.Int64
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	defer func() { s.Close(); <-done }()
	b := start(t, nil, ln.Addr().String())
	b.get("/api/user/login")
	if open.Load() != 1 {
		t.Fatalf("%d connections to the node, want 1", open.Load())
	}
	b.set()
	deadline := time.Now().Add(5 * time.Second)
	for open.Load() != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections to a node that left", open.Load())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestPanicIsOneRequest(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) {}))
	b.g.PanicAt("/boom")
	if status, body := b.get("/boom"); status != 500 || !strings.Contains(body, `"internal"`) {
		t.Errorf("panic = %d %s, want 500 internal", status, body)
	}
	if status, _ := b.get("/api/user/login"); status != 200 {
		t.Errorf("after a panic = %d, want 200", status)
	}
}

// TestEjectionIsToldOnce has a node refuse connections for long, and come back.
func TestEjectionIsToldOnce(t *testing.T) {
	log, out := written(t, "text", nil)
	addr := ports.Addr(t)
	b := startWith(t, log, nil, addr, node(t, func(http.ResponseWriter, *http.Request) {}))
	for range 50 {
		b.get("/api/user/login")
	}
	if n := strings.Count(out.String(), "WARN node ["+addr); n != 1 {
		t.Errorf("told %d times that the node is left out, want once:\n%s", n, out.String())
	}
	if !b.g.Ejected("user", addr+"_"+addr) || b.g.Ejected("user", "nobody") || b.g.Ejected("nothing", addr+"_"+addr) {
		t.Error("Ejected() does not tell the node that is left out from others")
	}
	back, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(back) }()
	defer func() { s.Close(); <-done }()
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(out.String(), "node ["+addr+"_"+addr+"] is back") {
		if time.Now().After(deadline) {
			t.Fatalf("the node is not taken back:\n%s", out.String())
		}
		b.get("/api/user/login")
		time.Sleep(5 * time.Millisecond)
	}
}

// lockedBuffer is a log that may be read while it is written.
// written is a log of the console, and what was written to it. A nil level is that of the console.
func written(t testing.TB, format string, level slog.Leveler) (*slog.Logger, *lockedBuffer) {
	t.Helper()
	out := new(lockedBuffer)
	log, err := console.New(out, format, "gateway", level)
	if err != nil {
		t.Fatal(err)
	}
	return log, out
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
