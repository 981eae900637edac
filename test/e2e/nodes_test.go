package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// TestBadNodes plays nodes that break the protocol. The client gets a clean refusal or a broken answer, never a whole wrong one.
func TestBadNodes(t *testing.T) {
	const services = `services:
  raw:
    garbage: /garbage
    none: /none
    half: /half
    lengths: /lengths
    both: /both
    giant: /giant
    switching: /switching
    short: /short
    chunk: /chunk
    hints: /hints
    fine: /fine
    slow:
      path: /slow
      timeout: 1500ms
      retries: 0
`
	s := newSystem(t, setup{services: services})
	gw := s.gateway()
	ended := make(chan struct{})
	defer close(ended)
	raw := newCapture(t, func(target string) (string, bool) {
		switch path, _, _ := strings.Cut(target, "?"); path {
		case "/garbage":
			return "this is not HTTP\r\n\r\n", false
		case "/none":
			return "", false
		case "/half":
			return "HTTP/1.1 200 OK\r\nContent-Le", false
		case "/lengths":
			return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", false
		case "/both":
			return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false
		case "/giant":
			return "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 4<<20) + "\r\n\r\n", false
		case "/switching":
			return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", true
		case "/short":
			return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred bytes", false
		case "/chunk":
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", false
		case "/hints":
			return "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true
		case "/slow":
			<-ended
			return "", false
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true
	})
	put(t, process.EtcdClient(t, s.etcd...), "goms_raw_127.0.0.1:1_"+raw.addr(), "0")
	gw.sees("raw", 1)

	f := func(path string, status int, reason string) {
		t.Helper()
		began := time.Now()
		a := do(t, "POST", gw.url("/api/raw/"+path), "body", nil)
		if r := refused(t, a, status); r.Reason != reason {
			t.Errorf("%s: reason %q, want %q", path, r.Reason, reason)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%s: the refusal took %v", path, took)
		}
		if n := len(raw.requests); n != 1 {
			t.Errorf("%s: the POST arrived %d times, want once", path, n)
		}
		for len(raw.requests) > 0 {
			<-raw.requests
		}
	}
	f("garbage", 502, "bad_answer")
	f("none", 502, "node_closed")
	f("half", 502, "node_closed")
	f("lengths", 502, "bad_answer")
	f("both", 502, "bad_answer")
	f("giant", 502, "bad_answer")
	f("switching", 502, "bad_answer")
	f("slow", 504, "node_timeout")
	for _, path := range []string{"short", "chunk"} {
		if a, err := fetch("GET", gw.url("/api/raw/"+path), "", nil); err == nil && a.status != 502 {
			t.Errorf("%s: the client got a whole answer %d %q, want a broken one or a refusal", path, a.status, a.body)
		}
	}
	for range 5 {
		if a := do(t, "GET", gw.url("/api/raw/fine"), "", nil); a.status != 200 || a.body != "ok" {
			t.Errorf("after all that: %d %q", a.status, a.body)
		}
	}
	w := dial(t, gw.addr())
	w.send("GET /api/raw/hints HTTP/1.1\r\nHost: x\r\n\r\n")
	resp := w.head("GET")
	if resp.StatusCode == 103 { // a gateway may pass it on or keep it
		resp = w.head("GET")
	}
	if body := readAll(t, resp.Body); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("after early hints: %s %q", resp.Status, body)
	}
}

