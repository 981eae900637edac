package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
)

// secureNode starts a node that speaks TLS, and returns it with the authority of its certificate. change may
// alter how it does.
func secureNode(t testing.TB, change func(*tls.Config), h http.HandlerFunc) (registry.Node, *counted, *x509.CertPool) {
	t.Helper()
	cert, pool := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	if change != nil {
		change(config)
	}
	plain := countedNode(t, time.Minute, h)
	plain.ErrorLog = log.New(io.Discard, "", 0)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); plain.Serve(ln) }()
	t.Cleanup(func() { plain.Close(); <-done })
	n := registry.NewNode("user", ln.Addr().String(), ln.Addr().String())
	n.TLS = true
	return n, plain, pool
}

// trusting starts a gateway that trusts pool.
func trusting(t testing.TB, pool *x509.CertPool, nodes ...registry.Node) *bench {
	t.Helper()
	b := startConfig(t, func(c *gateway.Config) { c.NodeTLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12} }, nil)
	b.apply(nodes...)
	return b
}

// TestNodesWithTLS: bodies of all kinds go both ways, over connections that are used again.
func TestNodesWithTLS(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			var resumed atomic.Int64
			n, counted, pool := secureNode(t, func(c *tls.Config) { c.MaxVersion = version }, func(w http.ResponseWriter, r *http.Request) {
				if r.TLS.DidResume {
					resumed.Add(1)
				}
				if r.TLS.Version != version || r.TLS.NegotiatedProtocol != "http/1.1" {
					t.Errorf("TLS %x, protocol %q", r.TLS.Version, r.TLS.NegotiatedProtocol)
				}
				body, _ := io.ReadAll(r.Body)
				if r.URL.RawQuery == "chunked" {
					w.(http.Flusher).Flush()
				}
				w.Write(body)
			})
			b := trusting(t, pool, n)
			for _, size := range []int{0, 10, 300 << 10, 3 << 20} {
				for _, query := range []string{"", "?chunked"} {
					sent := bytes.Repeat([]byte("0123456789"), size/10)
					status, got := b.do("POST", "/api/user/login"+query, io.MultiReader(bytes.NewReader(sent))) // chunked, of no known length
					if status != 200 || got != string(sent) {
						t.Errorf("POST%s of %d bytes = %d, %d bytes", query, size, status, len(got))
					}
					if status, got = b.do("POST", "/api/user/login"+query, bytes.NewReader(sent)); status != 200 || got != string(sent) {
						t.Errorf("POST%s of %d bytes, length known = %d, %d bytes", query, size, status, len(got))
					}
				}
			}
			for range 50 {
				if status, _ := b.get("/api/user/login"); status != 200 {
					t.Fatalf("GET = %d, want 200", status)
				}
			}
			// A request may come before the connection of the one before is back, hence not exactly 1.
			made := counted.ever.Load()
			if made > 5 {
				t.Errorf("%d connections for 66 requests one after the other", made)
			}
			if detail := b.g.Cluster(true).Services["user"].Detail; !detail[0].TLS || detail[0].Idle == 0 {
				t.Errorf("Cluster(verbose) = %+v, want TLS and idle connections", detail)
			}
			up := n.State
			eventually(t, "a connection that resumes the session", func() bool {
				n.State = registry.Draining
				b.apply(n) // closes what is idle, as the last connection is in a moment
				n.State = up
				b.apply(n)
				b.get("/api/user/login")
				return resumed.Load() > 0 && counted.ever.Load() > made
			})
		})
	}
}

// torn is a node's side of a connection: of the session ticket, the last record of what it sends for the handshake, only the first bytes
// leave with the rest.
type torn struct {
	net.Conn
	along int // bytes
	began bool
	kept  []byte
}

func (c *torn) Write(b []byte) (int, error) {
	if c.began {
		return c.Conn.Write(b)
	}
	c.began = true
	last := 0
	for next := 0; next < len(b); next += 5 + int(binary.BigEndian.Uint16(b[next+3:])) {
		last = next
	}
	cut := min(last+c.along, len(b))
	c.kept = bytes.Clone(b[cut:])
	_, err := c.Conn.Write(b[:cut])
	return len(b), err
}

// release sends what was kept.
func (c *torn) release(t *testing.T) {
	t.Helper()
	if _, err := c.Conn.Write(c.kept); err != nil {
		t.Fatal(err)
	}
}

