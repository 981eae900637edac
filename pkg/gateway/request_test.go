package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// fault is the body of an answer of the gateway's own.
type fault struct {
	Status    bool   `json:"status"`
	Code      int    `json:"code"`
	Reason    string `json:"reason"`
	Msg       string `json:"msg"`
	RequestID string `json:"requestId"`
}

// TestRefused sends what is malformed or ambiguous: the answer says so, the connection ends, and
// nothing of it reaches a node.
func TestRefused(t *testing.T) {
	var reached atomic.Int64
	addr := node(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	b := start(t, nil, addr)
	f := func(text string, code int, reason string) {
		t.Helper()
		got := b.raw(text)
		res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
		if err != nil {
			t.Errorf("%.80q: answer %q: %v", text, got, err)
			return
		}
		var body fault
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
			t.Errorf("%.80q: body: %v", text, err)
		}
		if res.StatusCode != code || body.Code != code || body.Reason != reason || body.Status || body.Msg == "" {
			t.Errorf("%.80q: %d %+v, want %d %s", text, res.StatusCode, body, code, reason)
		}
		if !res.Close {
			t.Errorf("%.80q: the connection was kept", text)
		}
		if n := strings.Count(got, "\r\nX-Content-Type-Options: "); n != 1 {
			t.Errorf("%.80q: %d answers, want 1", text, n)
		}
	}
	const next = "GET /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n"
	post := func(lines, body string) string {
		return "POST /api/user/login HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + body + next
	}
	f(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400, "bad_request")
	f(post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400, "bad_request")
	f(post("Content-Length: 5, 5\r\n", "hello"), 400, "bad_request")
	f(post("A: b\r\n c\r\n", ""), 400, "bad_request")
	f(post("A : b\r\n", ""), 400, "bad_request")
	f(post("A: b\rc\r\n", ""), 400, "bad_request")
	f(post("A: b\x00\r\n", ""), 400, "bad_request")
	f("GET /api/user/login HTTP/1.1\nHost: a\n\n", 400, "bad_request")
	f("GET /api/user/login HTTP/1.1\r\n\r\n", 400, "bad_request")
	f("GET /api/user/login HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request")
	f(post("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"), 400, "bad_request")
	f(post("Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n"), 400, "bad_request")
	f(post("Transfer-Encoding: chunked\r\n", "5\r\nhelloX\r\n0\r\n\r\n"), 400, "bad_request")
	f(post("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 1\r\n\r\n"), 400, "bad_request")
	f(post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, "bad_coding")
	f(post("Expect: 100-maybe\r\nContent-Length: 1\r\n", "a"), 417, "bad_expectation")
	f("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "method_not_allowed")
	f("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "bad_version")
	f("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "bad_version")
	for _, path := range []string{"/api/user/..", "/api/user%2flogin", "/api/%2e%2e/login", "/api/user/login%00", "/api/user%5clogin", "/api\\user", "/api/./user/login", "/api//user/login", "/api/user/%zz"} {
		f("GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n", 400, map[bool]string{true: "bad_request", false: "bad_path"}[strings.Contains(path, "\\")])
	}
	f("GET /api/user/login?"+strings.Repeat("a", 9<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "target_too_long")
	f("GET /"+strings.Repeat("a", 40<<10), 414, "target_too_long")
	f("GET /api/user/login HTTP/1.1\r\nHost: a\r\nA: "+strings.Repeat("a", 33<<10)+"\r\n\r\n", 431, "head_too_large")
	f("GET /api/user/login HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("A: b\r\n", 101)+"\r\n", 431, "head_too_large")
	f("POST /api/user/small HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n", 413, "body_too_large")
	f("POST /api/user/small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n"+strings.Repeat("a", 1025)+"\r\n0\r\n\r\n", 413, "body_too_large")
	if n := reached.Load(); n != 0 {
		t.Errorf("%d refused requests reached the node", n)
	}
}

func TestUnknownRoutesKeepTheConnection(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) {}))
	got := b.raw("GET /api/nobody/login HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST /api/user/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" +
		"DELETE /api/user/get HTTP/1.1\r\nHost: a\r\n\r\n" +
		"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	br := bufio.NewReader(strings.NewReader(got))
	for i, want := range []struct {
		code          int
		reason, allow string
	}{{404, "unknown_service", ""}, {404, "unknown_route", ""}, {405, "method_not_allowed", "GET, HEAD"}, {404, "unknown_route", ""}} {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d of %q: %v", i, got, err)
		}
		var body fault
		json.NewDecoder(res.Body).Decode(&body)
		if res.StatusCode != want.code || body.Reason != want.reason || res.Header.Get("Allow") != want.allow {
			t.Errorf("answer %d = %d %s %q, want %v", i, res.StatusCode, body.Reason, res.Header.Get("Allow"), want)
		}
		if body.RequestID == "" || body.RequestID != res.Header.Get("X-Request-Id") {
			t.Errorf("answer %d: request id %q in the body, %q in the head", i, body.RequestID, res.Header.Get("X-Request-Id"))
		}
	}
}

// TestOwnedFields sends headers that the gateway vouches for, in many spellings.
func TestOwnedFields(t *testing.T) {
	var seen atomic.Pointer[http.Header]
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
		h := r.Header.Clone()
		h.Set("Host", r.Host)
		seen.Store(&h)
	})
	b := start(t, nil, addr)
	b.raw("GET /api/user/login HTTP/1.1\r\nHost: shop.example\r\nCall-Service-Key: forged\r\ncall_service_key: forged\r\nCALL.SERVICE.KEY: forged\r\n" +
		"X-Forwarded-For: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /evil\r\n" +
		"X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-Id: forged\r\nx_b3_traceid: forged\r\nVia: 1.1 other\r\n" +
		"Connection: close, x-forwarded-for, CALL-SERVICE-KEY, x-request-id, traceparent, X-Drop\r\nX-Drop: me\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\nX-Keep: me\r\n\r\n")
	if seen.Load() == nil {
		t.Fatal("the request did not reach the node")
	}
	h := *seen.Load()
	for name, want := range map[string]string{
		"Call-Service-Key": testKey, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example",
		"Host": "shop.example", "X-Keep": "me", "Te": "trailers",
	} {
		if got := h.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Forwarded-Prefix", "X-Drop", "Keep-Alive", "Proxy-Connection"} {
		if got, ok := h[name]; ok {
			t.Errorf("%s = %q reached the node", name, got)
		}
	}
	for name := range h {
		if strings.ContainsAny(name, "_.") {
			t.Errorf("%s reached the node", name)
		}
	}
	if id := h.Get("X-Request-Id"); len(id) != 32 || id == "forged" {
		t.Errorf("X-Request-Id = %q", id)
	}
	if via := h.Values("Via"); len(via) != 2 || via[0] != "1.1 other" || !strings.HasPrefix(via[1], "1.1 goms-") {
		t.Errorf("Via = %q", via)
	}
	if h.Get("Traceparent") == "" && h.Get("X-B3-Traceid") != "" {
		t.Errorf("trace headers disagree: %v", h)
	}
}

