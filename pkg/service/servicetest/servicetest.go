// Package servicetest runs nodes inside a test: real ports on loopback, a registry in
// memory, no etcd.
//
//	node := servicetest.Start(t, "user", setup)
//	resp, err := node.Client().Post(node.URL+"/login", "application/json", body)
//
// Nodes that should see each other share a registry:
//
//	reg := registry.NewMemory()
//	user := servicetest.Start(t, "user", setupUser, servicetest.Options{Registry: reg})
//	order := servicetest.Start(t, "order", setupOrder, servicetest.Options{Registry: reg, Config: config})
//	order.Await(t, "user", 1)
//
// A node ends with its test, which fails when the node did not stop cleanly. The
// package is for tests only and knows nothing of etcd.
package servicetest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/rpc"
	"github.com/goms-io/goms/pkg/service"
)

// Key is the call-service key of nodes whose configuration has none.
const Key = "servicetest-only-call-service-key"

// patience bounds every wait of this package.
const patience = 30 * time.Second

// Options change what Start does; the zero value is usable.
type Options struct {
	// Registry is shared by nodes that should see each other; nil = one of its own.
	Registry *registry.Memory
	// Config is the node's configuration; nil = service.DefaultConfig(). Start changes,
	// in a copy, what would get in the way of a test: ports are any free ones on
	// loopback, and without a key it is Key. It keeps DrainDelay, which Config nil
	// makes 0.
	Config *service.Config
	// Log gets the node's log; nil = discard.
	Log *slog.Logger
}

// Node is a running node. All methods are safe for concurrent use.
type Node struct {
	URL      string // of the HTTP port, without a slash at the end
	RPCAddr  string // host:port
	Key      string // the call-service key that the node began with
	Registry *registry.Memory
	Service  *service.Service

	client *http.Client
	secure *tls.Config // towards nodes with TLS
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned
	err    error         // of Run; read after done

	mu   sync.Mutex // guards conn
	conn *rpc.Conn
}

// Start runs a node until the test ends and returns when it is registered. It ends
// the test when the node does not start. At most one Options is used.
func Start(t testing.TB, name string, setup service.Setup, options ...Options) *Node {
	t.Helper()
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	if o.Registry == nil {
		o.Registry = registry.NewMemory()
	}
	c, key := configFor(t, o.Config)
	s, err := service.New(service.Options{Name: name, Config: &c, Log: o.Log, Registry: o.Registry})
	if err != nil {
		t.Fatalf("make service %q: %v", name, err)
	}
	if setup != nil {
		if err := setup(s); err != nil {
			t.Fatalf("set up service %q: %v", name, err)
		}
	}
	n := &Node{Key: key, Registry: o.Registry, Service: s, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go n.run(ctx)
	t.Cleanup(func() { n.cleanUp(t) })
	select {
	case <-s.Ready():
	case <-n.done:
		t.Fatalf("run service %q: %v", name, n.err)
	case <-time.After(patience):
		t.Fatalf("run service %q: not registered after %v", name, patience)
	}
	if n.secure, err = c.NodeClientTLS(nil); err != nil {
		t.Fatalf("make TLS to service %q: %v", name, err)
	}
	n.URL, n.RPCAddr = "http://"+s.Node().HTTPAddr, s.Node().RPCAddr
	if s.Node().TLS {
		n.URL = "https://" + s.Node().HTTPAddr
	}
	n.client = &http.Client{
		Transport:     &keyed{key: n.Key, base: &http.Transport{TLSClientConfig: n.secure}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return n
}

// configFor returns the node's configuration, and its key.
func configFor(t testing.TB, given *service.Config) (c service.Config, key string) {
	t.Helper()
	c = service.DefaultConfig()
	if given != nil {
		c = *given
	} else {
		c.Service.DrainDelay = 0
	}
	c.Service.ListenHost = "127.0.0.1"
	c.Service.HTTPPort, c.Service.RPCPort = 0, 0
	key, err := config.Secret(c.CallServiceKey, c.CallServiceKeyFile, "callServiceKey")
	if err != nil {
		t.Fatal(err)
	}
	if key == "" {
		key = Key
		c.CallServiceKey = key
	}
	return c, key
}

func (n *Node) run(ctx context.Context) {
	defer close(n.done)
	n.err = n.Service.Run(ctx)
}

func (n *Node) cleanUp(t testing.TB) {
	if n.client != nil {
		n.client.CloseIdleConnections()
	}
	n.mu.Lock()
	conn := n.conn
	n.mu.Unlock()
	if conn != nil {
		// Closing fails only the second time.
		_ = conn.Close()
	}
	if err := n.Stop(); err != nil {
		t.Errorf("run service %q: %v", n.Service.Name(), err)
	}
}

// Client returns an HTTP client that adds the call-service key to every request, as a
// gateway does, and follows no redirects.
func (n *Node) Client() *http.Client { return n.client }

// Conn returns a gRPC connection to this node, with the key, for generated clients.
// It is closed with the test.
func (n *Node) Conn(t testing.TB) *rpc.Conn {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		return n.conn
	}
	keys, err := auth.NewCallKeys(n.Key)
	if err != nil {
		t.Fatalf("make key: %v", err)
	}
	n.conn, err = rpc.Dial(rpc.DialConfig{Service: n.Service.Name(), Keys: keys, TLS: n.secure})
	if err != nil {
		t.Fatalf("dial node: %v", err)
	}
	n.conn.Update([]rpc.Target{{Addr: n.RPCAddr, Weight: 1, TLS: n.Service.Node().TLS}})
	return n.conn
}

// Await returns when the node sees count live nodes of a service (draining ones not
// counted), and ends the test when it does not.
func (n *Node) Await(t testing.TB, name string, count int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		live := 0
		for _, node := range n.Service.Nodes(name) {
			if node.State != registry.Draining {
				live++
			}
		}
		if live == count {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("node sees %d live nodes of service %q, want %d", live, name, count)
		}
		time.Sleep(time.Millisecond)
	}
}

// Leave makes the node leave, as SIGTERM does, without waiting.
func (n *Node) Leave() { n.cancel() }

// Stop makes the node leave, waits, and returns what Run returned.
func (n *Node) Stop() error {
	n.cancel()
	<-n.done
	return n.err
}

// keyed adds the call-service key.
type keyed struct {
	key  string
	base *http.Transport
}

// RoundTrip sends the request with the key.
func (k *keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(auth.CallKeyHeader, k.key)
	return k.base.RoundTrip(r)
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (k *keyed) CloseIdleConnections() { k.base.CloseIdleConnections() }
