package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// forwardedFor is the X-Forwarded-For that a counting node got.
func forwardedFor(t testing.TB, body string) string {
	t.Helper()
	var head struct{ Header http.Header }
	if err := json.Unmarshal([]byte(body), &head); err != nil {
		t.Fatalf("read %q: %v", body, err)
	}
	return strings.Join(head.Header["X-Forwarded-For"], "|")
}

// TestNginxOverUnixSocket has nginx, with the configuration that we ship, reach the gateway over a Unix socket: the client's
// address, large bodies both ways and WebSockets pass, and the socket goes with the gateway.
func TestNginxOverUnixSocket(t *testing.T) {
	process.NeedNginx(t)
	dir, err := os.MkdirTemp("", "goms") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "gateway.sock")
	s := newSystem(t, setup{config: "gateway:\n  trustedProxies: [127.0.0.1/32]\n  listeners: [{addr: 'unix:" + socket + "'}]\n"})
	g := s.gateway()
	g.Line(patience, `\[gateway\] Http Listen on unix:`+socket+`$`)
	s.countNode("count")
	s.countNode("big")
	g.sees("count", 1)
	g.sees("big", 1)
	conf, port := process.ShippedNginx(t, g.addr())
	conf = strings.Replace(conf, g.addr(), "unix:"+socket, 1)
	if !strings.Contains(conf, "unix:"+socket) {
		t.Fatal("nginx's configuration does not name the socket")
	}
	_, addr := process.RunNginx(t, conf, port)

	a := do(t, "GET", "http://"+addr+"/api/count/head", "", http.Header{"X-Forwarded-For": {"6.6.6.6"}})
	if got := forwardedFor(t, a.body); a.status != 200 || got != "127.0.0.1, 127.0.0.1" {
		t.Errorf("X-Forwarded-For = %d %q, want the client as nginx saw it, and nginx", a.status, got)
	}
	const size = 8 << 20
	if a := do(t, "GET", fmt.Sprintf("http://%s/api/count/down?n=%d", addr, size), "", nil); a.status != 200 || len(a.body) != size {
		t.Errorf("down = %d with %d bytes, want 200 with %d", a.status, len(a.body), size)
	}
	body := strings.Repeat("u", size)
	if a, want := do(t, "POST", "http://"+addr+"/api/big/up", body, nil), fmt.Sprintf(`{"bytes":%d,"crc32":%d}`, size, crc32.ChecksumIEEE([]byte(body))); a.status != 200 || a.body != want {
		t.Errorf("up = %d %s, want 200 %s", a.status, a.body, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	echo(ctx, t, "ws://"+addr+"/api/count/ws")

	g.Kill()
	s.embedded = true // its etcd was in it
	s.again(g)        // the socket that it left is no obstacle
	g.Stop(patience)
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestProxyProtocolByCurl has curl send the header of a load balancer.
func TestProxyProtocolByCurl(t *testing.T) {
	curl := process.Need(t, "curl", "curl")
	port := ports.Free(t)
	s := newSystem(t, setup{config: fmt.Sprintf("gateway:\n  listeners: [{addr: '127.0.0.1:%d', proxyProtocol: [127.0.0.0/8]}]\n", port)})
	g := s.gateway()
	s.countNode("count")
	g.sees("count", 1)
	url := fmt.Sprintf("http://127.0.0.1:%d/api/count/head", port)
	out, stderr, code := process.Run(t, patience, process.Launch{Path: curl, Args: []string{"-sS", "--max-time", "25", "--haproxy-protocol", url}})
	if code != 0 {
		t.Fatalf("curl --haproxy-protocol: exit code %d\n%s", code, stderr)
	}
	if got := forwardedFor(t, out); got != "127.0.0.1" {
		t.Errorf("X-Forwarded-For = %q, want 127.0.0.1", got)
	}
	if _, stderr, code := process.Run(t, patience, process.Launch{Path: curl, Args: []string{"-sS", "--max-time", "25", url}}); code != 52 && code != 56 {
		t.Errorf("curl without the header: exit code %d, want 52 or 56 (no answer)\n%s", code, stderr)
	}
	out, stderr, code = process.Run(t, patience, process.Launch{Path: curl, Args: []string{"-sS", "--max-time", "25", "-o", os.DevNull, "-w", "%{http_code}", "--haproxy-protocol", g.url("/api/count/head")}})
	if code != 0 || out != "400" {
		t.Errorf("a header on a port that takes none: exit code %d, %q, want 400\n%s", code, out, stderr)
	}
}
