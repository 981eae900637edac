package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/cmd/service/pb"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output collects the logs of nodes.
type output struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func start(t *testing.T, name string, reg *registry.Memory, out io.Writer) *servicetest.Node {
	t.Helper()
	c := service.DefaultConfig()
	c.Service.DrainDelay = 0
	c.Services = map[string]map[string]service.Action{
		"user":    {"register": {Path: "/register"}, "login": {Path: "/login"}},
		"order":   {"submit": {Path: "/order/submit"}},
		"members": {"list": {Path: "/list"}, "show": {Path: "/show"}, "view": {Path: "/show"}},
	}
	return servicetest.Start(t, name, setup, servicetest.Options{
		Registry: reg, Config: &c, Log: slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
}

func send(t *testing.T, n *servicetest.Node, method, target, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequest(method, n.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "PostmanRuntime/7.28.4")
	r.Header.Set("Accept-Encoding", "gzip, deflate, br")
	r.Header.Add("X-Twice", "first")
	r.Header.Add("X-Twice", "second")
	resp, err := n.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), servicetest.Key) {
		t.Errorf("%s %s shows the key: %s", method, target, b)
	}
	return resp.StatusCode, string(b)
}

func TestUserEchoes(t *testing.T) {
	out := &output{}
	n := start(t, "user", registry.NewMemory(), out)
	for _, path := range []string{"/login", "/register"} {
		status, got := send(t, n, "POST", path+"?a=1&b=3", `{"password":"test", "username":"<test>", "n": 12345678901234567890}`)
		want := `{"code":0,"msg":"success","data":{"body":{"password":"test","username":"<test>","n":12345678901234567890},` +
			`"headers":{"Accept-Encoding":"gzip, deflate, br","Content-Length":"67","Content-Type":"application/json",` +
			`"User-Agent":"PostmanRuntime/7.28.4","X-Twice":"first"},"method":"POST","urlParam":"?a=1&b=3"},"status":true}`
		if status != http.StatusOK || got != want {
			t.Errorf("POST %s = %d\n%s, want\n%s", path, status, got, want)
		}
	}
	for body, want := range map[string]string{"": `""`, "a=1&b=2": `"a=1&b=2"`, "[1]": `"[1]"`, "null": `"null"`, `{"a":1`: `"{\"a\":1"`, `{}`: `{}`} {
		if _, got := send(t, n, "PUT", "/login", body); !strings.Contains(got, `{"body":`+want+`,"headers"`) || !strings.Contains(got, `"urlParam":""`) {
			t.Errorf("PUT of %q = %s, want body %s", body, got, want)
		}
	}
	if status, got := send(t, n, "POST", "/login", strings.Repeat("x", maxBody+1)); status != http.StatusRequestEntityTooLarge || !strings.Contains(got, `"status":false`) {
		t.Errorf("POST of too much = %d %s", status, got)
	}
	if strings.Contains(out.String(), servicetest.Key) || strings.Contains(out.String(), "test\"") {
		t.Errorf("log holds key or body:\n%s", out)
	}
}

func TestOrderCallsUser(t *testing.T) {
	reg, out := registry.NewMemory(), &output{}
	order := start(t, "order", reg, out)
	if status, got := send(t, order, "POST", "/order/submit", `{}`); status != http.StatusServiceUnavailable || got != `{"code":1,"msg":"user login failed","status":false}` {
		t.Errorf("POST without user = %d %s", status, got)
	}
	start(t, "user", reg, out)
	order.Await(t, "user", 1)
	status, got := send(t, order, "POST", "/order/submit?a=1", `{"item":7}`)
	var answer struct {
		Data struct {
			Order, Login struct{ Body, Headers map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(got), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("POST = %d %s, %v", status, got, err)
	}
	if answer.Data.Order.Body["item"] != 7.0 || answer.Data.Login.Body["item"] != 7.0 || answer.Data.Login.Headers["User-Agent"] != "goms/order" {
		t.Errorf("POST = %s, want what order and user were sent", got)
	}
	if status, got := send(t, order, "GET", "/order/submit", ""); status != http.StatusOK {
		t.Errorf("GET = %d %s", status, got)
	}
	if strings.Contains(out.String(), servicetest.Key) {
		t.Error("log holds the key")
	}
}

func TestRPC(t *testing.T) {
	reg, out := registry.NewMemory(), &output{}
	order := start(t, "order", reg, out)
	orders := pb.NewOrderClient(order.Conn(t))
	request := &pb.EchoRequest{UrlParam: "?a=1", Body: "{}"}
	if _, err := orders.Submit(t.Context(), request); status.Code(err) != codes.Unavailable {
		t.Errorf("Submit() without user = %v, want Unavailable", err)
	}
	user := start(t, "user", reg, out)
	order.Await(t, "user", 1)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-mine", "1", "x-raw-bin", "\xff\xfe")
	r, err := orders.Submit(ctx, request)
	if err != nil {
		t.Fatalf("Submit() = %v", err)
	}
	if r.GetOrder().GetMethod() != "/goms.demo.v1.Order/Submit" || r.GetOrder().GetHeaders()["x-mine"] != "1" ||
		r.GetLogin().GetMethod() != "/goms.demo.v1.User/Login" || r.GetLogin().GetUrlParam() != "?a=1" {
		t.Errorf("Submit() = %v", r)
	}
	reply, err := pb.NewUserClient(user.Conn(t)).Register(ctx, request)
	if err != nil || reply.GetMethod() != "/goms.demo.v1.User/Register" || reply.GetBody() != "{}" {
		t.Errorf("Register() = %v, %v", reply, err)
	}
	if text := fmt.Sprint(r, reply, out); strings.Contains(text, servicetest.Key) {
		t.Errorf("the key is shown: %s", text)
	}
}

func TestOtherNamesEcho(t *testing.T) {
	n := start(t, "members", registry.NewMemory(), io.Discard)
	for _, path := range []string{"/list", "/show"} {
		if status, got := send(t, n, "GET", path, ""); status != http.StatusOK || !strings.Contains(got, `"method":"GET"`) {
			t.Errorf("GET %s = %d %s", path, status, got)
		}
	}
	c := service.DefaultConfig()
	c.CallServiceKey, c.AdvertiseHost = servicetest.Key, "127.0.0.1"
	s, err := service.New(service.Options{Name: "unheard", Config: &c})
	if err != nil {
		t.Fatal(err)
	}
	if err := setup(s); err == nil {
		t.Error("setup() of a service without actions succeeds")
	}
}
