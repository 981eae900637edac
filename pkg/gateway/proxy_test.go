package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/goms-io/goms/pkg/gateway"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// also serves b on one more listener and returns its address.
func (b *bench) also(l gateway.Listener) string {
	b.t.Helper()
	if l.Listener == nil {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.t.Fatal(err)
		}
		l.Listener = ln
	}
	served := make(chan error, 1)
	go func() { served <- b.g.Serve(l) }()
	b.t.Cleanup(func() {
		b.g.Shutdown(context.Background())
		if err := <-served; err != nil {
			b.t.Errorf("Serve() = %v", err)
		}
	})
	return l.Addr().String()
}

// seen is a node that answers with the X-Forwarded-For it was sent.
func seen(t testing.TB) string {
	return node(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.Header.Get("X-Forwarded-For"), len(body))
	})
}

// v2 makes a header of version 2 by hand: command, family, and what follows the length.
func v2(command, family byte, rest ...byte) string {
	return string(proxyproto.SIGV2) + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + string(rest)
}

var (
	source4 = []byte{203, 0, 113, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 80}
	source6 = append(append(append([]byte{}, netip.MustParseAddr("2001:db8::7").AsSlice()...), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x30, 0x39, 0, 80)
	mapped6 = append(append(append([]byte{}, netip.MustParseAddr("::ffff:203.0.113.7").AsSlice()...), netip.MustParseAddr("::ffff:10.0.0.1").AsSlice()...), 0x30, 0x39, 0, 80)
	tlvs    = []byte{0x02, 0, 3, 'a', '.', 'b', 0x04, 0, 1, 0}
)

// proxyHeaders are good headers and the client that they make.
var proxyHeaders = []struct{ name, header, client string }{
	{"v1 TCP4", "PROXY TCP4 203.0.113.7 10.0.0.1 12345 80\r\n", "203.0.113.7"},
	{"v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n", "2001:db8::7"},
	{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", "127.0.0.1"},
	{"v1 UNKNOWN with more", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"},
	{"v2 TCP4", v2(0x21, 0x11, source4...), "203.0.113.7"},
	{"v2 TCP4 with extensions", v2(0x21, 0x11, append(source4[:12:12], tlvs...)...), "203.0.113.7"},
	{"v2 TCP6", v2(0x21, 0x21, source6...), "2001:db8::7"},
	{"v2 TCP6 mapped", v2(0x21, 0x21, mapped6...), "203.0.113.7"},
	{"v2 LOCAL", v2(0x20, 0x00), "127.0.0.1"},
	{"v2 LOCAL with addresses", v2(0x20, 0x11, source4...), "127.0.0.1"},
	{"v2 UNSPEC", v2(0x21, 0x00, tlvs...), "127.0.0.1"},
	{"v2 Unix", v2(0x21, 0x31, make([]byte, 216)...), "127.0.0.1"},
	{"v2 at the limit", v2(0x21, 0x11, append(source4[:12:12], append([]byte{0x04, 505 >> 8, 505 & 0xff}, make([]byte, 505)...)...)...), "203.0.113.7"},
}

// request is one whole request on a connection of its own.
const request = "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"

func TestProxyProtocol(t *testing.T) {
	b := start(t, nil, seen(t))
	addr := b.also(gateway.Listener{ProxyProtocol: loopback})
	for _, h := range proxyHeaders {
		for _, pieces := range []bool{false, true} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(10 * time.Second))
			// The first of the two requests arrives with the header.
			text := h.header + strings.Replace(request, "Connection: close\r\n", "", 1) + request
			if pieces {
				for i := range len(text) {
					io.WriteString(c, text[i:i+1])
				}
			} else {
				io.WriteString(c, text)
			}
			all, err := io.ReadAll(c)
			c.Close()
			if n := bytes.Count(all, []byte("\r\n\r\n"+h.client+" 4")); n != 2 || err != nil {
				t.Errorf("%s (pieces %v): %d good answers, %v, want 2:\n%s", h.name, pieces, n, err, all)
			}
		}
	}
}

func TestProxyProtocolBeforeTLS(t *testing.T) {
	b := start(t, nil, seen(t))
	cert, pool := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	addr := b.also(gateway.Listener{TLS: config, ProxyProtocol: loopback})
	for _, http2 := range []bool{false, true} {
		for _, h := range proxyHeaders {
			c := protocol(t, pool, http2)
			tr := c.Transport.(*http.Transport)
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &prefaced{Conn: nc, preface: []byte(h.header)}, nil
			}
			for range 2 {
				res, err := c.Post("https://"+addr+"/api/user/login", "", strings.NewReader(strings.Repeat("a", 300<<10)))
				if err != nil {
					t.Fatalf("HTTP/2 %v, %s: %v", http2, h.name, err)
				}
				got, err := io.ReadAll(res.Body)
				res.Body.Close()
				if want := h.client + " 307200"; string(got) != want || err != nil || res.ProtoMajor != map[bool]int{false: 1, true: 2}[http2] {
					t.Errorf("HTTP/2 %v, %s: %q %v over %s, want %q", http2, h.name, got, err, res.Proto, want)
				}
			}
			tr.CloseIdleConnections()
		}
	}
}

