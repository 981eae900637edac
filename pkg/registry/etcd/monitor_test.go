package etcd_test

import (
	"context"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/connectivity"

	"github.com/goms-io/goms/pkg/registry/etcd"
)

// TestMonitorTellsChangesOnly begins to monitor a connection that gRPC does not call ready yet, though requests may go over it.
func TestMonitorTellsChangesOnly(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{mute.Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	conn := client.ActiveConnection()
	conn.Connect()
	peer, err := mute.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if state := conn.GetState(); state != connectivity.Connecting {
		t.Fatalf("state = %v, want %v", state, connectivity.Connecting)
	}

	links, done := etcd.Monitor(ctx, client)
	select {
	case ready := <-links:
		t.Errorf("told ready = %v, want nothing before a change", ready)
	case <-time.After(50 * time.Millisecond):
	}
	peer.Close()
	select {
	case ready := <-links:
		if ready {
			t.Error("told that a connection is ready that was closed")
		}
	case <-ctx.Done():
		t.Error("not told that the connection was closed")
	}
	cancel()
	done()
}