func TestTrustedProxy(t *testing.T) {
	var seen atomic.Pointer[http.Header]
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) { h := r.Header.Clone(); seen.Store(&h) })
	b := start(t, func(s *gateway.Settings) { s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, addr)
	b.raw("GET /api/user/login HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 9.9.9.9, 127.0.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\nX-Request-Id: from-nginx_1\r\nX-Real-IP: 9.9.9.9\r\nConnection: close\r\n\r\n")
	h := *seen.Load()
	for name, want := range map[string]string{
		"X-Forwarded-For": "6.6.6.6, 9.9.9.9, 127.0.0.9, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop", "X-Request-Id": "from-nginx_1", "X-Real-Ip": "9.9.9.9",
	} {
		if got := h.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	// The client that trusted proxies name decides who may see /cluster.
	if got := b.raw("GET /cluster HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Errorf("/cluster for 9.9.9.9 = %.40q, want 403", got)
	}
	if got := b.raw("GET /cluster HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9, 10.1.2.3\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("/cluster for 10.1.2.3 = %.40q, want 200", got)
	}
}

func TestClusterIsNotForThoseWhoClaimToBeElsewhere(t *testing.T) {
	b := start(t, nil)
	if status, _ := b.get("/cluster"); status != 200 {
		t.Errorf("/cluster = %d, want 200", status)
	}
	if got := b.raw("GET /cluster HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Errorf("/cluster through an unknown proxy = %.40q, want 403", got)
	}
}

func TestLoopIsCut(t *testing.T) {
	var b *bench
	addr := node(t, func(w http.ResponseWriter, r *http.Request) { // a node that sends everything back to the gateway
		req, _ := http.NewRequest("GET", "http://"+b.addr+"/api/user/login", nil)
		req.Header["Via"] = r.Header["Via"]
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	})
	b = start(t, nil, addr)
	if status, body := b.get("/api/user/login"); status != 508 || !strings.Contains(body, `"loop"`) {
		t.Errorf("a loop = %d %s, want 508", status, body)
	}
}

func TestAnswerForms(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RawQuery {
		case "chunked":
			w.(http.Flusher).Flush()
			io.WriteString(w, "in ")
			w.(http.Flusher).Flush()
			io.WriteString(w, "pieces")
		case "trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Sum", "42")
		case "204":
			w.WriteHeader(204)
		case "304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		case "early":
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.WriteHeader(200)
		case "key":
			w.Header().Set("Call-Service-Key", r.Header.Get("Call-Service-Key"))
			w.Header()["Date"] = nil
		case "close":
			conn, rw, _ := w.(http.Hijacker).Hijack()
			rw.WriteString("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil the end")
			rw.Flush()
			conn.Close()
		default:
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "four")
		}
	})
	b := start(t, nil, addr)
	f := func(method, query string, status int, body string) *http.Response {
		t.Helper()
		got := b.raw(method + " /api/user/login?" + query + " HTTP/1.1\r\nHost: a\r\n\r\n" + "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		br := bufio.NewReader(strings.NewReader(got))
		req, _ := http.NewRequest(method, "/", nil)
		res, err := http.ReadResponse(br, req)
		for err == nil && res.StatusCode < 200 {
			res, err = http.ReadResponse(br, req)
		}
		if err != nil {
			t.Fatalf("%s %s: %q: %v", method, query, got, err)
		}
		all, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != status || string(all) != body {
			t.Errorf("%s %s = %d %q %v, want %d %q", method, query, res.StatusCode, all, err, status, body)
		}
		if next, err := http.ReadResponse(br, nil); err != nil || next.StatusCode != 200 {
			t.Errorf("%s %s: the next request on the connection failed: %q", method, query, got)
		}
		return res
	}
	f("GET", "", 200, "four")
	if res := f("HEAD", "", 200, ""); res.ContentLength != 4 {
		t.Errorf("HEAD: Content-Length = %d, want 4", res.ContentLength)
	}
	f("GET", "chunked", 200, "in pieces")
	f("HEAD", "chunked", 200, "")
	if res := f("GET", "trailer", 200, "body"); res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailer = %v, want X-Sum: 42", res.Trailer)
	}
	f("GET", "204", 204, "")
	f("GET", "304", 304, "")
	f("GET", "early", 200, "")
	f("GET", "close", 200, "until the end")
	if res := f("GET", "key", 200, ""); res.Header.Get("Call-Service-Key") != "" || res.Header.Get("Date") == "" {
		t.Errorf("head = %v, want no key and a date", res.Header)
	}
	old := b.raw("GET /api/user/login?chunked HTTP/1.0\r\n\r\n")
	if !strings.HasSuffix(old, "\r\n\r\nin pieces") || strings.Contains(old, "chunked") {
		t.Errorf("HTTP/1.0 answer = %q", old)
	}
}

