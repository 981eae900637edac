package main

import (
	"context"
	"net"
	"strings"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/rpc"
)

// TestCheckGRPC asks the gRPC server of a node.
func TestCheckGRPC(t *testing.T) {
	keys, err := auth.NewCallKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	srv, health := rpc.NewServerHealth(rpc.ServerConfig{Keys: keys})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	defer func() { srv.Stop(); <-done }()

	f := func(keys *auth.CallKeys, service, want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := checkGRPC(func() *auth.CallKeys { return keys })(ctx, ln.Addr().String(), service, nil)
		switch {
		case want == "" && err != nil:
			t.Errorf("check of %q = %v", service, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("check of %q = %v, want %q", service, err, want)
		case err != nil && strings.Contains(err.Error(), keys.Current()):
			t.Error("the error holds the key")
		}
	}
	f(keys, "", "")
	f(keys, "a.B", "NotFound")
	health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	f(keys, "", "NOT_SERVING")
	other, err := auth.NewCallKeys("another key that nobody knows")
	if err != nil {
		t.Fatal(err)
	}
	f(other, "", "PermissionDenied")
	ln.Close()
	srv.Stop()
	f(keys, "", "Unavailable")
}
