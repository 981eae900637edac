package ports_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/goms-io/goms/test/ports"
)

// TestFree asks for ports from many tests at once, and from another process beside them: nobody is given what another has.
func TestFree(t *testing.T) {
	const asks = 300
	if os.Getenv("ASK_FOR_PORTS") != "" {
		for range asks {
			fmt.Println("port", ports.Free(t))
		}
		_, _ = fmt.Scanln() // keeps them until the other end is closed
		return
	}
	other := exec.Command(os.Args[0], "-test.run=^TestFree$")
	other.Env = append(os.Environ(), "ASK_FOR_PORTS=1")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := other.Wait(); err != nil {
			t.Errorf("the other process: %v", err)
		}
	}()

	var mu sync.Mutex // guards given
	given := map[int]int{}
	take := func(port int) {
		mu.Lock()
		defer mu.Unlock()
		given[port]++
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range asks {
				port := ports.Free(t)
				take(port)
				l, err := net.Listen("tcp", fmt.Sprintf(":%d", port)) // as a server would
				if err != nil {
					t.Errorf("the port is taken: %v", err)
					continue
				}
				l.Close()
			}
		})
	}
	for range asks {
		var port int
		if _, err := fmt.Fscanf(out, "port %d\n", &port); err != nil {
			t.Fatal(err)
		}
		take(port)
	}
	all.Wait()
	for port, times := range given {
		if times != 1 || port < 1024 || port >= 10000 {
			t.Errorf("port %d was given %d times, want one below 10000 once", port, times)
		}
	}
	if len(given) != 5*asks {
		t.Errorf("%d ports were given, want %d", len(given), 5*asks)
	}
}

// TestFreeIsGivenBack asks for more ports than there are, test after test.
func TestFreeIsGivenBack(t *testing.T) {
	for i := range 5 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			for range 900 {
				if addr := ports.Addr(t); !strings.HasPrefix(addr, "127.0.0.1:") {
					t.Fatalf("Addr() = %q, want one on loopback", addr)
				}
			}
		})
	}
}
