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

// handed is a listener whose end takes a while, in which one more client comes.
type handed struct {
	*net.TCPListener
	once     sync.Once
	deadline atomic.Bool // somebody has begun to empty the backlog
}

func (l *handed) SetDeadline(t time.Time) error {
	l.deadline.Store(true)
	return l.TCPListener.SetDeadline(t)
}

func (l *handed) Close() error {
	l.once.Do(func() {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			defer c.Close()
		}
		for end := time.Now().Add(200 * time.Millisecond); !l.deadline.Load() && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // between two looks
		}
	})
	return l.TCPListener.Close()
}

// TestCloseListenersLeavesTheSocket: a socket that another process serves by now is closed and nothing else: to empty its backlog would keep new
// connections out of it for good.
func TestCloseListenersLeavesTheSocket(t *testing.T) {
	b := start(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &handed{TCPListener: ln.(*net.TCPListener)}
	served := make(chan error, 1)
	go func() { served <- b.g.Serve(gateway.Listener{Listener: l}) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitUntil(t, "the listener is served", func() bool { return b.g.Cluster(true).Gateway.Connections == 1 })
	b.g.CloseListeners()
	if err := <-served; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if l.deadline.Load() {
		t.Error("the backlog of a socket that was handed over was emptied")
	}
}
