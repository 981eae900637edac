package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// TestPortInUse wants a quick end that names the port and leaves nothing in the registry.
func TestPortInUse(t *testing.T) {
	s := newSystem(t, setup{})
	first := s.gateway()
	first.ready()
	first.sees("gateway", 1)
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", ports.Free(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	before := keys(t, process.EtcdClient(t, s.etcd...), "goms")
	for _, program := range []string{"cmd/gateway", "cmd/service"} {
		for _, flag := range []string{"-http_port", "-rpc_port"} {
			args := []string{"-http_port", fmt.Sprint(ports.Free(t)), "-rpc_port", fmt.Sprint(ports.Free(t)), "-etcd_addr", s.etcd[0], flag, taken}
			began := time.Now()
			stdout, stderr, code := process.Run(t, patience, process.Launch{Path: process.Build(t, program), Args: args, Dir: s.dir})
			if code != 1 {
				t.Errorf("%s %s: exit code %d, want 1", program, flag, code)
			}
			if !strings.Contains(stdout+stderr, taken) {
				t.Errorf("%s %s: the output does not name port %s:\n%s%s", program, flag, taken, stdout, stderr)
			}
			t.Logf("%s %s: ended after %v", program, flag, time.Since(began).Round(time.Millisecond))
		}
	}
	if after := keys(t, process.EtcdClient(t, s.etcd...), "goms"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("keys = %v, want %v", after, before)
	}
	if got := story(first.Process); len(got) != 0 {
		t.Errorf("the first gateway printed %q", got)
	}
}

// TestRegistryComesLate starts everything before etcd is there.
func TestRegistryComesLate(t *testing.T) {
	addr := ports.Addr(t)
	early := newSystem(t, setup{etcd: []string{addr}})
	gw := early.gateway()
	n := early.countNode("count")
	if a := do(t, "GET", gw.url("/readyz"), "", nil); a.status != 503 {
		t.Errorf("/readyz without a registry = %d, want 503: %s", a.status, a.body)
	}
	if a := do(t, "GET", gw.url("/livez"), "", nil); a.status != 200 {
		t.Errorf("/livez without a registry = %d, want 200: %s", a.status, a.body)
	}
	if r := refused(t, do(t, "GET", gw.url("/api/count/hit"), "", nil), 503); r.Reason != "no_registry" {
		t.Errorf("reason = %q, want no_registry", r.Reason)
	}

	late := newSystem(t, setup{})
	late.etcd = []string{addr}
	with := late.gateway() // brings etcd up
	with.ready()
	gw.ready()
	gw.sees("count", 1)
	gw.sees("gateway", 2)
	if a := do(t, "GET", gw.url("/api/count/hit?id=late"), "", nil); a.status != 200 || a.body != "late" {
		t.Errorf("with the registry: %d %s", a.status, a.body)
	}
	if !gw.Alive() || !n.Alive() {
		t.Error("a process that waited for the registry has ended")
	}
	if lines := strings.Count(gw.Output(), "\n"); lines > 60 {
		t.Errorf("the gateway wrote %d lines while it waited:\n%s", lines, process.Tail(gw.Output(), 20))
	}
}

// TestRegistryOutage stops etcd for longer than a lease under load and brings it back: nobody leaves, nothing is lost.
func TestRegistryOutage(t *testing.T) {
	s := newSystem(t, setup{config: "etcd:\n  ttl: 5s\n"})
	holder := s.gateway() // whose embedded etcd goes away
	addr := s.etcd
	gw := s.gateway()
	nodes := []*node{s.countNode("count"), s.countNode("count")}
	gw.sees("count", 2)
	l := &load{addr: gw.addr(), path: "/api/count/hit", rate: 100}
	l.during(t, func() {
		holder.Kill()
		l.more(t, 7*l.rate)
		if services, err := gw.cluster(); err != nil || len(services["count"].Nodes) != 2 {
			t.Errorf("during the outage /cluster = %v, %v, want both nodes", services, err)
		}
		again := s.restartHolder(addr)
		again.ready()
		again.sees("count", 2)
		l.more(t, 7*l.rate) // longer than a lease that nobody renews lives
		again.sees("count", 2)
	})
	l.verdict(t, losses{}, nodes...)
	for _, p := range []*process.Process{gw.Process, nodes[0].Process, nodes[1].Process} {
		for _, n := range nodes {
			if left := p.Lines(regexp.MustCompile(nodeLine("count", n.id(), "leave"))); len(left) > 0 {
				t.Errorf("%s printed %q", p.Name, left)
			}
		}
	}
}

// restartHolder starts a gateway that runs the system's embedded etcd again, on the data of before.
func (s *system) restartHolder(addr []string) *gateway {
	s.etcd, s.embedded = addr, true
	return s.gateway()
}

