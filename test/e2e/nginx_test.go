package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/goms-io/goms/test/process"
)

// behindNginx is three gateways behind nginx and three counting nodes.
func behindNginx(t *testing.T) (s *system, addr string, gateways []*gateway, nodes []*node) {
	t.Helper()
	process.NeedNginx(t)
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
	var addrs []string
	for _, g := range gateways {
		addrs = append(addrs, g.addr())
	}
	_, addr = process.StartNginx(t, addrs...)
	return s, addr, gateways, nodes
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
	process.Eventually(t, patience, "the gateways have counted the requests", func() error {
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

	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
				g.Stop(60 * time.Second)
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
			gateways[1].Kill()
			l.more(t, 300)
		})
		l.verdict(t, losses{POST: 10, twiceGET: 10}, nodes...)
	})
}
