package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/pkg/gateway"
)

// certificate makes a certificate for this host, and returns who trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	a := certstest.New(t)
	return a.Host().TLS(t), a.Pool()
}

// secure serves b over TLS too and returns the address and the authorities to trust.
func (b *bench) secure() (string, *x509.CertPool) {
	b.t.Helper()
	cert, pool := certificate(b.t)
	return b.also(gateway.Listener{TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}}), pool
}

// protocol returns a client that speaks one protocol.
func protocol(t testing.TB, pool *x509.CertPool, http2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetHTTP2(http2)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func TestBothProtocolsOverTLS(t *testing.T) {
	const size = 1 << 20
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %d %v %s %s", r.Method, r.URL.RequestURI(), len(body), err, r.Header.Get("X-Forwarded-Proto"), r.Trailer.Get("X-Sum")))
		w.Header().Set("Trailer", "X-Back")
		w.Write(body)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Back", "there")
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	for _, http2 := range []bool{false, true} {
		c := protocol(t, pool, http2)
		for name, body := range map[string]io.Reader{"known length": bytes.NewReader(make([]byte, size)), "chunked": io.MultiReader(bytes.NewReader(make([]byte, size)))} {
			req, _ := http.NewRequest("POST", "https://"+secure+"/api/user/login?a=1", body)
			req.Trailer = http.Header{"X-Sum": {"42"}}
			if name != "chunked" {
				req.Trailer = nil
			}
			res, err := c.Do(req)
			if err != nil {
				t.Fatalf("HTTP/2 %v, %s: %v", http2, name, err)
			}
			all, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || len(all) != size || res.ProtoMajor != map[bool]int{false: 1, true: 2}[http2] {
				t.Errorf("HTTP/2 %v, %s: %d bytes, %v, %s", http2, name, len(all), err, res.Proto)
			}
			sum := ""
			if name == "chunked" {
				sum = "42"
			}
			if got, want := res.Header.Get("X-Seen"), strings.TrimSpace(fmt.Sprintf("POST /login?a=1 %d <nil> https %s", size, sum)); got != want {
				t.Errorf("HTTP/2 %v, %s: the node saw %q, want %q", http2, name, got, want)
			}
			if res.Trailer.Get("X-Back") != "there" {
				t.Errorf("HTTP/2 %v, %s: trailer %v", http2, name, res.Trailer)
			}
		}
		res, err := c.Get("https://" + secure + "/api/nobody/x")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 404 || !strings.Contains(string(body), `"unknown_service"`) || res.Header.Get("Connection") != "" && http2 {
			t.Errorf("HTTP/2 %v: unknown service = %d %s %v", http2, res.StatusCode, body, res.Header)
		}
		req, _ := http.NewRequest("POST", "https://"+secure+"/api/user/small", strings.NewReader(strings.Repeat("a", 2000)))
		res, err = c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 413 {
			t.Errorf("HTTP/2 %v: too large a body = %d, want 413", http2, res.StatusCode)
		}
	}
}

func TestHTTP2ClientGoneCancelsTheAttempt(t *testing.T) {
	addr, arrived, gone := patient(t)
	b := start(t, nil, addr)
	secure, pool := b.secure()
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+secure+"/api/user/login", nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := protocol(t, pool, true).Do(req); err == nil {
			res.Body.Close()
			t.Error("a cancelled request was answered")
		}
	}()
	waitFor(t, "the request to arrive", arrived)
	cancel()
	<-done
	waitFor(t, "the node to see that the client left", gone)
}

func TestHTTP2BrokenAnswerIsReset(t *testing.T) {
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		}
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	res, err := protocol(t, pool, true).Get("https://" + secure + "/api/user/login")
	if err == nil {
		defer res.Body.Close()
		var all []byte
		if all, err = io.ReadAll(res.Body); err == nil {
			t.Errorf("the cut answer looks whole: %q", all)
		}
	}
}

func TestHTTP2ShutdownFinishesStreams(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	addr := node(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "done")
	})
	b := start(t, func(s *gateway.Settings) { s.DrainTimeout = 10 * time.Second }, addr)
	secure, pool := b.secure()
	answer := make(chan string, 1)
	go func() {
		res, err := protocol(t, pool, true).Get("https://" + secure + "/api/user/login")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	waitFor(t, "the request to arrive", arrived)
	stopped := make(chan error, 1)
	go func() { stopped <- b.g.Shutdown(context.Background()) }()
	<-b.done
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("answer = %q, want done", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

// TestStrictInsideTLS holds HTTP/1.1 inside TLS to the same parser.
func TestStrictInsideTLS(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) {}))
	secure, pool := b.secure()
	c, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: pool, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 400 || !res.Close {
		t.Errorf("smuggling inside TLS = %v %v, want 400 and close", res, err)
	}
}

// TestPlainTextToTLS is told nothing and holds nothing.
func TestPlainTextToTLS(t *testing.T) {
	b := start(t, nil)
	secure, _ := b.secure()
	c, err := net.Dial("tcp", secure)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if all, _ := io.ReadAll(c); bytes.Contains(all, []byte("HTTP/1.1 2")) {
		t.Errorf("plain text on the TLS port got %q", all)
	}
}

func TestRedirect(t *testing.T) {
	f := func(port, host, target, want string) {
		t.Helper()
		s := node(t, gateway.Redirect(port).ServeHTTP)
		c, err := net.Dial("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, host)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != 308 || res.Header.Get("Location") != want {
			t.Errorf("Redirect(%q) of %q %q = %v %v, want %q", port, host, target, res, err, want)
		}
	}
	f("443", "shop.example:8080", "/a?b=c", "https://shop.example/a?b=c")
	f("8443", "shop.example", "/", "https://shop.example:8443/")
	f("8443", "[::1]:80", "/a", "https://[::1]:8443/a")
	f("8443", "[::1]", "/a", "https://[::1]:8443/a")
	f("443", "[::1]:80", "/a", "https://[::1]/a")
}
