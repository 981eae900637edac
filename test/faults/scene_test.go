//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// props say what stands on the scene; the zero value is that of most rows: one etcd, two gateways behind nginx, three nodes.
type props struct {
	members  int           // of etcd: 1
	gateways int           // 2
	nodes    int           // 3; negative is none
	bare     bool          // without nginx: the load goes to the gateways
	ttl      time.Duration // of a lease: 10 s
	config   string        // YAML added to config.yml
	gateway  string        // lines of YAML below gateway:, each indented by two
	services string        // lines of YAML below services:, each indented by two
	registry []string      // where gateways and nodes look for etcd, when not at etcd itself
	etcd     *process.Etcd // started before

	nodeRegistry []string // where nodes look for etcd, when elsewhere than gateways
	env          []string // of gateways
	clocks       bool     // of gateways and nodes can be set
}

// scene is one project: a configuration, an etcd, gateways behind nginx, and nodes.
type scene struct {
	t        testing.TB
	props    props
	dir      string // configs/ is in it
	etcd     *process.Etcd
	gateways []*gateway
	nodes    []*node // all that were ever started
	nginx    *process.Process
	front    []string // where clients go
	nodeEnv  []string // of nodes that are started from now on
}

type gateway struct {
	*process.Process
	t                testing.TB
	launch           process.Launch
	http, rpc, admin int
}

type node struct {
	*process.Process
	service   string
	launch    process.Launch
	http, rpc int
	counts    string // the file with a line a request, kept by all that stood at this place
}

// open sets a scene and waits until everybody sees everybody.
func open(t testing.TB, p props) *scene {
	t.Helper()
	s := &scene{t: t, props: p, dir: t.TempDir(), etcd: p.etcd}
	if !p.bare {
		process.NeedNginx(t)
	}
	if s.etcd == nil {
		s.etcd = process.StartEtcd(t, process.PinnedEtcd(t), max(p.members, 1))
	}
	s.configure(p.gateway, p.services)
	if p.gateways == 0 {
		p.gateways = 2
	}
	if p.nodes == 0 {
		p.nodes = 3
	}
	for range p.nodes {
		s.addNode("count")
	}
	for range p.gateways {
		s.addGateway()
	}
	for _, g := range s.gateways {
		g.ready()
		if p.nodes > 0 {
			g.sees("count", p.nodes)
		}
		s.front = append(s.front, g.addr())
	}
	if !p.bare {
		var addr string
		s.nginx, addr = process.StartNginx(t, s.front...)
		s.front = []string{addr}
	}
	return s
}

// configure writes the configuration files.
func (s *scene) configure(gateway, services string) {
	s.t.Helper()
	ttl := s.props.ttl
	if ttl == 0 {
		ttl = 10 * time.Second
	}
	config := fmt.Sprintf("projectName: goms\ncallServiceKey: %q\nservice:\n  listenHost: 127.0.0.1\n", process.CallKey)
	if !strings.Contains(s.props.config, "\netcd:") && !strings.HasPrefix(s.props.config, "etcd:") {
		config += fmt.Sprintf("etcd:\n  ttl: %s\n", ttl)
	}
	process.WriteFile(s.t, filepath.Join(s.dir, "configs/config.yml"), config+s.props.config)
	process.WriteFile(s.t, filepath.Join(s.dir, "configs/gateway.yml"), "gateway:\n  listenHost: 127.0.0.1\n"+gateway)
	s.routes(services)
}

// routes writes services.yml, with what is given below services:.
func (s *scene) routes(services string) {
	s.t.Helper()
	swap(s.t, filepath.Join(s.dir, "configs/services.yml"), "services:\n  count:\n    hit: /hit\n    ws: /ws\n    sse: /sse\n    next: /next\n    panic: /panic\n    sip: {path: /sip, maxBody: 64MiB}\n    up: /up\n    down: /down\n    chat: /chat\n"+services)
}

