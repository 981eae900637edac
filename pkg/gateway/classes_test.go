package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// Each test here holds a class of faults that other gateways had; SECURITY.md has the list.

// headNode keeps the head of the last request that it got.
func headNode(t testing.TB, answer string) (addr string, last *atomic.Pointer[string]) {
	last = new(atomic.Pointer[string])
	return rawNode(t, func(c net.Conn, _ *bufio.Reader) {
		for {
			var text bytes.Buffer
			req, err := http.ReadRequest(bufio.NewReaderSize(io.TeeReader(c, &text), 16))
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			head := text.String()
			last.Store(&head)
			io.WriteString(c, answer)
		}
	}), last
}

const empty200 = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// TestLongAndEmptyNames: names of 256 bytes and more are names like others, and none is no name.
func TestLongAndEmptyNames(t *testing.T) {
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	for _, n := range []int{255, 256, 257, 4096, 16384} {
		name := strings.Repeat("a", n)
		got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\n" + name + ": b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(*last.Load(), "\r\n"+name+": b\r\nContent-Length: 0\r\n") {
			t.Errorf("a name of %d bytes: %.40q, the node saw %.80q", n, got, *last.Load())
		}
	}
	last.Store(nil)
	for _, line := range []string{": b", ":", " : b", "\x00: b", "Content-Length:", "Content-Length: ", "Host: a\r\n:"} {
		if got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\n" + line + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%q = %.40q, want 400", line, got)
		}
	}
	if last.Load() != nil {
		t.Errorf("this reached the node: %q", *last.Load())
	}
}

// TestOnlySwitchingOpensATunnel: whatever else a node says to an upgrade, what follows is HTTP and held to its rules; and
// the connection over which it was refused is not used again.
func TestOnlySwitchingOpensATunnel(t *testing.T) {
	for _, status := range []string{"200 OK", "204 No Content", "299 Switched", "304 Not Modified", "400 Bad Request", "426 Upgrade Required", "500 Oh"} {
		var conns, requests atomic.Int64
		addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
			conns.Add(1)
			for {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				requests.Add(1)
				lines := "Connection: upgrade\r\nUpgrade: websocket\r\n"
				if !strings.HasPrefix(status, "204") && !strings.HasPrefix(status, "304") {
					lines += "Content-Length: 0\r\n"
				}
				io.WriteString(c, "HTTP/1.1 "+status+"\r\n"+lines+"\r\n")
			}
		})
		b := start(t, nil, addr)
		got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" +
			"GET /admin/secret HTTP/1.1\r\nHost: a\r\n\r\n" + "GET /api/user/get HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+status[:3]+" ") || strings.Count(got, `"unknown_route"`) != 1 {
			t.Errorf("%s: answers %q, want the node's, 404 and the node's", status, got)
		}
		if conns.Load() != 2 || requests.Load() != 2 {
			t.Errorf("%s: %d requests over %d connections to the node, want 2 over 2", status, requests.Load(), conns.Load())
		}
	}
}

// owned are the fields that the gateway vouches for, with what a forger would like a node to see.
var owned = []string{
	"Call-Service-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
	"X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Tls-Client-Cert", "X-Real-Ip", "Forwarded", "X-Request-Id", "X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled", "Traceparent", "Tracestate", "B3",
}

// spellings are a name as a forger would write it.
func spellings(name string) []string {
	mixed := []byte(strings.ToLower(name))
	for i := 1; i < len(mixed); i += 2 {
		mixed[i] = strings.ToUpper(string(mixed[i]))[0]
	}
	return []string{name, strings.ToLower(name), strings.ToUpper(name), string(mixed), strings.ReplaceAll(name, "-", "_"), strings.ToLower(strings.ReplaceAll(name, "-", ".")), strings.Replace(name, "-", "_", 1)}
}

