package registry_test

import (
	"net"
	"testing"

	"github.com/goms-io/goms/pkg/registry"
)

func TestDead(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	n := registry.NewNode("user", addr, addr)
	trust := registry.NewTrust(registry.TrustConfig{})
	if trust.Dead(n) {
		t.Error("Dead() = true of a node that accepts connections")
	}
	own := registry.NewTrust(registry.TrustConfig{Self: n})
	if own.Dead(n) {
		t.Error("Dead() = true of this process's own node")
	}
	far := n
	far.HTTPAddr = "203.0.113.1:80"
	if !trust.Dead(far) {
		t.Error("Dead() = false of a node that is not believed")
	}
	l.Close()
	if !trust.Dead(n) {
		t.Error("Dead() = false of a node that refuses connections")
	}
}