func TestContinue(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "no" {
			w.WriteHeader(403)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	b := start(t, nil, addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(c)
	io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 100 {
		t.Fatalf("first answer = %v %v, want 100", res, err)
	}
	io.WriteString(c, "hello")
	res, err = http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("answer = %v %v, want 200", res, err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "hello" {
		t.Errorf("body = %q", body)
	}
	// A refusal comes without the body having been sent, and ends the connection.
	io.WriteString(c, "POST /api/user/login?no HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	res, err = http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 403 || !res.Close {
		t.Fatalf("answer = %v %v, want 403 and close", res, err)
	}
}

// TestStreamsBothWays echoes a body piece by piece: each piece must come back before the next is sent.
func TestStreamsBothWays(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})
	b := start(t, nil, addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		piece := fmt.Sprintf("piece %d", i)
		fmt.Fprintf(c, "%x\r\n%s\r\n", len(piece), piece)
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != piece {
			t.Fatalf("echo of %q = %q %v", piece, got, err)
		}
	}
	io.WriteString(c, "0\r\n\r\n")
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("rest = %q %v", rest, err)
	}
}

func TestLargeBodies(t *testing.T) {
	const size = 3 << 20
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Got", fmt.Sprint(n, err))
		if r.URL.RawQuery != "chunked" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		w.Write(bytes.Repeat([]byte("x"), size))
	})
	b := start(t, nil, addr)
	for _, form := range []string{"length", "chunked"} {
		body := io.Reader(bytes.NewReader(make([]byte, size)))
		if form == "chunked" {
			body = io.MultiReader(body) // of unknown length
		}
		req, _ := http.NewRequest("POST", "http://"+b.addr+"/api/user/login?"+form, body)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || len(all) != size || res.Header.Get("X-Got") != fmt.Sprint(size, " <nil>") {
			t.Errorf("%s: got %d bytes, %v; the node got %s", form, len(all), err, res.Header.Get("X-Got"))
		}
	}
}

