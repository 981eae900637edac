package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// load is a steady stream of requests with unique ids, half of them POST. It never sends a request twice: what fails is lost.
type load struct {
	addr string
	path string // a route of the counting node's /hit
	rate int    // requests a second, at most 400

	mu   sync.Mutex // guards what follows
	sent int
	lost []string // method, id and what happened
}

// during runs the load until the function returns, then checks that every answer was right and counts at the nodes.
func (l *load) during(t testing.TB, work func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ids := make(chan int)
	var all sync.WaitGroup
	all.Go(func() { l.feed(ctx, ids) })
	for range 16 {
		all.Go(func() { l.worker(ids) })
	}
	defer func() {
		cancel()
		all.Wait()
		t.Logf("load: %d requests, %d lost", l.sent, len(l.lost))
	}()
	l.reach(t, 50)
	work()
	l.more(t, 100)
}

// more waits until n further requests were answered or lost.
func (l *load) more(t testing.TB, n int) {
	t.Helper()
	l.mu.Lock()
	goal := l.sent + n
	l.mu.Unlock()
	l.reach(t, goal)
}

func (l *load) reach(t testing.TB, goal int) {
	t.Helper()
	process.Eventually(t, 30*time.Second, "the load goes on", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.sent < goal {
			return fmt.Errorf("%d requests, want %d", l.sent, goal)
		}
		return nil
	})
}

func (l *load) feed(ctx context.Context, ids chan<- int) {
	defer close(ids)
	tick := time.NewTicker(time.Second / time.Duration(min(l.rate, 400)))
	defer tick.Stop()
	for id := 0; ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return
		case ids <- id:
		}
	}
}

// worker sends requests over one connection, which it opens anew when the other side has closed it or it has failed.
func (l *load) worker(ids <-chan int) {
	var c *keptConn
	defer func() { c.close() }()
	for n := range ids {
		method, id := "GET", fmt.Sprintf("g%06d", n)
		if n%2 == 1 {
			method, id = "POST", fmt.Sprintf("p%06d", n)
		}
		keep, err := c.request(l.addr, method, l.path, id, &c)
		if err != nil || !keep {
			c.close()
			c = nil
		}
		l.mu.Lock()
		l.sent++
		if err != nil {
			l.lost = append(l.lost, fmt.Sprintf("%s %s: %v", method, id, err))
		}
		l.mu.Unlock()
	}
}

// keptConn is a connection kept between requests. A nil one is no connection.
type keptConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func (c *keptConn) close() {
	if c != nil {
		c.conn.Close()
	}
}

// request sends one request, on a new connection (left in opened) when c is nil, and wants the id back.
func (c *keptConn) request(addr, method, path, id string, opened **keptConn) (keep bool, err error) {
	if c == nil {
		conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			return false, err
		}
		c = &keptConn{conn, bufio.NewReader(conn)}
		*opened = c
	}
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	body := "\r\n"
	if method == "POST" {
		body = "Content-Length: 4\r\n\r\nbody"
	}
	if _, err := fmt.Fprintf(c.conn, "%s %s?id=%s HTTP/1.1\r\nHost: load.test\r\n%s", method, path, id, body); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false, err
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != 200 || string(got) != id {
		return !resp.Close, fmt.Errorf("answer %d %q", resp.StatusCode, got)
	}
	return !resp.Close, nil
}

// counted reads what nodes have counted: how often each id arrived.
func counted(t testing.TB, nodes ...*node) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for _, n := range nodes {
		text, err := os.ReadFile(n.counts)
		if err != nil {
			t.Fatalf("read counts of %s: %v", n.Name, err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 3 {
				seen[f[2]]++
			}
		}
	}
	return seen
}

// requests returns how many requests a node has accepted.
func (n *node) requests(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(n.counts)
	if err != nil {
		t.Fatalf("read counts of %s: %v", n.Name, err)
	}
	return strings.Count(string(text), "\n")
}

// losses is what a fault may cost.
type losses struct {
	GET, POST int // requests lost
	twiceGET  int // GETs that arrived more than once; a POST never may
}

// verdict checks what the load has cost.
func (l *load) verdict(t testing.TB, most losses, nodes ...*node) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := map[string]int{}
	for _, what := range l.lost {
		method, _, _ := strings.Cut(what, " ")
		lost[method]++
	}
	if lost["GET"] > most.GET || lost["POST"] > most.POST {
		t.Errorf("lost %d GET and %d POST of %d requests, want at most %d and %d:\n%s",
			lost["GET"], lost["POST"], l.sent, most.GET, most.POST, process.Tail(strings.Join(l.lost, "\n"), 10))
	}
	seen := counted(t, nodes...)
	if len(seen)+len(l.lost) < l.sent {
		t.Errorf("the nodes counted %d ids of %d requests: the count is wrong", len(seen), l.sent)
	}
	twice := map[string]int{}
	for id, times := range seen {
		if times > 1 {
			twice[id[:1]]++
			t.Logf("%s arrived %d times", id, times)
		}
	}
	if twice["p"] > 0 || twice["g"] > most.twiceGET {
		t.Errorf("%d POST and %d GET arrived more than once, want none and at most %d", twice["p"], twice["g"], most.twiceGET)
	}
}