// peers starts a node with TLS 1.3 that does handshakes, and returns both ends of a new connection to it. along is how many bytes of the
// session ticket leave with the handshake.
func peers(t *testing.T) func(along int) (gateway.NodeConn, *tls.Conn) {
	t.Helper()
	cert, pool := certificate(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	n := registry.NewNode("user", ln.Addr().String(), ln.Addr().String())
	n.TLS = true
	dial := gateway.NodeDialer(n, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	return func(along int) (gateway.NodeConn, *tls.Conn) {
		t.Helper()
		theirs := make(chan *tls.Conn, 1)
		go func() {
			defer close(theirs)
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c := tls.Server(&torn{Conn: nc, along: along}, config)
			if err := c.Handshake(); err != nil {
				t.Error(err)
			}
			theirs <- c
		}()
		ours, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ours.Conn().Close() })
		c := <-theirs
		t.Cleanup(func() { c.NetConn().Close() })
		return ours, c
	}
}

// TestTicket: a session ticket does not make a connection useless, and is taken in, wherever it lies: on the socket, in TLS's buffer because it
// came with the end of the handshake, or partly in both.
func TestTicket(t *testing.T) {
	connect := peers(t)
	for i, along := range []int{0, 1, 5, 6, 100, 1 << 10} {
		c, node := connect(along)
		held := node.NetConn().(*torn)
		if resumed := c.Conn().(*tls.Conn).ConnectionState().DidResume; resumed != (i > 0) {
			t.Errorf("%d bytes along: resumed %v; the ticket before was taken in %v", along, resumed, i > 0)
		}
		if !c.Quiet() {
			t.Fatalf("%d bytes along: a connection with a part of a ticket is not quiet", along)
		}
		held.release(t)
		if len(held.kept) > 0 {
			eventually(t, "the ticket", c.Waiting)
		}
		for range 3 {
			if !c.Quiet() {
				t.Fatalf("%d bytes along: a connection with a ticket is not quiet", along)
			}
		}
		if c.Waiting() {
			t.Errorf("%d bytes along: the ticket was not taken in", along)
		}
		io.WriteString(node, "an answer")
		if m, err := io.ReadFull(c.Conn(), make([]byte, 9)); err != nil {
			t.Errorf("%d bytes along: read %d bytes of the answer, %v", along, m, err)
		}
	}
}

// TestQuiet: bytes that nobody asked for make a connection useless, and so does its end.
func TestQuiet(t *testing.T) {
	connect := peers(t)
	c, node := connect(1 << 10)
	if !c.Quiet() {
		t.Error("a new connection is not quiet")
	}
	io.WriteString(node, "hello")
	if m, err := io.ReadFull(c.Conn(), make([]byte, 4)); err != nil {
		t.Fatalf("read %d bytes, %v", m, err)
	}
	if c.Quiet() { // the rest is in TLS's buffer, not on the socket
		t.Error("a connection with the rest of an answer is quiet")
	}
	for what, do := range map[string]func(*tls.Conn) error{
		"a polite end": (*tls.Conn).Close,
		"an end":       func(c *tls.Conn) error { return c.NetConn().Close() },
		"bytes that nobody asked for": func(c *tls.Conn) error {
			_, err := io.WriteString(c, "unasked")
			return err
		},
	} {
		c, node = connect(1 << 10)
		if !c.Quiet() {
			t.Errorf("before %s the connection is not quiet", what)
		}
		if err := do(node); err != nil {
			t.Fatal(err)
		}
		eventually(t, what, c.Waiting)
		if c.Quiet() {
			t.Errorf("a connection with %s is quiet", what)
		}
	}
}

// TestNodesThatCannotProveThemselves: the request goes to another node, also a POST, since nothing of it has
// reached the first; and the reason names the node, who it should have been, and what is wrong.
func TestNodesThatCannotProveThemselves(t *testing.T) {
	_, other := certificate(t)
	for name, c := range map[string]struct {
		server func(*tls.Config)
		client func(*tls.Config)
		want   string
	}{
		"unknown authority": {client: func(c *tls.Config) { c.RootCAs = other }, want: `expected to be "127.0.0.1": tls: failed to verify certificate: x509: certificate signed by unknown authority`},
		"another name":      {client: func(c *tls.Config) { c.ServerName = "node.test" }, want: `expected to be "node.test": tls: failed to verify certificate: x509:`},
		"old versions only": {server: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, want: "protocol version not supported"},
		"our certificate 1.2": {
			server: func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS12 },
			want:   "remote error: tls: ",
		},
		"our certificate 1.3": {
			server: func(c *tls.Config) { c.ClientAuth, c.MinVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS13 },
			want:   "remote error: tls: certificate required",
		},
	} {
		t.Run(name, func(t *testing.T) {
			reached := make(chan struct{}, 100)
			n, _, pool := secureNode(t, c.server, func(http.ResponseWriter, *http.Request) { reached <- struct{}{} })
			ours := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
			if c.client != nil {
				c.client(ours)
			}
			lines, out := written(t, "text", nil)
			b := startConfig(t, func(g *gateway.Config) { g.NodeTLS, g.Log = ours, lines }, nil)
			good := node(t, func(http.ResponseWriter, *http.Request) {})
			b.apply(n, registry.NewNode("user", good, good))
			for range 20 {
				if status, body := b.do("POST", "/api/user/login", strings.NewReader("x")); status != 200 {
					t.Errorf("POST = %d %s, want 200 from the other node", status, body)
				}
			}
			b.apply(n)
			if status, body := b.do("POST", "/api/user/login", strings.NewReader("x")); status != 502 || !strings.Contains(body, `"connect_failed"`) {
				t.Errorf("POST with that node alone = %d %s, want 502 connect_failed", status, body)
			}
			if len(reached) != 0 {
				t.Error("the node was given a request")
			}
			if !strings.Contains(strings.ReplaceAll(out.String(), `\"`, `"`), c.want) {
				t.Errorf("log = %s, want %s", out.String(), c.want)
			}
			if n := strings.Count(out.String(), "cannot be reached over TLS"); n != 1 {
				t.Errorf("told %d times that TLS fails, want once:\n%s", n, out.String())
			}
		})
	}
}

