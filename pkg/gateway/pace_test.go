package gateway_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// trickle writes text to c at once and then a byte every few milliseconds, until c is closed.
func trickle(c net.Conn, text string, piece string) {
	io.WriteString(c, text)
	for {
		time.Sleep(20 * time.Millisecond)
		if _, err := io.WriteString(c, piece); err != nil {
			return
		}
	}
}

// TestTrickledBodies: a client that sends its body more slowly than it must is answered 408 and let go, and so is the
// connection to the node, in whatever way the body is passed on. No pause of it is long.
func TestTrickledBodies(t *testing.T) {
	gateway.RateWindow(t, 500*time.Millisecond)
	for name, c := range map[string]struct{ lines, first, piece string }{
		"copied":  {"Content-Length: 60000\r\n", "a", "a"},
		"chunked": {"Transfer-Encoding: chunked\r\n", "1\r\na\r\n", "1\r\na\r\n"},
		"spliced": {"Content-Length: 5000000\r\n", strings.Repeat("a", 100<<10), "a"},
	} {
		t.Run(name, func(t *testing.T) {
			released := make(chan struct{}, 1)
			addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					t.Error("the node took the body for a whole one")
				}
				released <- struct{}{}
			})
			b := start(t, nil, addr)
			conn := b.dial()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			go trickle(conn, "POST /api/user/login HTTP/1.1\r\nHost: a\r\n"+c.lines+"\r\n"+c.first, c.piece)
			all, _ := io.ReadAll(conn) // the trickle goes on into a closed connection: a reset may end it
			if got := string(all); !strings.HasPrefix(got, "HTTP/1.1 408 ") || !strings.Contains(got, `"client_timeout"`) || !strings.Contains(got, "\r\nConnection: close\r\n") {
				t.Errorf("answer = %q, want 408 and close", got)
			}
			waitFor(t, "the node's connection to end", released)
			for _, s := range b.g.Cluster(true).Services["user"].Detail {
				if s.Failures != 0 || s.Ejected {
					t.Errorf("the node has %d failures, ejected %v", s.Failures, s.Ejected)
				}
			}
		})
	}
}

// slowBody is a body of which a byte comes every few milliseconds.
type slowBody struct{ pause time.Duration }

func (s slowBody) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	p[0] = 'a'
	return 1, nil
}

func TestTrickledStreams(t *testing.T) {
	gateway.RateWindow(t, 500*time.Millisecond)
	released := make(chan struct{}, 1)
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		released <- struct{}{}
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	req, err := http.NewRequest("POST", "https://"+secure+"/api/user/login", slowBody{20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	res, err := protocol(t, pool, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 408 || !strings.Contains(string(body), `"client_timeout"`) {
		t.Errorf("answer = %d %s, want 408 client_timeout", res.StatusCode, body)
	}
	waitFor(t, "the node's connection to end", released)
}

// TestSlowNodesAreNotHeldAgainstClients has a node read and write far more slowly than clients must.
func TestSlowNodesAreNotHeldAgainstClients(t *testing.T) {
	gateway.RateWindow(t, 300*time.Millisecond)
	const size = 3 << 20 // more than sockets buffer
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 256<<10)
		n := 0
		for {
			m, err := io.ReadFull(r.Body, buf)
			n += m
			if err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		w.WriteHeader(200)
		for range 10 {
			io.WriteString(w, "slow ")
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
		fmt.Fprint(w, n)
	})
	b := start(t, func(s *gateway.Settings) { s.MinBodyRate, s.MinReadRate = 1<<20, 1<<20 }, addr)
	for name, body := range map[string]io.Reader{"length": bytes.NewReader(make([]byte, size)), "chunked": io.MultiReader(bytes.NewReader(make([]byte, size)))} {
		if status, got := b.do("POST", "/api/user/login", body); status != 200 || !strings.HasSuffix(got, fmt.Sprint("slow ", size)) {
			t.Errorf("%s: %d %q, want the whole answer", name, status, got)
		}
	}
}

// TestSlowReaders: a client that reads the answer more slowly than it must is cut off, and the node's connection let go.
func TestSlowReaders(t *testing.T) {
	gateway.RateWindow(t, 500*time.Millisecond)
	piece := bytes.Repeat([]byte("a"), 64<<10)
	for _, form := range []string{"spliced", "chunked"} {
		t.Run(form, func(t *testing.T) {
			released := make(chan struct{}, 1)
			addr := node(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "spliced" {
					w.Header().Set("Content-Length", "1000000000")
				}
				for {
					if _, err := w.Write(piece); err != nil {
						released <- struct{}{}
						return
					}
				}
			})
			b := start(t, nil, addr)
			c := b.dial()
			defer c.Close()
			c.(*net.TCPConn).SetReadBuffer(4 << 10)
			io.WriteString(c, "GET /api/user/login?"+form+" HTTP/1.1\r\nHost: a\r\n\r\n")
			fast := make(chan struct{})
			cut := make(chan error, 1)
			go func() {
				buf := make([]byte, 1)
				for {
					select {
					case <-fast: // what is here already can be read to the end
						_, err := io.Copy(io.Discard, c)
						cut <- err
						return
					case <-time.After(20 * time.Millisecond):
						c.Read(buf)
					}
				}
			}()
			waitFor(t, "the node's connection to end", released)
			c.SetDeadline(time.Now().Add(10 * time.Second))
			close(fast)
			if err := <-cut; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the cut answer ends with %v, want a reset", err)
			}
		})
	}
}

// TestStreamsMayBeSilent: neither what a client sends beside an event stream, or as messages of gRPC, nor its reading has to be fast, and
// both may pause for longer than a body.
func TestStreamsMayBeSilent(t *testing.T) {
	gateway.RateWindow(t, 200*time.Millisecond)
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.(http.Flusher).Flush()
		io.Copy(w, r.Body)
	})
	b := start(t, func(s *gateway.Settings) { s.BodyTimeout = 300 * time.Millisecond }, addr)
	silent := func(contentType string) (string, error) {
		c := b.dial()
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Type: "+contentType+"\r\nTransfer-Encoding: chunked\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("answer = %v %v, want 200", res, err)
		}
		time.Sleep(time.Second) // that nothing happens meanwhile can only be seen by waiting
		io.WriteString(c, "5\r\nhello\r\n0\r\n\r\n")
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	for _, contentType := range []string{"text/event-stream", "application/grpc", "Application/gRPC+proto"} {
		if body, err := silent(contentType); err != nil || body != "hello" {
			t.Errorf("%s: body = %q %v, want hello", contentType, body, err)
		}
	}
	if body, err := silent("text/plain"); err == nil {
		t.Errorf("text/plain: body = %q after a pause that no body may have, want an error", body)
	}
}
