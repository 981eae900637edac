package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/registry/etcd/embedded"
	"github.com/goms-io/goms/test/ports"
)

// gw is a gateway in this process.
type gw struct {
	t           *testing.T
	out         output
	http, admin string
	stop        func()
}

// startFrom runs a gateway with the configuration at cfg.
func startFrom(t *testing.T, cfg string) *gw {
	t.Helper()
	g := &gw{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- run(ctx, []string{"-config", cfg, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &g.out, &g.out)
	}()
	g.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(g.stop)
	g.http = "http://127.0.0.1:" + awaitLine(t, &g.out, done, `Http Listen on port: (\d+)`)
	g.admin = "http://" + awaitLine(t, &g.out, done, `Admin Listen on: (\S+)`)
	return g
}

func (g *gw) get(url string) (int, string) {
	g.t.Helper()
	res, err := client.Get(url)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// await waits until a page holds what is wanted, and not what is not.
func (g *gw) await(url, want, not string, within time.Duration) {
	g.t.Helper()
	deadline := time.Now().Add(within)
	for {
		_, body := g.get(url)
		if strings.Contains(body, want) && (not == "" || !strings.Contains(body, not)) {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("GET %s after %v = %s\nwant %q and not %q; log:\n%s", url, within, body, want, not, g.out.String())
		}
		<-time.After(10 * time.Millisecond)
	}
}

func startStore(t *testing.T, addr, dir string) *embedded.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := embedded.Start(ctx, embedded.Config{Addr: addr, Dir: dir, UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// publish registers a node of service user at url, until the test ends or stop is called.
func publish(t *testing.T, addr, url string) (n registry.Node, stop func()) {
	t.Helper()
	reg, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{addr}, TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = reg.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
		reg.Close()
	}
	t.Cleanup(stop)
	n = registry.NewNode("user", "127.0.0.1:1", strings.TrimPrefix(url, "http://"))
	wait, cancelWait := context.WithTimeout(ctx, patience)
	defer cancelWait()
	if err := reg.Publish(wait, n); err != nil {
		t.Fatal(err)
	}
	return n, stop
}

func TestColdStartWithoutEtcd(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir, addr := t.TempDir(), ports.Addr(t)
	file := filepath.Join(dir, "data", "goms.nodes")
	cfg := write(t, "c.yml", "etcdAddr: ["+addr+"]\netcd: {ttl: 1s}\ngateway: {drainDelay: 0s, snapshotFile: '"+dir+"/data/{projectName}.nodes'}\nservices: {user: {login: /login}}\n")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer backend.Close()
	store := startStore(t, addr, filepath.Join(dir, "etcd"))
	n, stopNode := publish(t, addr, backend.URL)

	first := startFrom(t, cfg)
	first.await(first.admin+"/cluster", n.ID(), "", patience)
	first.await(first.admin+"/metrics", "goms_registry_stale 0", "", 0)
	first.stop()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the file = %v, %v, want it there with mode 0600", info, err)
	}
	if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), key) {
		t.Errorf("the file holds the key (%v)", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	stopNode() // the process, not what is behind its address

	began := time.Now()
	second := startFrom(t, cfg)
	status, body := second.get(second.http + "/api/user/login")
	t.Logf("first answer after %v", time.Since(began).Round(time.Millisecond))
	if status != 200 || body != "hello" || time.Since(began) > 10*time.Second {
		t.Errorf("answer without etcd = %d %s, want that of the node", status, body)
	}
	if log := second.out.String(); !strings.Contains(log, "the nodes of the last run are served") || strings.Contains(log, "registry read") {
		t.Errorf("the log wants that the nodes are those of the last run, and not that the registry was read:\n%s", log)
	}
	if status, body := second.get(second.admin + "/readyz?verbose=1"); status != 200 || !strings.Contains(body, "has not been read since the start") || !strings.Contains(body, " ago") {
		t.Errorf("/readyz?verbose=1 = %d %q, want 200 and since when it is stale", status, body)
	}
	for page, want := range map[string]string{
		"/cluster?verbose=1": `"registryStale": true`,
		"/metrics":           "goms_registry_stale 1",
	} {
		if _, body := second.get(second.admin + page); !strings.Contains(body, want) {
			t.Errorf("GET %s lacks %q", page, want)
		}
	}
	if _, body := second.get(second.admin + "/metrics"); !strings.Contains(body, "goms_registry_age_seconds") || !strings.Contains(body, "goms_registry_connected 0") {
		t.Error("/metrics lacks the age and that the registry is away")
	}

	// An etcd that comes back empty: the node is held, then it leaves.
	startStore(t, addr, filepath.Join(dir, "empty"))
	second.await(second.admin+"/metrics", "goms_registry_stale 0", "", patience)
	if _, body := second.get(second.admin + "/cluster"); !strings.Contains(body, n.ID()) {
		t.Errorf("the node was dropped when etcd came back:\n%s", body)
	}
	second.await(second.admin+"/cluster", "services", n.ID(), patience)
	// The gateway of the last run is in the file too; it is dead and leaves at once.
	line := "[user] node [" + n.ID() + "] leave"
	for deadline := time.Now().Add(patience); !strings.Contains(second.out.String(), line) && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // the log is written beside what it tells
	}
	second.stop()
	if left := strings.Count(second.out.String(), line); left != 1 {
		t.Errorf("%d leave lines of the node, want one:\n%s", left, second.out.String())
	}
}

// TestGatewayOutsideNodeNetworks publishes an address that other gateways refuse: it is said here, where it can be mended.
func TestGatewayOutsideNodeNetworks(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	cfg := write(t, "c.yml", "etcdAddr: ['127.0.0.1:1']\nadvertiseHost: 8.8.8.8\ngateway: {drainDelay: 0s, snapshotFile: ''}\nservices: {user: {login: /login}}\n")
	g := startFrom(t, cfg)
	if log := g.out.String(); !strings.Contains(log, "will not believe this one") || !strings.Contains(log, "is outside nodeNetworks") {
		t.Errorf("the log lacks that the address is outside nodeNetworks:\n%s", log)
	}
}

func TestColdStartWithNothing(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir := t.TempDir()
	file := filepath.Join(dir, "nodes")
	if err := os.WriteFile(file, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := write(t, "c.yml", "etcdAddr: ["+ports.Addr(t)+"]\ngateway: {drainDelay: 0s, snapshotFile: '"+file+"'}\nservices: {user: {login: /login}}\n")
	g := startFrom(t, cfg)
	if status, _ := g.get(g.http + "/api/user/login"); status != 503 {
		t.Errorf("answer = %d, want 503", status)
	}
	if status, body := g.get(g.admin + "/readyz"); status != 503 {
		t.Errorf("/readyz = %d %s, want 503", status, body)
	}
	if n := strings.Count(g.out.String(), "saved nodes ignored"); n != 1 || !strings.Contains(g.out.String(), "(moved to "+file+".bad)") {
		t.Errorf("%d lines about the file, want one that says where it is now:\n%s", n, g.out.String())
	}
}

// TestDrainedNodesDoNotReplaceTheLast has an operator drain one of two nodes, and the other lose its registration though it lives: requests
// go on to that one.
func TestDrainedNodesDoNotReplaceTheLast(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir, addr := t.TempDir(), ports.Addr(t)
	startStore(t, addr, filepath.Join(dir, "etcd"))
	cfg := write(t, "c.yml", "etcdAddr: ["+addr+"]\netcd: {ttl: 1s}\ngateway: {drainDelay: 0s, snapshotFile: ''}\nservices: {user: {login: /login}}\n")
	serve := func(name string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	lost, end := publish(t, addr, serve("lost"))
	drained, _ := publish(t, addr, serve("drained"))
	g := startFrom(t, cfg)
	g.await(g.admin+"/cluster", lost.ID(), "", patience)
	g.await(g.admin+"/cluster", drained.ID(), "", patience)
	if out, err := runFor(t, "node", "drain", "user", drained.ID(), "-config", cfg); err != nil {
		t.Fatal(out, err)
	}
	g.await(g.admin+"/cluster?verbose=1", `"overrides"`, "", patience)
	end()
	deadline := time.Now().Add(patience)
	for !strings.Contains(g.out.String(), "[user] WARN most nodes of a service lost their registration, kept while they live") {
		if time.Now().After(deadline) {
			t.Fatalf("it is not said that the node is kept; log:\n%s", g.out.String())
		}
		<-time.After(10 * time.Millisecond)
	}
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); { // two TTLs and as long again
		if status, body := g.get(g.http + "/api/user/login"); status != 200 || body != "lost" {
			t.Fatalf("answer = %d %q, want one of the node that nobody drained; log:\n%s", status, body, g.out.String())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestPoisonTakesNoPlace has somebody put nodes where gateways believe none to be, at the addresses of a node and of the gateway itself:
// both stay, and the list of nodes says what is not used.
func TestPoisonTakesNoPlace(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir, addr := t.TempDir(), ports.Addr(t)
	startStore(t, addr, filepath.Join(dir, "etcd"))
	cfg := write(t, "c.yml", "etcdAddr: ["+addr+"]\ngateway: {drainDelay: 0s, snapshotFile: ''}\nservices: {user: {login: /login}}\n")
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	n, _ := publish(t, addr, srv.URL)
	g := startFrom(t, cfg)
	g.await(g.admin+"/cluster", n.ID(), "", 5*time.Second)
	own := strings.TrimPrefix(g.http, "http://")
	g.await(g.admin+"/cluster", own, "", 5*time.Second)

	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, key := range []string{"goms_user_8.8.8.8:53_" + n.HTTPAddr, "goms_gateway_127.0.0.1:99_" + own, "goms_user_127.0.0.1:0_127.0.0.1:1"} {
		if _, err := c.Put(t.Context(), key, "0"); err != nil {
			t.Fatal(err)
		}
	}
	g.await(g.admin+"/metrics", `goms_registry_ignored_total{cause="malformed"} 1`, "", 5*time.Second)
	for _, cause := range []string{"network", "own"} {
		g.await(g.admin+"/metrics", `goms_registry_ignored_total{cause="`+cause+`"} 1`, `cause="duplicate"`, 5*time.Second)
	}
	if _, body := g.get(g.admin + "/cluster"); !strings.Contains(body, n.ID()) || !strings.Contains(body, own) || strings.Contains(body, "8.8.8.8") {
		t.Errorf("/cluster =\n%s\nwant the node and the gateway, and nothing else", body)
	}
	if status, body := g.get(g.http + "/api/user/login"); status != 200 {
		t.Errorf("answer = %d %s, want that of the node", status, body)
	}
	out, err := runFor(t, "node", "list", "-config", cfg)
	for _, want := range []string{" refused ", "user 8.8.8.8:53_" + n.HTTPAddr + " is refused: address 8.8.8.8:53 is outside nodeNetworks\n", "\nentries of etcd that cannot be read: 1 (gateways name them in their logs)\n"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("node list = %v\n%s\nwant %q", err, out, want)
		}
	}
}

func TestNodeCommand(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	dir, addr := t.TempDir(), ports.Addr(t)
	startStore(t, addr, filepath.Join(dir, "etcd"))
	cfg := write(t, "c.yml", "etcdAddr: ["+addr+"]\ngateway: {drainDelay: 0s, snapshotFile: ''}\nservices: {user: {login: /login}}\n")
	n, _ := publish(t, addr, "http://127.0.0.1:2")
	g := startFrom(t, cfg)
	g.await(g.admin+"/cluster", n.ID(), "", patience)

	f := func(want string, args ...string) {
		t.Helper()
		out, err := runFor(t, append(append([]string{"node"}, args...), "-config", cfg)...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("gateway node %v = %q, %v, want %q", args, out, err, want)
		}
	}
	f("1       up", "list")
	f("draining", "drain", "user", n.ID())
	g.await(g.admin+"/cluster?verbose=1", `"overrides"`, "", patience)
	f("draining, weight 5", "weight", "user", n.ID(), "5")
	g.await(g.admin+"/cluster?verbose=1", `"weight": 5`, "", patience)
	f("draining, weight 5", "list")
	f("@", "list")
	f("weight 5", "undrain", "user", n.ID())
	g.await(g.admin+"/cluster?verbose=1", `"overrides"`, `"state": "draining"`, patience)
	f("as published", "reset", "user", n.ID())
	g.await(g.admin+"/cluster?verbose=1", "services", `"overrides"`, patience)
	if log := g.out.String(); !strings.Contains(log, "is overridden") || !strings.Contains(log, "by=") || !strings.Contains(log, "is no longer overridden") {
		t.Errorf("the log lacks what was set and by whom:\n%s", log)
	}

	bad := func(code int, want string, args ...string) {
		t.Helper()
		out, err := runFor(t, append(append([]string{"node"}, args...), "-config", cfg)...)
		if err == nil || !strings.Contains(err.Error(), want) || project.ExitCode(err) != code {
			t.Errorf("gateway node %v = %q, %v (exit %d), want %q and exit %d", args, out, err, project.ExitCode(err), want, code)
		}
	}
	bad(project.ExitUsage, "want one of")
	bad(project.ExitUsage, "cannot be understood", "stop", "user", n.ID())
	bad(project.ExitUsage, "cannot be understood", "drain", "user")
	bad(project.ExitUsage, `weight "-1" is not 0 to 1000`, "weight", "user", n.ID(), "-1")
	bad(project.ExitUsage, `weight "1e9" is not 0 to 1000`, "weight", "user", n.ID(), "1e9")
	bad(project.ExitFailure, "has no node", "drain", "user", "127.0.0.1:1_127.0.0.1:99")
	bad(project.ExitFailure, "has no node", "undrain", "user", "127.0.0.1:1_127.0.0.1:99")
	bad(project.ExitFailure, "want host:port_host:port", "drain", "user", "nonsense")
}
