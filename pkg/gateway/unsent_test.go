//go:build linux

package gateway_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// TestUnsentIsLittle has a client read nothing of a large answer: the kernel keeps little of it for that client, since many such clients
// would use up what it has for all connections of the machine.
func TestUnsentIsLittle(t *testing.T) {
	t.Parallel()
	f := func(name, head string, most int) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const size = 64 << 20
			var written atomic.Int64
			b := start(t, nil, node(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					w.Header().Set("Content-Length", strconv.Itoa(size))
				}
				piece := make([]byte, 64<<10)
				for range size / len(piece) {
					n, err := w.Write(piece)
					if written.Add(int64(n)); err != nil {
						return
					}
				}
			}))
			c, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(c, head)
			before := int64(-1)
			for now := written.Load(); now == 0 || now != before; now = written.Load() {
				before = now
				time.Sleep(200 * time.Millisecond) // between two looks: until nothing has moved
			}
			if got := b.g.Unsent(); got == 0 || got > most {
				t.Errorf("%d KiB are unsent, want some and at most %d", got>>10, most>>10)
			}
			n, err := io.CopyN(io.Discard, c, size) // and all of it comes when the client reads
			if n != size {
				t.Errorf("the client then read %d bytes, %v, want %d", n, err, size)
			}
		})
	}
	f("spliced", "GET /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n", 256<<10)
	f("copied", "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 256<<10)
}
