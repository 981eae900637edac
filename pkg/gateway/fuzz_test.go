package gateway_test

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
)

const (
	postBody = `{"username":"test","password":"test"}`
	get      = "GET /api/user/login?a=1&b=3 HTTP/1.1\r\nHost: gateway\r\nUser-Agent: test\r\nAccept: */*\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
	post     = "POST /api/user/login HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n" + postBody
	plain    = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
	chunked  = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 04:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)

// FuzzRequestHead holds what a node sees of any request that is passed on: net/http reads it, it is
// framed as the client's was, and what the gateway vouches for is there once and is the gateway's.
func FuzzRequestHead(f *testing.F) {
	f.Add([]byte(get))
	f.Add([]byte("POST http://b/api/user/login?x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x-forwarded-for, te\r\nTE: trailers\r\nCall-Service_Key: x\r\nVia: 1.0 x\r\n\r\n"))
	f.Add([]byte("GET /api/user/login HTTP/1.0\r\nUpgrade: a\r\nConnection: upgrade\r\nX.Forwarded_For: b\r\nB3: 0\r\n\r\n"))
	f.Add([]byte("GET /api/user/login HTTP/1.1\r\nHost: a\r\nGoms-Attempt: 0123456789abcdef\r\ngoms_node: draining\r\nX-Request-Timeout-Ms: 5\r\nX_Request_Timeout_Ms: 0\r\nGrpc-Timeout: 1S\r\ngrpc.timeout: 1H\r\n\r\n"))
	routes, err := route.New("", route.Services{"a": {"b": {Path: "/b"}}, "api": {"user/login": {Path: "/login"}}})
	if err != nil {
		f.Fatal(err)
	}
	keys, err := auth.NewCallKeys(testKey)
	if err != nil {
		f.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{Routes: routes, Keys: keys, Settings: gateway.DefaultSettings()})
	if err != nil {
		f.Fatal(err)
	}
	g.Apply(registry.NewSnapshot(1, []registry.Node{registry.NewNode("api", "127.0.0.1:1", "127.0.0.1:2")}))
	f.Fuzz(func(t *testing.T, text []byte) {
		head := g.RequestHead(text)
		if head == nil {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
		if err != nil {
			t.Fatalf("the node cannot read it: %v\n%q\nfrom %q", err, head, text)
		}
		if req.URL.Path != "/login" || req.ProtoMinor != 1 {
			t.Fatalf("path %q, version %s in\n%q", req.URL.Path, req.Proto, head)
		}
		for name, want := range map[string]string{"Call-Service-Key": testKey, "X-Forwarded-Proto": "http", "X-Forwarded-For": "", "X-Forwarded-Host": "", "X-Request-Id": ""} {
			if v := req.Header.Values(name); len(v) != 1 || want != "" && v[0] != want {
				t.Fatalf("%s = %q in\n%q\nfrom %q", name, v, head, text)
			}
		}
		for name := range req.Header {
			plain := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
			if strings.HasPrefix(plain, "goms-") || (plain == "x-request-timeout-ms" || plain == "grpc-timeout") && (plain != strings.ToLower(name) || len(req.Header[name]) != 1) {
				t.Fatalf("%s: %q reached the node in\n%q", name, req.Header[name], head)
			}
			if plain != strings.ToLower(name) && (strings.HasPrefix(plain, "x-forwarded-") || plain == "call-service-key" || strings.HasPrefix(plain, "x-b3-") || plain == "x-request-id" || plain == "traceparent") {
				t.Fatalf("%s reached the node in\n%q", name, head)
			}
		}
		if _, ok := req.Header["Keep-Alive"]; ok {
			t.Fatalf("Keep-Alive reached the node in\n%q", head)
		}
	})
}
