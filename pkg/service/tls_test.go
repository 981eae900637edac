package service_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// authority signs certificates into files.
type authority struct {
	*certstest.Authority

	t    *testing.T
	dir  string
	file string // its own certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{Authority: certstest.New(t), t: t, dir: t.TempDir()}
	a.file = filepath.Join(a.dir, "ca.pem")
	if err := os.WriteFile(a.file, a.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// host signs a certificate for a node on loopback.
func (a *authority) host(name string) (certFile, keyFile string) {
	a.t.Helper()
	return a.Host("127.0.0.1", name+".test").Write(a.t, a.dir, name)
}

// secure makes a node speak TLS, and trust the others of the authority.
func (a *authority) secure(c *service.Config) {
	services(c)
	c.Service.TLS.CertFile, c.Service.TLS.KeyFile = a.host("node")
	c.NodeTLS.CAFile = a.file
}

func startOn(t *testing.T, reg *registry.Memory, name string, setup service.Setup, edit func(*service.Config)) *servicetest.Node {
	t.Helper()
	return servicetest.Start(t, name, setup, servicetest.Options{Registry: reg, Config: quick(edit)})
}

// TestPlainAndTLSNodes: a service of which one node speaks TLS and one does not is called, over HTTP and gRPC, at both.
func TestPlainAndTLSNodes(t *testing.T) {
	a, reg := newAuthority(t), registry.NewMemory()
	var overTLS, plain atomic.Int64
	setup := func(s *service.Service) error {
		s.Any("/login", func(c *gin.Context) {
			if c.Request.TLS != nil {
				overTLS.Add(1)
			} else {
				plain.Add(1)
			}
			service.Success(c, c.Request.Proto)
		})
		return nil
	}
	startOn(t, reg, "user", setup, services)
	secure := startOn(t, reg, "user", setup, a.secure)
	caller := startOn(t, reg, "order", nil, a.secure)
	caller.Await(t, "user", 2)
	if !secure.Service.Node().TLS || secure.Service.Node().Value() != `{"tls":true}` {
		t.Errorf("the node publishes %s", secure.Service.Node().Value())
	}
	for range 10 {
		if _, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{JSON: 1}); err != nil {
			t.Errorf("Call() = %v", err)
		}
	}
	if overTLS.Load() != 5 || plain.Load() != 5 {
		t.Errorf("%d calls over TLS and %d plain, want 5 each", overTLS.Load(), plain.Load())
	}
	health := healthpb.NewHealthClient(caller.Service.Dial("user"))
	for range 10 {
		if _, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("gRPC: %v", err)
		}
	}
	if _, err := healthpb.NewHealthClient(secure.Conn(t)).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("gRPC to the node with TLS: %v", err)
	}

	// What is not TLS gets nothing there.
	for _, addr := range []string{secure.Service.Node().HTTPAddr, secure.Service.Node().RPCAddr} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
		got, _ := io.ReadAll(c)
		c.Close()
		if strings.Contains(string(got), " 200 ") {
			t.Errorf("plain HTTP to %s = %q", addr, got)
		}
	}
	stranger := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: trust(a)}}
	res, err := stranger.Get(secure.URL + "/login")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden || res.ProtoMajor != 1 {
		t.Errorf("without the key %s %s, want HTTP/1.1 403", res.Proto, res.Status)
	}
}

func trust(a *authority) *tls.Config {
	return &tls.Config{RootCAs: a.Pool(), MinVersion: tls.VersionTLS12}
}

