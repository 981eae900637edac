package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/goms-io/goms/test/process"
)

// TestBadInput sends what no client should, byte by byte. It is answered by the gateway alone, in JSON; the connection ends; and the
// node, which counts, hears nothing of it.
func TestBadInput(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	n := s.countNode("count")
	gw.sees("count", 1)

	f := func(name, request string, statuses ...int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			before := n.requests(t)
			w := dial(t, gw.addr())
			w.send(request)
			a := w.answer("GET")
			if !slices.Contains(statuses, a.status) {
				t.Errorf("status = %d, want one of %v: %s", a.status, statuses, a.body)
			}
			refused(t, a, a.status)
			if !a.close {
				t.Errorf("the answer does not say Connection: close")
			}
			w.closed()
			// The head of a request with a broken body may have gone on before the break; nothing that hides in the body ever may.
			if after := n.requests(t); after != before && !strings.HasPrefix(name, "chunk") {
				t.Errorf("%d requests reached the node, want none", after-before)
			}
			if counted(t, n)["smuggled"] > 0 {
				t.Errorf("the hidden request reached the node")
			}
		})
	}
	for _, c := range framingCases() {
		f(c.name, c.request, c.statuses...)
	}
	for _, c := range limitCases() {
		f(c.name, c.request, c.statuses...)
	}
	t.Run("limits hold just below", func(t *testing.T) { checkBelowLimits(t, gw) })
	t.Run("body limit", func(t *testing.T) { checkBodyLimit(t, gw, n) })
	t.Run("refused on an open connection", func(t *testing.T) { checkPolite(t, gw, n) })
	t.Run("paths", func(t *testing.T) { checkPaths(t, gw, n) })
	t.Run("the node still stands", func(t *testing.T) {
		for range 10 {
			if a := do(t, "GET", gw.url("/api/count/hit?id=1"), "", nil); a.status != 200 {
				t.Errorf("GET = %d %s", a.status, a.body)
			}
		}
		if services, err := gw.cluster(); err != nil || len(services["count"].Nodes) != 1 {
			t.Errorf("/cluster = %v, %v", services, err)
		}
	})
}

type badCase struct {
	name, request string
	statuses      []int
}

