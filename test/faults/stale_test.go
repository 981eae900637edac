//go:build linux

package faults_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// TestF25StaleConnections has nodes close idle connections when requests come. Where they say in their entry when that is, nothing is lost. Where
// they do not, no GET is, and only those POSTs are which lay unread in a node's socket as it closed: nobody can tell them from ones that were read.
func TestF25StaleConnections(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, nodes: -1, services: "  unsaid:\n    hit: /hit\n  forced:\n    hit: /hit\n"})
	stale := s.staleConnections(r)

	// Each node is asked every twentieth of a second or so, which is when the gateway thinks the connection too old.
	var said ids
	s.joinAs("count", `{"idle":100}`, idlers(t, &said, 25, func(int) time.Duration { return 100 * time.Millisecond })...)
	l := &load.Load{Addrs: s.front, Path: "/api/count/hit", Rate: 500, Timeout: 30 * time.Second, Most: 20_000}
	l.Start()
	for n, goal := 0, times(100_000, 5000); n < goal; n, _ = l.Sent() {
		wait(t, 100*time.Millisecond)
	}
	res := l.Stop()
	// A machine that is held up for longer than that margin lets nodes close with requests unread; those took as long.
	const margin = 50 * time.Millisecond
	r.account(res, losses{post: res.Requests / 1000, twice: res.Requests / 100}, &said)
	r.set("stale", stale())
	r.must(res.Lost == 0 || res.LostLatency("", 0) > margin, "of %d lost requests one took %v, less than the margin before its node closes",
		res.Lost, res.LostLatency("", 0))

	// Each is asked every tenth of a second, and closes about then.
	var unsaid ids
	s.join("unsaid", idlers(t, &unsaid, 80, func(i int) time.Duration { return 97*time.Millisecond + time.Duration(i)*50*time.Microsecond })...)
	l = &load.Load{Addrs: s.front, Path: "/api/unsaid/hit", Posts: -1, Rate: 800, Timeout: 30 * time.Second, Most: 20_000}
	l.Start()
	wait(t, lasting(30*time.Second, 10*time.Second))
	left, met := l.Stop(), stale()
	r.set("unsaid_requests", left.Requests)
	r.set("unsaid_lost", left.Lost)
	r.set("unsaid_stale", met)
	r.must(left.Lost == 0, "%d of %d GETs were lost at nodes that do not say when they close:\n%s", left.Lost, left.Requests, left.LostBy(10))
	r.must(met > 0, "no request met a connection that its node closed: the race did not happen")

	s.forced(r, stale)
}

// staleConnections returns what tells how many stale connections the gateway has met since it was last asked.
func (s *scene) staleConnections(r *row) func() int {
	before := 0.0
	return func() int {
		r.Helper()
		n := 0.0
		process.Eventually(r, 30*time.Second, "the gateway tells how many stale connections it met", func() error {
			var ok bool
			if n, ok = s.gateways[0].metric("goms_stale_connections_total"); !ok {
				return errors.New("goms_stale_connections_total is not there")
			}
			return nil
		})
		met := n - before
		before = n
		return int(met)
	}
}

// idlers starts nodes that close connections when they have been idle for a time, each for its own, and returns their addresses.
func idlers(t testing.TB, seen *ids, n int, idle func(i int) time.Duration) (addrs []string) {
	t.Helper()
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{IdleTimeout: idle(i), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			io.Copy(io.Discard, req.Body)
			seen.add(req.URL.Query().Get("id"))
			fmt.Fprint(w, req.URL.Query().Get("id"))
		})}
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.Serve(ln)
		}()
		t.Cleanup(func() {
			server.Close()
			<-done
		})
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs
}

// forced has nodes that answer up to three requests on a connection and close it at the next: half of them before their system knows of a byte, half
// with all of it unread in the socket.
func (s *scene) forced(r *row, stale func() int) {
	r.Helper()
	var unread ids
	var nodes []witness
	var addrs []string
	for i := range 11 { // an odd number, so that each is sent GETs and POSTs
		p := peerOf(r, func(p *peer, conn net.Conn, br *bufio.Reader) {
			for range 1 + rand.IntN(3) {
				id, _, err := request(br)
				if err != nil {
					return
				}
				p.saw(id)
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
			}
			tcp, deaf := conn.(*net.TCPConn), i%2 == 0
			if deaf {
				awaitLost(r, tcp)
			}
			if id := unreadID(tcp, !deaf); id != "" { // it may have been there before the connection was deaf
				unread.add(id)
			}
		})
		nodes, addrs = append(nodes, p), append(addrs, p.addr)
	}
	s.join("forced", addrs...)
	l := &load.Load{Addrs: s.front, Path: "/api/forced/hit", Timeout: 30 * time.Second}
	l.Start()
	wait(r, lasting(60*time.Second, 10*time.Second))
	res := l.Stop()
	posts := 0
	for id := range unread.all() {
		if id[0] == 'p' {
			posts++
		}
	}
	gone := stale()
	r.prefix = "forced_"
	defer func() { r.prefix = "" }()
	r.account(res, losses{post: posts, twice: res.Requests / 100}, nodes...) // nodes of a machine that is held up are silent
	r.set("stale", gone)
	r.set("unread_posts", posts)
	r.must(gone >= res.Requests/10, "only %d of %d requests met a connection that its node closed", gone, res.Requests)
	r.must(posts > 0, "no POST was left unread")
	for _, id := range res.LostIDs() {
		r.must(unread.all()[id] == 1, "%s was lost, though no node left it unread", id)
	}
}

// awaitLost waits for a while until a connection has been sent what its system takes no notice of.
func awaitLost(r *row, conn *net.TCPConn) {
	lost, err := process.Deafen(conn)
	if err != nil {
		r.Errorf("make a connection deaf: %v", err)
		return
	}
	for end := time.Now().Add(time.Second / 2); lost() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // between two looks
	}
}

var sentID = regexp.MustCompile(`id=([gp]\d+)`)

// unreadID returns the id of the request that lies in the socket of a connection, without taking a byte; "" when there is none. It may wait for
// one until the connection ends.
func unreadID(conn *net.TCPConn, wait bool) (id string) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return ""
	}
	_ = raw.Read(func(fd uintptr) bool { // an error is the end of the connection
		var b [1024]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if errors.Is(err, syscall.EAGAIN) {
			return !wait
		}
		if head, _, whole := bytes.Cut(b[:max(n, 0)], []byte("\r\n")); whole {
			if m := sentID.FindSubmatch(head); m != nil {
				id = string(m[1])
			}
		}
		return true
	})
	return id
}
