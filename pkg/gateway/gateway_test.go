package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const testKey = "a key that only this test knows"

// bench is a gateway on a loopback port, with whatever nodes a test gives it.
type bench struct {
	t    testing.TB
	g    *gateway.Gateway
	addr string
	done chan struct{}
}

// start serves a gateway whose service "user" has the routes /a to /z and more; change may alter the settings.
func start(t testing.TB, change func(*gateway.Settings), nodes ...string) *bench {
	t.Helper()
	return startWith(t, nil, change, nodes...)
}

// startWith is start with a log.
func startWith(t testing.TB, log *slog.Logger, change func(*gateway.Settings), nodes ...string) *bench {
	t.Helper()
	return startConfig(t, func(c *gateway.Config) { c.Log = log }, change, nodes...)
}

// startChanged is start with a change of the whole configuration.
func startChanged(t testing.TB, change func(*gateway.Config), nodes ...string) *bench {
	t.Helper()
	return startConfig(t, change, nil, nodes...)
}

// startConfig is start with anything else that a gateway is made of.
func startConfig(t testing.TB, configure func(*gateway.Config), change func(*gateway.Settings), nodes ...string) *bench {
	t.Helper()
	settings := gateway.DefaultSettings()
	settings.DrainDelay = 0
	settings.DrainTimeout = 2 * time.Second
	settings.ConnectTimeout = 10 * time.Second // a busy machine may need more than the second that is the default
	if change != nil {
		change(&settings)
	}
	return startServices(t, route.Services{"user": {
		"login": {Path: "/login"}, "get": {Path: "/get", Methods: []string{"GET"}},
		"small": {Path: "/small", MaxBody: 1 << 10}, "short": {Path: "/short", Timeout: 300 * time.Millisecond},
	}}, configure, settings, nodes...)
}

// startRoutes is startWith with routes.
func startRoutes(t testing.TB, services route.Services, log *slog.Logger, settings gateway.Settings, nodes ...string) *bench {
	t.Helper()
	return startServices(t, services, func(c *gateway.Config) { c.Log = log }, settings, nodes...)
}

// startServices is startConfig with routes.
func startServices(t testing.TB, services route.Services, configure func(*gateway.Config), settings gateway.Settings, nodes ...string) *bench {
	t.Helper()
	routes, err := route.New(route.DefaultPrefix, services)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	config := gateway.Config{Routes: routes, Keys: keys, Settings: settings}
	configure(&config)
	g, err := gateway.New(config)
	if err != nil {
		t.Fatal(err)
	}
	(&bench{g: g}).set(nodes...)
	return serve(t, g)
}

// serve serves g on a loopback port.
func serve(t testing.TB, g *gateway.Gateway) *bench {
	t.Helper()
	b := &bench{t: t, g: g, done: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { defer close(ran); g.Run(ctx) }()
	go func() {
		defer close(b.done)
		if err := g.Serve(gateway.Listener{Listener: ln}); err != nil {
			t.Errorf("Serve() = %v", err)
		}
	}()
	t.Cleanup(func() {
		g.Shutdown(context.Background())
		<-b.done
		cancel()
		<-ran
	})
	return b
}

// set makes nodes the nodes of service user.
func (b *bench) set(nodes ...string) {
	var list []registry.Node
	for _, addr := range nodes {
		list = append(list, registry.NewNode("user", addr, addr))
	}
	b.g.Apply(registry.NewSnapshot(1, list))
}

// node starts an HTTP server as a node.
func node(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// raw sends text over a new connection and returns all that comes back until the end.
func (b *bench) raw(text string) string {
	b.t.Helper()
	c := b.dial()
	defer c.Close()
	io.WriteString(c, text)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	all, _ := io.ReadAll(c)
	return string(all)
}

func (b *bench) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) get(path string) (int, string) {
	b.t.Helper()
	return b.do("GET", path, nil)
}

func (b *bench) do(method, path string, body io.Reader) (int, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, "http://"+b.addr+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(all)
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

func TestForwardsUnchanged(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s %s %s key=%s", r.Method, r.URL.RequestURI(), body, r.Header.Get(auth.CallKeyHeader))
	})
	b := start(t, nil, addr)
	status, body := b.do("POST", "/api/user/login?a=1&b=3", strings.NewReader(`{"x":1}`))
	if want := `POST /login?a=1&b=3 {"x":1} key=` + testKey; status != 202 || body != want {
		t.Errorf("answer = %d %q, want 202 %q", status, body, want)
	}
}

func TestKeepAliveAndPipelining(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s:%s", r.URL.RawQuery, body)
	})
	b := start(t, nil, addr)
	c := b.dial()
	defer c.Close()
	var text strings.Builder
	for i := range 10 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&text, "GET /api/user/login?%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		case 1:
			fmt.Fprintf(&text, "POST /api/user/login?%d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", i)
		case 2:
			fmt.Fprintf(&text, "POST /api/user/login?%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n", i)
		}
	}
	io.WriteString(c, text.String())
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	br := bufio.NewReader(c)
	for i := range 10 {
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		got, _ := io.ReadAll(res.Body)
		want := fmt.Sprintf("%d:", i)
		if i%3 > 0 {
			want += "body"
		}
		if string(got) != want {
			t.Errorf("answer %d = %q, want %q", i, got, want)
		}
	}
}