// framingCases are the shapes by which one request hides another, and plain bad syntax.
func framingCases() []badCase {
	const smuggled = "GET /api/count/hit?id=smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	post := func(lines, body string) string {
		return "POST /api/count/hit HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" + body
	}
	chunked := func(body string) string { return post("Transfer-Encoding: chunked\r\n", body+smuggled) }
	get := func(lines string) string { return "GET /api/count/hit HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n" }
	bad := []int{400}
	cases := []badCase{
		{"CL and TE", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), bad},
		{"TE and CL", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"+smuggled), bad},
		{"two lengths", post("Content-Length: 4\r\nContent-Length: 5\r\n", "body"+smuggled), bad},
		{"list of lengths", post("Content-Length: 4, 5\r\n", "body"+smuggled), bad},
		{"empty length", post("Content-Length:\r\n", smuggled), bad},
		{"plus in length", post("Content-Length: +4\r\n", "body"+smuggled), bad},
		{"minus in length", post("Content-Length: -1\r\n", smuggled), bad},
		{"hex length", post("Content-Length: 0x4\r\n", "body"+smuggled), bad},
		{"length past 64 bits", post("Content-Length: 18446744073709551620\r\n", "body"+smuggled), []int{400, 413}},
		{"TE xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE with vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE quoted", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE empty", post("Transfer-Encoding:\r\n", "0\r\n\r\n"+smuggled), []int{400, 501}},
		{"TE in HTTP/1.0", "POST /api/count/hit HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, bad},
		{"obs-fold", get("X-A: b\r\n c\r\n"), bad},
		{"fold of the first line", "GET /api/count/hit HTTP/1.1\r\n Host: x\r\n\r\n", bad},
		{"folded TE", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"+smuggled), bad},
		{"bare LF", "GET /api/count/hit HTTP/1.1\nHost: x\n\n", bad},
		{"bare LF in a header", get("X-A: b\nTransfer-Encoding: chunked\r\n"), bad},
		{"bare CR in a header", get("X-A: b\rX-B: c\r\n"), bad},
		{"NUL in a header", get("X-A: b\x00c\r\n"), bad},
		{"NUL in a name", get("X\x00A: b\r\n"), bad},
		{"space before colon", get("X-A : b\r\n"), bad},
		{"TE with space before colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"+smuggled), bad},
		{"length with tab before colon", post("Content-Length\t: 4\r\n", "body"+smuggled), bad},
		{"empty name", get(": b\r\n"), bad},
		{"no colon", get("X-A\r\n"), bad},
		{"no host", "GET /api/count/hit HTTP/1.1\r\n\r\n", bad},
		{"two hosts", get("Host: y\r\n"), bad},
		{"bad host", "GET /api/count/hit HTTP/1.1\r\nHost: x/y\r\n\r\n", bad},
		{"two spaces in the request line", "GET  /api/count/hit HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"tab in the request line", "GET\t/api/count/hit HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"no version", "GET /api/count/hit\r\nHost: x\r\n\r\n", []int{400, 505}},
		{"version 2.0", "GET /api/count/hit HTTP/2.0\r\nHost: x\r\n\r\n", []int{400, 505}},
		{"version 1.10", "GET /api/count/hit HTTP/1.10\r\nHost: x\r\n\r\n", []int{400, 505}},
		{"lower-case version", "GET /api/count/hit http/1.1\r\nHost: x\r\n\r\n", []int{400, 505}},
		{"bad method", "GE(T /api/count/hit HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"control character in the target", "GET /api/count/hit\x01 HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"fragment in the target", "GET /api/count/hit#a HTTP/1.1\r\nHost: x\r\n\r\n", bad},
		{"CONNECT", "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n", []int{405}},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", bad},
	}
	for name, body := range map[string]string{
		"word as size":       "zz\r\nbody\r\n0\r\n\r\n",
		"empty size":         "\r\nbody\r\n0\r\n\r\n",
		"minus in size":      "-4\r\nbody\r\n0\r\n\r\n",
		"0x in size":         "0x4\r\nbody\r\n0\r\n\r\n",
		"space before size":  " 4\r\nbody\r\n0\r\n\r\n",
		"size past 64 bits":  "10000000000000004\r\nbody\r\n0\r\n\r\n",
		"bare LF after size": "4\nbody\r\n0\r\n\r\n",
		"data too long":      "3\r\nbody\r\n0\r\n\r\n",
		"bare LF after data": "4\r\nbody\n0\r\n\r\n",
		"LF in extension":    "4;a\nb\r\nbody\r\n0\r\n\r\n",
		"NUL in extension":   "4;a\x00b\r\nbody\r\n0\r\n\r\n",
		"bad trailer":        "4\r\nbody\r\n0\r\nX-A : b\r\n\r\n",
		"endless extension":  "4;" + strings.Repeat("a", 1<<20) + "\r\nbody\r\n0\r\n\r\n",
	} {
		cases = append(cases, badCase{"chunk: " + name, chunked(body), []int{400, 413, 431}})
	}
	slices.SortFunc(cases, func(a, b badCase) int { return strings.Compare(a.name, b.name) })
	return cases
}

// limitCases exceed a default limit of a request's head.
func limitCases() []badCase {
	const first = "GET /api/count/hit HTTP/1.1\r\nHost: x\r\n"
	return []badCase{
		{"giant header", first + "X-A: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", []int{431}},
		{"giant header without end", first + "X-A: " + strings.Repeat("a", 4<<20), []int{431}},
		{"giant name", first + strings.Repeat("a", 40<<10) + ": b\r\n\r\n", []int{431}},
		{"many headers", first + strings.Repeat("X-A: b\r\n", 200) + "\r\n", []int{431}},
		{"many cookies", first + strings.Repeat("Cookie: a=b\r\n", 3000) + "\r\n", []int{431}},
		{"long target", "GET /api/count/hit?" + strings.Repeat("a", 9<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{414}},
		{"target without end", "GET /" + strings.Repeat("a", 4<<20), []int{414, 431}},
		{"method without end", strings.Repeat("A", 1<<20), []int{400, 414, 431}},
	}
}

func checkBelowLimits(t *testing.T, gw *gateway) {
	for name, request := range map[string]string{
		"90 headers":           "GET /api/count/hit?id=fine HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 90) + "\r\n",
		"30 KiB of head":       "GET /api/count/hit?id=fine HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 30<<10) + "\r\n\r\n",
		"8000 bytes of target": "GET /api/count/hit?id=fine&x=" + strings.Repeat("a", 8000-30) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		w := dial(t, gw.addr())
		w.send(request)
		if a := w.answer("GET"); a.status != 200 || a.body != "fine" {
			t.Errorf("%s: %d %q", name, a.status, a.body)
		}
	}
}

// checkBodyLimit sends more than a route takes, announced and not.
func checkBodyLimit(t *testing.T, gw *gateway, n *node) {
	const limit = 64 << 10
	for _, c := range []struct{ name, path, lines, body string }{
		{"announced", "/api/count/small", fmt.Sprintf("Content-Length: %d\r\n", limit+1), strings.Repeat("a", limit+1)},
		{"in chunks", "/api/count/small", "Transfer-Encoding: chunked\r\n", strings.Repeat("1000\r\n"+strings.Repeat("a", 0x1000)+"\r\n", 17) + "0\r\n\r\n"},
		{"announced, default limit", "/api/count/up", fmt.Sprintf("Content-Length: %d\r\n", 10<<20+1), ""},
		{"one chunk, default limit", "/api/count/up", "Transfer-Encoding: chunked\r\n", "FFFFFFF\r\n" + strings.Repeat("a", 10<<20+1)},
		{"announced, with an expectation", "/api/count/small", fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n", limit+1), ""},
	} {
		w := dial(t, gw.addr())
		w.send("POST " + c.path + " HTTP/1.1\r\nHost: x\r\n" + c.lines + "\r\n" + c.body)
		a := w.answer("POST")
		if r := refused(t, a, 413); r.Reason != "body_too_large" || !a.close {
			t.Errorf("%s: reason %q, close %v, want body_too_large on a connection that closes", c.name, r.Reason, a.close)
		}
	}
	for _, lines := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", limit, strings.Repeat("a", limit)),
		"Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("a", 0x1000)+"\r\n", 16) + "0\r\n\r\n",
	} {
		w := dial(t, gw.addr())
		w.send("POST /api/count/small HTTP/1.1\r\nHost: x\r\n" + lines)
		if a := w.answer("POST"); a.status != 200 || !strings.Contains(a.body, fmt.Sprintf(`"bytes":%d,`, limit)) {
			t.Errorf("a body of just the limit: %d %s", a.status, a.body)
		}
	}
	// What a client did wrong is not held against the node.
	if a := do(t, "GET", gw.url("/api/count/hit?id=1"), "", nil); a.status != 200 {
		t.Errorf("after bodies over the limit: %d %s", a.status, a.body)
	}
}

// checkPolite wants refusals of well-formed requests to leave the connection open.
func checkPolite(t *testing.T, gw *gateway, n *node) {
	before := n.requests(t)
	w := dial(t, gw.addr())
	for _, c := range []struct {
		request, reason string
		status          int
	}{
		{"GET /api/nothing/here HTTP/1.1\r\nHost: x\r\n\r\n", "unknown_service", 404},
		{"GET /api/count/nothing HTTP/1.1\r\nHost: x\r\n\r\n", "unknown_route", 404},
		{"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", "", 404},
		{"GET /api/count/posted HTTP/1.1\r\nHost: x\r\n\r\n", "method_not_allowed", 405},
		{"GET /api/nobody/home HTTP/1.1\r\nHost: x\r\n\r\n", "no_node", 503},
		{"POST /api/nothing/here HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", "unknown_service", 404},
	} {
		w.send(c.request)
		a := w.answer("GET")
		if r := refused(t, a, c.status); c.reason != "" && r.Reason != c.reason {
			t.Errorf("%q: reason %q, want %q", c.request, r.Reason, c.reason)
		}
		if allow := a.header.Get("Allow"); (a.status == 405) != (allow != "") || a.status == 405 && !strings.Contains(allow, "POST") {
			t.Errorf("%q: Allow = %q", c.request, allow)
		}
		if a.close {
			w = dial(t, gw.addr())
			if !strings.HasPrefix(c.request, "POST") {
				t.Errorf("%q: the gateway closes the connection", c.request)
			}
		}
	}
	if after := n.requests(t); after != before {
		t.Errorf("%d requests reached the node", after-before)
	}
	if a := do(t, "POST", gw.url("/api/count/posted?id=1"), "x", nil); a.status != 200 {
		t.Errorf("the right method: %d %s", a.status, a.body)
	}
}

// checkPaths wants a path that has more than one reading to be refused, never passed on.
func checkPaths(t *testing.T, gw *gateway, n *node) {
	before := n.requests(t)
	for _, path := range []string{
		"/api/count/..%2fhit", "/api/count%2fhit", "/api/count/%2e%2e/count/hit", "/api/count/../count/hit", "/api/count/./hit",
		"/api/count/hit%5c", `/api/count\hit`, "/api/count/hit%00", "/api/count/hit%", "/api/count/hit%zz", "/api/count/hit%0d%0aX:y",
		"/../api/count/hit", "/api/nothing/../count/hit",
	} {
		t.Run(path, func(t *testing.T) {
			w := dial(t, gw.addr())
			w.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
			refused(t, w.answer("GET"), http.StatusBadRequest)
		})
	}
	for _, path := range []string{"//api/count/hit", "/api//count/hit", "/api/count/hit/", "/api/count/HIT", "/API/count/hit", "/api/count/hit;x=1", "/api/count/hit/..;/x"} {
		w := dial(t, gw.addr())
		w.send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if a := w.answer("GET"); a.status != 404 && a.status != 400 {
			t.Errorf("%q = %d, want 404 or 400: %s", path, a.status, a.body)
		}
	}
	if after := n.requests(t); after != before {
		t.Errorf("%d requests reached the node, want none", after-before)
	}
	if a := do(t, "GET", gw.url("/api/count/h%69t?id=1"), "", nil); a.status != 200 { // one reading only: an escaped letter
		t.Errorf("a path with an escaped letter: %d %s", a.status, a.body)
	}
}

// TestHeadersAtTheNode looks at what the gateway writes to a node, byte by byte: the test is the node.
func TestHeadersAtTheNode(t *testing.T) {
	s := newSystem(t, setup{services: "services:\n  raw:\n    any: \"/any\"\n"})
	gw := s.gateway()
	raw := newCapture(t, nil)
	c := process.EtcdClient(t, s.etcd...)
	put(t, c, "goms_raw_127.0.0.1:1_"+raw.addr(), "0")
	gw.sees("raw", 1)

	forged := "Call-Service-Key: forged\r\ncall-service-key: forged\r\nCall_Service_Key: forged\r\nX-Forwarded-For: 6.6.6.6\r\n" +
		"X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil.test\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
	for name, lines := range map[string]string{
		"plain":             "",
		"forged":            forged,
		"connection tricks": forged + "Connection: keep-alive, X-Forwarded-For, call-service-key, X-B3-TraceId, traceparent, X-Request-Id\r\n",
		"two connections":   "connection: Call-Service-Key\r\nConnection: x-forwarded-for\r\n" + forged,
		"spaces":            "Connection:  Call-Service-Key ,\t X-FORWARDED-FOR ,,\r\n" + forged,
	} {
		w := dial(t, gw.addr())
		w.send("GET /api/raw/any?q=1 HTTP/1.1\r\nHost: shop.test\r\nX-Mine: kept\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n" +
			"Proxy-Authorization: Basic x\r\nTE: gzip\r\n" + lines + "\r\n")
		if a := w.answer("GET"); a.status != 200 || a.body != "ok" {
			t.Fatalf("%s: %d %s", name, a.status, a.body)
		}
		got := raw.next(t)
		one := func(field_, want string) {
			t.Helper()
			if values := field(got, field_); len(values) != 1 || values[0] != want {
				t.Errorf("%s: the node got %s = %q, want %q once", name, field_, values, want)
			}
		}
		if first, _, _ := strings.Cut(got, "\r\n"); first != "GET /any?q=1 HTTP/1.1" {
			t.Errorf("%s: request line %q", name, first)
		}
		one("Host", "shop.test")
		one("Call-Service-Key", process.CallKey)
		one("X-Forwarded-For", "127.0.0.1")
		one("X-Forwarded-Proto", "http")
		one("X-Forwarded-Host", "shop.test")
		one("X-Mine", "kept")
		for _, must := range []string{"X-Request-Id", "X-B3-TraceId", "X-B3-SpanId", "Traceparent"} {
			if len(field(got, must)) != 1 {
				t.Errorf("%s: the node got %d of %s, want one", name, len(field(got, must)), must)
			}
		}
		for _, never := range []string{"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Call_Service_Key", "X_Forwarded_For", "Upgrade"} {
			if values := field(got, never); len(values) > 0 {
				t.Errorf("%s: the node got %s = %q", name, never, values)
			}
		}
		for _, value := range []string{"6.6.6.6", "forged", "evil.test", "gopher"} {
			if strings.Contains(got, value) {
				t.Errorf("%s: %q reached the node:\n%s", name, value, strings.ReplaceAll(got, process.CallKey, "KEY"))
			}
		}
	}
}

// TestTraceGoesOn wants an incoming trace to be joined in each of its three spellings.
func TestTraceGoesOn(t *testing.T) {
	s := newSystem(t, setup{services: "services:\n  raw:\n    any: \"/any\"\n"})
	gw := s.gateway()
	raw := newCapture(t, nil)
	put(t, process.EtcdClient(t, s.etcd...), "goms_raw_127.0.0.1:1_"+raw.addr(), "0")
	gw.sees("raw", 1)
	const trace, parent = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	for _, lines := range []string{
		"b3: " + trace + "-" + parent + "-1\r\n",
		"X-B3-TraceId: " + trace + "\r\nX-B3-SpanId: " + parent + "\r\nX-B3-Sampled: 1\r\n",
		"traceparent: 00-" + trace + "-" + parent + "-01\r\n",
	} {
		w := dial(t, gw.addr())
		w.send("GET /api/raw/any HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n")
		w.answer("GET")
		got := raw.next(t)
		if ids := field(got, "X-B3-TraceId"); len(ids) != 1 || ids[0] != trace {
			t.Errorf("%q: the node got trace %q, want %s", lines, ids, trace)
		}
		if spans := field(got, "X-B3-SpanId"); len(spans) != 1 || spans[0] == parent || len(spans[0]) != 16 {
			t.Errorf("%q: the node got span %q, want a new one", lines, spans)
		}
		if tp := field(got, "traceparent"); len(tp) != 1 || !strings.HasPrefix(tp[0], "00-"+trace+"-") || !strings.HasSuffix(tp[0], "-01") {
			t.Errorf("%q: the node got traceparent %q", lines, tp)
		}
		if sampled := field(got, "X-B3-Sampled"); len(sampled) != 1 || sampled[0] != "1" {
			t.Errorf("%q: the node got X-B3-Sampled %q", lines, sampled)
		}
	}
}

// TestNodeWantsTheKey asks a node directly.
func TestNodeWantsTheKey(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway()
	u := s.userNode()
	gw.sees("user", 1)
	for name, header := range map[string]http.Header{
		"none":    nil,
		"wrong":   {"Call-Service-Key": {"wrong"}},
		"prefix":  {"Call-Service-Key": {process.CallKey[:10]}},
		"longer":  {"Call-Service-Key": {process.CallKey + "x"}},
		"empty":   {"Call-Service-Key": {""}},
		"two":     {"Call-Service-Key": {"wrong", process.CallKey}},
		"two too": {"Call-Service-Key": {process.CallKey, "wrong"}},
	} {
		a := do(t, "GET", "http://"+u.addr()+"/login", "", header)
		if a.status != 403 || !strings.Contains(a.body, `"status":false`) {
			t.Errorf("key %s: %d %s, want 403", name, a.status, a.body)
		}
		process.CheckCanary(t, "a node's refusal", a.body)
	}
	a := do(t, "GET", "http://"+u.addr()+"/login", "", http.Header{"Call-Service-Key": {process.CallKey}})
	if a.status != 200 {
		t.Errorf("the right key: %d %s", a.status, a.body)
	}
	process.CheckCanary(t, "a node's answer", a.body)
	a = do(t, "GET", gw.url("/api/user/login"), "", http.Header{"Call-Service-Key": {"forged"}})
	if a.status != 200 {
		t.Errorf("a client with a key of its own: %d %s", a.status, a.body)
	}
	if took := u.Lines(joinLeave); len(took) != 0 {
		t.Errorf("the only node printed %q", took)
	}
}
