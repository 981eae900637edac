package service_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// rpcUser is a gRPC service that counts what it does, by the name of each call.
type rpcUser struct {
	testpb.UnimplementedTestServiceServer
	do func(context.Context) error // nil does nothing

	mu   sync.Mutex // guards seen
	seen map[string]int
}

func (u *rpcUser) UnaryCall(ctx context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	u.mu.Lock()
	if u.seen == nil {
		u.seen = map[string]int{}
	}
	u.seen[string(r.GetPayload().GetBody())]++
	u.mu.Unlock()
	if u.do != nil {
		if err := u.do(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{}, nil
}

func (u *rpcUser) count() (calls, repeated int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, n := range u.seen {
		calls += n
		repeated += n - 1
	}
	return calls, repeated
}

func rpcAsk(id string) *testpb.SimpleRequest {
	return &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte(id)}}
}

// TestOneLoadOnBothPorts: requests and calls are one load and share one bound, and a call that is too many goes to another node.
func TestOneLoadOnBothPorts(t *testing.T) {
	reg := registry.NewMemory()
	caller := servicetest.Start(t, "order", nil, servicetest.Options{Registry: reg, Config: quick(services)})
	let, held := make(chan struct{}), make(chan struct{}, 2)
	users := make([]*rpcUser, 2)
	nodes := make([]*servicetest.Node, 2)
	for i := range users {
		users[i] = &rpcUser{}
		nodes[i] = servicetest.Start(t, "user", func(s *service.Service) error {
			testpb.RegisterTestServiceServer(s.RPC(), users[i])
			s.GET("/hold", func(c *gin.Context) { held <- struct{}{}; <-let })
			s.GET("/login", func(c *gin.Context) { service.Success(c, nil) })
			return nil
		}, servicetest.Options{Registry: reg, Config: quick(func(c *service.Config) { services(c); c.Service.MaxInFlight = 1 })})
	}
	caller.Await(t, "user", 2)
	client := testpb.NewTestServiceClient(caller.Service.Dial("user"))
	id := 0
	call := func() error {
		id++
		_, err := client.UnaryCall(t.Context(), rpcAsk(strconv.Itoa(id)))
		return err
	}
	calls := func(i int) int { n, _ := users[i].count(); return n }
	poll(t, "calls come to both nodes", func() bool {
		if err := call(); err != nil {
			t.Fatal(err)
		}
		return calls(0) > 0 && calls(1) > 0
	})

	var waiting sync.WaitGroup
	defer waiting.Wait()
	hold := func(n *servicetest.Node) {
		waiting.Go(func() {
			resp, err := n.Client().Get(n.URL + "/hold")
			if err != nil {
				t.Errorf("GET /hold = %v", err)
				return
			}
			resp.Body.Close()
		})
		<-held
	}
	hold(nodes[0])
	release := sync.OnceFunc(func() { close(let) })
	defer release()
	before0, before1 := calls(0), calls(1)
	for range 10 {
		if err := call(); err != nil {
			t.Fatalf("UnaryCall() = %v", err)
		}
	}
	if calls(0) != before0 || calls(1) != before1+10 {
		t.Errorf("the full node had %d of 10 calls, the other %d", calls(0)-before0, calls(1)-before1)
	}
	hold(nodes[1])
	if err := call(); status.Code(err) != codes.Unavailable {
		t.Errorf("UnaryCall() when all are full = %v, want Unavailable", err)
	}
	var md metadata.MD
	direct := testpb.NewTestServiceClient(nodes[0].Conn(t))
	if _, err := direct.UnaryCall(t.Context(), rpcAsk("direct"), grpc.Trailer(&md)); status.Code(err) != codes.Unavailable || len(md["goms-node"]) != 0 {
		t.Errorf("UnaryCall() of a full node = %v, trailer %v, want Unavailable, and no word of ours", err, md)
	}
	if _, body := get(t, nodes[0], "/metrics", true); calls(0) != before0 || !strings.Contains(body, `goms_node_refusals_total{cause="full"} `) || strings.Contains(body, `cause="full"} 0`) {
		t.Errorf("refused calls are not counted:\n%s", body)
	}
	release()
	waiting.Wait()
	// What a call takes, a request has not.
	entered, done := make(chan struct{}), make(chan error, 1)
	letCall := make(chan struct{})
	users[0].do = func(context.Context) error { close(entered); <-letCall; return nil }
	go func() { _, err := direct.UnaryCall(context.WithoutCancel(t.Context()), rpcAsk("long")); done <- err }()
	<-entered
	if resp := askNode(t, nodes[0], "GET", "/login"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Goms-Node") != "load=1" {
		t.Errorf("GET of a node that has a call = %d %v, want 503, load=1", resp.StatusCode, resp.Header)
	}
	close(letCall)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// deaf is a registry that says nothing any more once it is silenced.
type deaf struct {
	*registry.Memory
	silenced atomic.Bool
}

func (d *deaf) Watch(ctx context.Context, fn func(registry.Snapshot)) error {
	return d.Memory.Watch(ctx, func(s registry.Snapshot) {
		if !d.silenced.Load() {
			fn(s)
		}
	})
}

// TestRollingRestartWithoutRegistry: calls leave a node that says itself that it leaves; none is lost, and none done twice.
func TestRollingRestartWithoutRegistry(t *testing.T) {
	reg := &deaf{Memory: registry.NewMemory()}
	user := &rpcUser{}
	var posts rpcUser
	conf := func() *service.Config {
		return quick(func(c *service.Config) { services(c); c.Service.DrainDelay = 300 * time.Millisecond })
	}
	var users []*servicetest.Node
	for range 3 {
		users = append(users, servicetest.Start(t, "user", func(s *service.Service) error {
			testpb.RegisterTestServiceServer(s.RPC(), user)
			s.POST("/login", func(c *gin.Context) {
				if _, err := posts.UnaryCall(c, rpcAsk(c.Query("id"))); err != nil {
					t.Error(err)
				}
				service.Success(c, nil)
			})
			return nil
		}, servicetest.Options{Registry: reg.Memory, Config: conf()}))
	}
	c := conf()
	c.Service.HTTPPort, c.Service.RPCPort, c.Service.ListenHost = 0, 0, "127.0.0.1"
	order, err := service.New(service.Options{Name: "order", Config: c, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- order.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}()
	poll(t, "all nodes are known", func() bool { return len(order.Nodes("user")) == 3 })
	reg.silenced.Store(true)

	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answered atomic.Int64
	for i := range 4 {
		client := testpb.NewTestServiceClient(order.Dial("user"))
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				id := fmt.Sprint(i, "-", n)
				var err error
				if i%2 == 0 {
					_, err = client.UnaryCall(context.Background(), rpcAsk(id))
				} else {
					_, err = order.Call(context.Background(), "user", "login", &service.Request{Method: "POST", Query: map[string][]string{"id": {id}}})
				}
				if err != nil {
					t.Errorf("call %s is lost: %v", id, err)
				}
				answered.Add(1)
			}
		})
	}
	for _, u := range users[:2] {
		before := answered.Load()
		poll(t, "clients are busy", func() bool { return answered.Load() > before+100 })
		if err := u.Stop(); err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
	before := answered.Load()
	poll(t, "clients are busy", func() bool { return answered.Load() > before+100 })
	close(stop)
	clients.Wait()
	calls, repeated := user.count()
	more, again := posts.count()
	if int64(calls+more) != answered.Load() || repeated+again != 0 {
		t.Errorf("%d calls and %d POSTs of %d were done, %d of them twice", calls, more, answered.Load(), repeated+again)
	}
}