// TestForgedFields: no field that the gateway vouches for is a client's, however it is spelt and however often it comes.
func TestForgedFields(t *testing.T) {
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	for _, name := range owned {
		for _, spelt := range spellings(name) {
			b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\n" + spelt + ": forged-666\r\n" + spelt + ":forged-666\r\nConnection: close\r\n\r\n")
			head := *last.Load()
			if strings.Contains(head, "forged-666") {
				t.Errorf("%s reached the node:\n%q", spelt, head)
			}
			if n := strings.Count(head, "\r\nCall-Service-Key: "+testKey+"\r\n"); n != 1 {
				t.Errorf("with %s the node saw the key %d times", spelt, n)
			}
		}
	}
}

// TestConnectionTakesNothingAway: what the gateway sets stays whatever Connection names.
func TestConnectionTakesNothingAway(t *testing.T) {
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	for _, name := range []string{"Call-Service-Key", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "Via"} {
		for _, spelt := range append(spellings(name), " "+name+" ", name+","+name, ",,"+name+",", "close\r\nConnection: "+name) {
			b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: " + spelt + "\r\nConnection: close\r\n" + name + ": x\r\n\r\n")
			head := *last.Load()
			for _, want := range []string{"\r\nCall-Service-Key: " + testKey + "\r\n", "\r\nX-Forwarded-For: 127.0.0.1\r\n", "\r\nX-Forwarded-Host: a\r\n", "\r\nX-Forwarded-Proto: http\r\n", "\r\nX-Request-Id: ", "\r\nVia: 1.1 goms-", "\r\nHost: a\r\n"} {
				if strings.Count(head, want) != 1 {
					t.Errorf("Connection: %q: the node saw %q %d times in\n%q", spelt, want, strings.Count(head, want), head)
				}
			}
		}
	}
}

