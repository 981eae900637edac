package gateway_test

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/route"
)

// backlogged returns an address that answers no SYN: its queue of connections is full.
func backlogged(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for range 10 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue does not fill")
	return ""
}

// TestBlackHole: a node that takes no connection costs connectTimeout, and the request goes to another.
func TestBlackHole(t *testing.T) {
	full := backlogged(t)
	b := start(t, func(s *gateway.Settings) { s.ConnectTimeout = 300 * time.Millisecond }, full, node(t, func(http.ResponseWriter, *http.Request) {}))
	began := time.Now()
	for range 4 {
		if status, body := b.do("POST", "/api/user/login", strings.NewReader("x")); status != 200 {
			t.Errorf("beside a black hole = %d %s, want 200", status, body)
		}
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("4 requests took %v", took)
	}
	if failures := b.g.Cluster(true).Services["user"].Detail; failures[0].Failures+failures[1].Failures == 0 {
		t.Error("the black hole was never tried")
	}
}

// TestBlackHoleWithinAnAttempt: a node that takes no connection in the time of an attempt is left out, though it would
// have had longer to be connected to.
func TestBlackHoleWithinAnAttempt(t *testing.T) {
	full, serving := backlogged(t), scripted(t, ok)
	r := route.Route{Timeout: 20 * time.Second, AttemptTimeout: 200 * time.Millisecond}
	b := startRoutes(t, one(r), nil, settings(func(s *gateway.Settings) { s.ConnectTimeout = 10 * time.Second }), full, serving.addr)
	for range 4 {
		if status, body := b.get("/api/user/do"); status != 200 {
			t.Errorf("beside a black hole = %d %s, want 200", status, body)
		}
	}
	if b.idle() == 0 {
		t.Error("the black hole has no failure")
	}
}
