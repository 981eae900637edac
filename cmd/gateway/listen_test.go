package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gatewayProcess is a gateway that runs in this process.
type gatewayProcess struct {
	t    *testing.T
	out  output
	done chan error
	stop func()
}

// startGateway runs a gateway on free ports with the configuration given, until the test ends or stop.
func startGateway(t *testing.T, config string) *gatewayProcess {
	t.Helper()
	p := &gatewayProcess{t: t, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	file := write(t, "c.yml", "callServiceKey: "+key+"\n"+config)
	ended := make(chan struct{})
	var result error // once ended is closed; who awaits a line may have taken it from done
	go func() {
		defer close(ended)
		result = run(ctx, []string{"-config", file, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &p.out, &p.out)
		p.done <- result
	}()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case <-ended:
			if result != nil {
				t.Errorf("run() = %v", result)
			}
		case <-time.After(patience):
			t.Error("the gateway does not stop")
		}
		if strings.Contains(p.out.String(), key) || strings.Contains(p.out.String(), "PRIVATE KEY") {
			t.Error("a key is in the log")
		}
	}
	t.Cleanup(p.stop)
	return p
}

func (p *gatewayProcess) await(pattern string) string {
	p.t.Helper()
	return awaitLine(p.t, &p.out, p.done, pattern)
}

// embeddedEtcd is the configuration of a gateway's own etcd.
func embeddedEtcd(t *testing.T) string {
	return "etcd: {embedded: {addr: '127.0.0.1:0', dir: '" + filepath.Join(t.TempDir(), "etcd") + "'}}\n"
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "goms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// overSocket is a client that goes to a Unix socket whatever the URL says.
func overSocket(path string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

// staleSocket leaves the file of a socket that nobody listens on.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
}

func TestListeners(t *testing.T) {
	dir := shortDir(t)
	plain, secure := filepath.Join(dir, "a.sock"), filepath.Join(dir, "b.sock")
	certFile, keyFile, pool := writeCertificate(t)
	staleSocket(t, plain)
	p := startGateway(t, embeddedEtcd(t)+`
gateway:
  drainDelay: 0s
  proxyProtocol: [127.0.0.0/8]
  listeners:
    - addr: unix:`+plain+`
      mode: "0600"
    - {addr: 'unix:`+secure+`', tls: true}
    - {addr: '127.0.0.1:0', tls: true, proxyProtocol: [127.0.0.0/8]}
    - {addr: '127.0.0.1:0'}
  tls:
    port: 0
    redirectPort: 0
    certificates: [{certFile: `+certFile+`, keyFile: `+keyFile+`}]
`)
	standard := "127.0.0.1:" + p.await(`Http Listen on port: (\d+)`)
	https := "127.0.0.1:" + p.await(`Https Listen on port: (\d+)`)
	p.await(`Http Listen on unix:` + plain + `\n`)
	p.await(`Https Listen on unix:` + secure + `\n`)
	redirect := "127.0.0.1:" + p.await(`Redirect Listen on port: (\d+)`)
	proxied := p.await(`Https Listen on (127\.0\.0\.1:\d+)\n`)
	bare := p.await(`Http Listen on (127\.0\.0\.1:\d+)\n`)
	p.await(`registry read`)

	for path, want := range map[string]fs.FileMode{plain: 0o600, secure: 0o660} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want mode %o", path, info, err, want)
		}
	}
	if res, err := overSocket(plain).Get("http://gateway/cluster"); err != nil || res.StatusCode != 200 {
		t.Errorf("/cluster over the Unix socket = %v %v, want 200", res, err)
	} else {
		res.Body.Close()
	}
	livez := func(what, network, addr string, secured bool, header, want string) {
		t.Helper()
		c, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, header)
		if secured {
			c = tls.Client(c, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
		}
		io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(got), want) || want == "" && len(got) > 0 {
			t.Errorf("%s = %q, want %q", what, got, want)
		}
	}
	const header = "PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\n"
	livez("TLS over a Unix socket", "unix", secure, true, "", "HTTP/1.1 200 ")
	livez("the HTTP port with a header", "tcp", standard, false, header, "HTTP/1.1 200 ")
	livez("the HTTP port without", "tcp", standard, false, "", "")
	livez("the HTTPS port with a header", "tcp", https, true, header, "HTTP/1.1 200 ")
	livez("the HTTPS port without", "tcp", https, true, "", "")
	livez("the redirect with a header", "tcp", redirect, false, header, "HTTP/1.1 308 ")
	livez("the redirect without", "tcp", redirect, false, "", "")
	livez("a TLS listener with a header", "tcp", proxied, true, header, "HTTP/1.1 200 ")
	livez("a listener that knows none, with a header", "tcp", bare, false, header, "HTTP/1.1 400 ")
	livez("a listener that knows none", "tcp", bare, false, "", "HTTP/1.1 200 ")

	// A socket that answers is not taken over.
	_, err := runFor(t, "-config", write(t, "second.yml", "callServiceKey: "+key+"\n"+embeddedEtcd(t)+"gateway: {listeners: [{addr: 'unix:"+plain+"'}]}\n"), "-http_port=0", "-rpc_port=0", "-admin_port=0")
	if err == nil || !strings.Contains(err.Error(), "listen on unix:"+plain+": another process answers there") {
		t.Errorf("a second gateway on the same socket = %v", err)
	}
	if res, err := overSocket(plain).Get("http://gateway/livez"); err != nil || res.StatusCode != 200 {
		t.Errorf("the first gateway then = %v %v, want 200", res, err)
	} else {
		res.Body.Close()
	}

	p.stop()
	for _, path := range []string{plain, secure} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

func TestListenUnixErrors(t *testing.T) {
	dir := shortDir(t)
	f := func(path, want string) {
		t.Helper()
		ln, err := listenUnix(path, 0o600)
		if err == nil {
			ln.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "listen on unix:"+path) || !strings.Contains(err.Error(), want) {
			t.Errorf("listenUnix(%q) = %v, want %q", path, err, want)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(file, "no socket")
	if b, err := os.ReadFile(file); err != nil || string(b) != "kept" {
		t.Errorf("the file is now %q %v", b, err)
	}
	f(dir, "no socket")
	f(filepath.Join(dir, "none", "a"), "no such file or directory")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	f(link, "no socket")
}

// TestSocketBehindProxy has a proxy that is trusted speak over the socket.
func TestSocketBehindProxy(t *testing.T) {
	path := filepath.Join(shortDir(t), "g.sock")
	p := startGateway(t, embeddedEtcd(t)+"gateway: {drainDelay: 0s, accessLog: true, trustedProxies: [127.0.0.1/32], listeners: [{addr: 'unix:"+path+"'}]}\n")
	p.await(`Http Listen on unix:`)
	p.await(`registry read`)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://gateway/cluster", nil)
		req.Header.Set("X-Forwarded-For", r.Header.Get("As"))
		res, err := overSocket(path).Do(req)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		res.Body.Close()
		w.WriteHeader(res.StatusCode)
	}))
	defer proxy.Close()
	for client, want := range map[string]int{"10.0.0.7": 200, "203.0.113.7": 403} {
		req, _ := http.NewRequest("GET", proxy.URL, nil)
		req.Header.Set("As", client)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("/cluster for %s = %d, want %d", client, res.StatusCode, want)
		}
	}
	p.await(`request .*addr=127\.0\.0\.1:0`)
}