// TestNotPlainToNodesWithTLS: a node that publishes TLS gets no plain byte, whenever it says so; one that takes it
// back gets plain requests.
func TestNotPlainToNodesWithTLS(t *testing.T) {
	first := make(chan []byte, 100)
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		begin := make([]byte, 5)
		io.ReadFull(br, begin)
		first <- begin
		if begin[0] == 'G' {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, br)
		}
	})
	n := registry.NewNode("user", addr, addr)
	b := start(t, nil)
	f := func(secure bool, want int) {
		t.Helper()
		n.TLS = secure
		b.apply(n)
		if status, body := b.get("/api/user/login"); status != want {
			t.Errorf("GET with TLS %v = %d %s, want %d", secure, status, body, want)
		}
		begin := <-first
		if plain := begin[0] == 'G'; plain == secure || secure && begin[0] != 22 {
			t.Errorf("with TLS %v the node got %q first", secure, begin)
		}
	}
	f(true, 502)
	f(false, 200)
	f(true, 502) // the idle plain connection is not used
	f(false, 200)
}

// TestHandshakeTakesConnectTimeout: a node that accepts, and says nothing.
func TestHandshakeTakesConnectTimeout(t *testing.T) {
	addr := rawNode(t, func(_ net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	n := registry.NewNode("user", addr, addr)
	n.TLS = true
	b := start(t, func(s *gateway.Settings) { s.ConnectTimeout = 100 * time.Millisecond })
	b.apply(n)
	began := time.Now()
	if status, body := b.get("/api/user/login"); status != 502 || !strings.Contains(body, `"connect_failed"`) {
		t.Errorf("GET = %d %s, want 502 connect_failed", status, body)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestCutTLS: where the end of the connection is the end of the body, somebody between cannot make a short body
// look whole.
func TestCutTLS(t *testing.T) {
	cut := make(chan bool, 1)
	n, _, pool := secureNode(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		nc, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		buf.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
		buf.Flush()
		if <-cut {
			nc.(*tls.Conn).NetConn().Close()
		} else {
			nc.Close()
		}
	})
	b := trusting(t, pool, n)
	f := func(how, whole bool) {
		t.Helper()
		cut <- how
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if string(body) != "half" || whole != (err == nil) {
			t.Errorf("cut %v: body %q, %v; whole %v expected", how, body, err, whole)
		}
	}
	f(false, true)
	f(true, false)
}

// TestTunnelOverTLS: an upgraded connection to a node with TLS, ended by either side.
func TestTunnelOverTLS(t *testing.T) {
	n, _, pool := secureNode(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		nc, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer nc.Close()
		buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		buf.Flush()
		io.Copy(nc, buf)
		io.WriteString(nc, "bye") // the other half is still open
	})
	b := trusting(t, pool, n)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("upgrade = %v, %v", res, err)
	}
	io.WriteString(c, " late")
	got := make([]byte, 10)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "early late" {
		t.Errorf("echo = %q, %v", got, err)
	}
	c.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(br)
	if err != nil || string(rest) != "bye" {
		t.Errorf("after the half-close %q, %v; want bye", rest, err)
	}
	eventually(t, "the tunnel to end", func() bool {
		return !strings.Contains(fmt.Sprint(b.g.Cluster(true).Services["user"].Detail), "InFlight:1")
	})
	if detail := b.g.Cluster(true).Services["user"].Detail; detail[0].Idle != 0 {
		t.Errorf("a tunnel's connection is kept: %+v", detail)
	}
}
