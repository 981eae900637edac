package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// TestGarbageIsRefusedAtOnce: a node that speaks another protocol, and waits for what comes next, is not waited for.
func TestGarbageIsRefusedAtOnce(t *testing.T) {
	for _, begins := range []string{"SSH-2.0-OpenSSH_9.2p1\r\n", "S", "\x00\x01\x02", "HTTP/2.0 200 OK\r\n", "HTTP/1.1 OK\r\n", "HTTP/1.1 200 OK\r\nbad\n", "\r\nHTTP"} {
		n := rawNode(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err == nil {
				io.WriteString(c, begins)
				io.Copy(io.Discard, br)
			}
		})
		b := start(t, nil, n)
		if got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, `"bad_answer"`) {
			t.Errorf("%q from a node = %q, want 502 bad_answer", begins, got)
		}
	}
}

// TestAnswerInPieces: a head that comes byte by byte is none the worse for it.
func TestAnswerInPieces(t *testing.T) {
	n := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") {
			c.Write([]byte{b})
		}
	})
	if status, body := start(t, nil, n).get("/api/user/login"); status != 200 || body != "ok" {
		t.Errorf("GET = %d %q, want 200 ok", status, body)
	}
}

// TestCutAnswerEndsItsStream: what a node broke off ends over HTTP/2 with an error, and at once.
func TestCutAnswerEndsItsStream(t *testing.T) {
	n := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		}
	})
	b := start(t, nil, n)
	secure, pool := b.secure()
	for what, f := range map[string]struct {
		base string
		c    *http.Client
	}{"TLS": {"https://" + secure, protocol(t, pool, true)}, "h2c": {"http://" + b.also(gateway.Listener{H2C: true}), priorKnowledge(t)}} {
		began := time.Now()
		const cuts = 30
		for range cuts {
			res, err := f.c.Get(f.base + "/api/user/login")
			if err != nil {
				continue
			}
			if body, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s: an answer that was cut = %s %q, want an error", what, res.Status, body)
			}
			res.Body.Close()
		}
		if took := time.Since(began); took > cuts*300*time.Millisecond {
			t.Errorf("%s: %d cut answers took %v", what, cuts, took)
		}
	}
}