// TestStartUnderTraffic has clients wait at the door of a gateway that starts, as nginx does, which tries all gateways at all times:
// it must not open before it knows where to send them.
func TestStartUnderTraffic(t *testing.T) {
	s := newSystem(t, setup{})
	s.gateway() // holds etcd
	gw := s.gateway()
	s.countNode("count")
	gw.sees("count", 1)
	for range 5 {
		gw.Stop(patience)
		s.run(gw)
		process.Eventually(t, patience, "the gateway answers", func() error {
			a, err := fetch("GET", gw.url("/api/count/hit?id=1"), "", nil)
			if err == nil && a.status != 200 {
				t.Fatalf("the first answer is %d %s, want none before the nodes are known", a.status, a.body)
			}
			return err
		})
	}
}

// TestGracefulStop has a request in flight when the gateway is told to stop.
func TestGracefulStop(t *testing.T) {
	s := newSystem(t, setup{config: "gateway:\n  drainDelay: 4s\n"})
	s.gateway() // holds etcd
	gw := s.gateway()
	n := s.countNode("count")
	gw.sees("count", 1)
	w := dial(t, gw.addr())
	w.send("GET /api/count/hold HTTP/1.1\r\nHost: x\r\n\r\n")
	process.Eventually(t, patience, "the request is at the node", func() error {
		if n.requests(t) != 1 {
			return errors.New("it is not")
		}
		return nil
	})
	idle := dial(t, gw.addr())
	idle.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.answer("GET")

	gw.Signal(syscall.SIGTERM)
	began := time.Now()
	process.Eventually(t, 3500*time.Millisecond, "/readyz turns to 503", func() error {
		a, err := fetch("GET", gw.url("/readyz"), "", nil)
		if err == nil && a.status != 503 {
			err = fmt.Errorf("status %d", a.status)
		}
		return err
	})
	process.Eventually(t, patience, "the gateway has left the registry", func() error {
		if _, there := keys(t, process.EtcdClient(t, s.etcd...), "goms_gateway_")["goms_gateway_"+gw.id()]; there {
			return errors.New("its key is there")
		}
		return nil
	})
	idle.closed()
	process.Eventually(t, patience, "new connections are refused", func() error {
		if conn, err := net.DialTimeout("tcp", gw.addr(), time.Second); err == nil {
			conn.Close()
			return errors.New("one was accepted")
		}
		return nil
	})
	if !gw.Alive() {
		t.Fatal("the gateway has ended with a request in flight")
	}
	release(t, n)
	if a := w.answer("GET"); a.status != 200 || a.body != "held to the end" || !a.close {
		t.Errorf("the request in flight: %d %q, close %v", a.status, a.body, a.close)
	}
	if code := gw.Exited(patience); code != 0 {
		t.Errorf("exit code = %d, want 0", code)
	}
	t.Logf("stopped in %v", time.Since(began).Round(time.Millisecond))
}

// release lets the requests go on that a counting node holds.
func release(t *testing.T, n *node) {
	t.Helper()
	a := do(t, "GET", "http://"+n.addr()+"/release", "", http.Header{"Call-Service-Key": {process.CallKey}})
	if a.status != 200 {
		t.Fatalf("release: %d %s", a.status, a.body)
	}
}

// TestSecondSignal wants the second signal to end what the first one waits for.
func TestSecondSignal(t *testing.T) {
	s := newSystem(t, setup{})
	s.gateway()
	gw := s.gateway()
	n := s.countNode("count")
	gw.sees("count", 1)
	for _, p := range []*process.Process{gw.Process, n.Process} {
		before := n.requests(t)
		addr := map[*process.Process]string{gw.Process: gw.addr(), n.Process: n.addr()}[p]
		path := map[*process.Process]string{gw.Process: "/api/count/hold", n.Process: "/hold"}[p]
		w := dial(t, addr)
		w.send("GET " + path + " HTTP/1.1\r\nHost: x\r\nCall-Service-Key: " + process.CallKey + "\r\n\r\n")
		process.Eventually(t, patience, "the request is at the node", func() error {
			if n.requests(t) == before {
				return errors.New("it is not")
			}
			return nil
		})
		p.Signal(syscall.SIGINT)
		process.Eventually(t, patience, p.Name+" has stopped listening", func() error {
			if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
				conn.Close()
				return errors.New("it accepts")
			}
			return nil
		})
		if !p.Alive() {
			t.Fatalf("%s has ended with a request in flight", p.Name)
		}
		p.Signal(syscall.SIGTERM)
		if code := p.Exited(10 * time.Second); code != 1 {
			t.Errorf("%s after a second signal: exit code %d, want 1", p.Name, code)
		}
	}
}