// TestCallTrustsNobodyElse: a node of another authority, or one that does not know ours, is not called, in plain
// neither.
func TestCallTrustsNobodyElse(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	f := func(callee, caller func(*service.Config), want string) {
		t.Helper()
		reg := registry.NewMemory()
		var reached atomic.Bool
		startOn(t, reg, "user", func(s *service.Service) error {
			s.Any("/login", func(*gin.Context) { reached.Store(true) })
			return nil
		}, callee)
		c := startOn(t, reg, "order", nil, caller)
		c.Await(t, "user", 1)
		_, err := c.Service.Call(t.Context(), "user", "login", nil)
		for range 30 {
			if !errors.Is(err, context.DeadlineExceeded) {
				break
			}
			_, err = c.Service.Call(t.Context(), "user", "login", nil) // on a busy machine a connection may need more than the second it has
		}
		_, rpcErr := healthpb.NewHealthClient(c.Service.Dial("user")).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if want == "" {
			if err != nil || rpcErr != nil {
				t.Errorf("Call() = %v, gRPC %v", err, rpcErr)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), want) || reached.Load() {
			t.Errorf("Call() = %v, want %q; reached %v", err, want, reached.Load())
		}
		if rpcErr == nil {
			t.Error("gRPC reaches the node")
		}
	}
	f(a.secure, other.secure, `expected to be "127.0.0.1": tls: failed to verify certificate`)
	f(a.secure, services, `expected to be "127.0.0.1": tls: failed to verify certificate`) // the system's authorities
	f(a.secure, func(c *service.Config) { a.secure(c); c.NodeTLS.ServerName = "other.test" }, `expected to be "other.test"`)
	f(a.secure, func(c *service.Config) { a.secure(c); c.NodeTLS.ServerName = "node.test" }, "")

	picky := func(c *service.Config) { a.secure(c); c.Service.TLS.ClientCAFile = a.file }
	f(picky, a.secure, "remote error: tls: certificate required")
	f(picky, func(c *service.Config) { a.secure(c); c.NodeTLS.CertFile, c.NodeTLS.KeyFile = a.host("caller") }, "")
}

// TestTLSHealthcheck: the node's own check knows its node, also where clients need a certificate.
func TestTLSHealthcheck(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	for name, edit := range map[string]func(*service.Config){
		"an authority": a.secure,
		"none":         func(c *service.Config) { a.secure(c); c.NodeTLS.CAFile = "" },
		"certificates": func(c *service.Config) { a.secure(c); c.Service.TLS.ClientCAFile = a.file },
	} {
		n := startOn(t, registry.NewMemory(), "user", nil, edit)
		c := n.Service.Config()
		addr, err := url.Parse(n.URL)
		if err != nil {
			t.Fatal(err)
		}
		env := map[string]string{
			"GOMS_CALL_SERVICE_KEY": canary, "GOMS_SERVICE_TLS_CERT_FILE": c.Service.TLS.CertFile, "GOMS_SERVICE_TLS_KEY_FILE": c.Service.TLS.KeyFile,
			"GOMS_NODE_TLS_CA_FILE": c.NodeTLS.CAFile,
		}
		if r := runArgs(t, env, nil, "healthcheck", "-http_port", addr.Port()); r.err != nil {
			t.Errorf("%s: healthcheck = %v", name, r.err)
		}
		env["GOMS_NODE_TLS_CA_FILE"] = other.file
		if r := runArgs(t, env, nil, "healthcheck", "-http_port", addr.Port()); r.err == nil {
			t.Errorf("%s: healthcheck takes a certificate of somebody else", name)
		}
	}
}

func TestTLSConfiguration(t *testing.T) {
	a := newAuthority(t)
	certFile, keyFile := a.host("node")
	_, otherKey := a.host("other")
	f := func(edit func(*service.Config), want string) {
		t.Helper()
		c := quick(edit)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %q", err, want)
		}
	}
	f(func(c *service.Config) { c.Service.TLS.CertFile = certFile }, "service.tls: ")
	f(func(c *service.Config) { c.Service.TLS.ClientCAFile = a.file }, "service.tls: ")
	f(func(c *service.Config) { c.Service.TLS.CertFile, c.Service.TLS.KeyFile = certFile, otherKey }, "service.tls: read certificate")
	f(func(c *service.Config) { c.NodeTLS.CAFile = keyFile }, "nodeTLS: read caFile")
	f(func(c *service.Config) { c.NodeTLS.CAFile = "/nowhere" }, "nodeTLS: read caFile")
}

