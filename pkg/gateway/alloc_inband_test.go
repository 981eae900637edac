//go:build !race

package gateway_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// TestInBandAllocatesNothing: attempts are named and timed, and nodes say how they are, for free.
func TestInBandAllocatesNothing(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nGoms-Node: load=3\r\nContent-Length: 5\r\n\r\nhello"
	one, other := echoNode(t, answer), echoNode(t, answer)
	b := traced(t, one)
	b.g.Apply(registry.NewSnapshot(2, []registry.Node{registry.NewNode("user", one, one), registry.NewNode("user", other, other)}))
	conn := b.dial()
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 4<<10)
	request := []byte("GET /api/user/login HTTP/1.1\r\nHost: gateway\r\nX-Request-Timeout-Ms: 20000\r\nGrpc-Timeout: 20S\r\n\r\n")
	round := func() {
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil || !bytes.HasSuffix(buf[:n], []byte("hello")) || bytes.Contains(buf[:n], []byte("Goms")) {
			t.Fatalf("answer %q %v", buf[:n], err)
		}
	}
	for range 100 {
		round()
	}
	if allocs := testing.AllocsPerRun(500, round); allocs != 0 {
		t.Errorf("a request allocates %v times, want 0", allocs)
	}
}
