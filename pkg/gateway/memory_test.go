//go:build !race && linux

// The race detector takes memory of its own, so memory is measured without it.

package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// memory returns what the heap and the stacks hold, after a collection.
func memory() int64 {
	debug.FreeOSMemory() // twice: pools outlive one collection
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// perClient returns what each of n clients costs this process, which is their end too. open must return once all that a
// client costs is there; the connections are kept until then.
func perClient(t *testing.T, n int, open func() io.Closer) int64 {
	t.Helper()
	open().Close()
	base := memory()
	list := make([]io.Closer, 0, n)
	for range n {
		list = append(list, open())
	}
	got := (memory() - base) / int64(n)
	for _, c := range list {
		c.Close()
	}
	return got
}

// bound fails when a client costs more than SECURITY.md says.
func bound(t *testing.T, what string, got, most int64) {
	t.Helper()
	t.Logf("%s: %d bytes, bound %d", what, got, most)
	if got > most {
		t.Errorf("%s: %d bytes, want at most %d", what, got, most)
	}
}

const kib = 1 << 10

// TestMemoryPerClient holds the bounds of SECURITY.md. What is measured holds the clients' and the nodes' ends too, with
// about 4 KiB for each connection.
func TestMemoryPerClient(t *testing.T) {
	const n = 200
	arrived := make(chan struct{}, n+1)
	piece := bytes.Repeat([]byte("a"), 64*kib)
	chunk := fmt.Appendf(nil, "%x\r\n%s\r\n", len(piece), piece)
	addr := rawNode(t, func(c net.Conn, _ *bufio.Reader) {
		buf := make([]byte, 512)
		m, err := c.Read(buf)
		if err != nil {
			return
		}
		switch text := string(buf[:m]); {
		case strings.Contains(text, "body"):
			arrived <- struct{}{}
			c.Read(buf[:1]) // until the gateway ends it
		case strings.Contains(text, "chunked"):
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			arrived <- struct{}{}
			for err == nil {
				_, err = c.Write(chunk)
			}
		case strings.Contains(text, "spliced"):
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			arrived <- struct{}{}
			for err == nil {
				_, err = c.Write(piece)
			}
		case strings.Contains(text, "websocket"):
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
			c.Read(buf[:1]) // until the gateway ends it
		default:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	b := start(t, func(s *gateway.Settings) { s.MinReadRate, s.MinBodyRate = 0, 0 }, addr)
	send := func(text string) net.Conn {
		c := b.dial()
		io.WriteString(c, text)
		return c
	}
	answered := func(c net.Conn, want string) {
		buf := make([]byte, 1024)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if m, err := c.Read(buf); err != nil || !strings.HasPrefix(string(buf[:m]), want) {
			t.Fatalf("answer = %q %v, want %q", buf[:m], err, want)
		}
	}
	bound(t, "idle connection", perClient(t, n, func() io.Closer {
		c := send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
		answered(c, "HTTP/1.1 200 ")
		return c
	}), 16*kib)
	bound(t, "slow head", perClient(t, n, func() io.Closer { return send("GET /api/user/login HTTP/1.1\r\nHos") }), 32*kib)
	bound(t, "slow body", perClient(t, n, func() io.Closer {
		c := send("POST /api/user/login?body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\na")
		waitFor(t, "the request to arrive", arrived)
		return c
	}), 48*kib)
	for _, form := range []string{"chunked", "spliced"} {
		bound(t, "slow reader, "+form, perClient(t, n, func() io.Closer {
			c := b.dial()
			c.(*net.TCPConn).SetReadBuffer(4 * kib)
			io.WriteString(c, "GET /api/user/login?"+form+" HTTP/1.1\r\nHost: a\r\n\r\n")
			waitFor(t, "the request to arrive", arrived)
			return c
		}), 96*kib)
	}
	bound(t, "tunnel", perClient(t, n, func() io.Closer {
		c := send("GET /api/user/login?websocket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		answered(c, "HTTP/1.1 101 ")
		return c
	}), 64*kib)
	secure, pool := b.secure()
	bound(t, "idle HTTP/2 connection", perClient(t, n/4, func() io.Closer {
		c, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		c.Read(make([]byte, 512))
		return c
	}), 192*kib)
}

// TestMemoryOfHostileAnswers has nodes send heads and bodies that do not end.
func TestMemoryOfHostileAnswers(t *testing.T) {
	const n = 20
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		flood := bytes.Repeat([]byte("a"), 64*kib)
		io.WriteString(c, map[string]string{"head": "HTTP/1.1 200 OK\r\nA: ", "interim": "", "size": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"}[req.URL.RawQuery])
		if req.URL.RawQuery == "interim" {
			flood = bytes.Repeat([]byte("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"), 2000)
		}
		for sent := 0; sent < 64<<20 && err == nil; sent += len(flood) {
			_, err = c.Write(flood)
		}
		if err == nil {
			t.Errorf("%s: 64 MiB were taken", req.URL.RawQuery)
		}
	})
	b := start(t, nil, addr)
	for _, kind := range []string{"head", "interim", "size"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			got := b.raw("GET /api/user/login?" + kind + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if cut := kind == "size" && strings.HasPrefix(got, "HTTP/1.1 200 ") && !strings.HasSuffix(got, "\r\n0\r\n\r\n"); !cut && !strings.Contains(got, `"bad_answer"`) {
				t.Errorf("%s = %q, want 502 bad_answer, or a cut answer where its head had left", kind, got)
			}
		}
		runtime.ReadMemStats(&after)
		// What was allocated in all, by the client and the node too: what was held is less.
		bound(t, "hostile answer, "+kind, int64(after.TotalAlloc-before.TotalAlloc)/n, 512*kib)
	}
}
