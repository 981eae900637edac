package service_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// services is what every caller in these tests is configured with.
func services(c *service.Config) {
	c.Services = map[string]map[string]service.Action{
		"user": {
			"login": {Path: "/login"}, "fail": {Path: "/fail"}, "big": {Path: "/big"}, "moved": {Path: "/moved"},
			"failure": {Path: "/failure"}, "slow": {Path: "/slow"}, "hold": {Path: "/hold"},
		},
		"empty": {"do": {Path: "/do"}},
	}
}

// pair is a caller and n user nodes on one registry.
func pair(t *testing.T, n int, setup service.Setup) (caller *servicetest.Node, users []*servicetest.Node) {
	t.Helper()
	reg := registry.NewMemory()
	caller = servicetest.Start(t, "order", nil, servicetest.Options{Registry: reg, Config: quick(services)})
	for range n {
		users = append(users, servicetest.Start(t, "user", setup, servicetest.Options{Registry: reg, Config: quick(services)}))
	}
	caller.Await(t, "user", n)
	return caller, users
}

type echoed struct {
	Method, Query, Body string
	Header              http.Header
	Port                string
}

func echoCall(c *gin.Context) {
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		service.Failure(c, http.StatusBadRequest, 1, "no body")
		return
	}
	service.Success(c, echoed{
		Method: c.Request.Method, Query: c.Request.URL.RawQuery, Body: string(body),
		Header: c.Request.Header, Port: c.Request.Host,
	})
}

func callee(s *service.Service) error {
	s.Any("/login", echoCall)
	s.GET("/fail", func(c *gin.Context) { c.String(http.StatusTeapot, strings.Repeat("x", 100<<10)) })
	s.GET("/failure", func(c *gin.Context) { service.Failure(c, http.StatusOK, 17, "taken") })
	s.GET("/big", func(c *gin.Context) { c.Data(http.StatusOK, "text/plain", make([]byte, service.MaxAnswer+1)) })
	s.GET("/moved", func(c *gin.Context) { c.Redirect(http.StatusFound, "/login") })
	s.GET("/slow", func(c *gin.Context) { <-c.Request.Context().Done() })
	return nil
}

func TestCall(t *testing.T) {
	caller, _ := pair(t, 1, callee)
	f := func(req *service.Request) echoed {
		t.Helper()
		resp, err := caller.Service.Call(t.Context(), "user", "login", req)
		if err != nil {
			t.Fatalf("Call() = %v", err)
		}
		var e echoed
		if err := resp.Decode(&e); err != nil {
			t.Fatalf("Decode() = %v", err)
		}
		if e.Header.Get(auth.CallKeyHeader) != "" {
			t.Error("handler sees the key")
		}
		return e
	}
	if e := f(nil); e.Method != "GET" || e.Body != "" || e.Query != "" {
		t.Errorf("Call(nil) arrives as %+v", e)
	}
	e := f(&service.Request{JSON: gin.H{"a": 1}, Query: url.Values{"q": {"1 2"}}})
	if e.Method != "POST" || e.Body != `{"a":1}` || e.Query != "q=1+2" || e.Header.Get("Content-Type") != "application/json" {
		t.Errorf("Call(JSON) arrives as %+v", e)
	}
	e = f(&service.Request{Method: "PUT", Body: io.LimitReader(strings.NewReader("streamed"), 100), Header: http.Header{
		"X-Mine": {"1"}, "Call-Service-Key": {"forged"}, "Call_service_key": {"forged"}, "Connection": {"close, X-Hop"}, "X-Hop": {"1"},
		"Content-Length": {"3"}, "Transfer-Encoding": {"gzip"}, "X-B3-Traceid": {"forged"}, "Host": {"forged"},
	}})
	if e.Method != "PUT" || e.Body != "streamed" || e.Header.Get("X-Mine") != "1" {
		t.Errorf("Call(Body) arrives as %+v", e)
	}
	if text := fmt.Sprint(e); strings.Contains(text, "forged") || strings.Contains(text, "X-Hop") {
		t.Errorf("Call() passes on what is ours to say: %+v", e)
	}
}

