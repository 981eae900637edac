package etcd_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay is a TCP relay whose connections can be cut or frozen.
type relay struct {
	addr string // where it listens
	to   string
	l    net.Listener
	wg   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	broken bool
	thaw   chan struct{} // not nil while frozen; closed to go on
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return relayOn(t, l, to)
}

func relayOn(t *testing.T, l net.Listener, to string) *relay {
	r := &relay{addr: l.Addr().String(), to: to, l: l, conns: map[net.Conn]struct{}{}}
	r.wg.Add(1)
	go r.accept()
	t.Cleanup(func() {
		r.unfreeze()
		l.Close()
		r.cut()
		r.wg.Wait()
	})
	return r
}

// cut ends all connections, and new ones at once.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true
	for c := range r.conns {
		c.Close()
	}
}

func (r *relay) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = false
}

// freeze keeps all connections and passes nothing on.
func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.thaw = make(chan struct{})
}

func (r *relay) unfreeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.thaw != nil {
		close(r.thaw)
		r.thaw = nil
	}
}

func (r *relay) accept() {
	defer r.wg.Done()
	for {
		in, err := r.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", r.to)
		if err != nil {
			in.Close()
			continue
		}
		r.mu.Lock()
		broken := r.broken
		if !broken {
			r.conns[in], r.conns[out] = struct{}{}, struct{}{}
			r.wg.Add(2)
			go r.pass(in, out)
			go r.pass(out, in)
		}
		r.mu.Unlock()
		if broken {
			in.Close()
			out.Close()
		}
	}
}

func (r *relay) pass(from, to net.Conn) {
	defer r.wg.Done()
	io.Copy(writer{r, to}, from)
	from.Close()
	to.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, from)
}

// writer is a connection that waits while its relay is frozen.
type writer struct {
	r *relay
	net.Conn
}

func (w writer) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	thaw := w.r.thaw
	w.r.mu.Unlock()
	if thaw != nil {
		<-thaw
	}
	return w.Conn.Write(p)
}
