package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// unixListener listens in a directory whose name is short enough for it.
func unixListener(t testing.TB) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "goms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "g.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// overUnix is a client that goes to a socket whatever the URL says.
func overUnix(t testing.TB, path string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// The peer of a Unix connection is one of loopback: trusted, asked for a PROXY header and told of the
// nodes exactly as that is.
func TestUnixPeer(t *testing.T) {
	const forwarded = "GET /api/user/login HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n"
	addr := seen(t)
	trusting := start(t, func(s *gateway.Settings) { s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} }, addr)
	for _, c := range []struct {
		b       *bench
		proxied []netip.Prefix
		text    string
		want    string
	}{
		{start(t, nil, addr), nil, request, "\r\n\r\n127.0.0.1 4"},
		{start(t, nil, addr), nil, forwarded, "\r\n\r\n127.0.0.1 0"},
		{trusting, nil, forwarded, "\r\n\r\n203.0.113.7, 127.0.0.1 0"},
		{trusting, loopback, "PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n" + forwarded, "\r\n\r\n203.0.113.9 0"},
		{trusting, loopback, "PROXY UNKNOWN\r\n" + forwarded, "\r\n\r\n203.0.113.7, 127.0.0.1 0"},
		{trusting, nil, "GET /cluster HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
		{trusting, nil, "GET /cluster HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n", "HTTP/1.1 403 "},
		{trusting, nil, "nonsense\r\n\r\n", "HTTP/1.1 400 "},
	} {
		path := c.b.also(gateway.Listener{Listener: unixListener(t), ProxyProtocol: c.proxied})
		if got := talk(t, path, c.text); !strings.Contains(got, c.want) {
			t.Errorf("%q answers %q, want %q", c.text, got, c.want)
		}
	}
}

func TestUnixLargeBodies(t *testing.T) {
	const size = 8 << 20
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n != size || err != nil {
			t.Errorf("the node got %d bytes, %v", n, err)
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		w.Write(make([]byte, size))
	})
	cert, pool := certificate(t)
	b := start(t, nil, addr)
	plain := overUnix(t, b.also(gateway.Listener{Listener: unixListener(t)}))
	path := b.also(gateway.Listener{Listener: unixListener(t), TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}})
	secure := protocol(t, pool, true)
	secure.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	for url, c := range map[string]*http.Client{"http://127.0.0.1/api/user/login": plain, "https://127.0.0.1/api/user/login": secure} {
		for _, body := range []io.Reader{strings.NewReader(strings.Repeat("a", size)), io.MultiReader(strings.NewReader(strings.Repeat("a", size)))} {
			res, err := c.Post(url, "", body)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if n != size || err != nil || res.StatusCode != 200 {
				t.Errorf("%s = %d with %d bytes, %v", url, res.StatusCode, n, err)
			}
		}
	}
}

func TestUnixClientGone(t *testing.T) {
	addr, arrived, gone := patient(t)
	b := start(t, nil, addr)
	c, err := net.Dial("unix", b.also(gateway.Listener{Listener: unixListener(t)}))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n")
	waitFor(t, "the request to arrive", arrived)
	c.Close()
	waitFor(t, "the node to see that the client left", gone)
}

// A refusal reaches a client that is still sending its body.
func TestUnixRefusalReachesTheSender(t *testing.T) {
	b := start(t, nil)
	c, err := net.Dial("unix", b.also(gateway.Listener{Listener: unixListener(t)}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "POST /api/user/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
	if _, err := c.Write(make([]byte, 100000)); err != nil {
		t.Errorf("the body cannot be sent: %v", err)
	}
	if all, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 404 ") {
		t.Errorf("answer = %.80q %v, want 404", all, err)
	}
}

// A tunnel that carries something lives on though nothing counts its bytes; one that is silent ends.
func TestUnixTunnel(t *testing.T) {
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, br)
	})
	b := start(t, func(s *gateway.Settings) { s.StreamTimeout = time.Second }, addr)
	c, err := net.Dial("unix", b.also(gateway.Listener{Listener: unixListener(t)}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(c)
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("answer = %v %v, want 101", res, err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range 12 { // more than twice the limit
		<-tick.C
		io.WriteString(c, "x")
		if _, err := br.ReadByte(); err != nil {
			t.Fatalf("the tunnel ended after %d pieces: %v", i, err)
		}
	}
	if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
		t.Errorf("the silent tunnel ends with %q %v", rest, err)
	}
}

func TestUnixDrain(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	addr := node(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "done")
	})
	b := start(t, nil, addr)
	path := b.also(gateway.Listener{Listener: unixListener(t)})
	idle, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n")
	waitFor(t, "the request to arrive", arrived)
	stopped := make(chan error, 1)
	go func() { stopped <- b.g.Shutdown(context.Background()) }()
	<-b.done
	close(release)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 200 || !res.Close {
		t.Fatalf("answer = %v %v, want 200 and close", res, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket's file is still there: %v", err)
	}
}