func TestCallErrors(t *testing.T) {
	caller, _ := pair(t, 1, callee)
	call := func(service_, action string, req *service.Request) error {
		_, err := caller.Service.Call(t.Context(), service_, action, req)
		return err
	}
	for _, c := range []struct {
		service, action string
		want            error
	}{
		{"nobody", "login", service.ErrNoService},
		{"user", "nothing", service.ErrNoAction},
		{"empty", "do", service.ErrNoNode},
		{"user", "big", service.ErrTooLarge},
	} {
		err := call(c.service, c.action, nil)
		if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "call "+c.service+"/"+c.action+": ") {
			t.Errorf("Call(%s, %s) = %v, want %v", c.service, c.action, err, c.want)
		}
	}
	bad, ok := errors.AsType[*service.StatusError](call("user", "fail", nil))
	if !ok || bad.Code != http.StatusTeapot || len(bad.Body) != 64<<10 || bad.Error() != "call user/fail: status 418" {
		t.Errorf("Call(fail) = %v", bad)
	}
	if err := call("user", "login", &service.Request{JSON: 1, Body: strings.NewReader("1")}); err == nil {
		t.Error("Call() with two bodies succeeds")
	}
	if err := call("user", "login", &service.Request{JSON: func() {}}); err == nil {
		t.Error("Call() with a body that is no JSON succeeds")
	}
	if err := call("user", "login", &service.Request{Method: "BAD METHOD"}); err == nil {
		t.Error("Call() with a bad method succeeds")
	}
	resp, err := caller.Service.Call(t.Context(), "user", "moved", nil)
	if err != nil || resp.Status != http.StatusFound || resp.Header.Get("Location") != "/login" {
		t.Errorf("Call(moved) = %v, %v, want the redirect itself", resp, err)
	}
	resp, err = caller.Service.Call(t.Context(), "user", "failure", nil)
	if err != nil {
		t.Fatal(err)
	}
	failure, ok := errors.AsType[*service.FailureError](resp.Decode(nil))
	if !ok || failure.Code != 17 || failure.Msg != "taken" {
		t.Errorf("Decode() of a failure = %v", failure)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := caller.Service.Call(ctx, "user", "slow", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call(slow) = %v, want DeadlineExceeded", err)
	}
	if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err != nil {
		t.Errorf("Call() after errors = %v", err)
	}
}

func TestCallGoesRound(t *testing.T) {
	caller, users := pair(t, 3, callee)
	count := map[string]int{}
	for range 30 {
		resp, err := caller.Service.Call(t.Context(), "user", "login", nil)
		if err != nil {
			t.Fatal(err)
		}
		var e echoed
		if err := resp.Decode(&e); err != nil {
			t.Fatal(err)
		}
		count[e.Port]++
	}
	for _, u := range users {
		if got := count[u.Service.Node().HTTPAddr]; got != 10 {
			t.Errorf("node has %d of 30 calls, want 10", got)
		}
	}
}

// fakeNode is a node in the registry that is not ours: it does what serve says with
// each connection.
func fakeNode(t *testing.T, reg *registry.Memory, serve func(net.Conn)) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	if serve == nil {
		lis.Close() // refuses
	} else {
		go func() {
			for {
				conn, err := lis.Accept()
				if err != nil {
					return
				}
				go serve(conn)
			}
		}()
	}
	// "10.0.0.1" sorts the node before the others.
	n := registry.NewNode("user", "10.0.0.1:1", lis.Addr().String())
	if err := reg.Publish(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n.HTTPAddr
}

// answering registers a node that gives each request, which has no body that matters, the answer that is returned; "" is none.
func answering(t *testing.T, reg *registry.Memory, answer func(*http.Request) string) {
	t.Helper()
	fakeNode(t, reg, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.WriteString(conn, answer(req)); err != nil {
				return
			}
		}
	})
}

func TestCallTriesAnotherNode(t *testing.T) {
	caller, _ := pair(t, 1, callee)
	fakeNode(t, caller.Registry, nil)
	caller.Await(t, "user", 2)
	for i := range 8 {
		body := func() io.Reader {
			if i%2 == 0 {
				return strings.NewReader("x")
			}
			return io.LimitReader(strings.NewReader("x"), 1) // cannot be read twice, and is not
		}
		resp, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "POST", Body: body()})
		if err != nil {
			t.Fatalf("Call() %d = %v", i, err)
		}
		var e echoed
		if err := resp.Decode(&e); err != nil || e.Body != "x" {
			t.Errorf("Call() %d arrives as %+v, %v", i, e, err)
		}
	}
}

// A node that closes a reused connection instead of answering: only methods that may be
// repeated are.
func TestCallNeverRepeatsPOST(t *testing.T) {
	caller, _ := pair(t, 0, nil)
	var seen atomic.Int64
	flaky := fakeNode(t, caller.Registry, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		for i := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if i == 1 {
				seen.Add(1)
				return // has read all, answers nothing
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	caller.Await(t, "user", 1)
	if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err != nil {
		t.Fatal(err)
	}
	_, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "POST", JSON: 1})
	if err == nil || seen.Load() != 1 {
		t.Errorf("POST on a connection that closes = %v after %d times, want an error after one", err, seen.Load())
	}
	user := servicetest.Start(t, "user", callee, servicetest.Options{Registry: caller.Registry, Config: quick(services)})
	caller.Await(t, "user", 2)
	for i := 0; seen.Load() < 3; i++ {
		resp, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "PUT", JSON: 1})
		if err != nil {
			t.Fatalf("PUT %d = %v", i, err)
		}
		var e echoed
		if len(resp.Body) > 0 && (resp.Decode(&e) != nil || e.Port != user.Service.Node().HTTPAddr && e.Port != flaky) {
			t.Fatalf("PUT %d came from %s", i, e.Port)
		}
		if i > 100 {
			t.Fatal("the flaky node is never asked")
		}
	}
}

