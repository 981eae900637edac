package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// echoing is a node that answers any upgrade, and then each byte by itself.
func echoing(t testing.TB) string {
	return rawNode(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n", req.Header.Get("Upgrade"), acceptOf(req))
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	})
}

// upgraded opens a tunnel to a node that echoes.
func upgraded(t testing.TB, b *bench, protocol string) net.Conn {
	c := b.dial()
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
	head := make([]byte, 0, 512)
	for one := make([]byte, 1); len(head) < 4 || string(head[len(head)-4:]) != "\r\n\r\n"; head = append(head, one[0]) {
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatalf("%q: %v", head, err)
		}
	}
	return c
}

// BenchmarkTunnel sends one message after the other to a node and back: through the kernel (echo), and followed at
// the boundaries of frames (websocket).
func BenchmarkTunnel(bb *testing.B) {
	b := start(bb, nil, echoing(bb))
	for _, size := range []int{100, 16 << 10, 256 << 10} {
		for _, protocol := range []string{"echo", "websocket"} {
			bb.Run(fmt.Sprintf("%s/%d", protocol, size), func(bb *testing.B) {
				c := upgraded(bb, b, protocol)
				out := appendFrame(nil, fin|opBinary, true, make([]byte, size))
				in := make([]byte, len(out))
				bb.SetBytes(int64(len(out)))
				bb.ReportAllocs()
				for bb.Loop() {
					if _, err := c.Write(out); err != nil {
						bb.Fatal(err)
					}
					if _, err := io.ReadFull(c, in); err != nil {
						bb.Fatal(err)
					}
				}
			})
		}
	}
}
