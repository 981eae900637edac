// Package ports gives tests TCP ports that stay theirs, so that a server may stop and start on one and nobody comes between.
//
//	addr := ports.Addr(t) // 127.0.0.1:4711
//
// A server that starts once and tells its address needs none of this: it listens on port 0.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports lie below the range of outgoing connections, and beside the ports that goms has by default.
const (
	low  = 4000
	high = 8000
)

var turn = struct {
	mu   sync.Mutex // guards next
	next int
}{next: low + rand.IntN(high-low)}

// Free returns a TCP port below 10000 that nobody listens on. Until the test ends no other test on this machine is given the same, in
// whatever process it runs.
func Free(t testing.TB) int {
	t.Helper()
	var why error
	for range high - low {
		port := next()
		c, err := claim(port)
		if err != nil {
			why = err
			continue
		}
		t.Cleanup(func() { c.Close() })
		return port
	}
	t.Fatalf("find a port from %d to %d: none is free, the last: %v", low, high-1, why)
	return 0
}

// Addr returns the address of a port like that of Free on loopback.
func Addr(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Free(t))
}

// next goes round, so that a port that was given back rests as long as it can.
func next() int {
	turn.mu.Lock()
	defer turn.mu.Unlock()
	port := turn.next
	if turn.next++; turn.next == high {
		turn.next = low
	}
	return port
}

// claim takes a port for this process if nobody has it. The claim is the UDP port of the same number, which no test uses and which the system
// gives back however the process ends. Only who has the claim looks at the TCP port, since looking takes it for a moment.
func claim(port int) (net.PacketConn, error) {
	c, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		l.Close()
	}
	return c, nil
}