// TestPathVariants writes the path of a route in some 200 ways: each is that path, to table and node alike, or none.
func TestPathVariants(t *testing.T) {
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	const path = "/api/user/get" // GET and HEAD only: who gets a POST through has found a way round
	variants := []string{path}
	for i := range path {
		c := path[i]
		variants = append(variants, path[:i]+fmt.Sprintf("%%%02x", c)+path[i+1:], path[:i]+fmt.Sprintf("%%%02X", c)+path[i+1:], path[:i]+fmt.Sprintf("%%25%02x", c)+path[i+1:], path[:i]+strings.ToUpper(string(c))+path[i+1:])
		for _, put := range []string{"/", "/.", "/./", "/../", "//", "\\", "%2f", "%5c", "%00", ";", ";a=b", "%3b", "%20", "%09", "%0a", ".", "..", "%2e%2e", "%c0%af", "%", "%zz", "/%2e/", "/%2E%2e/", "\t"} {
			if c == '/' {
				variants = append(variants, path[:i]+put+path[i:], path[:i+1]+put+path[i+1:])
			}
		}
	}
	for _, end := range []string{"/", "//", "/.", "/..", "/../get", ";", ";x", "%00", "%20", ".", "?", "%3f", "%23", "\\", "~", "/%2e%2e/login", "%2f", "%0d%0a", "\xff", "%ff"} {
		variants = append(variants, path+end)
	}
	if len(variants) < 200 {
		t.Errorf("%d variants, want 200", len(variants))
	}
	passed := 0
	for _, v := range variants {
		for _, method := range []string{"GET", "POST"} {
			last.Store(nil)
			got := b.raw(method + " " + v + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			head := last.Load()
			if head == nil {
				if !slices.Contains([]string{"400", "404", "405"}, got[9:12]) {
					t.Errorf("%s %q = %.60q, want 400, 404 or 405", method, v, got)
				}
				continue
			}
			passed++
			target := strings.Fields(*head)[1]
			if method == "POST" || strings.TrimSuffix(target, "?") != "/get" {
				t.Errorf("%s %q reached the node as %q", method, v, target)
			}
			before, _, _ := strings.Cut(v, "?")
			if plain, err := url.PathUnescape(before); err != nil || plain != path {
				t.Errorf("%q reached the node, but means %q", v, plain)
			}
		}
	}
	if passed < 5 {
		t.Errorf("%d variants passed: escaped letters should", passed)
	}
}

// TestQueryIsPassedOnAsItIs: there are no two readings of a query between gateway and node, since the gateway reads none.
func TestQueryIsPassedOnAsItIs(t *testing.T) {
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	for _, q := range []string{"?", "??", "?a=1;b=2", "?a=1&a=2", "?%zz", "?a=%00", "?a=%2f%5c", "?/../", "?a[]=1"[:5], "?" + strings.Repeat("a&", 3900)} {
		b.raw("GET /api/user/login" + q + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if head := *last.Load(); !strings.HasPrefix(head, "GET /login"+q+" HTTP/1.1\r\n") {
			t.Errorf("%.40q reached the node as %.60q", q, head)
		}
	}
}

// TestManyCookies: cookies and parameters without end are refused before they cost anything.
func TestManyCookies(t *testing.T) {
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	for text, want := range map[string]string{
		"GET /api/user/login HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("a=b; ", 10000) + "\r\n\r\n":  "431",
		"GET /api/user/login HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("Cookie: a=b\r\n", 3000) + "\r\n":     "431",
		"GET /api/user/login?" + strings.Repeat("a=b&", 1_000_000) + " HTTP/1.1\r\nHost: a\r\n\r\n":          "414",
		"GET /api/user/login?" + strings.Repeat("a=b&", 1_000_000)[:7000] + " HTTP/1.1\r\nHost: a b\r\n\r\n": "400",
	} {
		if got := converse(t, b, text); !strings.HasPrefix(got, "HTTP/1.1 "+want+" ") {
			t.Errorf("%.60q = %.60q, want %s", text, got, want)
		}
	}
	secure, pool := b.secure()
	req, _ := http.NewRequest("GET", "https://"+secure+"/api/user/login", nil)
	for range 3000 {
		req.AddCookie(&http.Cookie{Name: "a", Value: "b"})
	}
	if res, err := protocol(t, pool, true).Do(req); err == nil {
		res.Body.Close()
		if res.StatusCode != 431 && res.StatusCode != 200 {
			t.Errorf("3,000 cookies over HTTP/2 = %d", res.StatusCode)
		}
	}
	if h := last.Load(); h != nil && len(*h) > 32<<10 {
		t.Errorf("the node got a head of %d bytes", len(*h))
	}
}

// TestSlowAfterTheHead: the times hold after 100 Continue and in a tunnel too.
func TestSlowAfterTheHead(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, rw, _ := w.(http.Hijacker).Hijack()
			defer c.Close()
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			rw.Flush()
			io.Copy(io.Discard, rw)
			return
		}
		io.Copy(io.Discard, r.Body)
	})
	b := start(t, func(s *gateway.Settings) { s.BodyTimeout, s.StreamTimeout = 300*time.Millisecond, time.Second }, addr)
	if got := b.raw("POST /api/user/login HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 ") {
		t.Errorf("silence after 100 Continue = %q, want 408", got)
	}
	began := time.Now()
	if got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 101 ") || time.Since(began) > 4*time.Second {
		t.Errorf("a silent tunnel = %q, ended after %s, want it to end", got, time.Since(began))
	}
}

