package service_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gin-gonic/gin"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/registry/etcd/embedded"
	"github.com/goms-io/goms/pkg/service"
)

// startStore starts an etcd that ends with the test.
func startStore(t *testing.T) *embedded.Server {
	t.Helper()
	store, err := embedded.Start(t.Context(), embedded.Config{Addr: "127.0.0.1:0", Dir: t.TempDir(), UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return store
}

// A node against a real etcd: its key comes, is seen, says draining, and goes.
func TestNodeInEtcd(t *testing.T) {
	store := startStore(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{store.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	events := client.Watch(t.Context(), "goms_", clientv3.WithPrefix())
	next := func() (kind, key, value string) {
		t.Helper()
		select {
		case r := <-events:
			if len(r.Events) != 1 {
				t.Fatalf("watch of etcd = %v", r)
			}
			return r.Events[0].Type.String(), string(r.Events[0].Kv.Key), string(r.Events[0].Kv.Value)
		case <-time.After(10 * time.Second):
			t.Fatal("etcd has no event")
		}
		return "", "", ""
	}

	other, otherDone, otherLog := inEtcd(t, store.Addr(), "order")
	if kind, key, value := next(); kind != "PUT" || value != "0" || key != "goms_order_"+other.s.Node().RPCAddr+"_"+other.s.Node().HTTPAddr {
		t.Errorf("etcd has %s %s = %s", kind, key, value)
	}
	user, userDone, _ := inEtcd(t, store.Addr(), "user")
	id := user.s.Node().ID()
	if kind, key, value := next(); kind != "PUT" || value != "0" || key != "goms_user_"+id {
		t.Errorf("etcd has %s %s = %s", kind, key, value)
	}
	poll(t, "order prints that user joins", func() bool { return strings.Contains(otherLog.String(), " [user] node ["+id+"] join\n") })
	poll(t, "order calls user", func() bool {
		resp, err := other.s.Call(t.Context(), "user", "login", nil)
		return err == nil && strings.Contains(string(resp.Body), `"data":"hello"`)
	})
	user.stop()
	if err := <-userDone; err != nil {
		t.Errorf("Run() = %v", err)
	}
	if kind, _, value := next(); kind != "PUT" || !strings.Contains(value, `"draining"`) {
		t.Errorf("etcd has %s %s, want draining", kind, value)
	}
	if kind, key, _ := next(); kind != "DELETE" || key != "goms_user_"+id {
		t.Errorf("etcd has %s %s, want DELETE", kind, key)
	}
	poll(t, "order prints that user leaves", func() bool { return strings.Contains(otherLog.String(), " [user] node ["+id+"] leave\n") })
	other.stop()
	if err := <-otherDone; err != nil {
		t.Errorf("Run() = %v", err)
	}
	next()
	next()
	if strings.Contains(otherLog.String(), "[order] node") {
		t.Errorf("order speaks of itself:\n%s", otherLog)
	}
	noCanary(t, "the output", otherLog.String())
}

// TestCallsHeedOverrides: what operators set for a node holds for the calls of other services too, over both ports.
func TestCallsHeedOverrides(t *testing.T) {
	store := startStore(t)
	order, orderDone, log := inEtcd(t, store.Addr(), "order")
	drained, drainedDone, _ := inEtcd(t, store.Addr(), "user")
	other, otherDone, _ := inEtcd(t, store.Addr(), "user")
	health := healthpb.NewHealthClient(order.s.Dial("user"))
	// seen says which of the nodes some calls come to.
	seen := func() (http, rpc map[string]bool) {
		http, rpc = map[string]bool{}, map[string]bool{}
		for range 6 {
			resp, err := order.s.Call(t.Context(), "user", "login", nil)
			if err != nil {
				continue // not known yet
			}
			http[resp.Header.Get("X-Node")] = true
			var p peer.Peer
			if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Peer(&p)); err == nil {
				rpc[p.Addr.String()] = true
			}
		}
		return http, rpc
	}
	comeTo := func(what string, nodes ...running) {
		t.Helper()
		poll(t, what, func() bool {
			http, rpc := seen()
			for _, n := range nodes {
				if !http[n.s.Node().ID()] || !rpc[n.s.Node().RPCAddr] {
					return false
				}
			}
			return len(http) == len(nodes) && len(rpc) == len(nodes)
		})
	}
	comeTo("calls come to both nodes", drained, other)

	operator, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{store.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	set := func(n running, change func(*registry.Override)) {
		t.Helper()
		if _, err := operator.SetOverride(t.Context(), "user", n.s.Node().ID(), func(o *registry.Override) { change(o); o.By = "ann" }); err != nil {
			t.Fatal(err)
		}
	}
	set(drained, func(o *registry.Override) { o.State = registry.Draining })
	comeTo("calls leave the node that was drained", other)
	set(drained, func(o *registry.Override) { o.State = "" })
	comeTo("calls come to both again", drained, other)
	set(other, func(o *registry.Override) { o.Weight = 0 })
	comeTo("calls leave the node that was given no weight", drained)
	if !strings.Contains(log.String(), "is overridden") || strings.Contains(log.String(), "[user] node ["+other.s.Node().ID()+"] leave") {
		t.Errorf("the log does not say that nodes are overridden, or says that they left:\n%s", log)
	}
	for _, n := range []struct {
		running
		done <-chan error
	}{{order, orderDone}, {drained, drainedDone}, {other, otherDone}} {
		n.stop()
		if err := <-n.done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	}
}

type running struct {
	s    *service.Service
	stop context.CancelFunc
}

// inEtcd runs a node by its command line.
func inEtcd(t *testing.T, addr, name string) (running, <-chan error, *lines) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	made := make(chan *service.Service, 1)
	done := make(chan error, 1)
	out := &lines{}
	env := map[string]string{"GOMS_CALL_SERVICE_KEY": canary, "GOMS_SERVICE_LISTEN_HOST": "127.0.0.1", "GOMS_SERVICE_DRAIN_DELAY": "100ms"}
	c := service.DefaultConfig()
	services(&c)
	go func() {
		done <- service.Run(ctx, service.Options{
			Name: name, Config: &c, Stdout: out, Stderr: out,
			Args: []string{"-http_port", "0", "-rpc_port", "0", "-etcd_addr", addr},
			Env:  func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		}, func(s *service.Service) error {
			s.GET("/login", func(c *gin.Context) {
				c.Header("X-Node", s.Node().ID())
				service.Success(c, "hello")
			})
			made <- s
			return nil
		})
	}()
	select {
	case s := <-made:
		select {
		case <-s.Ready():
			if host, _, err := net.SplitHostPort(s.Node().HTTPAddr); err != nil || host != "127.0.0.1" {
				t.Errorf("node published %s", s.Node().HTTPAddr)
			}
			return running{s, cancel}, done, out
		case <-time.After(20 * time.Second):
			t.Fatalf("service %q is not registered:\n%s", name, out)
		}
	case err := <-done:
		t.Fatalf("Run() = %v", err)
	}
	return running{}, nil, nil
}
