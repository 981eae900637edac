package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

// TestStopResetsNobody: whoever could connect is answered, though the listener is closed under a stream of new connections.
func TestStopResetsNobody(t *testing.T) {
	addr := node(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	for range 5 {
		b := start(t, nil, addr)
		var plain net.ListenConfig
		plain.SetMultipathTCP(false) // of which the system filters no segments
		ln, err := plain.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- b.g.Serve(gateway.Listener{Listener: ln}) }()
		var answered, lost atomic.Int64
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
					if err != nil {
						return // refused, or kept out until it was
					}
					c.SetDeadline(time.Now().Add(10 * time.Second))
					io.WriteString(c, "POST /api/user/login HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
					res, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil || res.StatusCode != 200 {
						lost.Add(1)
						t.Logf("connected, then %v", err)
					} else {
						answered.Add(1)
					}
					c.Close()
				}
			})
		}
		waitUntil(t, "requests are answered", func() bool { return answered.Load() > 200 })
		if err := b.g.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve() = %v", err)
		}
		close(stop)
		wg.Wait()
		if lost.Load() > 0 {
			t.Errorf("%d of %d requests were lost", lost.Load(), lost.Load()+answered.Load())
		}
	}
}
