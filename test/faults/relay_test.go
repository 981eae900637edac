//go:build linux

package faults_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay is a TCP proxy that misbehaves on demand.
type relay struct {
	addr   string
	target string
	ln     net.Listener

	delay atomic.Int64 // nanoseconds that each piece is late, either way
	deny  atomic.Bool  // connections are reset as soon as they are accepted
	taken atomic.Int64 // connections that were accepted

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

// relayTo starts a relay; it ends with the test.
func relayTo(t testing.TB, target string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: ln.Addr().String(), target: target, ln: ln, conns: map[net.Conn]bool{}}
	r.all.Go(r.accept)
	t.Cleanup(func() {
		ln.Close()
		r.reset()
		r.all.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		conn, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.taken.Add(1)
		if r.deny.Load() {
			abort(conn)
			continue
		}
		r.all.Go(func() { r.serve(conn) })
	}
}

// abort closes a connection with a reset.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// reset resets all connections that are open.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		abort(c)
	}
}

func (r *relay) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	c.Close()
}

func (r *relay) serve(client net.Conn) {
	r.keep(client)
	defer r.drop(client)
	target, err := net.DialTimeout("tcp", r.target, 2*time.Second)
	if err != nil {
		abort(client)
		return
	}
	r.keep(target)
	defer r.drop(target)
	var both sync.WaitGroup
	both.Go(func() {
		r.pass(target, client)
		target.(*net.TCPConn).CloseWrite()
	})
	r.pass(client, target)
	client.(*net.TCPConn).CloseWrite()
	both.Wait()
}

// pass copies what comes from src to dst, as late as it has to be.
func (r *relay) pass(dst io.Writer, src io.Reader) {
	b := make([]byte, 16<<10)
	for {
		n, err := src.Read(b)
		if n > 0 {
			if d := r.delay.Load(); d > 0 {
				time.Sleep(time.Duration(d))
			}
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