// TestDeadlineTravels from the header of a request through a call to a request of that call's handler.
func TestDeadlineTravels(t *testing.T) {
	reg := registry.NewMemory()
	left := make(chan time.Duration, 2)
	note := func(ctx context.Context) {
		until, ok := ctx.Deadline()
		if !ok {
			t.Error("a handler's context has no deadline")
		}
		left <- time.Until(until)
	}
	servicetest.Start(t, "empty", func(s *service.Service) error {
		s.GET("/do", func(c *gin.Context) { note(c.Request.Context()); service.Success(c, nil) })
		return nil
	}, servicetest.Options{Registry: reg, Config: quick(services)})
	user := &rpcUser{}
	second := servicetest.Start(t, "user", func(s *service.Service) error {
		user.do = func(ctx context.Context) error {
			note(ctx)
			_, err := s.Call(ctx, "empty", "do", nil)
			return err
		}
		testpb.RegisterTestServiceServer(s.RPC(), user)
		return nil
	}, servicetest.Options{Registry: reg, Config: quick(services)})
	first := servicetest.Start(t, "order", func(s *service.Service) error {
		client := testpb.NewTestServiceClient(s.Dial("user"))
		s.GET("/submit", func(c *gin.Context) {
			if _, err := client.UnaryCall(c, rpcAsk("x")); err != nil {
				t.Errorf("UnaryCall() = %v", err)
			}
			service.Success(c, nil)
		})
		return nil
	}, servicetest.Options{Registry: reg, Config: quick(services)})
	first.Await(t, "user", 1)
	second.Await(t, "empty", 1)
	askNode(t, first, "GET", "/submit", "X-Request-Timeout-Ms", "3600000") // far from any default
	for _, where := range []string{"call", "request of the call's handler"} {
		if got := <-left; got > time.Hour || got < time.Hour-30*time.Second {
			t.Errorf("the %s has %v, want what there was of an hour", where, got)
		}
	}
}
