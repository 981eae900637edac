package etcd_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/registry/etcd/embedded"
	"github.com/goms-io/goms/pkg/registry/registrytest"
	"github.com/goms-io/goms/test/ports"
)

const (
	project  = "goms"
	ttl      = 2 * time.Second
	patience = 30 * time.Second // for what takes a moment on a machine that is not busy
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestContract(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	n := 0
	registrytest.Run(t, func(t *testing.T) func() registrytest.Registry {
		n++
		name := fmt.Sprintf("contract%d", n)
		return func() registrytest.Registry {
			r, err := etcd.Open(etcd.Config{Project: name, Addrs: []string{s.addr}, TTL: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	})
}

// store is a real etcd on a fixed port.
type store struct {
	t    *testing.T
	addr string
	dir  string
	srv  server

	start func(addr, dir string) (server, error)
}

// server is a running etcd.
type server interface{ Close() error }

func startEmbedded(addr, dir string) (server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return embedded.Start(ctx, embedded.Config{Addr: addr, Dir: dir, UnsafeNoSync: true})
}

// newStore starts an empty etcd on a port below the range of outgoing connections, so that nobody takes it during a restart.
func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{t: t, addr: ports.Addr(t), dir: t.TempDir(), start: startEmbedded}
	s.up()
	t.Cleanup(s.down)
	return s
}

func (s *store) up() {
	s.t.Helper()
	srv, err := s.start(s.addr, s.dir)
	if err != nil {
		s.t.Fatalf("start etcd: %v", err)
	}
	s.srv = srv
}

func (s *store) down() {
	if s.srv == nil {
		return
	}
	if err := s.srv.Close(); err != nil {
		s.t.Errorf("stop etcd: %v", err)
	}
	s.srv = nil
}

// empty throws the data of a stopped store away.
func (s *store) empty() {
	s.t.Helper()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Fatal(err)
	}
}

// do runs f with a client of the store, as an operator would use etcdctl.
func (s *store) do(f func(ctx context.Context, c *clientv3.Client) error) {
	s.t.Helper()
	s.doAs(clientv3.Config{}, f)
}

func (s *store) doAs(cfg clientv3.Config, f func(ctx context.Context, c *clientv3.Client) error) {
	s.t.Helper()
	cfg.Endpoints, cfg.Logger, cfg.DialTimeout = []string{s.addr}, zap.NewNop(), 5*time.Second
	c, err := clientv3.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f(ctx, c); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) put(key, value string) {
	s.t.Helper()
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Put(ctx, key, value)
		return err
	})
}

// entry returns the value of a key and its lease; "" when it is not there.
func (s *store) entry(key string) (value string, lease int64) {
	s.t.Helper()
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, key)
		if err == nil && len(resp.Kvs) == 1 {
			value, lease = string(resp.Kvs[0].Value), resp.Kvs[0].Lease
		}
		return err
	})
	return value, lease
}

// open opens a registry over addr, or several with "|" between them; zero fields of c get what suits tests.
func open(t *testing.T, addr string, c etcd.Config) *etcd.Registry {
	t.Helper()
	c.Project, c.Addrs = project, strings.Split(addr, "|")
	if c.TTL == 0 {
		c.TTL = ttl
	}
	if c.CheckInterval == 0 {
		c.CheckInterval = 500 * time.Millisecond
	}
	r, err := etcd.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return r
}

// process is a registry whose Run runs.
type process struct {
	*etcd.Registry
	t    *testing.T
	kill func() // ends Run and the connection, and withdraws nothing
}

func run(t *testing.T, r *etcd.Registry) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err == nil {
			t.Error("Run() = nil, want the reason of its end")
		}
	}()
	p := &process{Registry: r, t: t}
	p.kill = func() {
		cancel()
		<-done
		r.Close()
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) publish(nodes ...registry.Node) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range nodes {
		if err := p.Publish(ctx, n); err != nil {
			p.t.Fatalf("Publish(%s) = %v", n.ID(), err)
		}
	}
}

func (p *process) withdraw(n registry.Node) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Withdraw(ctx, n); err != nil {
		p.t.Fatalf("Withdraw(%s) = %v", n.ID(), err)
	}
}

// start opens a registry, runs it and publishes a node.
func start(t *testing.T, addr string, nodes ...registry.Node) *process {
	t.Helper()
	p := run(t, open(t, addr, etcd.Config{}))
	p.publish(nodes...)
	return p
}

// node returns the i-th node of service user.
func node(i int) registry.Node {
	return registry.NewNode("user", fmt.Sprintf("10.0.0.1:%d", 20000+i), fmt.Sprintf("10.0.0.1:%d", 10000+i))
}

// eventually waits until ok.
func eventually(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, within)
		}
		pause(10 * time.Millisecond)
	}
}

// pause lets real time pass: etcd's leases know no other.
func pause(d time.Duration) { <-time.After(d) }
