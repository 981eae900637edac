package gateway_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/console"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

func TestMetrics(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "fail" {
			w.WriteHeader(500)
		}
	})
	b := start(t, nil, addr)
	for range 3 {
		b.get("/api/user/login")
	}
	b.get("/api/user/login?fail")
	b.get("/api/user/nothing")
	b.raw("nonsense\r\n\r\n")
	admin := httptest.NewServer(b.g.AdminHandler())
	defer admin.Close()
	var text string
	waitUntil(t, "the last answered request is counted", func() bool {
		text = fetch(t, admin.URL+"/metrics")
		return strings.Contains(text, `reason="bad_request"} 1`) && strings.Contains(text, `login",service="user"} 4`)
	})
	for _, want := range []string{
		`goms_requests_total{code="2xx",route="/api/user/login",service="user"} 3`,
		`goms_requests_total{code="5xx",route="/api/user/login",service="user"} 1`,
		`goms_request_duration_seconds_count{route="/api/user/login",service="user"} 4`,
		`goms_request_reasons_total{reason="unknown_route"} 1`,
		`goms_request_reasons_total{reason="bad_request"} 1`,
		`goms_node_requests_total{node="` + addr + "_" + addr + `",service="user"} 4`,
		"go_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(text, testKey) {
		t.Error("the key is in the metrics")
	}
}

func fetch(t testing.TB, url string) string {
	t.Helper()
	res, err := http.Get(url) //nolint:noctx // a test server
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestAdminRefusesStrangers(t *testing.T) {
	b := start(t, nil)
	admin := httptest.NewServer(b.g.AdminHandler())
	defer admin.Close()
	f := func(method, host, origin string, want int) {
		t.Helper()
		req, err := http.NewRequest(method, admin.URL+"/log-level", strings.NewReader("debug"))
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s with Host %q, Origin %q = %d, want %d", method, host, origin, res.StatusCode, want)
		}
	}
	f("GET", "", "", 404) // no level to change in this gateway
	f("GET", "localhost:1", "", 404)
	f("GET", "[::1]:1", "", 404)
	f("GET", "evil.example", "", 421)
	f("GET", "127.0.0.1.evil.example:80", "", 421)
	f("PUT", "", "http://evil.example", 403)
}

func TestLogLevel(t *testing.T) {
	level := new(slog.LevelVar)
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := route.New("", nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Routes: routes, Keys: keys, Settings: gateway.DefaultSettings(), Level: level})
	if err != nil {
		t.Fatal(err)
	}
	h := g.AdminHandler()
	put := func(body string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("PUT", "http://127.0.0.1/log-level", strings.NewReader(body)))
		return w.Code
	}
	if code := put("debug\n"); code != 204 || level.Level() != slog.LevelDebug {
		t.Errorf("PUT debug = %d, level %v", code, level.Level())
	}
	if code := put("loud"); code != 400 || level.Level() != slog.LevelDebug {
		t.Errorf("PUT loud = %d, level %v", code, level.Level())
	}
}

// TestJoinAndLeaveLines holds the lines of the console to the letter.
func TestJoinAndLeaveLines(t *testing.T) {
	var out bytes.Buffer
	log, err := console.New(&out, "text", "gateway", nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	routes, err := route.New("", nil)
	if err != nil {
		t.Fatal(err)
	}
	self := registry.NewNode("gateway", "10.0.0.1:8180", "10.0.0.1:8080")
	g, err := gateway.New(gateway.Config{Routes: routes, Keys: keys, Settings: gateway.DefaultSettings(), Log: log, Self: self})
	if err != nil {
		t.Fatal(err)
	}
	other := registry.NewNode("gateway", "10.0.0.2:8180", "10.0.0.2:8080")
	user := registry.NewNode("user", "10.0.0.3:9180", "10.0.0.3:9080")
	g.Apply(registry.NewSnapshot(1, []registry.Node{other}))
	g.Apply(registry.NewSnapshot(2, []registry.Node{self, other, user}))
	g.Apply(registry.NewSnapshot(3, []registry.Node{user}))
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimSuffix(line[len("2006/01/02 15:04:05 "):], "\n"))
	}
	want := []string{
		"[gateway] registry read nodes=1",
		"[user] node [10.0.0.3:9180_10.0.0.3:9080] join",
		"[gateway] node [10.0.0.2:8180_10.0.0.2:8080] leave",
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("lines\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}
