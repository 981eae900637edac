package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

var (
	upstreamServer = regexp.MustCompile(`(?m)^(\s*server\s+)[\w.\-]+:\d+([^;]*;)`)
	listenPort     = regexp.MustCompile(`(?m)^(\s*listen\s+)(?:[\w.\-\[\]:]*:)?\d+([^;]*;)`)
	mainOnly       = regexp.MustCompile(`(?m)^\s*(?:user|pid|daemon|error_log|master_process)\s[^;]*;`)
	httpBlock      = regexp.MustCompile(`(?m)^\s*http\s*\{`)
)

// startNginx runs nginx with the configuration that we ship, in front of gateways. Only what belongs to a machine is replaced:
// the addresses of the gateways, the port, and the places of files.
func startNginx(t testing.TB, gateways ...*gateway) string {
	t.Helper()
	need(t, "nginx", "nginx", "/usr/sbin/nginx")
	conf, port := shippedNginx(t, gateways)
	return runNginx(t, conf, port)
}

// runNginx runs nginx with a configuration that has it listen on the port.
func runNginx(t testing.TB, conf string, port int) string {
	t.Helper()
	path := need(t, "nginx", "nginx", "/usr/sbin/nginx")
	dir := t.TempDir()
	for _, sub := range []string{"logs", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "nginx.conf"), conf)
	global := fmt.Sprintf("daemon off; pid %s/nginx.pid; error_log stderr warn;", dir)
	if os.Geteuid() == 0 {
		global += " user root;" // the temporary directory is ours alone
	}
	nginx := launch{name: "nginx", path: path, dir: dir, args: []string{"-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-g", global}}
	check := nginx
	check.args = append([]string{"-t"}, nginx.args...)
	if _, stderr, code := command(t, 10*time.Second, check); code != 0 {
		t.Fatalf("nginx -t: exit code %d\n%s", code, stderr)
	}
	p := start(t, nginx)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, 10*time.Second, "nginx answers", func() error {
		if !p.alive() {
			t.Fatal("nginx has ended")
		}
		_, err := fetch("GET", "http://"+addr+"/", "", nil)
		return err
	})
	return addr
}

func shippedNginx(t testing.TB, gateways []*gateway) (conf string, port int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repoRoot(), "deploy/nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	conf = mainOnly.ReplaceAllString(string(text), "")
	servers := upstreamServer.FindAllString(conf, -1)
	if len(servers) == 0 {
		t.Fatal("deploy/nginx.conf has no line «server host:port …;»")
	}
	n := 0
	conf = upstreamServer.ReplaceAllStringFunc(conf, func(line string) string {
		if n++; n > len(gateways) {
			return ""
		}
		return upstreamServer.ReplaceAllString(line, "${1}"+gateways[n-1].addr()+"${2}")
	})
	if n < len(gateways) {
		t.Fatalf("deploy/nginx.conf names %d gateways, want at least %d", n, len(gateways))
	}
	port = freePort(t)
	if !listenPort.MatchString(conf) {
		t.Fatal("deploy/nginx.conf has no line «listen port;»")
	}
	conf = listenPort.ReplaceAllString(conf, fmt.Sprintf("${1}127.0.0.1:%d${2}", port))
	temp := "\n    access_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("    %s_temp_path tmp/%s;\n", kind, kind)
	}
	if at := httpBlock.FindStringIndex(conf); at != nil {
		conf = regexp.MustCompile(`(?m)^\s*access_log\s[^;]*;`).ReplaceAllString(conf, "")
		at = httpBlock.FindStringIndex(conf)
		return conf[:at[1]] + temp + conf[at[1]:], port
	}
	conf = regexp.MustCompile(`(?m)^\s*access_log\s[^;]*;`).ReplaceAllString(conf, "")
	return "events {}\nhttp {" + temp + conf + "\n}\n", port
}