// TestRefusedExpectationPoisonsNobody has a node answer before it has seen the body, which is then never sent: the node would
// take the next request for it.
func TestRefusedExpectationPoisonsNobody(t *testing.T) {
	var wrong atomic.Int64
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") != "" {
				io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno") // the body is never read
				continue
			}
			if req.URL.RawQuery != "next" {
				wrong.Add(1)
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
		}
	})
	b := start(t, nil, addr)
	const hidden = "GET /login?hidden HTTP/1.1\r\nHost: a\r\n\r\n"
	for range 10 {
		got := b.raw(fmt.Sprintf("POST /api/user/login HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(hidden)))
		if !strings.HasPrefix(got, "HTTP/1.1 403 ") {
			t.Fatalf("answer = %q, want 403", got)
		}
		if status, body := b.get("/api/user/login?next"); status != 200 || body != "next" {
			t.Fatalf("the next request = %d %q", status, body)
		}
	}
	if wrong.Load() > 0 {
		t.Errorf("the node took %d bodies for requests", wrong.Load())
	}
}

// TestKeyIsNowhere looks for the key wherever the gateway says something.
func TestKeyIsNowhere(t *testing.T) {
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug)
	log, out := written(t, "json", level)
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) { // it sends back what it got, in every place there is
		var text bytes.Buffer
		if _, err := http.ReadRequest(bufio.NewReader(io.TeeReader(br, &text))); err != nil {
			return
		}
		key := "Call-Service-Key: " + testKey + "\r\n"
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n"+key+"\r\nHTTP/1.1 200 OK\r\n"+key+"call_service_key: "+testKey+"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"+key+"\r\n")
	})
	b := startWith(t, log, func(s *gateway.Settings) { s.AccessLog = true }, addr, deadAddr(t))
	b.g.PanicAt("/boom")
	var answers strings.Builder
	for _, path := range []string{"/api/user/login", "/api/user/login", "/boom", "/cluster?verbose=1", "/readyz?verbose=1", "/nothing", "/api/user/%00"} {
		for _, method := range []string{"GET", "POST", "TRACE", "OPTIONS"} {
			answers.WriteString(b.raw(method + " " + path + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
		}
	}
	admin := httptest.NewServer(b.g.AdminHandler())
	defer admin.Close()
	answers.WriteString(fetch(t, admin.URL+"/metrics") + fetch(t, admin.URL+"/cluster?verbose=1") + fetch(t, admin.URL+"/debug/pprof/goroutine?debug=2"))
	for where, text := range map[string]string{"an answer": answers.String(), "the log": out.String()} {
		if i := strings.Index(text, testKey); i >= 0 {
			t.Errorf("the key is in %s: …%q", where, text[max(0, i-200):i])
		}
	}
	if !strings.Contains(out.String(), "panic in request") || !strings.Contains(answers.String(), "103 Early Hints") {
		t.Error("the log holds no panic, or no interim answer came: the test tests nothing")
	}
}

// TestRedirectsAreTheClients: the gateway follows none, so that its key goes to nodes only.
func TestRedirectsAreTheClients(t *testing.T) {
	elsewhere := node(t, func(http.ResponseWriter, *http.Request) { t.Error("the gateway followed a redirect") })
	addr, _ := headNode(t, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://"+elsewhere+"/\r\nContent-Length: 0\r\n\r\n")
	b := start(t, nil, addr)
	if got := b.raw("GET /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 307 ") || !strings.Contains(got, "Location: http://"+elsewhere+"/\r\n") {
		t.Errorf("answer = %q, want the node's redirect", got)
	}
}

// TestClientsDoNotChooseTheNode: nothing that a client sends makes the gateway connect to a place of its choice.
func TestClientsDoNotChooseTheNode(t *testing.T) {
	elsewhere := node(t, func(http.ResponseWriter, *http.Request) { t.Error("the gateway asked a place of the client's choice") })
	addr, last := headNode(t, empty200)
	b := start(t, nil, addr)
	for _, text := range []string{
		"GET http://" + elsewhere + "/api/user/login HTTP/1.1\r\nHost: " + elsewhere + "\r\n", "GET /api/user/login HTTP/1.1\r\nHost: " + elsewhere + "\r\n",
		"GET /api/user/login HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: " + elsewhere + "\r\nX-Original-Url: http://" + elsewhere + "/\r\nX-Rewrite-Url: http://" + elsewhere + "/\r\n",
		"GET /api/user/login?url=http://" + elsewhere + "/ HTTP/1.1\r\nHost: a\r\nReferer: http://" + elsewhere + "/\r\nX-Host: " + elsewhere + "\r\nDestination: http://" + elsewhere + "/\r\n",
	} {
		last.Store(nil)
		if got := b.raw(text + "Connection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200 ") || last.Load() == nil {
			t.Errorf("%q = %.40q, want the registered node's answer", text, got)
		}
	}
	for _, text := range []string{"CONNECT " + elsewhere + " HTTP/1.1\r\nHost: " + elsewhere + "\r\n\r\n", "GET http://" + elsewhere + "/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"} {
		if got := b.raw(text); !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%q = %.40q, want a refusal", text, got)
		}
	}
}

// TestBodyLimitInEveryForm: a limit is one however the body is framed.
func TestBodyLimitInEveryForm(t *testing.T) {
	var whole atomic.Int64
	addr := node(t, func(_ http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err == nil && n > 1<<10 {
			whole.Add(1)
		}
	})
	b := start(t, nil, addr)
	secure, pool := b.secure()
	clients := map[string]*http.Client{"http://" + b.addr: client, "https://" + secure: protocol(t, pool, false), "https://" + secure + "/": protocol(t, pool, true)}
	for base, c := range clients {
		for size, want := range map[int]int{1 << 10: 200, 1<<10 + 1: 413, 1 << 20: 413} {
			for form, body := range map[string]io.Reader{"length": bytes.NewReader(make([]byte, size)), "chunked": io.MultiReader(bytes.NewReader(make([]byte, size)))} {
				req, err := http.NewRequest("POST", strings.TrimSuffix(base, "/")+"/api/user/small", body)
				if err != nil {
					t.Fatal(err)
				}
				res, err := c.Do(req)
				if err != nil {
					if want == 413 {
						continue // the refusal and the rest of the body crossed
					}
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != want {
					t.Errorf("%s, %s of %d = %d, want %d", base, form, size, res.StatusCode, want)
				}
			}
		}
	}
	if whole.Load() > 0 {
		t.Errorf("%d bodies over the limit reached the node whole", whole.Load())
	}
}

// TestRandomPathsMakeNoSeries: what clients write names no series of the metrics.
func TestRandomPathsMakeNoSeries(t *testing.T) {
	b := start(t, nil, node(t, func(http.ResponseWriter, *http.Request) {}))
	admin := httptest.NewServer(b.g.AdminHandler())
	defer admin.Close()
	series := func() map[string]bool {
		all := map[string]bool{}
		for line := range strings.Lines(fetch(t, admin.URL+"/metrics")) {
			if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "goms_") {
				all[name] = true
			}
		}
		return all
	}
	ask := func(from, to int) {
		c := b.dial()
		defer c.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := from; i < to; i++ {
				fmt.Fprintf(c, "GET /random/%d HTTP/1.1\r\nHost: h%d\r\n\r\nM%d /api/user/login?%d HTTP/1.1\r\nHost: h%d\r\n\r\nGET /api/s%d/x HTTP/1.1\r\nHost: a\r\n\r\n", i, i, i, i, i, i)
			}
			io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		})
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		all, err := io.ReadAll(c)
		wg.Wait()
		if n := bytes.Count(all, []byte("HTTP/1.1 404 ")); err != nil || n != 2*(to-from) {
			t.Fatalf("%d answers of 404, want %d: %v", n, 2*(to-from), err)
		}
	}
	ask(0, 10)
	before := series()
	ask(10, 3000)
	for name := range series() {
		if !before[name] {
			t.Errorf("a new series: %s", name)
		}
	}
}

