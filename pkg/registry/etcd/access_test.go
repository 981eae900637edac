package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/test/ports"
)

const password = "correct horse"

// cheap is an etcd whose log-ins cost next to nothing: with the usual cost they take seconds under the race detector.
type cheap struct {
	etcd  *embed.Etcd
	front *grpc.Server
}

func startCheap(addr, dir string) (server, error) {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.BcryptCost, cfg.UnsafeNoFsync = dir, uint(bcrypt.MinCost), true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.ListenPeerUrls = nil
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: addr}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.TickMs, cfg.ElectionMs = 50, 500
	front := make(chan *grpc.Server, 1)
	cfg.ServiceRegister = func(s *grpc.Server) { front <- s }
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	<-e.Server.ReadyNotify()
	return cheap{e, <-front}, nil
}

func (c cheap) Close() error {
	c.etcd.Server.Stop()
	c.front.Stop()
	c.etcd.Close()
	return nil
}

// newLockedStore starts a store with authentication: user "goms" may use the keys of the project and no others.
func newLockedStore(t *testing.T) *store {
	t.Helper()
	s := &store{t: t, addr: ports.Addr(t), dir: t.TempDir(), start: startCheap}
	s.up()
	t.Cleanup(s.down)
	s.do(func(ctx context.Context, c *clientv3.Client) error {
		steps := []func() error{
			func() error { _, err := c.UserAdd(ctx, "root", "r"); return err },
			func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
			func() error { _, err := c.RoleAdd(ctx, "node"); return err },
			func() error {
				_, err := c.RoleGrantPermission(ctx, "node", registry.Prefix(project), clientv3.GetPrefixRangeEnd(registry.Prefix(project)), clientv3.PermissionType(clientv3.PermReadWrite))
				return err
			},
			func() error { _, err := c.UserAdd(ctx, "goms", password); return err },
			func() error { _, err := c.UserGrantRole(ctx, "goms", "node"); return err },
			func() error { _, err := c.AuthEnable(ctx); return err },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

func TestPassword(t *testing.T) {
	t.Parallel()
	s := newLockedStore(t)
	c := etcd.Config{Username: "goms", Password: password}
	a := run(t, open(t, s.addr, c))
	a.publish(node(0))
	w := watch(t, s.addr, c)
	w.await(patience, node(0))

	// A restart forgets all tokens.
	s.down()
	w.awaitLink(false, patience)
	w.noLeaves(2 * ttl)
	s.up()
	w.awaitLink(true, patience)
	w.noLeaves(4 * ttl)
	a.publish(node(1))
	w.await(patience, node(0), node(1))
	a.withdraw(node(1))
	w.await(patience, node(0))
	if strings.Contains(w.log.String(), password) {
		t.Errorf("the log holds the password:\n%s", w.log)
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := newLockedStore(t)
	f := func(name string, c etcd.Config) {
		t.Run(name, func(t *testing.T) {
			w := watchOnly(t, s.addr, c)
			a := run(t, open(t, s.addr, c))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := a.Publish(ctx, node(0))
			if err == nil {
				t.Fatal("Publish() = nil, want an error")
			}
			w.awaitLink(false, 0)
			eventually(t, "word of the refusal", patience, func() bool { return w.log.count("reason=refused") > 0 })
			if n := w.log.count("reason=refused"); n != 1 {
				t.Errorf("refusal logged %d times, want once:\n%s", n, w.log)
			}
			if text := err.Error() + w.log.String(); strings.Contains(text, "guess") || !strings.Contains(text, "etcdserver:") {
				t.Errorf("error and log want the cause and not the password:\n%s", text)
			}
		})
	}
	f("wrong", etcd.Config{Username: "goms", Password: "guess"})
	f("none", etcd.Config{})
}

// TestRoleRevoked takes the right to the keys from all, so that leases end while the watch is well. A watcher whose own registration
// is refused knows better than to believe that the others have died, unless they can be seen to. No listing tells it: none is due.
func TestRoleRevoked(t *testing.T) {
	t.Parallel()
	s := newLockedStore(t)
	root := clientv3.Config{Username: "root", Password: "r"}
	var dead atomic.Pointer[string]
	c := etcd.Config{Username: "goms", Password: password, CheckInterval: time.Minute, Dead: func(n registry.Node) bool {
		id := dead.Load()
		return id != nil && *id == n.ID()
	}}
	a := run(t, open(t, s.addr, c))
	a.publish(node(0), node(1), node(2))
	w := watch(t, s.addr, c)
	run(t, w.Registry).publish(node(3))
	w.await(patience, node(0), node(1), node(2), node(3))

	s.doAs(root, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.UserRevokeRole(ctx, "goms", "node")
		return err
	})
	eventually(t, "leases end", patience, func() (gone bool) {
		s.doAs(root, func(ctx context.Context, c *clientv3.Client) error {
			resp, err := c.Get(ctx, registry.Prefix(project), clientv3.WithPrefix(), clientv3.WithCountOnly())
			gone = err == nil && resp.Count == 0
			return err
		})
		return gone
	})
	w.noLeaves(4 * ttl)
	id := node(1).ID()
	dead.Store(&id)
	w.await(patience, node(0), node(2), node(3))
	if w.leaves() != 1 {
		t.Errorf("%d leaves, want that of the dead node", w.leaves())
	}

	dead.Store(nil)
	s.doAs(root, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.UserGrantRole(ctx, "goms", "node")
		return err
	})
	w.await(patience, node(0), node(1), node(2), node(3))
	a.withdraw(node(2))
	w.await(patience, node(0), node(1), node(3))
	if w.leaves() != 2 {
		t.Errorf("%d leaves, want those of the dead node and of one that left", w.leaves())
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	// A TLS server in front of the store; httptest lends its certificate.
	lender := httptest.NewTLSServer(nil)
	defer lender.Close()
	pair := lender.TLS.Certificates[0]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := relayOn(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}), s.addr)
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())

	c := etcd.Config{TLS: &tls.Config{RootCAs: roots}}
	a := run(t, open(t, front.addr, c))
	a.publish(node(0))
	w := watch(t, front.addr, c)
	w.await(patience, node(0))

	strange := watchOnly(t, front.addr, etcd.Config{TLS: &tls.Config{}})
	eventually(t, "complaint", patience, func() bool { return strange.log.count("reason=untrusted") == 1 && strange.log.count("x509") == 1 })
	if _, calls := strange.told(); calls != 0 {
		t.Error("a store with an unknown certificate was believed")
	}

	// A store that wants our certificate says so in the middle of what the client takes for a connection.
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	asking := relayOn(t, tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert,
	}), s.addr)
	bare := watchOnly(t, asking.addr, c)
	eventually(t, "complaint", patience, func() bool { return bare.log.count("reason=untrusted") == 1 })
}