// behindNginx is three gateways behind nginx and three counting nodes.
func behindNginx(t *testing.T) (s *system, addr string, gateways []*gateway, nodes []*node) {
	t.Helper()
	need(t, "nginx", "nginx", "/usr/sbin/nginx")
	s = newSystem(t, setup{})
	for range 3 {
		gateways = append(gateways, s.gateway())
	}
	for range 3 {
		nodes = append(nodes, s.countNode("count"))
	}
	for _, g := range gateways {
		g.sees("count", 3)
	}
	return s, startNginx(t, gateways...), gateways, nodes
}

func TestNginxSpreadsOverGateways(t *testing.T) {
	_, addr, gateways, _ := behindNginx(t)
	const n = 60
	for i := range n {
		if a := do(t, "GET", fmt.Sprintf("http://%s/api/count/hit?id=%d", addr, i), "", nil); a.status != 200 || a.body != fmt.Sprint(i) {
			t.Fatalf("request %d through nginx: %d %q", i, a.status, a.body)
		}
	}
	finished := func() (all int64, least int64) {
		least = n
		for _, g := range gateways {
			services, err := g.cluster()
			if err != nil {
				t.Fatal(err)
			}
			all, least = all+services["count"].RequestFinish, min(least, services["count"].RequestFinish)
		}
		return all, least
	}
	eventually(t, 5*time.Second, "the gateways have counted the requests", func() error {
		if all, _ := finished(); all != n {
			return fmt.Errorf("they have counted %d of %d", all, n)
		}
		return nil
	})
	if _, least := finished(); least < n/6 {
		t.Errorf("one gateway had %d of %d requests, want them spread over three", least, n)
	}

	// The node is told the client's address as nginx saw it, whatever the client says.
	a := do(t, "GET", "http://"+addr+"/api/count/head", "", map[string][]string{"X-Forwarded-For": {"6.6.6.6"}})
	if strings.Contains(a.body, "6.6.6.6") {
		t.Errorf("a forged X-Forwarded-For reached the node: %s", a.body)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	echo(ctx, t, "ws://"+addr+"/api/count/ws")
}

// echo opens a WebSocket and has messages of several sizes sent back.
func echo(ctx context.Context, t testing.TB, url string) {
	t.Helper()
	conn, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		t.Fatalf("open WebSocket %s: %v", url, err)
	}
	defer conn.CloseNow()
	if resp.StatusCode != 101 || conn.Subprotocol() != "echo" {
		t.Errorf("WebSocket: status %d and subprotocol %q, want 101 and echo", resp.StatusCode, conn.Subprotocol())
	}
	conn.SetReadLimit(1 << 22)
	for _, size := range []int{0, 1, 125, 126, 70_000, 1 << 20} {
		sent := strings.Repeat("w", size)
		if err := conn.Write(ctx, websocket.MessageText, []byte(sent)); err != nil {
			t.Fatalf("write message of %d bytes: %v", size, err)
		}
		_, got, err := conn.Read(ctx)
		if err != nil || string(got) != sent {
			t.Fatalf("message of %d bytes came back with %d, %v", size, len(got), err)
		}
	}
	if err := conn.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Errorf("close WebSocket: %v", err)
	}
}

// TestNginxGatewaysRestart replaces two gateways of three one after the other under load, as a new version is rolled out, and then
// kills one. The first one stays: etcd is in it.
func TestNginxGatewaysRestart(t *testing.T) {
	s, addr, gateways, nodes := behindNginx(t)
	t.Run("SIGTERM", func(t *testing.T) {
		l := &load{addr: addr, path: "/api/count/hit", rate: 300}
		l.during(t, func() {
			for _, g := range gateways[1:] {
				g.stop(60 * time.Second)
				s.again(g)
				l.more(t, 100)
			}
		})
		l.verdict(t, losses{}, nodes...)
	})
	for _, n := range nodes {
		os.Truncate(n.counts, 0) // ids begin anew
	}
	t.Run("SIGKILL", func(t *testing.T) {
		l := &load{addr: addr, path: "/api/count/hit", rate: 300}
		l.during(t, func() {
			gateways[1].kill()
			l.more(t, 300)
		})
		l.verdict(t, losses{POST: 10, twiceGET: 10}, nodes...)
	})
}
