package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// brief is what the README of the original brief sets up: three gateways and three user nodes, started one after another.
type brief struct {
	*system
	gateways []*gateway
	users    []*node
}

func startBrief(t *testing.T, etcd ...string) *brief {
	t.Helper()
	b := &brief{system: newSystem(t, setup{etcd: etcd})}
	for i := range 3 {
		b.gateways = append(b.gateways, b.gateway())
		b.seenByAll(t, "gateway", i+1)
	}
	for i := range 3 {
		b.users = append(b.users, b.userNode())
		b.seenByAll(t, "user", i+1)
	}
	return b
}

// seenByAll waits until every gateway sees n nodes of a service, so that what is printed has one order.
func (b *brief) seenByAll(t *testing.T, service string, n int) {
	t.Helper()
	for _, g := range b.gateways {
		g.sees(service, n)
	}
}

// nodeLine is the console line of a node that joins or leaves.
func nodeLine(service, id, event string) string {
	return fmt.Sprintf(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[%s\] node \[%s\] %s$`, service, regexp.QuoteMeta(id), event)
}

var joinLeave = regexp.MustCompile(`\] (join|leave)$`)

// story returns the join and leave lines of a process without their timestamps.
func story(p *process.Process) []string {
	lines := p.Lines(joinLeave)
	for i, l := range lines {
		if len(l) > 20 {
			lines[i] = l[20:]
		}
	}
	return lines
}

func told(service string, ids ...string) []string {
	var lines []string
	for _, id := range ids {
		lines = append(lines, fmt.Sprintf("[%s] node [%s] join", service, id))
	}
	return lines
}

func TestBrief(t *testing.T) {
	b := startBrief(t)
	gs, us := b.gateways, b.users
	t.Run("console", func(t *testing.T) { b.checkConsole(t) })
	t.Run("keys", func(t *testing.T) { b.checkKeys(t) })
	t.Run("cluster page before requests", func(t *testing.T) {
		for _, g := range gs {
			b.checkClusterPage(t, g, 0, 0)
		}
	})
	t.Run("one request", func(t *testing.T) {
		b.checkEcho(t, gs[1])
		process.Eventually(t, patience, "the request is counted", func() error {
			services, err := gs[1].cluster()
			if err == nil && services["user"].RequestFinish != 1 {
				err = fmt.Errorf("RequestFinish = %d", services["user"].RequestFinish)
			}
			return err
		})
		b.checkClusterPage(t, gs[1], 1, 1)
		b.checkClusterPage(t, gs[0], 0, 0)
	})
	t.Run("round robin", func(t *testing.T) { b.checkRoundRobin(t) })
	t.Run("a node stops", func(t *testing.T) {
		us[0].Stop(patience)
		for _, p := range []*process.Process{gs[0].Process, gs[1].Process, gs[2].Process, us[1].Process, us[2].Process} {
			p.Line(said, nodeLine("user", us[0].id(), "leave"))
		}
	})
	t.Run("a node is killed", func(t *testing.T) {
		us[1].Kill()
		for _, p := range []*process.Process{gs[0].Process, gs[1].Process, gs[2].Process, us[2].Process} {
			p.Line(18*time.Second, nodeLine("user", us[1].id(), "leave")) // its lease lives for ten
		}
	})
	t.Run("a gateway stops", func(t *testing.T) {
		gs[2].Stop(60 * time.Second)
		for _, p := range []*process.Process{gs[0].Process, gs[1].Process, us[2].Process} {
			p.Line(said, nodeLine("gateway", gs[2].id(), "leave"))
		}
		gs[0].sees("gateway", 2)
	})
	t.Run("what is left serves", func(t *testing.T) {
		for range 4 {
			if a := do(t, "GET", gs[0].url("/api/user/login"), "", nil); a.status != 200 {
				t.Errorf("GET login: %d %s", a.status, a.body)
			}
		}
	})
}

// checkConsole wants what the brief prints: everybody who comes later, neither oneself nor who was there before.
func (b *brief) checkConsole(t *testing.T) {
	ids := func(from int) []string {
		var all []string
		for _, u := range b.users[from:] {
			all = append(all, u.id())
		}
		return all
	}
	check := func(p *process.Process, want []string) {
		t.Helper()
		process.Eventually(t, patience, "the console of "+p.Name, func() error {
			if got := story(p); !slices.Equal(got, want) {
				return fmt.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			return nil
		})
		for _, line := range p.Lines(joinLeave) {
			if !regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[`).MatchString(line) {
				t.Errorf("%s printed %q, want it to begin with date and time", p.Name, line)
			}
		}
	}
	for i, g := range b.gateways {
		var later []string
		for _, other := range b.gateways[i+1:] {
			later = append(later, other.id())
		}
		check(g.Process, append(told("gateway", later...), told("user", ids(0)...)...))
		g.Line(0, fmt.Sprintf(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[gateway\] Http Listen on port: %d$`, g.http))
	}
	for i, u := range b.users {
		check(u.Process, told("user", ids(i+1)...))
		u.Line(0, fmt.Sprintf(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[user\] Http Listen on port: %d$`, u.http))
	}
}