// prefaced writes something in one piece with the first that is written.
type prefaced struct {
	net.Conn
	preface []byte
}

func (p *prefaced) Write(b []byte) (int, error) {
	n := len(p.preface)
	if n == 0 {
		return p.Conn.Write(b)
	}
	all := append(p.preface, b...)
	p.preface = nil
	written, err := p.Conn.Write(all)
	return max(written-n, 0), err
}

// What a good header says is believed as if that client had connected itself.
func TestProxyProtocolPeer(t *testing.T) {
	b := start(t, func(s *gateway.Settings) {
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	}, seen(t))
	addr := b.also(gateway.Listener{ProxyProtocol: loopback})
	f := func(header, request, want string) {
		t.Helper()
		if got := talk(t, addr, header+request); !strings.Contains(got, want) {
			t.Errorf("%q answers %q, want %q", header+request, got, want)
		}
	}
	const forwarded = "GET /api/user/login HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.1\r\nConnection: close\r\n\r\n"
	f("PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n", forwarded, "198.51.100.1, 203.0.113.7 0")
	f("PROXY TCP4 203.0.114.7 10.0.0.1 1 2\r\n", forwarded, "\r\n\r\n203.0.114.7 0")
	f("PROXY UNKNOWN\r\n", forwarded, "\r\n\r\n127.0.0.1 0")
	const cluster = "GET /cluster HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	f("PROXY TCP4 10.0.0.7 10.0.0.1 1 2\r\n", cluster, "HTTP/1.1 200 ")
	f("PROXY TCP4 203.0.114.7 10.0.0.1 1 2\r\n", cluster, "HTTP/1.1 403 ")
}

// talk sends text to addr, which may be the path of a Unix socket, and returns what comes back until the end.
func talk(t testing.TB, addr, text string) string {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, text)
	all, _ := io.ReadAll(c)
	return string(all)
}

// A header from somebody who owes none is a malformed request.
func TestProxyProtocolFromStrangers(t *testing.T) {
	b := start(t, nil, seen(t))
	for _, networks := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.0.0.0/8")}} {
		addr := b.also(gateway.Listener{ProxyProtocol: networks})
		if got := talk(t, addr, request); !strings.Contains(got, "127.0.0.1 4") {
			t.Errorf("without a header: %q", got)
		}
		for _, h := range proxyHeaders {
			got := talk(t, addr, h.header+request)
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1") != 1 {
				t.Errorf("%s: %q, want 400 and nothing else", h.name, got)
			}
		}
	}
}

// badHeaders are closed without an answer.
var badHeaders = map[string]string{
	"none":                   request,
	"TLS":                    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"garbage":                "\x00\x01\x02\x03\x04",
	"v1 lower case":          "proxy TCP4 203.0.113.7 10.0.0.1 1 2\r\n" + request,
	"v1 bare line feed":      "PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n" + request,
	"v1 bad address":         "PROXY TCP4 203.0.113.777 10.0.0.1 1 2\r\n" + request,
	"v1 bad port":            "PROXY TCP4 203.0.113.7 10.0.0.1 1 70000\r\n" + request,
	"v1 other family":        "PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n" + request,
	"v1 two blanks":          "PROXY TCP4  203.0.113.7 10.0.0.1 1 2\r\n" + request,
	"v1 too long":            "PROXY UNKNOWN " + strings.Repeat("a", 200) + "\r\n" + request,
	"v1 without end":         "PROXY UNKNOWN " + strings.Repeat("a", 200),
	"v2 version":             v2(0x31, 0x11, source4...) + request,
	"v2 command":             v2(0x22, 0x11, source4...) + request,
	"v2 family":              v2(0x21, 0x41, source4...) + request,
	"v2 transport":           v2(0x21, 0x13, source4...) + request,
	"v2 datagram":            v2(0x21, 0x12, source4...) + request,
	"v2 too short":           v2(0x21, 0x11, source4[:11]...) + request,
	"v2 too long":            v2(0x21, 0x11, append(source4[:12:12], make([]byte, 509)...)...) + request,
	"v2 broken signature":    "\r\n\r\n\x00\r\nQUIX\n" + request,
	"v2 of the longest kind": string(proxyproto.SIGV2) + "\x21\x11\xff\xff",
}