// TestUpgradeMeetsEveryRule: an upgrade is a request like any other, to all rules that could refuse it.
func TestUpgradeMeetsEveryRule(t *testing.T) {
	addr, last := headNode(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	b := start(t, nil, addr)
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for text, want := range map[string]string{
		"GET /api/user/nothing HTTP/1.1\r\nHost: a\r\n":                               "404",
		"GET /api/nobody/login HTTP/1.1\r\nHost: a\r\n":                               "404",
		"POST /api/user/get HTTP/1.1\r\nHost: a\r\n":                                  "405",
		"GET /api/user/../user/get HTTP/1.1\r\nHost: a\r\n":                           "400",
		"GET /api/user/get HTTP/1.1\r\nHost: a\r\nHost: b\r\n":                        "400",
		"GET /api/user/get HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n":                     "400",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n":                                   "405",
		"GET /cluster HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 8.8.8.8\r\n":            "403",
		"POST /api/user/small HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n":        "413",
		"POST /api/user/get HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n": "501",
	} {
		if got := b.raw(text + "Connection: close\r\n" + upgrade + "\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+want+" ") {
			t.Errorf("%q with an upgrade = %.60q, want %s", text, got, want)
		}
	}
	if last.Load() != nil {
		t.Fatalf("this reached the node: %q", *last.Load())
	}
	c := b.dial()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET /api/user/get HTTP/1.1\r\nHost: a\r\nCall-Service-Key: forged\r\nX-Forwarded-For: 6.6.6.6\r\n"+upgrade+"\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("an upgrade that meets them all = %v %v, want 101", res, err)
	}
	if head := *last.Load(); strings.Contains(head, "forged") || strings.Contains(head, "6.6.6.6") || !strings.Contains(head, "Call-Service-Key: "+testKey) {
		t.Errorf("the node saw %q", head)
	}
}

