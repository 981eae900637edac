package process

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

var ports struct {
	mu        sync.Mutex // guards next
	low, high int        // set by Main
	next      int
}

// FreePort returns a port below 10000 that nobody listens on and that no other test of the run was given.
func FreePort(t testing.TB) int {
	t.Helper()
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.next == 0 {
		ports.next = ports.low + os.Getpid()*97%(ports.high-ports.low)
	}
	for range ports.high - ports.low {
		port := ports.next
		if ports.next++; ports.next == ports.high {
			ports.next = ports.low
		}
		if free(port) {
			return port
		}
	}
	t.Fatal("find a port: none is free")
	return 0
}

func free(port int) bool {
	for _, host := range []string{"127.0.0.1", ""} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