// TestNodesByHand registers nodes with keys and values that other programs may write.
func TestNodesByHand(t *testing.T) {
	s := newSystem(t, setup{services: "services:\n  raw:\n    any: /any\n  my_shop_eu:\n    any: /any\n"})
	gw := s.gateway()
	c := process.EtcdClient(t, s.etcd...)
	light, heavy, drained := newCapture(t, nil), newCapture(t, nil), newCapture(t, nil)
	put(t, c, "goms_raw_127.0.0.1:1_"+light.addr(), "0")
	put(t, c, "goms_raw_127.0.0.1:2_"+heavy.addr(), `{"weight":3,"version":"1.2","zone":"a","later":{"x":[1]}}`)
	put(t, c, "goms_raw_127.0.0.1:3_"+drained.addr(), `{"state":"draining"}`)
	put(t, c, "goms_my_shop_eu_127.0.0.1:4_"+light.addr(), "0")
	put(t, c, "goms_six_[fd00:db8::1]:1_[fd00:db8::1]:2", "0")
	gw.sees("raw", 3)
	gw.sees("my_shop_eu", 1)
	gw.sees("six", 1)
	gw.Line(0, nodeLine("six", "[fd00:db8::1]:1_[fd00:db8::1]:2", "join"))
	for range 40 {
		if a := do(t, "GET", gw.url("/api/raw/any"), "", nil); a.status != 200 {
			t.Fatalf("GET any = %d %s", a.status, a.body)
		}
	}
	if l, h, d := len(light.requests), len(heavy.requests), len(drained.requests); l != 10 || h != 30 || d != 0 {
		t.Errorf("weights 1 and 3 and a node that drains got %d, %d and %d of 40 requests, want 10, 30 and 0", l, h, d)
	}
	if a := do(t, "GET", gw.url("/api/my_shop_eu/any"), "", nil); a.status != 200 {
		t.Errorf("a service with _ = %d %s", a.status, a.body)
	}
	if _, err := c.Delete(t.Context(), "goms_raw_127.0.0.1:2_"+heavy.addr()); err != nil {
		t.Fatal(err)
	}
	gw.Line(said, nodeLine("raw", "127.0.0.1:2_"+heavy.addr(), "leave"))
}

// TestServiceCallsService sends a request through order, which calls user.
func TestServiceCallsService(t *testing.T) {
	s := newSystem(t, setup{services: "services:\n  user:\n    login: /login\n  order:\n    submit: /order/submit\n"})
	gw := s.gateway()
	s.userNode()
	order := s.orderNode()
	gw.sees("user", 1)
	gw.sees("order", 1)
	order.Line(0, `\[order\] Http Listen on port`)
	process.Eventually(t, patience, "order reaches user", func() error {
		a, err := fetch("POST", gw.url("/api/order/submit?a=1"), `{"item":7}`, http.Header{"Content-Type": {"application/json"}})
		if err != nil || a.status != 200 {
			return fmt.Errorf("%d %s, %v", a.status, a.body, err)
		}
		if !json.Valid([]byte(a.body)) || strings.Count(a.body, `"item":7`) != 2 {
			t.Errorf("answer = %s, want the body as order and as user saw it", a.body)
		}
		process.CheckCanary(t, "the answer of order", a.body)
		return nil
	})
}

// orderNode starts the example service under its other name.
func (s *system) orderNode() *node {
	s.t.Helper()
	n := s.node("order", process.Build(s.t, "cmd/service"), nil, "-name", "order")
	n.Line(patience, fmt.Sprintf(`\[order\] Http Listen on port: %d$`, n.http))
	return n
}

// TestJSONLog wants the facts of the console as JSON.
func TestJSONLog(t *testing.T) {
	s := newSystem(t, setup{})
	gw := &gateway{t: t, http: ports.Free(t), rpc: ports.Free(t)}
	gw.Process = process.Start(t, process.Launch{
		Path: process.Build(t, "cmd/gateway"), Dir: s.dir, Args: []string{"-http_port", fmt.Sprint(gw.http), "-rpc_port", fmt.Sprint(gw.rpc), "-log_format", "json"},
		Env: []string{"GOMS_GATEWAY_ADMIN_PORT=0", "GOMS_ETCD_EMBEDDED_ADDR=" + s.etcd[0], "GOMS_ETCD_EMBEDDED_DIR=" + filepath.Join(s.dir, "data")},
	})
	gw.ready()
	u := s.userNode()
	line := gw.Line(patience, `"join"`)
	u.Stop(patience)
	gw.Line(said, `"leave"`)
	var fact map[string]any
	if err := json.Unmarshal([]byte(line), &fact); err != nil || fact["msg"] != "join" || fact["service"] != "user" || fact["node"] != u.id() {
		t.Errorf("join line = %s (%v), want msg join, service user and node %s", line, err, u.id())
	}
	for text := range strings.Lines(gw.Output()) {
		if !json.Valid([]byte(text)) {
			t.Errorf("no JSON: %q", text)
		}
	}
	gw.Line(0, fmt.Sprintf(`Http Listen on port: %d`, gw.http))
}

