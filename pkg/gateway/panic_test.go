package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

// noted returns a log and what is written to it.
func noted(t testing.TB) (*slog.Logger, *lockedBuffer) {
	out := new(lockedBuffer)
	log, err := console.New(out, "json", "gateway", nil)
	if err != nil {
		t.Fatal(err)
	}
	return log, out
}

// TestPanicIsOneStream has requests panic in the gateway, before a node was chosen and while one is dialled, beside an event stream on the
// same connection of HTTP/2. Each of them gets 500 and is counted; the stream goes on. What is printed does not hold the key.
func TestPanicIsOneStream(t *testing.T) {
	next := make(chan struct{})
	events := node(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			http.NewResponseController(w).Flush()
			select {
			case <-next:
				io.WriteString(w, "data: one\n\n")
			case <-r.Context().Done():
				return
			}
		}
	})
	bad := deadAddr(t)
	log, out := noted(t)
	do := map[string]route.Route{"do": {Path: "/do"}}
	b := startServices(t, route.Services{"user": do, "bad": do}, func(c *gateway.Config) {
		c.Log = log
		c.Control = func(_, addr string, _ syscall.RawConn) error {
			if addr == bad {
				panic("for the test")
			}
			return nil
		}
	}, settings(nil))
	b.apply(registry.NewNode("user", events, events), registry.NewNode("bad", bad, bad))
	b.g.PanicAt("/boom")
	h2c := b.also(gateway.Listener{H2C: true})
	c := priorKnowledge(t)
	var dialled atomic.Int64
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	stream, err := c.Get("http://" + h2c + "/api/user/do")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	const rounds, each = 5, 10
	event := make([]byte, len("data: one\n\n"))
	for range rounds {
		var all sync.WaitGroup
		for i := range each {
			path := [...]string{"/boom", "/api/bad/do"}[i%2]
			all.Go(func() {
				res, err := c.Get("http://" + h2c + path)
				if err != nil {
					t.Errorf("GET %s: %v", path, err)
					return
				}
				defer res.Body.Close()
				if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 500 || !strings.Contains(string(body), `"internal"`) {
					t.Errorf("GET %s = %s %q %v, want 500 internal", path, res.Status, body, err)
				}
			})
		}
		all.Wait()
		next <- struct{}{}
		if _, err := io.ReadFull(stream.Body, event); err != nil || string(event) != "data: one\n\n" {
			t.Fatalf("the event stream beside the panics: %q %v", event, err)
		}
	}
	if n := dialled.Load(); n != 1 {
		t.Errorf("%d connections, want all streams on one", n)
	}
	if n := b.metric(`goms_request_reasons_total{reason="internal"}`); n != rounds*each {
		t.Errorf("%d requests are counted as internal, want %d", n, rounds*each)
	}
	if n := strings.Count(out.String(), "panic in request"); n != rounds*each {
		t.Errorf("%d panics are in the log, want %d", n, rounds*each)
	}
	if !strings.Contains(out.String(), "panic_test.go") {
		t.Error("the log does not say where the panic was")
	}
	if strings.Contains(out.String(), testKey) {
		t.Error("the key is in the log")
	}
}

// trap is a listener whose connections panic as they read what holds "boom".
type trap struct{ net.Listener }

type trapped struct{ net.Conn }

func (l trap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return trapped{c}, err
}

func (c trapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if bytes.Contains(b[:n], []byte("boom")) {
		panic("for the test")
	}
	return n, err
}

// trapped returns b behind a trap.
func (b *bench) trapped() *bench {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.g.Serve(gateway.Listener{Listener: trap{ln}}) }()
	b.t.Cleanup(func() {
		b.g.Shutdown(context.Background())
		<-served
	})
	behind := *b
	behind.addr = ln.Addr().String()
	return &behind
}

// endsByPanic wants c to end, and one panic to be counted and told.
func (b *bench) endsByPanic(c net.Conn, out *lockedBuffer) {
	b.t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		b.t.Error("the connection is open after the panic")
	}
	waitUntil(b.t, "the panic is counted", func() bool { return b.metric(`goms_request_reasons_total{reason="internal"}`) == 1 })
	if n := strings.Count(out.String(), "panic in request"); n != 1 {
		b.t.Errorf("%d panics are in the log, want one:\n%s", n, out)
	}
}

// TestPanicInATunnel is a panic of the goroutine that carries a tunnel's way to the node. It is the end of this tunnel alone.
func TestPanicInATunnel(t *testing.T) {
	for _, protocol := range []string{"websocket", "echo"} {
		t.Run(protocol, func(t *testing.T) {
			log, out := noted(t)
			b := startWith(t, log, nil, echoing(t)).trapped()
			breaks, stays := upgraded(t, b, protocol), upgraded(t, b, protocol)
			io.WriteString(breaks, "boom")
			b.endsByPanic(breaks, out)
			frame := appendFrame(nil, fin|opText, true, []byte("calm"))
			stays.Write(frame)
			got := make([]byte, len(frame))
			if _, err := io.ReadFull(stays, got); err != nil || !bytes.Equal(got, frame) {
				t.Errorf("the tunnel beside it sent back %q %v", got, err)
			}
			b.tunnels(1)
		})
	}
}

// TestPanicInAnUpload is a panic of the goroutine that passes on a body.
func TestPanicInAnUpload(t *testing.T) {
	begun := make(chan struct{})
	log, out := noted(t)
	b := startWith(t, log, nil, node(t, func(_ http.ResponseWriter, r *http.Request) {
		r.Body.Read(make([]byte, 1))
		close(begun)
		io.Copy(io.Discard, r.Body)
	})).trapped()
	c := b.dial()
	defer c.Close()
	io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
	<-begun
	io.WriteString(c, "boom")
	b.endsByPanic(c, out)
}