// TestNodeFaults stops and kills nodes under load.
func TestNodeFaults(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	nodes := []*node{s.countNode("count"), s.countNode("count"), s.countNode("count")}
	gw.sees("count", 3)
	t.Run("SIGTERM", func(t *testing.T) {
		l := &load{addr: gw.addr(), path: "/api/count/hit", rate: 300}
		l.during(t, func() {
			nodes[0].Stop(patience)
			gw.Line(said, nodeLine("count", nodes[0].id(), "leave"))
			nodes = append(nodes, s.countNode("count"))
			gw.sees("count", 3)
		})
		l.verdict(t, losses{}, nodes...)
	})
	for _, n := range nodes {
		os.Truncate(n.counts, 0) // ids begin anew
	}
	t.Run("SIGKILL", func(t *testing.T) {
		l := &load{addr: gw.addr(), path: "/api/count/hit", rate: 300}
		l.during(t, func() {
			nodes[1].Kill()
			l.more(t, 600)
		})
		l.verdict(t, losses{POST: 10, twiceGET: 10}, nodes...)
	})
}

// TestPoison writes keys that no node would into the registry.
func TestPoison(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	n := s.countNode("count")
	gw.sees("count", 1)
	c := process.EtcdClient(t, s.etcd...)
	for key, value := range map[string]string{
		"goms_":                                          "0",
		"goms_count":                                     "0",
		"goms_count_127.0.0.1:1":                         "0",
		"goms_count__":                                   "0",
		"goms_count_127.0.0.1:0_127.0.0.1:0":             "0",
		"goms_count_127.0.0.1:1_127.0.0.1:99999":         "0",
		"goms_count_127.0.0.1:1_127.0.0.1":               "0",
		"goms_count_127.0.0.1:1_127.0.0.1:-2":            "0",
		"goms__127.0.0.1:1_127.0.0.1:2":                  "0",
		"goms_../x_127.0.0.1:1_127.0.0.1:2":              "0",
		"goms_co\nunt_127.0.0.1:1_127.0.0.1:2":           "0",
		"goms_co\xffunt_127.0.0.1:1_127.0.0.1:2":         "0",
		"goms_count_127.0.0.1:1_127.0.0.1:2":             "not JSON",
		"goms_count_127.0.0.1:1_127.0.0.1:3":             `{"weight":-1}`,
		"goms_count_127.0.0.1:1_127.0.0.1:4":             `{"weight":1e99}`,
		"goms_count_127.0.0.1:1_127.0.0.1:5":             `{"state":"confused"}`,
		"goms_count_127.0.0.1:1_127.0.0.1:6":             strings.Repeat("x", 1<<20),
		"goms_count_127.0.0.1:1_127.0.0.1:7":             strings.Repeat("[", 3000),
		"goms_count_127.0.0.1:1_a b:8":                   "0",
		"goms_count_127.0.0.1:1_evil.test@127.0.0.1:9":   "0",
		"goms_" + strings.Repeat("x", 5000) + "_a:1_b:2": "0",
		"gomsx_count_127.0.0.1:1_127.0.0.1:10":           "0",
	} {
		put(t, c, key, value)
	}
	put(t, c, "goms_last_127.0.0.1:1_127.0.0.1:2", "0") // when it is seen, what came before has been
	gw.sees("last", 1)
	services, err := gw.cluster()
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 3 || len(services["count"].Nodes) != 1 || services["count"].Nodes[0] != n.id() || len(services["gateway"].Nodes) != 1 {
		t.Errorf("/cluster = %v, want one node each of count, gateway and last", services)
	}
	for i := range 10 {
		if a := do(t, "GET", gw.url(fmt.Sprintf("/api/count/hit?id=%d", i)), "", nil); a.status != 200 {
			t.Errorf("GET hit = %d %s", a.status, a.body)
		}
	}
	for line := range strings.Lines(gw.Output()) {
		if len(line) > 2000 {
			t.Errorf("the gateway wrote a line of %d bytes: %q", len(line), line[:200])
		}
	}

	// The gateway's own address as a node of a service is refused; through a second gateway it makes a
	// loop, which ends when it comes round.
	other := s.gateway()
	put(t, c, fmt.Sprintf("goms_loop_127.0.0.1:1_%s", gw.addr()), "0")
	other.sees("loop", 1)
	if a := do(t, "GET", gw.url("/api/loop/home"), "", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("a service whose one node is the gateway = %d %s, want %d", a.status, a.body, http.StatusServiceUnavailable)
	}
	put(t, c, fmt.Sprintf("goms_loop_127.0.0.1:2_%s", other.addr()), "0")
	gw.sees("loop", 1)
	if a := do(t, "GET", gw.url("/api/loop/home"), "", nil); a.status != http.StatusLoopDetected {
		t.Errorf("a loop = %d %s, want %d", a.status, a.body, http.StatusLoopDetected)
	}
}