func TestBodyOverTheLimitWhileStreaming(t *testing.T) {
	got, arrived := make(chan error, 1), make(chan struct{})
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
	})
	b := start(t, nil, addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "POST /api/user/small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n"+strings.Repeat("a", 512)+"\r\n")
	waitFor(t, "the request to arrive", arrived)
	io.WriteString(c, "300\r\n"+strings.Repeat("a", 768)+"\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 413 || !res.Close {
		t.Fatalf("answer = %v %v, want 413 and close", res, err)
	}
	select {
	case err := <-got:
		if err == nil {
			t.Error("the node took the cut body for a whole one")
		}
	case <-time.After(5 * time.Second):
		t.Error("the node still waits")
	}
}

func TestUpgrade(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" || r.Header.Get("Connection") != "Upgrade" {
			w.WriteHeader(400)
			return
		}
		conn, rw, _ := w.(http.Hijacker).Hijack()
		defer conn.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		rw.Flush()
		io.Copy(conn, rw)
	})
	b := start(t, nil, addr)
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" {
		t.Fatalf("answer = %v %v, want 101", res, err)
	}
	io.WriteString(c, "late")
	c.(*net.TCPConn).CloseWrite()
	if all, err := io.ReadAll(br); err != nil || string(all) != "hello early late" {
		t.Errorf("tunnel = %q %v", all, err)
	}
	// h2c is never passed on, and without the option there is no upgrade.
	for _, lines := range []string{"Connection: upgrade\r\nUpgrade: h2c\r\n", "Upgrade: echo\r\n"} {
		if got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\n" + lines + "\r\nGET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%q = %.60q, want the node's 400", lines, got)
		}
	}
}

func TestShutdownFinishesWhatIsInFlight(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	addr := node(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		io.WriteString(w, "done")
	})
	b := start(t, nil, addr)
	idle := b.dial()
	defer idle.Close()
	c := b.dial()
	defer c.Close()
	io.WriteString(c, "GET /api/user/login HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	b.g.Drain()
	if status, _ := b.get("/readyz"); status != 503 {
		t.Errorf("/readyz while draining = %d, want 503", status)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- b.g.Shutdown(context.Background()) }()
	<-b.done // the listener is closed
	close(release)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 200 || !res.Close {
		t.Fatalf("answer = %v %v, want 200 and close", res, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}