// TestKeyRotation changes the call-service key with two valid at once.
func TestKeyRotation(t *testing.T) {
	s := newSystem(t, setup{})
	gw := s.gateway() // sends the key of before
	process.WriteFile(t, filepath.Join(s.dir, "configs/config.yml"), "projectName: goms\ncallServiceKey: the-key-to-come-0123456789\ncallServiceKeyOld: "+process.CallKey+"\n")
	n := s.countNode("count") // takes both
	gw.sees("count", 1)
	if a := do(t, "GET", gw.url("/api/count/hit?id=1"), "", nil); a.status != 200 {
		t.Errorf("with the old key: %d %s", a.status, a.body)
	}
	for key, want := range map[string]int{"the-key-to-come-0123456789": 200, process.CallKey: 200, "neither": 403} {
		if a := do(t, "GET", "http://"+n.addr()+"/hit?id=2", "", http.Header{"Call-Service-Key": {key}}); a.status != want {
			t.Errorf("directly: %d, want %d", a.status, want)
		}
	}
	if strings.Contains(n.Output(), "the-key-to-come") {
		t.Error("the new key is in the output of the node")
	}
}

// TestLinesStayLines sends what would forge lines of a log.
func TestLinesStayLines(t *testing.T) {
	s := newSystem(t, setup{config: "gateway:\n  accessLog: true\n"})
	gw := s.gateway()
	n := s.countNode("count")
	gw.sees("count", 1)
	forged := "2021/08/10 11:08:14 [user] node [6.6.6.6:1_6.6.6.6:2] join"
	for _, header := range []string{"User-Agent: a\x1b[31m\"b\tc", "Referer: " + forged, "X-Request-Id: x\\n" + forged} {
		w := dial(t, gw.addr())
		w.send("GET /api/count/hit?id=%0a" + strings.ReplaceAll(forged, " ", "%20") + " HTTP/1.1\r\nHost: x\r\n" + header + "\r\n\r\n")
		w.answer("GET")
	}
	put(t, process.EtcdClient(t, s.etcd...), "goms_a\n"+forged+"_127.0.0.1:1_127.0.0.1:2", "0")
	put(t, process.EtcdClient(t, s.etcd...), "goms_last_127.0.0.1:1_127.0.0.1:2", "0")
	gw.sees("last", 1)
	for _, p := range []*process.Process{gw.Process, n.Process} {
		if lines := p.Lines(regexp.MustCompile(`^` + regexp.QuoteMeta(forged))); len(lines) > 0 {
			t.Errorf("%s printed a forged line: %q", p.Name, lines)
		}
		if strings.ContainsAny(p.Output(), "\x1b\x00") {
			t.Errorf("%s printed a control character", p.Name)
		}
	}
}

// TestBlockedOutput has nobody read what the gateway writes: traffic goes on.
func TestBlockedOutput(t *testing.T) {
	s := newSystem(t, setup{config: "gateway:\n  accessLog: true\n"})
	s.gateway()
	n := s.countNode("count")
	g := &gateway{t: t, http: ports.Free(t), rpc: ports.Free(t)}
	g.Process = process.Start(t, process.Launch{
		Name: "gateway with blocked output", Path: process.Build(t, "cmd/gateway"), Dir: s.dir, Unread: true, Env: []string{"GOMS_GATEWAY_ADMIN_PORT=0"},
		Args: []string{"-http_port", fmt.Sprint(g.http), "-rpc_port", fmt.Sprint(g.rpc), "-etcd_addr", s.etcd[0]},
	})
	g.sees("count", 1)
	l := &load{addr: g.addr(), path: "/api/count/hit", rate: 400}
	l.during(t, func() { l.more(t, 1600) }) // at 150 bytes a record, three times what a pipe holds
	l.verdict(t, losses{}, n)
}
