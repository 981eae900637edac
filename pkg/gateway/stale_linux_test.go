package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goms-io/goms/test/process"
)

// TestStaleConnectionProof: what a node does with an idle connection in the very moment in which it is used again decides whether a POST may be
// sent once more. It may when the node had closed before its system knew of a byte, and never when the node may have read one.
func TestStaleConnectionProof(t *testing.T) {
	arrived := func(c net.Conn) bool {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return true
		}
		there := false
		raw.Control(func(fd uintptr) {
			n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
			there = err != nil || n > 0
		})
		return there
	}
	await := func(ok func() bool) {
		for end := time.Now().Add(5 * time.Second); !ok() && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // between two looks
		}
	}
	cases := map[string]struct {
		end    func(t *testing.T, c net.Conn, br *bufio.Reader)
		repeat bool // a POST may go on
	}{
		"closed before it came": {func(t *testing.T, c net.Conn, _ *bufio.Reader) {
			lost, err := process.Deafen(c.(*net.TCPConn))
			if err != nil {
				t.Error(err)
				return
			}
			await(func() bool { return lost() > 0 })
		}, true},
		"reset as it came": {func(_ *testing.T, c net.Conn, _ *bufio.Reader) {
			await(func() bool { return arrived(c) }) // closing with unread bytes resets
		}, false},
		"read, then closed": {func(_ *testing.T, _ net.Conn, br *bufio.Reader) {
			http.ReadRequest(br)
		}, false},
		"half closed, then read": {func(t *testing.T, c net.Conn, br *bufio.Reader) {
			await(func() bool { return arrived(c) })
			c.(*net.TCPConn).CloseWrite()
			http.ReadRequest(br)
		}, false},
	}
	for name, c := range cases {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				var conns atomic.Int64
				b := start(t, nil, rawNode(t, func(conn net.Conn, br *bufio.Reader) {
					first := conns.Add(1) == 1
					for {
						if _, err := http.ReadRequest(br); err != nil {
							return
						}
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
						if first {
							c.end(t, conn, br)
							return
						}
					}
				}))
				b.get("/api/user/login") // makes the connection
				until(t, "the connection is idle", func() bool { return b.g.Cluster(true).Services["user"].Detail[0].Idle == 1 })
				status, body := b.do(method, "/api/user/login", strings.NewReader(""))
				switch {
				case (method == "GET" || c.repeat) && (status != 200 || body != "ok"):
					t.Errorf("%s = %d %s, want 200 ok", method, status, body)
				case method == "POST" && !c.repeat && (status != 502 || conns.Load() != 1):
					t.Errorf("%s = %d %s over %d connections, want 502 over one", method, status, body, conns.Load())
				}
				if n := b.metric("goms_stale_connections_total"); n != 1 {
					t.Errorf("goms_stale_connections_total = %d, want 1", n)
				}
			})
		}
	}
}