// TestCertificateExpires has etcd's certificate end while all are connected. It is told as what it is, not as one more refused
// connection, and a new certificate mends all.
func TestCertificateExpires(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	roots := x509.NewCertPool()
	now := time.Now()
	good, expired := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour)), selfSigned(t, now.Add(-time.Hour), now.Add(-time.Minute))
	roots.AddCert(good.Leaf)
	roots.AddCert(expired.Leaf)
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(good)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := relayOn(t, tls.NewListener(l, &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil },
		NextProtos:     []string{"h2"},
	}), s.addr)

	c := etcd.Config{TLS: &tls.Config{RootCAs: roots}}
	a := run(t, open(t, front.addr, c))
	a.publish(node(0))
	w := watch(t, front.addr, c)
	w.await(patience, node(0))

	shown.Store(expired)
	front.cut()
	front.heal()
	w.awaitLink(false, patience)
	eventually(t, "complaint", patience, func() bool { return w.log.count("reason=untrusted") > 0 })
	w.noLeaves(2 * ttl)
	if text := w.log.String(); w.log.count("reason=untrusted") != 1 || !strings.Contains(text, "certificate has expired") || !strings.Contains(text, front.addr) {
		t.Errorf("the log wants the cause and the address, once:\n%s", text)
	}
	shown.Store(good)
	w.awaitLink(true, patience)
	w.noLeaves(2 * ttl)
	a.publish(node(1))
	w.await(patience, node(0), node(1))
}

// selfSigned returns a certificate for 127.0.0.1 that nobody but itself vouches for.
func selfSigned(t *testing.T, from, until time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestConfigIsChecked(t *testing.T) {
	ok := etcd.Config{Project: "goms", Addrs: []string{"127.0.0.1:2379", "http://etcd:2379", "https://[::1]:2379"}}
	if err := ok.Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
	f := func(want string, change func(*etcd.Config)) {
		t.Helper()
		c := ok
		change(&c)
		if r, err := etcd.Open(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open() = %v, %v, want an error with %q", r, err, want)
		}
	}
	f("project", func(c *etcd.Config) { c.Project = "go_ms" })
	f("there is none", func(c *etcd.Config) { c.Addrs = nil })
	f("host:port", func(c *etcd.Config) { c.Addrs = []string{"127.0.0.1"} })
	f("host:port", func(c *etcd.Config) { c.Addrs = []string{"http://127.0.0.1:2379/path"} })
	f("ftp", func(c *etcd.Config) { c.Addrs = []string{"ftp://127.0.0.1:2379"} })
	f("go around the TLS", func(c *etcd.Config) { c.TLS = &tls.Config{} })
	f("go together", func(c *etcd.Config) { c.Username = "goms" })
	f("go together", func(c *etcd.Config) { c.Password = password })
	f("negative", func(c *etcd.Config) { c.TTL = -1 })
}

func TestConfigHidesItsPassword(t *testing.T) {
	c := etcd.Config{Project: "goms", Username: "goms", Password: password}
	var log lines
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "config", c)
	text := fmt.Sprintf("%v %+v %#v %s", c, c, c, &c) + log.String()
	if strings.Contains(text, password) {
		t.Errorf("password in %s", text)
	}
}
