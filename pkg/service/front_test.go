package service_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

func echoHeaders(c *gin.Context) { service.Success(c, c.Request.Header) }

func routes(s *service.Service) error {
	s.Any("/login", echoHeaders)
	s.GET("/users/:id", func(c *gin.Context) { service.Success(c, c.Param("id")) })
	s.POST("/only/post", echoHeaders)
	s.GET("/ip", func(c *gin.Context) { service.Success(c, c.ClientIP()) })
	s.GET("/fail", func(c *gin.Context) { service.Failure(c, http.StatusConflict, 17, "taken") })
	s.GET("/panic", func(*gin.Context) { panic("boom " + canary) })
	s.GET("/panic/late", func(c *gin.Context) {
		c.Header("Content-Length", "100")
		c.String(http.StatusOK, "begun")
		c.Writer.Flush()
		panic("boom")
	})
	s.GET("/abort", func(*gin.Context) { panic(http.ErrAbortHandler) })
	return nil
}

func TestKeyIsRequired(t *testing.T) {
	n, log := start(t, "user", routes, nil)
	for _, path := range []string{"/login", "/login/", "/nowhere", "/metrics", "/", "/only/post"} {
		for name, key := range map[string][]string{
			"no": nil, "empty": {""}, "wrong": {canary + "x"}, "short": {canary[:10]}, "two": {canary, canary},
		} {
			r, err := http.NewRequest(http.MethodGet, n.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header[auth.CallKeyHeader] = key
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			body := bodyOf(t, resp)
			want := `{"code":403,"msg":"call-service key missing or wrong","status":false}`
			if resp.StatusCode != http.StatusForbidden || body != want {
				t.Errorf("GET %s with %s key = %d %s, want 403 %s", path, name, resp.StatusCode, body, want)
			}
		}
	}
	if got := len(log.records(t, "request")); got != 30 {
		t.Errorf("%d access records of 30 refused requests", got)
	}
	if status, body := get(t, n, "/login", true); status != http.StatusOK || !strings.Contains(body, `"msg":"success"`) {
		t.Errorf("GET /login with key = %d %s", status, body)
	}
	for _, path := range []string{"/livez", "/readyz"} {
		if status, body := get(t, n, path, false); status != http.StatusOK || body != `{"status":true}` {
			t.Errorf("GET %s = %d %s", path, status, body)
		}
	}
	noCanary(t, "the log", log.String())
}

func TestOptionsStarWantsKey(t *testing.T) {
	n, _ := start(t, "user", routes, nil)
	conn := dialNode(t, n.URL)
	if _, err := io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if bodyOf(t, resp); resp.StatusCode != http.StatusForbidden {
		t.Errorf("OPTIONS * = %d, want 403", resp.StatusCode)
	}
}

func TestOldKeyIsAccepted(t *testing.T) {
	n, _ := start(t, "user", routes, func(c *service.Config) { c.CallServiceKeyOld = "the-key-before-0123456789" })
	r, _ := http.NewRequest(http.MethodGet, n.URL+"/login", nil)
	r.Header.Set(auth.CallKeyHeader, "the-key-before-0123456789")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if bodyOf(t, resp); resp.StatusCode != http.StatusOK {
		t.Errorf("GET with the old key = %d", resp.StatusCode)
	}
}

func TestKeyIsNeverShown(t *testing.T) {
	n, log := start(t, "user", routes, nil)
	r, _ := http.NewRequest(http.MethodPost, n.URL+"/login?call_service_key=x", strings.NewReader("{}"))
	r.Header["Call_Service_Key"] = []string{canary}
	r.Header["call.service-KEY"] = []string{canary}
	r.Header.Set("X-Mine", "1")
	resp, err := n.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body := bodyOf(t, resp)
	if !strings.Contains(body, `"X-Mine":["1"]`) {
		t.Errorf("echo = %s, want X-Mine in it", body)
	}
	noCanary(t, "the echo", body)
	for _, path := range []string{"/panic", "/nowhere", "/metrics", "/fail"} {
		_, body := get(t, n, path, true)
		noCanary(t, path, body)
	}
	if got := len(log.records(t, "handler panicked")); got != 1 {
		t.Fatalf("%d panics in the log, want 1", got)
	}
	noCanary(t, "the log", log.String())
	noCanary(t, "the formatted service", fmt.Sprintf("%+v %+v", n.Service.Config(), n.Service.Node()))
}

func TestEnvelopes(t *testing.T) {
	n, _ := start(t, "user", routes, nil)
	f := func(method, path string, status int, body string) {
		t.Helper()
		r, _ := http.NewRequest(method, n.URL+path, nil)
		resp, err := n.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := bodyOf(t, resp); resp.StatusCode != status || got != body {
			t.Errorf("%s %s = %d %s, want %d %s", method, path, resp.StatusCode, got, status, body)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
			t.Errorf("%s %s: Content-Type = %q", method, path, got)
		}
		if status == http.StatusMethodNotAllowed && resp.Header.Get("Allow") != "POST" {
			t.Errorf("%s %s: Allow = %q, want POST", method, path, resp.Header.Get("Allow"))
		}
	}
	f("GET", "/users/7", 200, `{"code":0,"msg":"success","data":"7","status":true}`)
	f("GET", "/users/a&b", 200, `{"code":0,"msg":"success","data":"a&b","status":true}`+"")
	f("GET", "/fail", 409, `{"code":17,"msg":"taken","status":false}`)
	f("GET", "/nowhere", 404, `{"code":404,"msg":"no such route","status":false}`)
	f("GET", "/users/7/", 404, `{"code":404,"msg":"no such route","status":false}`)
	f("GET", "/only/post", 405, `{"code":405,"msg":"method not allowed","status":false}`)
	f("GET", "/panic", 500, `{"code":500,"msg":"internal error","status":false}`)
}

func TestPanicBreaksBegunAnswer(t *testing.T) {
	n, log := start(t, "user", routes, nil)
	resp, err := n.Client().Get(n.URL + "/panic/late")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("body of a panicked answer = %q without error", b)
	}
	resp.Body.Close()
	if _, err := n.Client().Get(n.URL + "/abort"); err == nil {
		t.Error("GET /abort succeeds")
	}
	if status, _ := get(t, n, "/users/1", true); status != http.StatusOK {
		t.Errorf("GET after panics = %d", status)
	}
	if got := len(log.records(t, "handler panicked")); got != 1 {
		t.Errorf("%d panics in the log, want 1: ErrAbortHandler is none", got)
	}
}