func TestBadProxyHeaders(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) { t.Error("a request reached the node") }))
	addr := b.also(gateway.Listener{ProxyProtocol: loopback})
	for name, text := range badHeaders {
		if got := talk(t, addr, text); got != "" {
			t.Errorf("%s is answered: %q", name, got)
		}
	}
	// Cut short by the proxy. One that says nothing at all is a health check.
	for _, text := range []string{"", "P", "PROXY TCP4 203", v2(0x21, 0x11, source4...)[:20]} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, text)
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%q is answered: %q", text, got)
		}
		c.Close()
	}
	wantProxyFailures(t, b, len(badHeaders)+3)
}

func wantProxyFailures(t *testing.T, b *bench, want int) {
	t.Helper()
	admin := httptest.NewServer(b.g.AdminHandler())
	defer admin.Close()
	line := fmt.Sprintf("\ngoms_proxy_protocol_failures_total %d\n", want)
	if text := fetch(t, admin.URL+"/metrics"); !strings.Contains(text, line) {
		t.Errorf("/metrics lacks %q", line)
	}
}

func TestSlowProxyHeader(t *testing.T) {
	b := start(t, func(s *gateway.Settings) { s.HeadTimeout = 300 * time.Millisecond })
	addr := b.also(gateway.Listener{ProxyProtocol: loopback})
	for _, text := range []string{"", "PROXY TCP4 203.0.113.7"} {
		began := time.Now()
		if got := talk(t, addr, text); got != "" {
			t.Errorf("%q is answered: %q", text, got)
		}
		if took := time.Since(began); took < 250*time.Millisecond || took > 5*time.Second {
			t.Errorf("%q is closed after %s, want about 300ms", text, took)
		}
	}
	wantProxyFailures(t, b, 2)
}

// A connection that waits for its header does not hold up the end.
func TestProxyProtocolDrain(t *testing.T) {
	b := start(t, nil)
	addr := b.also(gateway.Listener{ProxyProtocol: loopback})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := talk(t, addr, "PROXY UNKNOWN\r\nGET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "200 OK") {
		t.Fatalf("livez = %q", got) // and the connection before it was accepted
	}
	if err := b.g.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

// FuzzProxyHeader holds what is read of a PROXY header to what the library makes of a whole stream, and
// to the pieces that it may arrive in.
func FuzzProxyHeader(f *testing.F) {
	for _, h := range proxyHeaders {
		f.Add([]byte(h.header + "GET / HTTP/1.1\r\n"))
	}
	for _, text := range badHeaders {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, client, err := gateway.ProxyHeader(b)
		if n < 0 || n > len(b) || n > 536 || err != nil && n != 0 {
			t.Fatalf("proxyHeader() = %d, %v of %d bytes", n, err, len(b))
		}
		if n == 0 && err == nil && len(b) >= 536 {
			t.Fatalf("wants more than %d bytes", len(b))
		}
		for i := range n {
			if m, _, err := gateway.ProxyHeader(b[:i]); m != 0 || err != nil {
				t.Fatalf("the first %d of %d bytes: %d, %v", i, n, m, err)
			}
		}
		if n == 0 || !client.IsValid() {
			return
		}
		br := bufio.NewReader(bytes.NewReader(b))
		h, err := proxyproto.Read(br)
		if err != nil {
			t.Fatalf("the library refuses it: %v", err)
		}
		if rest, _ := io.ReadAll(br); len(rest) != len(b)-n {
			t.Fatalf("%d bytes are taken, the library takes %d", n, len(b)-len(rest))
		}
		source, _, _ := h.TCPAddrs()
		if source == nil || netip.AddrPortFrom(source.AddrPort().Addr().Unmap(), source.AddrPort().Port()) != client {
			t.Fatalf("client %v, the library has %v", client, source)
		}
	})
}