func TestCallKeepsOneTrace(t *testing.T) {
	zipkin := newCollector(t)
	reg := registry.NewMemory()
	traced := func(edit func(*service.Config)) *service.Config {
		return quick(func(c *service.Config) {
			services(c)
			c.ZipkinAddr = zipkin.URL
			if edit != nil {
				edit(c)
			}
		})
	}
	user := servicetest.Start(t, "user", callee, servicetest.Options{Registry: reg, Config: traced(nil)})
	order := servicetest.Start(t, "order", func(s *service.Service) error {
		s.GET("/submit", func(c *gin.Context) {
			resp, err := s.Call(c, "user", "login", nil) // a *gin.Context is the context
			if err != nil {
				service.Failure(c, http.StatusBadGateway, 1, "no login")
				return
			}
			if _, err = healthpb.NewHealthClient(s.Dial("user")).Check(c, &healthpb.HealthCheckRequest{}); err != nil {
				service.Failure(c, http.StatusBadGateway, 2, "no health")
				return
			}
			service.Success(c, json.RawMessage(resp.Body))
		})
		return nil
	}, servicetest.Options{Registry: reg, Config: traced(nil)})
	order.Await(t, "user", 1)
	r, _ := http.NewRequest("GET", order.URL+"/submit", nil)
	r.Header.Set("X-Request-Id", "req-7")
	resp, err := order.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if body := bodyOf(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(body, "req-7") {
		t.Fatalf("GET /submit = %d %s, want the request id passed on", resp.StatusCode, body)
	}
	if err := errors.Join(order.Stop(), user.Stop()); err != nil {
		t.Fatal(err)
	}
	root := zipkin.find("SERVER", "order")
	clients, servers := zipkin.find("CLIENT", "order"), zipkin.find("SERVER", "user")
	if len(root) != 1 || len(clients) != 2 || len(servers) != 2 {
		t.Fatalf("%d, %d, %d spans, want 1, 2, 2", len(root), len(clients), len(servers))
	}
	for i, c := range clients {
		if c.TraceID != root[0].TraceID || c.ParentID != root[0].ID {
			t.Errorf("client span %s is no child of %s", c.raw, root[0].raw)
		}
		if servers[i].TraceID != c.TraceID || servers[i].ParentID != c.ID {
			t.Errorf("server span %s is no child of %s", servers[i].raw, c.raw)
		}
	}
}

func TestDialByDiscovery(t *testing.T) {
	caller, users := pair(t, 2, callee)
	client := healthpb.NewHealthClient(caller.Service.Dial("user"))
	for range 4 {
		if _, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatalf("Check() = %v", err)
		}
	}
	for _, u := range users {
		if err := u.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	caller.Await(t, "user", 0)
	_, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `no node of service "user"`) {
		t.Errorf("Check() without node = %v", err)
	}
	if _, err = healthpb.NewHealthClient(users[0].Service.Dial("user")).Check(t.Context(), nil); status.Code(err) != codes.Unavailable {
		t.Errorf("Check() of a stopped node = %v", err)
	}
}

// A stream to a node that leaves is told so, and left open until its end.
func TestHealthStream(t *testing.T) {
	caller, users := pair(t, 1, callee)
	for name, conn := range map[string]grpc.ClientConnInterface{"Dial": caller.Service.Dial("user"), "Conn": users[0].Conn(t)} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if r, err := watch.Recv(); err != nil || r.GetStatus() != want {
				t.Errorf("%s: Recv() = %v, %v, want %v", name, r, err, want)
			}
		}
		want(healthpb.HealthCheckResponse_SERVING)
		defer want(healthpb.HealthCheckResponse_NOT_SERVING)
	}
	users[0].Leave()
}

func BenchmarkCall(b *testing.B) {
	reg := registry.NewMemory()
	user := servicetest.Start(b, "user", callee, servicetest.Options{Registry: reg, Config: quick(services)})
	order := servicetest.Start(b, "order", nil, servicetest.Options{Registry: reg, Config: quick(services)})
	order.Await(b, "user", 1)
	b.Run("sdk", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := order.Service.Call(b.Context(), "user", "login", nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net_http", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			resp, err := user.Client().Get(user.URL + "/login")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		}
	})
}
