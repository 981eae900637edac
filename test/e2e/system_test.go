package e2e_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// setup says what a system is made of; the zero value is the one of the brief.
type setup struct {
	etcd     []string // addresses; the first gateway runs its own embedded etcd when empty
	config   string   // YAML added to config.yml
	services string   // services.yml; the routes of defaultServices when empty
}

// defaultServices are the routes of the brief and those of the counting node (test/countnode).
const defaultServices = `services:
  user:
    register: "/register"
    login: "/login"
  order:
    submit: "/order/submit"
  count:
    hit: "/hit"
    head: "/head"
    down: "/down"
    up: "/up"
    sse: "/sse"
    next: "/next"
    ws: "/ws"
    hold: "/hold"
    early: "/early"
    trailers: "/trailers"
    status: "/status"
    posted:
      path: "/hit"
      methods: [POST]
    small:
      path: "/up"
      maxBody: 64KiB
  big:
    up:
      path: "/up"
      maxBody: 2GiB
  nobody:
    home: "/home"
  loop:
    home: "/api/loop/home"
`

// system is one project: a configuration directory, a registry, its gateways and nodes.
type system struct {
	t        testing.TB
	dir      string // working directory of all processes; configs/ is in it
	etcd     []string
	embedded bool // the first gateway has yet to bring the registry up
}

// gateway is a running gateway.
type gateway struct {
	*process.Process
	t                testing.TB
	http, rpc, admin int
}

// node is a running service process.
type node struct {
	*process.Process
	http, rpc int
	counts    string // counting nodes: the file with a line a request
}

func newSystem(t testing.TB, u setup) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir(), etcd: u.etcd}
	if len(s.etcd) == 0 {
		s.embedded = true
		s.etcd = []string{ports.Addr(t)}
	}
	if u.services == "" {
		u.services = defaultServices
	}
	config := fmt.Sprintf("projectName: \"goms\"\ncallServiceKey: %q\nservice:\n  listenHost: 127.0.0.1\n", process.CallKey)
	process.WriteFile(t, filepath.Join(s.dir, "configs/config.yml"), config+u.config)
	process.WriteFile(t, filepath.Join(s.dir, "configs/services.yml"), u.services)
	return s
}

// gateway starts a gateway and waits until it says that it listens. Further arguments go to the program.
func (s *system) gateway(args ...string) *gateway {
	s.t.Helper()
	g := s.launchGateway(args...)
	g.Line(patience, fmt.Sprintf(`\[gateway\] Http Listen on port: %d$`, g.http))
	return g
}

// launchGateway starts a gateway and waits for nothing.
func (s *system) launchGateway(args ...string) *gateway {
	s.t.Helper()
	g := &gateway{t: s.t, http: ports.Free(s.t), rpc: ports.Free(s.t), admin: ports.Free(s.t)}
	s.run(g, args...)
	return g
}

// again starts a gateway that has ended once more, on the same ports.
func (s *system) again(g *gateway) {
	s.t.Helper()
	s.run(g)
	g.ready()
}

// run starts the process of a gateway.
func (s *system) run(g *gateway, args ...string) {
	s.t.Helper()
	l := process.Launch{
		Name: fmt.Sprintf("gateway %d", g.http), Path: process.Build(s.t, "cmd/gateway"), Dir: s.dir,
		Args: []string{"-http_port", fmt.Sprint(g.http), "-rpc_port", fmt.Sprint(g.rpc)},
		Env:  []string{"GOMS_GATEWAY_LISTEN_HOST=127.0.0.1", fmt.Sprintf("GOMS_GATEWAY_ADMIN_PORT=%d", g.admin)},
	}
	if s.embedded {
		s.embedded = false
		l.Env = append(l.Env, "GOMS_ETCD_EMBEDDED_ADDR="+s.etcd[0], "GOMS_ETCD_EMBEDDED_DIR="+filepath.Join(s.dir, "data"))
	} else {
		l.Args = append(l.Args, "-etcd_addr", strings.Join(s.etcd, "|"))
	}
	l.Args = append(l.Args, args...)
	g.Process = process.Start(s.t, l)
}

// userNode starts one node of the example service and waits until it says that it listens.
func (s *system) userNode(args ...string) *node {
	s.t.Helper()
	n := s.node("user", process.Build(s.t, "cmd/service"), nil, args...)
	n.Line(patience, fmt.Sprintf(`\[user\] Http Listen on port: %d$`, n.http))
	return n
}

// countNode starts one counting node under a service name.
func (s *system) countNode(service string, args ...string) *node {
	s.t.Helper()
	counts := filepath.Join(s.t.TempDir(), "counts")
	n := s.node(service, process.Build(s.t, "test/countnode"), []string{"COUNTS_FILE=" + counts}, append([]string{"-name", service}, args...)...)
	n.counts = counts
	n.Line(patience, fmt.Sprintf(`\[%s\] Http Listen on port: %d$`, service, n.http))
	return n
}

func (s *system) node(service, path string, env []string, args ...string) *node {
	s.t.Helper()
	n := &node{http: ports.Free(s.t), rpc: ports.Free(s.t)}
	n.Process = process.Start(s.t, process.Launch{
		Name: fmt.Sprintf("%s %d", service, n.http), Path: path, Dir: s.dir, Env: env,
		Args: append([]string{
			"-http_port", fmt.Sprint(n.http), "-rpc_port", fmt.Sprint(n.rpc), "-etcd_addr", strings.Join(s.etcd, "|"),
		}, args...),
	})
	return n
}

func id(rpc, http int) string { return fmt.Sprintf("127.0.0.1:%d_127.0.0.1:%d", rpc, http) }

func (g *gateway) id() string   { return id(g.rpc, g.http) }
func (n *node) id() string      { return id(n.rpc, n.http) }
func (g *gateway) addr() string { return fmt.Sprintf("127.0.0.1:%d", g.http) }
func (n *node) addr() string    { return fmt.Sprintf("127.0.0.1:%d", n.http) }

func (g *gateway) url(path string) string { return "http://" + g.addr() + path }

// ready waits until the gateway says that it is ready for traffic.
func (g *gateway) ready() {
	g.t.Helper()
	process.Eventually(g.t, patience, g.Name+" is ready", func() error {
		_, err := get(g.url("/readyz"))
		return err
	})
}

// pool is what /cluster says of a service.
type pool struct {
	PollNext      int
	Nodes         []string
	RequestFinish int64
}

// cluster reads /cluster.
func (g *gateway) cluster() (map[string]pool, error) {
	body, err := get(g.url("/cluster"))
	if err != nil {
		return nil, err
	}
	var c struct {
		Services map[string]pool `json:"services"`
		Status   bool            `json:"status"`
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return nil, fmt.Errorf("read /cluster %q: %w", body, err)
	}
	if !c.Status {
		return nil, fmt.Errorf("status of /cluster is not true: %s", body)
	}
	return c.Services, nil
}

// sees waits until the gateway knows exactly n nodes of a service.
func (g *gateway) sees(service string, n int) {
	g.t.Helper()
	process.Eventually(g.t, patience, fmt.Sprintf("%s sees %d nodes of %s", g.Name, n, service), func() error {
		services, err := g.cluster()
		if err != nil {
			return err
		}
		if got := services[service].Nodes; len(got) != n {
			return fmt.Errorf("it sees %d: %v", len(got), got)
		}
		return nil
	})
}