// checkKeys wants exactly the keys of the brief, each under a lease. A user's value is that of the brief; gateways say by which routes they
// go, which are the same here.
func (b *brief) checkKeys(t *testing.T) {
	page := do(t, "GET", b.gateways[0].url("/cluster?verbose=1"), "", nil)
	routes := regexp.MustCompile(`"routes":\s*"([0-9a-f]+)"`).FindStringSubmatch(page.body)
	if routes == nil {
		t.Fatalf("/cluster?verbose=1 does not say by which routes the gateway goes: %s", page.body)
	}
	want := map[string]string{}
	for _, g := range b.gateways {
		want["goms_gateway_"+g.id()] = fmt.Sprintf(`{"routes":%q}`, routes[1])
	}
	for _, u := range b.users {
		want["goms_user_"+u.id()] = "0"
	}
	c := process.EtcdClient(t, b.etcd...)
	if got := keys(t, c, "goms"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("etcdctl get --prefix goms = %q, want %q", got, want)
	}
	resp, err := c.Get(t.Context(), "goms_", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if kv.Lease == 0 {
			t.Errorf("key %s is under no lease", kv.Key)
			continue
		}
		ttl, err := c.TimeToLive(t.Context(), clientv3.LeaseID(kv.Lease))
		if err != nil || ttl.GrantedTTL > 12 {
			t.Errorf("the lease of %s lives %v s (%v), want at most 12", kv.Key, ttl, err)
		}
	}
}

// checkClusterPage wants /cluster byte for byte, white space aside.
func (b *brief) checkClusterPage(t *testing.T, g *gateway, pollNext, finished int) {
	t.Helper()
	var gateways, users []string
	for _, g := range b.gateways {
		gateways = append(gateways, g.id())
	}
	for _, u := range b.users {
		users = append(users, u.id())
	}
	list := func(ids []string) string {
		slices.Sort(ids)
		text, _ := json.Marshal(ids)
		return string(text)
	}
	want := fmt.Sprintf(`{"services":{"gateway":{"PollNext":0,"Nodes":%s,"RequestFinish":0},"user":{"PollNext":%d,"Nodes":%s,"RequestFinish":%d}},"status":true}`,
		list(gateways), pollNext, list(users), finished)
	a := do(t, "GET", g.url("/cluster"), "", nil)
	var got bytes.Buffer
	if err := json.Compact(&got, []byte(a.body)); err != nil {
		t.Fatalf("/cluster of %s: %v: %s", g.Name, err, a.body)
	}
	if got.String() != want {
		t.Errorf("/cluster of %s:\n%s\nwant\n%s", g.Name, got.String(), want)
	}
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		t.Errorf("Content-Type of /cluster = %q", kind)
	}
	process.CheckCanary(t, "/cluster", a.body)
}

// ours matches the headers that a gateway adds for nodes; the rest of what the echo shows is the client's.
var ours = regexp.MustCompile(`^(?:X-Forwarded-(?:For|Host|Proto|Port)|X-Real-Ip|Forwarded|Via|X-Request-Id|X-Request-Timeout-Ms|X-B3-[A-Za-z]+|Traceparent|Tracestate|Connection)$`)

// checkEcho sends the brief's request as Postman does and wants the brief's answer.
func (b *brief) checkEcho(t *testing.T, g *gateway) {
	t.Helper()
	const sent = "{\"username\":\"test\",\"password\":\"test\"}" // 37 bytes, as the brief counts
	header := http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip, deflate, br"}, "Content-Type": {"application/json"},
		"User-Agent": {"PostmanRuntime/7.28.4"}, "Postman-Token": {"85d0aef3-4f06-4887-9ec8-0531c09d209c"},
	}
	a := do(t, "POST", g.url("/api/user/login?a=1&b=3"), sent, header)
	if a.status != 200 {
		t.Fatalf("POST login: %d %s", a.status, a.body)
	}
	process.CheckCanary(t, "the echo", a.body)
	var echo map[string]any
	if err := json.Unmarshal([]byte(a.body), &echo); err != nil {
		t.Fatalf("echo %q: %v", a.body, err)
	}
	if data, ok := echo["data"].(map[string]any); ok {
		if headers, ok := data["headers"].(map[string]any); ok {
			for name := range headers {
				if ours.MatchString(name) {
					delete(headers, name)
				}
			}
		}
	}
	got, _ := json.Marshal(echo) // with its keys sorted
	const want = `{"code":0,"data":{"body":{"password":"test","username":"test"},"headers":{"Accept":"*/*","Accept-Encoding":"gzip, deflate, br",` +
		`"Content-Length":"37","Content-Type":"application/json","Postman-Token":"85d0aef3-4f06-4887-9ec8-0531c09d209c",` +
		`"User-Agent":"PostmanRuntime/7.28.4"},"method":"POST","urlParam":"?a=1\u0026b=3"},"msg":"success","status":true}`
	if string(got) != want {
		t.Errorf("echo:\n%s\nwant\n%s", got, want)
	}
}

