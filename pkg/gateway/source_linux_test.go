package gateway_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goms-io/goms/pkg/gateway"
)

// tcpPair returns both ends of a connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dialled.Close()
		accepted.Close()
	})
	dialled.SetDeadline(time.Now().Add(20 * time.Second))
	accepted.SetDeadline(time.Now().Add(20 * time.Second))
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// TestAskLooksFirst: nothing is sent over a connection that has ended, or holds what nobody asked for.
func TestAskLooksFirst(t *testing.T) {
	f := func(name string, spoil func(node *net.TCPConn)) {
		t.Helper()
		c, node := tcpPair(t)
		spoil(node)
		waitUntil(t, name+" is there", func() bool {
			fds := []unix.PollFd{{Events: unix.POLLIN}}
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) {
				fds[0].Fd = int32(fd)
				unix.Poll(fds, 0)
			})
			return fds[0].Revents != 0
		})
		if sent, answer, err := gateway.SourceOf(c).Ask([]byte("GET")); sent != 0 || answer != "" || !errors.Is(err, gateway.ErrStale) {
			t.Errorf("%s: Ask = %d, %q, %v, want nothing sent", name, sent, answer, err)
		}
	}
	f("the end", func(node *net.TCPConn) { node.CloseWrite() })
	f("a byte", func(node *net.TCPConn) { node.Write([]byte("x")) })
	f("a reset", func(node *net.TCPConn) {
		node.SetLinger(0)
		node.Close()
	})
}

// TestAskWaits: the answer is waited for without a read in vain, and so is the end in its place.
func TestAskWaits(t *testing.T) {
	f := func(want string, wantErr error, answer func(node *net.TCPConn)) {
		t.Helper()
		c, node := tcpPair(t)
		go func() {
			var got [3]byte
			io.ReadFull(node, got[:])
			answer(node)
		}()
		sent, got, err := gateway.SourceOf(c).Ask([]byte("GET"))
		if sent != 3 || got != want || !errors.Is(err, wantErr) {
			t.Errorf("Ask = %d, %q, %v, want 3, %q, %v", sent, got, err, want, wantErr)
		}
	}
	f("200", nil, func(node *net.TCPConn) { node.Write([]byte("200")) })
	f("", io.EOF, func(node *net.TCPConn) { node.Close() })
	f("", syscall.ECONNRESET, func(node *net.TCPConn) {
		node.SetLinger(0)
		node.Close()
	})
}

// TestAskEnds: the end of the wait ends it, and what begins after that sends nothing.
func TestAskEnds(t *testing.T) {
	c, node := tcpPair(t)
	src := gateway.SourceOf(c)
	go func() {
		io.ReadFull(node, make([]byte, 3))
		c.SetDeadline(time.Unix(1, 0))
	}()
	for i, want := range []int{3, 0} {
		if sent, _, err := src.Ask([]byte("GET")); sent != want || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Ask %d = %d, %v, want %d and the deadline", i, sent, err, want)
		}
	}
}

// TestAskDoesNotWaitToWrite: what the connection does not take at once is left to the caller.
func TestAskDoesNotWaitToWrite(t *testing.T) {
	c, node := tcpPair(t)
	request := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	src := gateway.SourceOf(c)
	sent, answer, err := src.Ask(request)
	if sent == 0 || sent >= len(request) || answer != "" || err != nil {
		t.Fatalf("Ask = %d of %d, %q, %v, want a part and no error", sent, len(request), answer, err)
	}
	rest := make(chan error, 1)
	go func() { rest <- src.Put(request[sent:]) }()
	got := make([]byte, len(request))
	if _, err := io.ReadFull(node, got); err != nil || !bytes.Equal(got, request) {
		t.Errorf("the other end got something else, %v", err)
	}
	if err := <-rest; err != nil {
		t.Errorf("Put = %v", err)
	}
	node.SetLinger(0)
	node.Close()
	waitUntil(t, "writing fails", func() bool { return src.Put([]byte("x")) != nil })
}