func TestAccessRecord(t *testing.T) {
	n, log := start(t, "user", routes, nil)
	r, _ := http.NewRequest("GET", n.URL+"/users/%0d%0aevil?password=secret", nil)
	r.Header.Set("X-Request-Id", "req-1")
	r.Header.Set("b3", "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-0")
	resp, err := n.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	bodyOf(t, resp)
	r, _ = http.NewRequest("BREW", n.URL+"/nowhere", nil)
	r.Header["X-Request-Id"] = []string{"a b\"c"}
	if resp, err = n.Client().Do(r); err != nil {
		t.Fatal(err)
	}
	bodyOf(t, resp)
	all := log.records(t, "request")
	if len(all) != 2 {
		t.Fatalf("%d access records, want 2", len(all))
	}
	want := map[string]any{"method": "GET", "route": "/users/:id", "status": 200.0, "request_id": "req-1", "trace_id": "463ac35c9f6413ad48485a3953bb6124"}
	for k, v := range want {
		if all[0][k] != v {
			t.Errorf("record has %s = %v, want %v", k, all[0][k], v)
		}
	}
	if d, ok := all[0]["duration"].(float64); !ok || d <= 0 {
		t.Errorf("record has duration %v", all[0]["duration"])
	}
	if all[1]["method"] != "OTHER" || all[1]["route"] != "none" || all[1]["status"] != 404.0 || all[1]["request_id"] != nil {
		t.Errorf("record of nonsense = %v", all[1])
	}
	for _, secret := range []string{"secret", "evil", "BREW", "nowhere"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("log has %q from the request", secret)
		}
	}
}

