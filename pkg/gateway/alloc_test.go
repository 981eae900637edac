//go:build !race

// The race detector makes sync.Pool forget on purpose, so allocations are counted without it.

package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/pkg/trace"
)

// echoNode answers every head, and body of the given size behind it, with the same answer, without allocating.
func echoNode(t testing.TB, answer string) string {
	reply := []byte(answer)
	return rawNode(t, func(c net.Conn, _ *bufio.Reader) {
		buf := make([]byte, 8<<10)
		have := 0
		for {
			n, err := c.Read(buf[have:])
			if err != nil {
				return
			}
			have += n
			end := bytes.Index(buf[:have], crlf2)
			if end < 0 || bytes.Contains(buf[:end], contentLength) && have < end+4+len(postBody) {
				continue
			}
			have = 0
			if _, err := c.Write(reply); err != nil {
				return
			}
		}
	})
}

var (
	crlf2         = []byte("\r\n\r\n")
	contentLength = []byte("Content-Length")
)

// traced starts a gateway that traces every request.
func traced(t testing.TB, addr string) *bench {
	t.Helper()
	routes, err := route.New("/api", route.Services{"user": {"login": {Path: "/login"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	reporter, err := trace.NewReporter(trace.ReporterConfig{URL: "http://127.0.0.1:1/"})
	if err != nil {
		t.Fatal(err)
	}
	settings := gateway.DefaultSettings()
	settings.DrainDelay = 0
	g, err := gateway.New(gateway.Config{
		Routes: routes, Keys: keys, Settings: settings, Reporter: reporter,
		Tracer: trace.NewTracer(trace.Options{Service: "gateway", SampleRate: 1, Reporter: reporter}),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Apply(registry.NewSnapshot(1, []registry.Node{registry.NewNode("user", addr, addr)}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(gateway.Listener{Listener: ln}) }()
	t.Cleanup(func() { g.Shutdown(context.Background()); <-done; reporter.Close() })
	return &bench{t: t, g: g, addr: ln.Addr().String()}
}

// TestSteadyStateAllocatesNothing counts the allocations of the whole process, the client and the node
// included, which allocate nothing themselves.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct{ request, answer, want string }{
		"GET": {get, plain, "hello"}, "POST": {post, plain, "hello"}, "chunked answer": {get, chunked, "5\r\nhello\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := traced(t, echoNode(t, c.answer))
			conn := b.dial()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			buf := make([]byte, 4<<10)
			request, want := []byte(c.request), []byte(c.want)
			round := func() {
				if _, err := conn.Write(request); err != nil {
					t.Fatal(err)
				}
				n, err := conn.Read(buf)
				if err != nil || !bytes.HasSuffix(buf[:n], want) {
					t.Fatalf("answer %q %v", buf[:n], err)
				}
			}
			for range 100 {
				round()
			}
			if allocs := testing.AllocsPerRun(500, round); allocs != 0 {
				t.Errorf("a request allocates %v times, want 0", allocs)
			}
		})
	}
}

// TestPoliciesAllocateNothing is the steady state with every policy and bound.
func TestPoliciesAllocateNothing(t *testing.T) {
	for _, p := range []gateway.Policy{
		{Balance: "hash", HashOn: "header:X-User"},
		{Balance: "hash", HashOn: "cookie:sid"},
		{Balance: "hash"},
		{Balance: "p2c"},
		{Balance: "leastRequests"},
		{MaxInFlight: ptr(100), MaxInFlightPerNode: ptr(50), Adaptive: ptr(true), Breaker: gateway.BreakerPolicy{Minimum: 5}, NodeBreaker: gateway.BreakerPolicy{Minimum: 5}},
	} {
		b := traced(t, echoNode(t, plain))
		if err := b.g.SetPolicies("here", gateway.Policies{"user": p}); err != nil {
			t.Fatal(err)
		}
		conn := b.dial()
		conn.SetDeadline(time.Now().Add(time.Minute))
		request := []byte("GET /api/user/login HTTP/1.1\r\nHost: x\r\nX-User: 7\r\nCookie: a=b; sid=5\r\n\r\n")
		buf := make([]byte, 4<<10)
		round := func() {
			conn.Write(request)
			if n, err := conn.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], []byte("hello")) {
				t.Fatalf("answer %q %v", buf[:n], err)
			}
		}
		for range 100 {
			round()
		}
		if allocs := testing.AllocsPerRun(500, round); allocs != 0 {
			t.Errorf("%+v: a request allocates %v times, want 0", p, allocs)
		}
		conn.Close()
	}
}

// BenchmarkProxy is one client connection in closed loop, with its node, all in this process.
func BenchmarkProxy(b *testing.B) {
	for name, request := range map[string]string{"GET": get, "POST": post} {
		b.Run(name, func(b *testing.B) {
			t := traced(b, echoNode(b, plain))
			conn := t.dial()
			defer conn.Close()
			text, buf := []byte(request), make([]byte, 4<<10)
			b.ReportAllocs()
			for b.Loop() {
				conn.Write(text)
				if _, err := conn.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestWebSocketAllocatesNothing holds for messages of either size of the buffer that they pass through.
func TestWebSocketAllocatesNothing(t *testing.T) {
	b := start(t, nil, echoing(t))
	for _, size := range []int{100, 10 << 10} {
		c := upgraded(t, b, "websocket")
		out := appendFrame(nil, fin|opBinary, true, make([]byte, size))
		in := make([]byte, len(out))
		n := testing.AllocsPerRun(1000, func() {
			if _, err := c.Write(out); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, in); err != nil {
				t.Fatal(err)
			}
		})
		if n >= 1 {
			t.Errorf("a message of %d bytes and its answer allocate %v times, want never", size, n)
		}
	}
}
