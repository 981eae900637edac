package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// TestChunkedBodyInTwoPieces splits a chunked request with trailers after every byte of its body: it must
// mean the same wherever the network cuts it, and so must the request behind it.
func TestChunkedBodyInTwoPieces(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s|%s|%v", body, r.Trailer.Get("X-Sum"), err)
	})
	b := start(t, nil, addr)
	const head = "POST /api/user/login HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
	const body = "5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 0123456789\r\nX-More: GET /livez HTTP/1.1\r\n\r\n"
	for cut := range len(body) + 1 {
		c := b.dial()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(c, head+body[:cut])
		time.Sleep(2 * time.Millisecond) // so that it arrives in two pieces: nothing can tell when the first was read
		io.WriteString(c, body[cut:]+"GET /api/user/get HTTP/1.1\r\nHost: a\r\n\r\n")
		br := bufio.NewReader(c)
		for i, want := range []string{"hello!|0123456789|<nil>", "||<nil>"} {
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatalf("cut at %d, answer %d: %v", cut, i, err)
			}
			got, _ := io.ReadAll(res.Body)
			if res.StatusCode != 200 || string(got) != want {
				t.Errorf("cut at %d, answer %d = %d %q, want %q", cut, i, res.StatusCode, got, want)
			}
		}
		c.Close()
	}
}

// TestLateBytesPoisonNobody has a node send more than its answer, after it.
func TestLateBytesPoisonNobody(t *testing.T) {
	late := make(chan struct{}, 1)
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			if req.Method == "HEAD" {
				continue
			}
			io.WriteString(c, "ok")
			if req.URL.RawQuery == "late" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
				late <- struct{}{}
			}
		}
	})
	b := start(t, nil, addr)
	for range 20 {
		if _, body := b.get("/api/user/login?late"); body != "ok" {
			t.Fatalf("answer = %q", body)
		}
		waitFor(t, "the node to send too much", late)
		if status, body := b.get("/api/user/login"); status != 200 || body != "ok" {
			t.Fatalf("the next answer = %d %q, want 200 ok", status, body)
		}
	}
}

// TestStaleConnectionsLoseNoGet has every node close each connection after one answer, as the gateway
// finds out.
func TestStaleConnectionsLoseNoGet(t *testing.T) {
	closing := func() string {
		return rawNode(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err == nil {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
	}
	for _, nodes := range [][]string{{closing()}, {closing(), closing(), closing()}} {
		b := start(t, nil, nodes...)
		for i := range 60 {
			if status, body := b.get("/api/user/login"); status != 200 || body != "ok" {
				t.Fatalf("%d nodes, GET %d = %d %q, want 200 ok", len(nodes), i, status, body)
			}
		}
	}
}

func TestUpgradesThatWouldCarryHTTP2(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q %q", r.Header["Upgrade"], r.Header["Http2-Settings"])
	})
	b := start(t, nil, addr)
	for _, protocol := range []string{"h2c", "H2C", "foo, h2c", "h2c, websocket", "h2c/1", "h2", "HTTP/2.0", "websocket, foo"} {
		got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: " + protocol + "\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got, "[] []") {
			t.Errorf("Upgrade: %s reached the node: %q", protocol, got)
		}
	}
}

func TestUpgradeToSomethingElseIsRefused(t *testing.T) {
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
		}
	})
	b := start(t, nil, addr)
	if got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("101 to another protocol = %.60q, want 502", got)
	}
}

func TestCutAnswerShowsToOldClients(t *testing.T) {
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		}
	})
	b := start(t, nil, addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.0\r\n\r\n")
	if all, err := io.ReadAll(c); err == nil {
		t.Errorf("the cut answer looks whole: %q", all)
	}
}

// TestUploadBesideTheAnswer: neither may be cut for the other's sake, as long as bytes pass.
func TestUploadBesideTheAnswer(t *testing.T) {
	const size = 40
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush() // the head comes long before the request's body has
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	})
	b := start(t, func(s *gateway.Settings) { s.BodyTimeout, s.AnswerTimeout = 300*time.Millisecond, 300*time.Millisecond }, addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size<<14)
	piece := make([]byte, 1<<14)
	for range size { // 800 ms in all
		c.Write(piece)
		time.Sleep(20 * time.Millisecond)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(res.Body); err != nil || string(all) != fmt.Sprint(size<<14, " <nil>") {
		t.Errorf("answer = %q %v", all, err)
	}
}

func TestTunnelInsideTLSEndsWithItsNode(t *testing.T) {
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nbye")
		}
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	c, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	if all, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(all), "\r\n\r\nbye") {
		t.Errorf("tunnel = %q %v, want the node's end", all, err)
	}
}

func TestHTTP2HeadComesBeforeTheBody(t *testing.T) {
	release := make(chan struct{})
	addr := node(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
		io.WriteString(w, "late")
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	res, err := protocol(t, pool, true).Get("https://" + secure + "/api/user/login") // returns with the head
	close(release)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if all, err := io.ReadAll(res.Body); err != nil || string(all) != "late" {
		t.Errorf("body = %q %v", all, err)
	}
}

func TestClusterBehindProxies(t *testing.T) {
	b := start(t, func(s *gateway.Settings) {
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	f := func(lines string, want int) {
		t.Helper()
		got := b.raw("GET /cluster HTTP/1.1\r\nHost: a\r\n" + lines + "Connection: close\r\n\r\n")
		if !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", want)) {
			t.Errorf("/cluster with %q = %.40q, want %d", lines, got, want)
		}
	}
	f("", 200)
	f("X-Forwarded-For: 8.8.8.8, 10.0.0.1\r\n", 403)
	f("X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-For: 10.0.0.1\r\n", 403)
	f("X-Forwarded-For: 192.168.1.1\r\nX-Forwarded-For: 10.0.0.1\r\n", 200)
	f("X-Forwarded-For: 10.0.0.2\r\nX-Forwarded-For: 10.0.0.1\r\n", 200)
	f("X-Forwarded-For: nonsense\r\nX-Forwarded-For: 10.0.0.1\r\n", 403)
	f("X-Real-IP: 8.8.8.8\r\n", 403)
	f("Forwarded: for=8.8.8.8\r\n", 403)
}
