package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/rpc"
)

// TestReplacedKeyHoldsForRPC: the gateway's own gRPC server goes by the keys that a reload has taken.
func TestReplacedKeyHoldsForRPC(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "key")
	next := strings.Repeat("n", 32)
	if err := os.WriteFile(secret, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := write(t, "c.yml", "callServiceKeyFile: "+secret+"\netcd: {embedded: {addr: '127.0.0.1:0', dir: '"+dir+"/etcd'}}\ngateway: {drainDelay: 0s, snapshotFile: ''}\n")
	g := startFrom(t, cfg)
	port := awaitLine(t, &g.out, nil, `Rpc Listen on port: (\d+)`)
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func(key string) codes.Code {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), rpc.KeyMetadata, key), patience)
		defer cancel()
		_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return status.Code(err)
	}
	if got := [2]codes.Code{check(key), check(next)}; got != [2]codes.Code{codes.OK, codes.PermissionDenied} {
		t.Fatalf("before = %v, want OK PermissionDenied", got)
	}
	if err := os.WriteFile(secret, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	awaitLine(t, &g.out, nil, `(configuration reloaded changed=callServiceKey)`)
	if got := [2]codes.Code{check(key), check(next)}; got != [2]codes.Code{codes.PermissionDenied, codes.OK} {
		t.Errorf("after = %v, want PermissionDenied OK", got)
	}
}