// TestAccessRecordIsOneLine: nothing that a client sends makes a second line of its record, or a field of it.
func TestAccessRecordIsOneLine(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		log, out := written(t, format, nil)
		b := startWith(t, log, func(s *gateway.Settings) { s.AccessLog = true }, node(t, func(http.ResponseWriter, *http.Request) {}))
		before := strings.Count(out.String(), "\n")
		const evil = "x%0d%0a2026/11/21 [user] node [evil] join"
		texts := []string{
			"GET /api/user/login?" + strings.ReplaceAll(evil, " ", "+") + " HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31m\"}\xff\t\r\nX-Request-Id: \"evil\r\nConnection: close\r\n\r\n",
			"GET\"evil\" /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "E'V`I|L /api/user/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "\x1b[2J\r\n\r\n",
		}
		for _, text := range texts {
			b.raw(text)
		}
		deadline := time.Now().Add(5 * time.Second)
		for strings.Count(out.String(), "\n") < before+len(texts) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		text := out.String()
		if n := strings.Count(text, "\n") - before; n != len(texts) || strings.ContainsAny(text, "\x1b\r") || strings.Contains(text, "\xff") || strings.Contains(text, "evil") {
			t.Errorf("%s: %d lines for %d requests:\n%q", format, n, len(texts), text)
		}
	}
}

// stalled sends text over a connection and waits for the gateway to end it.
func stalled(t *testing.T, c net.Conn, text string, within time.Duration) {
	t.Helper()
	defer c.Close()
	io.WriteString(c, text)
	c.SetReadDeadline(time.Now().Add(within))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after %q the connection is still open after %s", text, within)
	}
}

// TestStalledHandshake: a TLS handshake has its time, from the first byte to the last.
func TestStalledHandshake(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	secure, _ := b.secure()
	var wg sync.WaitGroup
	for _, text := range []string{"", "\x16\x03\x01\x02\x00", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		wg.Go(func() {
			c, err := net.Dial("tcp", secure)
			if err != nil {
				t.Error(err)
				return
			}
			stalled(t, c, text, 20*time.Second)
		})
	}
	wg.Wait()
}

// TestStalledPreface: an HTTP/2 connection has to begin, and each of its heads to end.
func TestStalledPreface(t *testing.T) {
	t.Parallel()
	b := start(t, func(s *gateway.Settings) { s.HeadTimeout, s.IdleTimeout = 500*time.Millisecond, 500*time.Millisecond })
	secure, pool := b.secure()
	var wg sync.WaitGroup
	for _, text := range []string{"", "PRI * HTTP/2.0\r\n\r\nS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x40\x00\x01\x05\x00\x00\x00\x01\x82"} {
		wg.Go(func() {
			c, err := tls.Dial("tcp", secure, &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Error(err)
				return
			}
			stalled(t, c, text, 20*time.Second)
		})
	}
	wg.Wait()
}