// TestCertificateOfNodeIsFollowed: a new certificate is taken up while the node runs.
func TestCertificateOfNodeIsFollowed(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	n := startOn(t, registry.NewMemory(), "user", nil, a.secure)
	serial := func() string {
		c, err := tls.Dial("tcp", n.Service.Node().HTTPAddr, trust(a))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	a.host("node")
	deadline := time.Now().Add(time.Minute)
	for serial() == before {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not taken up")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestIdleLimit: a node says its limit when it is not the usual one, and Call does not use a connection that the
// node may be about to close.
func TestIdleLimit(t *testing.T) {
	for limit, value := range map[time.Duration]string{2 * time.Minute: "0", 1500 * time.Millisecond: `{"idle":1500}`, time.Nanosecond: `{"idle":1}`, 100 * time.Hour: `{"idle":86400000}`} {
		n := startOn(t, registry.NewMemory(), "user", nil, func(c *service.Config) { c.Service.IdleTimeout = limit })
		if got := n.Service.Node().Value(); got != value {
			t.Errorf("with idleTimeout %v the node publishes %s, want %s", limit, got, value)
		}
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int64
	s := &http.Server{
		ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		},
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	defer func() { s.Close(); <-done }()
	reg := registry.NewMemory()
	node := registry.NewNode("user", ln.Addr().String(), ln.Addr().String())
	node.Idle = 200 * time.Millisecond
	caller := startOn(t, reg, "order", nil, services)
	call := func(want int64) {
		t.Helper()
		if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err != nil {
			t.Fatal(err)
		}
		if conns.Load() != want {
			t.Errorf("%d connections, want %d", conns.Load(), want)
		}
	}
	publish := func() {
		t.Helper()
		if err := reg.Publish(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for got := caller.Service.Nodes("user"); len(got) != 1 || got[0] != node; got = caller.Service.Nodes("user") {
			if time.Now().After(deadline) {
				t.Fatalf("the caller sees %v", got)
			}
			time.Sleep(time.Millisecond)
		}
	}
	publish()
	call(1)
	time.Sleep(120 * time.Millisecond) // half of the limit passes: that is the condition
	call(2)
	node.Idle = 0
	publish()
	call(3) // what was kept by the other rule is gone
	time.Sleep(120 * time.Millisecond)
	call(3)
}

// TestNodeTurnsTLS: a node that comes back at the same address with TLS is called with it.
func TestNodeTurnsTLS(t *testing.T) {
	first := make(chan byte, 10)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := bufio.NewReader(c).ReadByte()
			if err == nil {
				first <- b
			}
			c.Close()
		}
	}()
	defer func() { ln.Close(); <-done }()
	reg := registry.NewMemory()
	node := registry.NewNode("user", ln.Addr().String(), ln.Addr().String())
	caller := startOn(t, reg, "order", nil, services)
	for _, want := range []byte{'G', 22, 'G'} {
		node.TLS = want == 22
		if err := reg.Publish(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(10 * time.Second)
		for got := caller.Service.Nodes("user"); len(got) != 1 || got[0] != node; got = caller.Service.Nodes("user") {
			if time.Now().After(deadline) {
				t.Fatalf("the caller sees %v", got)
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err == nil {
			t.Fatal("Call() to a node that answers nothing succeeds")
		}
		if got := <-first; got != want {
			t.Errorf("with TLS %v the node got %q first, want %q", node.TLS, got, want)
		}
		for len(first) > 0 {
			if got := <-first; got != want {
				t.Errorf("with TLS %v the node got %q", node.TLS, got)
			}
		}
	}
}

// TestCommentedDefaults uncomments every line of the example that shows a default: what comes out must be the
// defaults.
func TestCommentedDefaults(t *testing.T) {
	text, err := os.ReadFile("../../configs/service.yml")
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)^  # ([a-zA-Z]+: .*)$`)
	file := filepath.Join(t.TempDir(), "service.yml")
	if err := os.WriteFile(file, comment.ReplaceAll(text, []byte("  $1")), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := len(comment.FindAll(text, -1))
	var c service.Config
	c.Config = quick(nil).Config
	if err := config.Load(file, &c, config.Options{Env: func(string) (string, bool) { return "", false }}); err != nil {
		t.Fatal(err)
	}
	want := service.DefaultConfig().Service
	want.TrustedProxies = c.Service.TrustedProxies
	if len(c.Service.TrustedProxies) != 0 || fmt.Sprint(c.Service) != fmt.Sprint(want) {
		t.Errorf("service.yml shows %+v\nwant %+v", c.Service, want)
	}
	if shown != 13 {
		t.Errorf("%d commented keys, want 13", shown)
	}
}
