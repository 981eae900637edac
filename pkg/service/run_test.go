package service_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// Requests in flight when a node leaves are answered, and meanwhile it says so.
func TestLeaveFinishesRequests(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	n, log := start(t, "user", func(s *service.Service) error {
		s.GET("/slow", func(c *gin.Context) {
			close(entered)
			<-release
			service.Success(c, "done")
		})
		s.GET("/quick", func(c *gin.Context) { service.Success(c, nil) })
		return nil
	}, func(c *service.Config) { c.Service.DrainDelay = 200 * time.Millisecond })

	type answer struct {
		status int
		close  bool
		body   string
		err    error
	}
	slow := make(chan answer, 1)
	go func() {
		resp, err := n.Client().Get(n.URL + "/slow")
		if err != nil {
			slow <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		slow <- answer{resp.StatusCode, resp.Close, string(b), err}
	}()
	<-entered
	n.Leave()
	<-n.Service.Draining()
	if status, body := get(t, n, "/readyz", false); status != http.StatusServiceUnavailable || body != `{"status":false}` {
		t.Errorf("GET /readyz while leaving = %d %s", status, body)
	}
	resp, err := n.Client().Get(n.URL + "/quick")
	if err != nil || resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("GET while leaving = %v, %v, want 200 and Connection: close", resp, err)
	} else {
		bodyOf(t, resp)
	}
	poll(t, "the registry has the node as draining", func() bool {
		all := snapshot(t, n.Registry)
		return len(all.Nodes) == 1 && all.Nodes[0].State == registry.Draining
	})
	close(release)
	if a := <-slow; a.err != nil || a.status != http.StatusOK || !a.close || !strings.Contains(a.body, "done") {
		t.Errorf("request in flight = %+v, want 200 and Connection: close", a)
	}
	if err := n.Stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if all := snapshot(t, n.Registry); len(all.Nodes) != 0 {
		t.Errorf("registry has %v after the node left", all.Nodes)
	}
	if strings.Contains(log.String(), "cut") {
		t.Errorf("log speaks of requests that were cut:\n%s", log)
	}
}

func snapshot(t *testing.T, reg *registry.Memory) (s registry.Snapshot) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := reg.Watch(ctx, func(now registry.Snapshot) { s = now; cancel() }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return s
}

// A request that does not end is cut at the limit, and the node leaves all the same.
func TestLeaveCutsAtLimit(t *testing.T) {
	entered := make(chan struct{})
	n, log := start(t, "user", func(s *service.Service) error {
		s.GET("/forever", func(c *gin.Context) {
			close(entered)
			<-c.Request.Context().Done()
		})
		return nil
	}, func(c *service.Config) { c.Service.DrainTimeout = 100 * time.Millisecond })
	done := make(chan error, 1)
	go func() {
		resp, err := n.Client().Get(n.URL + "/forever")
		if err == nil {
			resp.Body.Close()
		}
		done <- err
	}()
	<-entered
	begin := time.Now()
	if err := n.Stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("node took %v to leave", d)
	}
	if err := <-done; err == nil {
		t.Error("request that was cut has an answer")
	}
	if !strings.Contains(log.String(), "http requests were cut") {
		t.Error("log does not say that requests were cut")
	}
}

// Clients on keep-alive connections that respect the pool lose nothing while nodes are
// replaced, over HTTP and gRPC.
func TestRollingRestartLosesNothing(t *testing.T) {
	reg := registry.NewMemory()
	conf := func() *service.Config {
		return quick(func(c *service.Config) { services(c); c.Service.DrainDelay = 150 * time.Millisecond })
	}
	var served atomic.Int64
	setup := func(s *service.Service) error {
		s.Any("/login", func(c *gin.Context) { served.Add(1); service.Success(c, nil) })
		return nil
	}
	startUser := func() *servicetest.Node {
		return servicetest.Start(t, "user", setup, servicetest.Options{Registry: reg, Config: conf()})
	}
	caller := servicetest.Start(t, "order", nil, servicetest.Options{Registry: reg, Config: conf()})
	users := []*servicetest.Node{startUser(), startUser()}
	caller.Await(t, "user", 2)

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answered, lost atomic.Int64
	client := func(ask func() error) {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := ask(); err != nil {
					lost.Add(1)
					t.Errorf("lost: %v", err)
					return
				}
				answered.Add(1)
			}
		})
	}
	ctx := context.WithoutCancel(t.Context())
	for range 4 {
		client(func() error {
			_, err := caller.Service.Call(ctx, "user", "login", &service.Request{Method: "POST", JSON: 1})
			return err
		})
	}
	health := healthpb.NewHealthClient(caller.Service.Dial("user"))
	for range 2 {
		client(func() error {
			_, err := health.Check(ctx, &healthpb.HealthCheckRequest{})
			return err
		})
	}
	for round := range 4 {
		before := answered.Load()
		poll(t, "clients are busy", func() bool { return answered.Load() > before+50 || lost.Load() > 0 })
		users = append(users, startUser())
		if err := users[round].Stop(); err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
	close(stop)
	clients.Wait()
	t.Logf("%d calls answered, %d lost, %d POSTs served", answered.Load(), lost.Load(), served.Load())
}