func TestMetrics(t *testing.T) {
	n, _ := start(t, "user", routes, nil)
	for i := range 50 {
		get(t, n, fmt.Sprintf("/users/%d", i), true)
		get(t, n, fmt.Sprintf("/nowhere/%d", i), true)
	}
	get(t, n, "/panic", true)
	_, text := get(t, n, "/metrics", true)
	for _, want := range []string{
		`goms_node_requests_total{code="200",method="GET",route="/users/:id"} 50`,
		`goms_node_requests_total{code="404",method="GET",route="none"} 50`,
		`goms_node_requests_total{code="500",method="GET",route="/panic"} 1`,
		`goms_node_request_duration_seconds_count{method="GET",route="/users/:id"} 50`,
		`goms_node_requests_in_flight 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if got := strings.Count(text, "goms_node_requests_total{"); got != 3 {
		t.Errorf("%d series of requests, want 3", got)
	}
}

func TestClientIPCannotBeForged(t *testing.T) {
	ask := func(edit func(*service.Config)) string {
		n, _ := start(t, "user", routes, edit)
		r, _ := http.NewRequest("GET", n.URL+"/ip", nil)
		r.Header.Set("X-Forwarded-For", "6.6.6.6")
		r.Header.Set("X-Real-Ip", "6.6.6.6")
		resp, err := n.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return bodyOf(t, resp)
	}
	if got := ask(nil); strings.Contains(got, "6.6.6.6") {
		t.Errorf("ClientIP() = %s from a forged header", got)
	}
	if got := ask(func(c *service.Config) { c.Service.TrustedProxies = []string{"127.0.0.0/8"} }); !strings.Contains(got, "6.6.6.6") {
		t.Errorf("ClientIP() = %s behind a trusted proxy", got)
	}
}

func TestServerSpan(t *testing.T) {
	zipkin := newCollector(t)
	n, _ := start(t, "user", routes, func(c *service.Config) { c.ZipkinAddr = zipkin.URL + "/api/v2/spans" })
	const traceID, spanID = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	for path, head := range map[string][2]string{
		"/users/1": {"b3", traceID + "-" + spanID + "-1"},
		"/fail":    {"traceparent", "00-" + traceID + "-" + spanID + "-01"},
		"/panic":   {"X-B3-Flags", "1"},
		"/ip":      {"X-B3-Sampled", "0"}, // decided against: no span
	} {
		r, _ := http.NewRequest("GET", n.URL+path+"?password=secret", nil)
		r.Header.Set(head[0], head[1])
		resp, err := n.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		bodyOf(t, resp)
	}
	get(t, n, "/users/2", false) // a stranger makes no span
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	spans := zipkin.find("SERVER", "user")
	if len(spans) != 3 {
		t.Fatalf("%d server spans, want 3", len(spans))
	}
	for _, s := range spans {
		noCanary(t, "a span", s.raw)
		if strings.Contains(s.raw, "secret") {
			t.Errorf("span %s holds the query", s.raw)
		}
		switch s.Tags["http.route"] {
		case "/users/:id":
			if s.Name != "get /users/:id" && s.Name != "GET /users/:id" || s.Tags["http.method"] != "GET" || s.Tags["http.status_code"] != "200" || s.Tags["error"] != "" {
				t.Errorf("span %s", s.raw)
			}
			fallthrough
		case "/fail":
			if s.TraceID != traceID || s.ParentID != spanID || s.ID == spanID {
				t.Errorf("span %s does not continue the trace", s.raw)
			}
		case "/panic":
			if s.Tags["error"] != "panic" || s.Tags["http.status_code"] != "500" || s.TraceID == traceID {
				t.Errorf("span of a panic %s", s.raw)
			}
		default:
			t.Errorf("span %s", s.raw)
		}
	}
}

func BenchmarkServe(b *testing.B) {
	reg := registry.NewMemory()
	n := servicetest.Start(b, "user", routes, servicetest.Options{Registry: reg, Config: quick(nil), Log: (&lines{}).logger()})
	bare := gin.New()
	bare.GET("/users/:id", func(c *gin.Context) { service.Success(c, c.Param("id")) })
	for name, h := range map[string]http.Handler{"sdk": n.Service, "gin": bare} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/users/7", nil)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				r.Header[auth.CallKeyHeader] = []string{canary}
				w.Body.Reset()
				h.ServeHTTP(w, r)
			}
		})
	}
}