// swap replaces a file as a careful operator does: whole.
func swap(t testing.TB, path, text string) {
	t.Helper()
	process.WriteFile(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// registryAddrs are where gateways and nodes look for etcd.
func (s *scene) registryAddrs() string {
	if len(s.props.registry) > 0 {
		return strings.Join(s.props.registry, "|")
	}
	return strings.Join(s.etcd.Addrs, "|")
}

func (s *scene) nodeRegistryAddrs() string {
	if len(s.props.nodeRegistry) > 0 {
		return strings.Join(s.props.nodeRegistry, "|")
	}
	return s.registryAddrs()
}

// addGateway starts one more gateway and waits for nothing.
func (s *scene) addGateway(args ...string) *gateway {
	s.t.Helper()
	g := &gateway{t: s.t, http: ports.Free(s.t), rpc: ports.Free(s.t), admin: ports.Free(s.t)}
	g.launch = process.Launch{
		Name: fmt.Sprintf("gateway %d", g.http), Path: process.Build(s.t, "cmd/gateway"), Dir: s.t.TempDir(),
		Args: append([]string{
			"-config", filepath.Join(s.dir, "configs"), "-http_port", fmt.Sprint(g.http), "-rpc_port", fmt.Sprint(g.rpc), "-admin_port", fmt.Sprint(g.admin),
			"-etcd_addr", s.registryAddrs(),
		}, args...),
		Env: s.props.env, Clock: s.props.clocks,
	}
	g.again()
	s.gateways = append(s.gateways, g)
	return g
}

// addNode starts one more counting node and waits until it listens.
func (s *scene) addNode(service string, args ...string) *node {
	s.t.Helper()
	n := s.launchNode(service, args...)
	n.listens()
	return n
}

// launchNode starts one more counting node and waits for nothing.
func (s *scene) launchNode(service string, args ...string) *node {
	s.t.Helper()
	dir := s.t.TempDir()
	n := &node{service: service, http: ports.Free(s.t), rpc: ports.Free(s.t), counts: filepath.Join(dir, "counts")}
	n.launch = process.Launch{
		Name: fmt.Sprintf("%s %d", service, n.http), Path: process.Build(s.t, "test/countnode"), Dir: dir, Env: append([]string{"COUNTS_FILE=" + n.counts}, s.nodeEnv...),
		Clock: s.props.clocks,
		Args: append([]string{
			"-config", filepath.Join(s.dir, "configs"), "-name", service, "-http_port", fmt.Sprint(n.http), "-rpc_port", fmt.Sprint(n.rpc),
			"-etcd_addr", s.nodeRegistryAddrs(),
		}, args...),
	}
	n.Process = process.Start(s.t, n.launch)
	s.nodes = append(s.nodes, n)
	return n
}

func (n *node) listens() {
	n.Line(30*time.Second, fmt.Sprintf(`Http Listen on port: %d$`, n.http))
}

// again starts a node that has ended once more, on the same ports.
func (s *scene) again(n *node) {
	s.t.Helper()
	n.Process = process.Start(s.t, n.launch)
	n.listens()
}

// again starts a gateway that has ended once more, on the same ports.
func (g *gateway) again() {
	g.t.Helper()
	g.Process = process.Start(g.t, g.launch)
}

func (g *gateway) addr() string { return fmt.Sprintf("127.0.0.1:%d", g.http) }
func (n *node) addr() string    { return fmt.Sprintf("127.0.0.1:%d", n.http) }
func (n *node) id() string      { return fmt.Sprintf("127.0.0.1:%d_127.0.0.1:%d", n.rpc, n.http) }
func (n *node) key() string     { return "goms_" + n.service + "_" + n.id() }

// seenBy waits until every gateway that lives knows exactly so many nodes of a service.
func (s *scene) seen(service string, n int) {
	s.t.Helper()
	for _, g := range s.gateways {
		if g.Alive() {
			g.sees(service, n)
		}
	}
}

// load starts requests for counting nodes: 400 a second, half of them POST.
func (s *scene) load() *load.Load {
	l := &load.Load{Addrs: s.front, Path: "/api/count/hit"}
	l.Start()
	return l
}

// client opens a client of the scene's etcd.
func (s *scene) client() *clientv3.Client { return s.etcd.Client() }

// put writes a key without a lease.
func (s *scene) put(c *clientv3.Client, key, value string) {
	s.t.Helper()
	process.Eventually(s.t, 10*time.Second, fmt.Sprintf("put %.80q", key), func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Put(ctx, key, value)
		return err
	})
}

// registered returns the keys of a service in etcd, each with its lease; 0 is none.
func registered(ctx context.Context, c *clientv3.Client, service string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := c.Get(ctx, "goms_"+service+"_", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	keys := map[string]int64{}
	for _, kv := range resp.Kvs {
		keys[string(kv.Key)] = kv.Lease
	}
	return keys, nil
}

// wait waits between two acts of a scene: the load goes on meanwhile.
func wait(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// lines returns how many lines like "[count] node […] leave" the gateways have printed.
func (s *scene) lines(event string) int {
	all := 0
	for _, g := range s.gateways {
		all += len(g.Lines(regexp.MustCompile(`node \[\S+\] ` + event + `$`)))
	}
	return all
}

// witnesses are all nodes that were ever started.
func (s *scene) witnesses() []witness {
	var all []witness
	for _, n := range s.nodes {
		all = append(all, n)
	}
	return all
}

// count adds how often each id arrived.
func (n *node) count(seen map[string]int) {
	text, err := os.ReadFile(n.counts)
	if err != nil {
		return // it was never asked
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 {
			seen[f[2]]++
		}
	}
}

// arrived returns how many requests a node has accepted.
func (n *node) arrived() int {
	text, _ := os.ReadFile(n.counts)
	return strings.Count(string(text), "\n")
}

// crowd registers nodes that are not there (on loopback, should anybody ask), from one number up to another, as many in a transaction as etcd takes.
func (s *scene) crowd(c *clientv3.Client, from, to int) {
	s.t.Helper()
	s.inBatches(c, from, to, func(key string) clientv3.Op { return clientv3.OpPut(key, "0") })
}

// disperse removes them.
func (s *scene) disperse(c *clientv3.Client, from, to int) {
	s.t.Helper()
	s.inBatches(c, from, to, func(key string) clientv3.Op { return clientv3.OpDelete(key) })
}

func (s *scene) inBatches(c *clientv3.Client, from, to int, op func(key string) clientv3.Op) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var ops []clientv3.Op
	for n := from; n < to; n++ {
		ip := fmt.Sprintf("127.%d.%d.%d", 1+n>>16&127, n>>8&255, n&255)
		ops = append(ops, op(fmt.Sprintf("goms_crowd_%s:9180_%s:9080", ip, ip)))
		if len(ops) == 128 || n == to-1 {
			if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
				s.t.Fatalf("change nodes: %v", err)
			}
			ops = nil
		}
	}
}