// checkRoundRobin wants a share as large for every node, and PollNext to go round.
func (b *brief) checkRoundRobin(t *testing.T) {
	g := b.gateways[2]
	var next []int
	for i := range 9 {
		if a := do(t, "GET", g.url("/api/user/login?a=1"), "", nil); a.status != 200 {
			t.Fatalf("GET login: %d %s", a.status, a.body)
		}
		process.Eventually(t, patience, "the request is counted", func() error {
			services, err := g.cluster()
			if err != nil {
				return err
			}
			if n := services["user"].RequestFinish; n != int64(i+1) {
				return fmt.Errorf("RequestFinish = %d, want %d", n, i+1)
			}
			if i+1 > len(next) {
				next = append(next, services["user"].PollNext)
			}
			return nil
		})
	}
	if want := []int{1, 2, 0, 1, 2, 0, 1, 2, 0}; !slices.Equal(next, want) {
		t.Errorf("PollNext after each of nine requests = %v, want %v", next, want)
	}
	body := do(t, "GET", g.url("/cluster?verbose=1"), "", nil).body
	process.CheckCanary(t, "/cluster?verbose=1", body)
}

// TestSpellings wants flags in every spelling that the brief and its readers use.
func TestSpellings(t *testing.T) {
	s := newSystem(t, setup{})
	first := s.gateway()
	for _, args := range [][]string{
		{"-http_port=%d", "-rpc_port=%d", "-etcd_addr=%s"},
		{"--http_port", "%d", "--rpc_port", "%d", "--etcd_addr", "%s"},
		{"--http-port=%d", "--rpc-port=%d", "--etcd-addr=%s"},
		{"-http-port", "%d", "-rpc_port", "%d", "--etcd_addr=%s,127.0.0.1:1"},
	} {
		for _, program := range []string{"gateway", "service"} {
			http, rpc := ports.Free(t), ports.Free(t)
			values := []any{http, rpc, strings.Join(s.etcd, "|")}
			l := process.Launch{Path: process.Build(t, "cmd/"+program), Dir: s.dir, Env: []string{"GOMS_GATEWAY_ADMIN_PORT=0"}}
			for _, a := range args {
				if strings.Contains(a, "%") {
					a, values = fmt.Sprintf(a, values[0]), values[1:]
				}
				l.Args = append(l.Args, a)
			}
			p := process.Start(t, l)
			p.Line(patience, fmt.Sprintf(`Http Listen on port: %d$`, http))
			service := map[string]string{"gateway": "gateway", "service": "user"}[program]
			first.Line(patience, nodeLine(service, id(rpc, http), "join"))
			p.Kill()
		}
	}
}

// TestOldEtcd is the brief on the etcd that distributions ship.
func TestOldEtcd(t *testing.T) {
	r := oldEtcd(t)
	b := startBrief(t, r.Addrs...)
	b.checkConsole(t)
	b.checkKeys(t)
	b.checkClusterPage(t, b.gateways[0], 0, 0)
	b.checkEcho(t, b.gateways[1])
	b.users[2].Stop(patience)
	for _, g := range b.gateways {
		g.Line(said, nodeLine("user", b.users[2].id(), "leave"))
	}
}

// TestEtcdCluster is the brief on three members, of which the leader is killed under load.
func TestEtcdCluster(t *testing.T) {
	r := process.StartEtcd(t, process.PinnedEtcd(t), 3)
	s := newSystem(t, setup{etcd: r.Addrs, config: "etcd:\n  ttl: 5s\n"})
	gateways := []*gateway{s.gateway(), s.gateway()}
	nodes := []*node{s.countNode("count"), s.countNode("count")}
	for _, g := range gateways {
		g.sees("count", 2)
	}
	l := &load{addr: gateways[0].addr(), path: "/api/count/hit", rate: 200}
	l.during(t, func() {
		r.Members[r.Leader()].Kill()
		// A node that comes after the loss of the leader is seen soon, and more than one lease has passed when the load ends.
		late := s.countNode("late")
		for _, g := range gateways {
			g.Line(20*time.Second, nodeLine("late", late.id(), "join"))
		}
		l.more(t, 7*l.rate)
	})
	l.verdict(t, losses{}, nodes...)
	for _, p := range []*process.Process{gateways[0].Process, gateways[1].Process, nodes[0].Process, nodes[1].Process} {
		if left := p.Lines(regexp.MustCompile(`\] leave$`)); len(left) > 0 {
			t.Errorf("%s printed %q, want no node to leave", p.Name, left)
		}
	}
}