func TestJoinAndLeaveLines(t *testing.T) {
	reg := registry.NewMemory()
	old := registry.NewNode("old", "127.0.0.1:1", "127.0.0.1:2")
	if err := reg.Publish(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	n := servicetest.Start(t, "user", nil, servicetest.Options{Registry: reg, Config: quick(nil), Log: log.logger()})
	n.Await(t, "old", 1)
	other := registry.NewNode("user", "127.0.0.1:3", "127.0.0.1:4")
	if err := reg.Publish(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	n.Await(t, "user", 2)
	other.State = registry.Draining // is no leave
	if err := reg.Publish(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	n.Await(t, "user", 1)
	if err := errors.Join(reg.Withdraw(t.Context(), other), reg.Withdraw(t.Context(), old)); err != nil {
		t.Fatal(err)
	}
	n.Await(t, "old", 0)
	poll(t, "two leave lines", func() bool { return len(log.records(t, "leave")) == 2 })
	joins := log.records(t, "join")
	if len(joins) != 1 || joins[0]["service"] != "user" || joins[0]["node"] != "127.0.0.1:3_127.0.0.1:4" {
		t.Errorf("join lines %v, want one for the other user node", joins)
	}
}

func TestRegistryAwayAtStart(t *testing.T) {
	reg := &awayRegistry{Memory: registry.NewMemory(), back: make(chan struct{})}
	log := &lines{}
	c := quick(func(c *service.Config) {
		c.Service.HTTPPort, c.Service.RPCPort, c.Service.ListenHost = 0, 0, "127.0.0.1"
	})
	s, err := service.New(service.Options{Name: "user", Config: c, Log: log.logger(), Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	poll(t, "the node listens", func() bool { return s.Node().HTTPAddr != "" })
	ready := func() int {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(mustRequest(t, "http://"+s.Node().HTTPAddr+"/readyz"))
		if err != nil {
			t.Fatal(err)
		}
		bodyOf(t, resp)
		return resp.StatusCode
	}
	if got := ready(); got != http.StatusServiceUnavailable {
		t.Errorf("GET /readyz without registry = %d", got)
	}
	poll(t, "it is said", func() bool { return strings.Contains(log.String(), "not registered yet") })
	close(reg.back)
	<-s.Ready()
	if got := ready(); got != http.StatusOK {
		t.Errorf("GET /readyz with registry = %d", got)
	}
	if got := strings.Count(log.String(), "not registered yet"); got != 1 {
		t.Errorf("said %d times that the registry is away, want once", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("second Run() succeeds")
	}
}

// A node that must stop before it was ever registered does so at once.
func TestStopWhileRegistryIsAway(t *testing.T) {
	reg := &awayRegistry{Memory: registry.NewMemory(), back: make(chan struct{})}
	c := quick(func(c *service.Config) {
		c.Service.HTTPPort, c.Service.RPCPort, c.Service.ListenHost, c.Service.DrainDelay = 0, 0, "127.0.0.1", time.Minute
	})
	s, err := service.New(service.Options{Name: "user", Config: c, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	poll(t, "the node listens", func() bool { return s.Node().HTTPAddr != "" })
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run() = %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("node does not stop")
	}
}

func TestPortInUse(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	port := lis.Addr().(*net.TCPAddr).Port
	for name, edit := range map[string]func(*service.Config){
		"http": func(c *service.Config) { c.Service.HTTPPort, c.Service.RPCPort = port, 0 },
		"rpc":  func(c *service.Config) { c.Service.HTTPPort, c.Service.RPCPort = 0, port },
	} {
		reg := registry.NewMemory()
		stopped := false
		s, err := service.New(service.Options{Name: "user", Registry: reg, Config: quick(func(c *service.Config) {
			edit(c)
			c.Service.ListenHost = "127.0.0.1"
		})})
		if err != nil {
			t.Fatal(err)
		}
		s.OnStop(func() { stopped = true })
		begin := time.Now()
		err = s.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "listen on "+name+" port "+strconv.Itoa(port)) || project.ExitCode(err) != 1 {
			t.Errorf("Run() with %s port in use = %v", name, err)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("Run() took %v", d)
		}
		if len(snapshot(t, reg).Nodes) != 0 || !stopped {
			t.Errorf("%s: node left in the registry or OnStop not called", name)
		}
	}
}

func TestOnStopRunsBackwards(t *testing.T) {
	var order []int
	n, _ := start(t, "user", func(s *service.Service) error {
		s.OnStop(func() { order = append(order, 1) })
		s.OnStop(func() { order = append(order, 2) })
		return nil
	}, nil)
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(order) != "[2 1]" {
		t.Errorf("OnStop functions ran in order %v, want [2 1]", order)
	}
}

func TestWeakKeyIsWarnedOfOnce(t *testing.T) {
	for key, want := range map[string]int{"goms by panco": 1, canary: 0} {
		_, log := start(t, "user", nil, func(c *service.Config) { c.CallServiceKey = key })
		if got := len(log.records(t, "weak call-service key")); got != want {
			t.Errorf("%d warnings of key %q, want %d", got, key, want)
		}
		if strings.Contains(log.String(), key) {
			t.Errorf("key %q is in the log", key)
		}
	}
}

func mustRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
