package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/goms-io/goms/pkg/gateway"
)

// far is a network of its own, joined to this one by a cable that can be cut.
type far struct {
	t    *testing.T
	name string // of the network namespace
	ip   string
}

// newFar makes the network. It needs root, ip and nft.
func newFar(t *testing.T) *far {
	t.Helper()
	why := ""
	if os.Getuid() != 0 {
		why = "not root"
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			why = "there is no " + tool
		}
	}
	if why != "" {
		if os.Getenv("CI") == "true" && os.Getuid() == 0 {
			t.Fatalf("cannot make a network namespace: %s", why)
		}
		t.Skipf("a host that vanishes needs a network namespace: %s", why)
	}
	id := os.Getpid() % 200
	f := &far{t: t, name: fmt.Sprintf("goms-far-%d", os.Getpid()), ip: fmt.Sprintf("10.213.%d.2", id)}
	f.run("ip", "netns", "add", f.name)
	t.Cleanup(func() { f.run("ip", "netns", "del", f.name) }) // and the cable with it
	here, there := fmt.Sprintf("gomsh%d", os.Getpid()), fmt.Sprintf("gomst%d", os.Getpid())
	f.run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", f.name)
	f.run("ip", "addr", "add", fmt.Sprintf("10.213.%d.1/30", id), "dev", here)
	f.run("ip", "link", "set", here, "up")
	f.run("ip", "-n", f.name, "addr", "add", f.ip+"/30", "dev", there)
	f.run("ip", "-n", f.name, "link", "set", there, "up")
	return f
}

func (f *far) run(args ...string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// vanish drops everything to and from the network, as when its machine loses its power.
func (f *far) vanish() {
	f.run("ip", "netns", "exec", f.name, "nft", "add table inet t; add chain inet t i { type filter hook input priority 0; policy drop; }; add chain inet t o { type filter hook output priority 0; policy drop; }")
}

// back ends vanish.
func (f *far) back() { f.run("ip", "netns", "exec", f.name, "nft", "delete table inet t") }

// listen listens there; what is accepted belongs there too.
func (f *far) listen() net.Listener {
	f.t.Helper()
	type result struct {
		ln  net.Listener
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine: it is in another network
		ns, err := os.Open("/run/netns/" + f.name)
		if err != nil {
			made <- result{err: err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			made <- result{err: err}
			return
		}
		ln, err := net.Listen("tcp", f.ip+":0")
		made <- result{ln, err}
	}()
	r := <-made
	if r.err != nil {
		f.t.Fatal(r.err)
	}
	return r.ln
}

// TestVanishedNode: a node's host loses its power with requests on it. Whoever waits for it is told within
// seconds, a GET gets its answer from another node, idle connections are not used, and the node comes back.
func TestVanishedNode(t *testing.T) {
	f := newFar(t)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.RawQuery == "wait" {
			arrived <- struct{}{}
			<-release
		}
		io.WriteString(w, "far")
	})}
	ln := f.listen()
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	defer func() { close(release); s.Close(); <-done }()
	far := ln.Addr().String()
	near := node(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "near") })

	b := start(t, func(s *gateway.Settings) { s.ConnectTimeout = time.Second }, far)
	for range 3 { // three in flight, so that three connections are idle
		go b.get("/api/user/login?wait")
	}
	for range 3 {
		waitFor(t, "a request to arrive", arrived)
	}
	for range 3 {
		release <- struct{}{}
	}
	eventually(t, "idle connections", func() bool { return b.g.Cluster(true).Services["user"].Detail[0].Idle == 3 })

	// Two wait for their answers; what they sent has been acknowledged.
	waiting, moved := make(chan string, 1), make(chan string, 1)
	ask := func(method string, waiting chan<- string) {
		c := b.dial()
		defer c.Close()
		began := time.Now()
		io.WriteString(c, method+" /api/user/login?wait HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			waiting <- err.Error()
			return
		}
		body, _ := io.ReadAll(res.Body)
		waiting <- fmt.Sprintf("%d %s", res.StatusCode, body)
		t.Logf("%s: %d after %v", method, res.StatusCode, time.Since(began))
	}
	go ask("POST", waiting)
	waitFor(t, "the POST to arrive", arrived)
	go ask("GET", moved)
	waitFor(t, "the GET to arrive", arrived)
	f.vanish()
	b.set(far, near)
	// Others are sent over connections that were idle: nobody acknowledges them.
	began := time.Now()
	for range 4 {
		if status, body := b.get("/api/user/login"); status != 200 || body != "near" {
			t.Errorf("GET = %d %s, want 200 from the node that is there", status, body)
		}
	}
	t.Logf("four GETs took %v", time.Since(began))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("four GETs took %v: a node that vanished is not noticed", took)
	}
	select {
	case got := <-waiting:
		if !strings.HasPrefix(got, "502 ") || !strings.Contains(got, `"node_closed"`) {
			t.Errorf("the POST on the node that vanished = %s, want 502 node_closed", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("the POST on the node that vanished still waits")
	}
	select {
	case got := <-moved:
		if got != "200 near" {
			t.Errorf("the GET on the node that vanished = %s, want 200 from the node that is there", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("the GET on the node that vanished still waits")
	}

	f.back()
	eventually(t, "the node to be back", func() bool {
		_, body := b.get("/api/user/login")
		return body == "far"
	})
}

// TestSlowReaderHasNotVanished: a node that does not read for longer than a silent host is given is still given
// a body's time.
func TestSlowReaderHasNotVanished(t *testing.T) {
	const pause = 8 * time.Second // longer than vanishedAfter
	addr := rawNode(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		time.Sleep(pause)
		n, err := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d %v", n, err)
	})
	b := start(t, nil, addr)
	// An unknown length goes through a buffer, a known one by splice.
	for name, body := range map[string]io.Reader{"chunked": io.LimitReader(zeros{}, 10<<20), "known": strings.NewReader(strings.Repeat("0", 10<<20))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequest("POST", "http://"+b.addr+"/api/user/login", body)
			if err != nil {
				t.Fatal(err)
			}
			c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if want := fmt.Sprintf("%d <nil>", 10<<20); err != nil || string(got) != want {
				t.Errorf("answer = %q, %v, want %q", got, err, want)
			}
		})
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
