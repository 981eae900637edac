//go:build linux

package faults_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// TestF06Upgrade replaces a gateway's process by a new one, over and over, by SIGUSR2: no connection is refused, no WebSocket is cut.
func TestF06Upgrade(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	first := s.gateways[0]
	// In a shell, which outlives the processes that replace one another and keeps what they write.
	g := *first
	g.http, g.rpc, g.admin = process.FreePort(t), process.FreePort(t), process.FreePort(t)
	log := filepath.Join(t.TempDir(), "log")
	args := append([]string{"-c", `log=$1; shift; "$@" >"$log" 2>&1 & wait; sleep 3600`, "sh", log, first.launch.Path}, first.launch.Args...)
	g.launch = process.Launch{Name: "upgraded gateway", Path: "/bin/sh", Dir: t.TempDir(), Args: append(args, "-http_port", fmt.Sprint(g.http), "-rpc_port", fmt.Sprint(g.rpc), "-admin_port", fmt.Sprint(g.admin))}
	g.again()
	defer func() {
		if r.Failed() {
			text, _ := os.ReadFile(log)
			t.Logf("the log of the gateway:\n%s", process.Tail(string(text), 60))
		}
	}()
	g.ready()
	g.sees("count", 3)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	socket, _, err := websocket.Dial(ctx, "ws://"+g.addr()+"/api/count/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	l := &load.Load{Addrs: []string{g.addr()}, Path: "/api/count/hit"}
	l.Start()
	wait(t, time.Second)
	upgrade := func(i int) {
		t.Helper()
		old := listener(t, g.http)
		if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(90 * time.Second) // the process before may have something to finish
		for next := old; next == old || next == 0; next = listener(t, g.http) {
			if time.Now().After(deadline) {
				l.Stop()
				r.Fatalf("after SIGUSR2 %d no other process listens", i+1)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	upgrade(0)
	// A WebSocket stays with the process it began with, for as long as that may take to drain.
	opened := time.Now()
	kept := time.Duration(0)
	for kept < lasting(30*time.Second, 10*time.Second) {
		if err = socket.Write(ctx, websocket.MessageText, []byte("still there")); err == nil {
			_, _, err = socket.Read(ctx)
		}
		if err != nil {
			break
		}
		kept = time.Since(opened)
		wait(t, 200*time.Millisecond)
	}
	r.must(err == nil, "a WebSocket was cut after %v: %v", kept, err)
	socket.CloseNow()
	upgrades := times(50, 5)
	for i := 1; i < upgrades; i++ {
		upgrade(i)
	}
	wait(t, time.Second)
	res := l.Stop()
	r.account(res, losses{}, s.witnesses()...)
	refused := res.Errors["connect: refused"]
	r.set("upgrades", upgrades)
	r.set("refused_connects", refused)
	r.set("websocket_kept_ms", kept)
	r.must(refused == 0, "%d connections were refused", refused)
}

// listener returns the process that accepts on a port, the youngest when there are several; 0 when there is none.
func listener(t testing.TB, port int) int {
	t.Helper()
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	inodes := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			inodes["socket:["+f[9]+"]"] = true
		}
	}
	youngest := 0
	all, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range all {
		if to, err := os.Readlink(fd); err == nil && inodes[to] {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			youngest = max(youngest, pid)
		}
	}
	return youngest
}

// TestF20SlowNode makes one node of three slow: its share falls, and soon nobody notices.
func TestF20SlowNode(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	wait(t, 2*time.Second)
	n := s.nodes[0]
	n.behave(r, "delay=2s")
	at := l.Elapsed()
	wait(t, 10*time.Second)
	before := n.arrived()
	settled := l.Elapsed()
	span := lasting(48*time.Second, 10*time.Second)
	wait(t, span)
	share := float64(n.arrived()-before) / (400 * span.Seconds())
	res := l.Stop()
	r.account(res, losses{}, s.witnesses()...)
	p99 := res.Latency(settled, res.Took, 99)
	r.set("p99_at_first_ms", res.Latency(at, settled, 99))
	r.set("p99_settled_ms", p99)
	r.set("share", share)
	r.must(share <= 0.05, "the slow node has a share of %.3f", share)
	r.must(p99 <= time.Second, "99 of 100 requests took at most %v ten seconds later", p99)
}

// TestF21NodeVanishes drops all packets to and from a node, as when its host is gone.
func TestF21NodeVanishes(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := open(r, props{gateway: "  answerTimeout: 3s\n"})
	s.nodeEnv = []string{"GOMS_SERVICE_LISTEN_HOST=127.0.0.21"}
	s.addNode("count", "-advertise_host", "127.0.0.21")
	for _, g := range s.gateways {
		g.sees("count", 4)
	}
	l := s.load()
	wait(t, 2*time.Second)
	at := l.Elapsed()
	partition(t, "127.0.0.21")
	wait(t, lasting(50*time.Second, 15*time.Second))
	heal(t)
	wait(t, 3*time.Second)
	res := l.Stop()
	_, late := res.Between(at+5*time.Second, res.Took)
	// What it has of POSTs when it vanishes may not go elsewhere.
	r.account(res, losses{post: 500, twice: 500}, s.witnesses()...)
	r.set("lost_after_5s", late)
	r.must(late == 0, "%d requests were lost more than 5 s after it vanished", late)
}

// TestF23Garbage has a node answer what is no HTTP, a head without an end, and a body without one.
func TestF23Garbage(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, services: "  garbage:\n    hit: /hit\n"})
	g := s.gateways[0]
	var how atomic.Int64
	p := peerOf(t, func(_ *peer, conn net.Conn, br *bufio.Reader) {
		if _, _, err := request(br); err != nil {
			return
		}
		switch how.Load() {
		case 0:
			io.WriteString(conn, "SSH-2.0-OpenSSH_9.2p1 secret-of-the-node\r\n")
		case 1:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for line := "X-Line: " + strings.Repeat("secret-of-the-node", 50) + "\r\n"; ; {
				if _, err := io.WriteString(conn, line); err != nil {
					return
				}
			}
		case 2:
			conn.Write([]byte{0, 1, 2, 255, 254, '\n', 0, 0})
		case 3:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nsecret-of-the-node")
		case 4: // without an end, and no client that reads so much
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			for b := make([]byte, 64<<10); ; {
				if _, err := conn.Write(b); err != nil {
					return
				}
			}
		}
	})
	s.join("garbage", p.addr)
	base := s.calm()
	l := s.gentle()
	var slowest time.Duration
	names := []string{"not_http", "endless_head", "binary", "two_lengths"}
	for i, name := range names {
		how.Store(int64(i))
		statuses, leaked := map[int]int{}, 0
		for range times(100, 20) {
			began := time.Now()
			resp, err := once.Get("http://" + g.addr() + "/api/garbage/hit")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			statuses[resp.StatusCode]++
			slowest = max(slowest, time.Since(began))
			if strings.Contains(string(body)+fmt.Sprint(resp.Header), "secret-of-the-node") {
				leaked++
			}
		}
		r.set(name, statuses)
		r.must(statuses[502]+statuses[503] == times(100, 20) && statuses[502] > 0, "%s: statuses %v, want 502", name, statuses)
		r.must(leaked == 0, "%s: %d answers hold bytes of the garbage", name, leaked)
	}
	how.Store(4)
	for range 20 {
		conn, err := net.Dial("tcp", g.addr())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /api/garbage/hit HTTP/1.1\r\nHost: a\r\n\r\n")
		io.CopyN(io.Discard, conn, 8<<20)
		conn.Close()
	}
	peak := base.peak()
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("slowest_ms", slowest)
	r.set("rss_growth_kib", peak>>10)
	r.must(slowest <= 3*time.Second, "the slowest refusal took %v", slowest)
	r.must(peak <= 16<<20, "memory grew by %d KiB", peak>>10)
	base.settled(r, 10*time.Second, 60)
}

// TestF25StaleConnections has nodes close idle connections after 100 ms, as they say in their entry, which is when requests come.
func TestF25StaleConnections(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true, nodes: -1})
	var seen ids
	server := &http.Server{IdleTimeout: 100 * time.Millisecond, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		seen.add(req.URL.Query().Get("id"))
		fmt.Fprint(w, req.URL.Query().Get("id"))
	})}
	defer server.Close()
	// Forty nodes, of which each is asked every tenth of a second.
	var addrs []string
	for range 40 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go server.Serve(ln)
		addrs = append(addrs, ln.Addr().String())
	}
	s.joinAs("count", `{"idle":100}`, addrs...)
	l := s.load()
	for n, goal := 0, times(100_000, 5000); n < goal; n, _ = l.Sent() {
		wait(t, 100*time.Millisecond)
	}
	res := l.Stop()
	r.account(res, losses{twice: res.Requests / 100}, &seen)
	retries, _ := s.gateways[0].metric("goms_retries_total")
	r.set("retries", retries)
}

// TestF30HTTP2Abuse runs the attacks over HTTP/2 of the conformance tests.
func TestF30HTTP2Abuse(t *testing.T) {
	r := begin(t)
	r.runs("./test/conformance", "^TestHTTP2Abuse$")
}

// runs runs tests of another package, which hold the criterion of the row.
func (r *row) runs(pkg, pattern string) {
	r.Helper()
	cmd := exec.CommandContext(r.Context(), "go", "test", "-tags", "nomsgpack", "-count=1", "-v", "-run", pattern, pkg)
	cmd.Dir = process.RepoRoot()
	out, err := cmd.CombinedOutput()
	r.set("passed", strings.Count(string(out), "--- PASS"))
	r.must(err == nil, "%s %s: %v\n%s", pkg, pattern, err, process.Tail(string(out), 60))
	r.must(strings.Contains(string(out), "--- PASS"), "%s %s: no test has run", pkg, pattern)
}

// TestF32LittleMemory puts a gateway under a limit of 128 MiB and repeats what is large.
func TestF32LittleMemory(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	g := s.gateways[0]
	killed := limitMemory(r, g.PID(), 128<<20)
	base := s.calm()
	l := s.gentle()
	ctx, cancel := context.WithTimeout(t.Context(), lasting(60*time.Second, 15*time.Second))
	defer cancel()
	done := make(chan struct{})
	for i := range 300 {
		go func() {
			defer func() { done <- struct{}{} }()
			for ctx.Err() == nil {
				conn, err := net.DialTimeout("tcp", g.addr(), 5*time.Second)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				conn.SetDeadline(time.Now().Add(5 * time.Second))
				switch i % 3 {
				case 0: // a body for a node that hardly reads
					io.WriteString(conn, "POST /api/count/sip HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n"+strings.Repeat("x", 1<<20))
					io.Copy(io.Discard, conn)
				case 1: // an answer that nobody reads
					io.WriteString(conn, "GET /api/count/down?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
					<-ctx.Done()
				case 2: // a head that is far too large
					io.WriteString(conn, "GET /api/count/hit HTTP/1.1\r\nHost: a\r\nCookie: "+strings.Repeat("c", 1<<20))
					io.Copy(io.Discard, conn)
				}
				stop()
				conn.Close()
			}
		}()
	}
	for range 300 {
		<-done
	}
	res := l.Stop()
	shed := 0
	for reason, n := range res.Errors {
		if strings.HasPrefix(reason, "status 503") {
			shed += n
		}
	}
	r.account(res, losses{get: shed, post: shed}, s.witnesses()...)
	r.set("shed_503", shed)
	r.set("oom_kills", killed())
	r.set("rss_growth_kib", base.peak()>>10)
	r.must(killed() == 0 && g.Alive(), "the kernel has killed the gateway %d times", killed())
}

// TestF37TenThousandNodes registers 10,000 nodes.
func TestF37TenThousandNodes(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	g, c := s.gateways[0], s.client()
	base := s.calm()
	l := s.gentle()
	const nodes = 10_000
	began := time.Now()
	s.crowd(c, 0, nodes)
	written := time.Since(began)
	process.Eventually(r, 60*time.Second, "the gateway knows all nodes", func() error {
		n, err := g.size("crowd")
		if err == nil && n != nodes {
			err = fmt.Errorf("it knows %d", n)
		}
		return err
	})
	synced := time.Since(began)
	g.collect()
	rss, _ := g.Memory()
	again := s.addGateway()
	started := time.Now()
	again.ready()
	process.Eventually(r, 60*time.Second, "a gateway that starts knows all nodes", func() error {
		n, err := again.size("crowd")
		if err == nil && n != nodes {
			err = fmt.Errorf("it knows %d", n)
		}
		return err
	})
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("nodes", nodes)
	r.set("written_ms", written)
	r.set("known_after_the_last_write_ms", synced-written)
	r.set("known_at_start_ms", time.Since(started))
	r.set("rss_growth_kib", (rss-base.rss)>>10)
	r.must(synced-written <= 10*time.Second, "all nodes were known %v after the last was written", synced-written)
	r.must(rss-base.rss <= 100<<20, "memory grew by %d MiB", (rss-base.rss)>>20)
}

// TestF38Churn has a thousand nodes a second join and leave beside a service that stays.
func TestF38Churn(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	g, c := s.gateways[0], s.client()
	l := s.gentle()
	used := processorTime(t, g.PID())
	span := lasting(60*time.Second, 10*time.Second)
	began := time.Now()
	const batch = 100 // nodes that join in one transaction, and then leave in one
	changes, first := 0, 0
	var lag []time.Duration
	for time.Since(began) < span {
		s.crowd(c, first, first+batch)
		if first >= 5*batch {
			s.disperse(c, first-5*batch, first-4*batch)
			changes += batch
		}
		changes += batch
		first += batch
		if first%1000 == 0 { // how late is the gateway?
			at := time.Now()
			want := min(first, 5*batch)
			process.Eventually(r, 10*time.Second, "the gateway follows", func() error {
				n, err := g.size("crowd")
				if err == nil && n != want {
					err = fmt.Errorf("it knows %d nodes of %d", n, want)
				}
				return err
			})
			lag = append(lag, time.Since(at))
		}
		if ahead := time.Duration(changes)*time.Millisecond - time.Since(began); ahead > 0 {
			wait(t, ahead)
		}
	}
	took := time.Since(began)
	share := (processorTime(t, g.PID()) - used).Seconds() / took.Seconds()
	keys, err := registered(t.Context(), c, "crowd")
	if err != nil {
		t.Fatal(err)
	}
	process.Eventually(r, 10*time.Second, "gateway and etcd agree", func() error {
		nodes, err := g.pool("crowd")
		if err != nil {
			return err
		}
		if len(nodes) != len(keys) {
			return fmt.Errorf("etcd has %d, the gateway %d", len(keys), len(nodes))
		}
		for _, id := range nodes {
			if _, there := keys["goms_crowd_"+id]; !there {
				return errors.New(id + " is not in etcd")
			}
		}
		return nil
	})
	var worst time.Duration
	for _, d := range lag {
		worst = max(worst, d)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("changes", changes)
	r.set("changes_per_s", float64(changes)/took.Seconds())
	r.set("worst_lag_ms", worst)
	r.set("cpu_percent", share*100)
	r.must(worst <= 5*time.Second, "the gateway was %v late", worst)
	r.must(share <= 1, "it took %.0f %% of a core", share*100)
}

// TestF44PortInUse starts a second gateway on the ports of a first: it ends at once, says which port, and leaves nothing in etcd.
func TestF44PortInUse(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	l, c := s.load(), s.client()
	before, err := registered(t.Context(), c, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	second := s.gateways[0].launch
	second.Dir = t.TempDir()
	began := time.Now()
	stdout, stderr, code := process.Run(r, 20*time.Second, second)
	took := time.Since(began)
	after, err := registered(t.Context(), c, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("exit_code", code)
	r.set("took_ms", took)
	r.must(code != 0, "exit code %d", code)
	r.must(strings.Contains(stdout+stderr, fmt.Sprint(s.gateways[0].http)), "the port is not named: %s%s", stdout, stderr)
	r.must(took <= 5*time.Second, "it took %v", took)
	r.must(len(after) == len(before), "%d gateways are registered, %d were", len(after), len(before))
}

// TestF45DiskFull has the disk of a gateway's snapshot be full when the snapshot is written: traffic goes on, and the old one is whole.
func TestF45DiskFull(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := open(r, props{})
	g := s.gateways[1]
	g.Stop(60 * time.Second)
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=128k", "none", disk).CombinedOutput(); err != nil {
		process.Lacking(r, "no file system can be mounted: %v %s", err, out)
	}
	g.launch.Dir = disk
	g.again()
	g.ready()
	g.sees("count", 3)
	l := s.load()
	wait(t, 5*time.Second) // the snapshot is written
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(filler, zeros{}) // until it is full
	filler.Close()
	s.addNode("count")
	for _, g := range s.gateways {
		g.sees("count", 4)
	}
	wait(t, 5*time.Second)
	s.etcd.Members[0].Kill()
	g.Stop(60 * time.Second)
	os.Remove(filepath.Join(disk, "filler"))
	g.again()
	process.Eventually(r, 20*time.Second, "it serves from the old snapshot while etcd is away", func() error {
		_, err := get("http://" + g.addr() + "/api/count/hit?id=x")
		return err
	})
	r.account(l.Stop(), losses{}, s.witnesses()...)
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestF48Names registers nodes by a name that leads nowhere, by one of two families, and by an IPv6 address.
func TestF48Names(t *testing.T) {
	if !apart(t) { // no name server answers
		return
	}
	r := begin(t)
	s := open(r, props{})
	c := s.client()
	_, port, _ := strings.Cut(s.nodes[0].addr(), ":")
	s.put(c, "goms_count_localhost:1_localhost:"+port, "0")
	s.put(c, "goms_count_node.invalid:1_node.invalid:80", "0")
	s.put(c, "goms_count_[::1]:1_[::1]:1", "0") // refuses
	wait(t, 2*time.Second)
	l := s.load()
	wait(t, lasting(60*time.Second, 10*time.Second))
	res := l.Stop()
	r.account(res, losses{}, s.witnesses()...)
	nodes, err := s.gateways[0].pool("count")
	r.set("nodes", len(nodes))
	r.must(err == nil, "/cluster: %v", err)
	r.must(res.Max <= 5*time.Second, "a request waited for %v", res.Max)
}

// TestF49AllNodesDie kills all nodes of a service. Its requests are refused at once, another service does not notice, and the first
// node that comes serves.
func TestF49AllNodesDie(t *testing.T) {
	r := begin(t)
	ttl := 5 * time.Second
	s := open(r, props{ttl: ttl, services: "  other:\n    hit: /hit\n"})
	other := s.addNode("other")
	s.seen("other", 1)
	well := &load.Load{Addrs: s.front, Path: "/api/other/hit", Rate: 100}
	well.Start()
	dead := &load.Load{Addrs: s.front, Path: "/api/count/hit", Rate: 100}
	dead.Start()
	wait(t, 2*time.Second)
	for _, n := range s.nodes[:3] {
		n.Kill()
	}
	died := dead.Elapsed()
	s.seen("count", 0)
	left := dead.Elapsed()
	wait(t, lasting(30*time.Second, 5*time.Second))
	comes := s.nodes[0]
	s.again(comes)
	joined := time.Now()
	process.Eventually(r, 10*time.Second, "the node that came serves", func() error {
		_, err := get("http://" + s.front[0] + "/api/count/hit?id=x")
		return err
	})
	back := time.Since(joined)
	wait(t, 2*time.Second)
	res := dead.Stop()
	refusal := res.LostLatency("status 50", 99)
	r.account(well.Stop(), losses{}, other)
	r.set("refused", res.Lost)
	r.set("refused_why", res.Errors)
	r.set("refusal_p99_ms", refusal)
	r.set("known_dead_ms", left-died)
	r.set("back_ms", back)
	r.must(res.Errors["status 503 no_node"] > 0, "no request was refused with 503 no_node: %v", res.Errors)
	r.must(refusal <= time.Second, "99 of 100 refusals took %v", refusal)
	r.must(back <= 5*time.Second, "it was back %v after the join", back)
}

// TestF50RetryStorm has all nodes answer 503. The gateways must not make more of it.
func TestF50RetryStorm(t *testing.T) {
	r := begin(t)
	s := open(r, props{services: "  storm:\n    hit: /hit\n"})
	for _, n := range s.nodes {
		n.behave(r, "status=503")
	}
	arrived := func() (all int) {
		for _, n := range s.nodes {
			all += n.arrived()
		}
		return all
	}
	before := arrived()
	l := s.load()
	wait(t, lasting(30*time.Second, 10*time.Second))
	res := l.Stop()
	factor := float64(arrived()-before) / float64(res.Requests)
	// And nodes that break off, which is what may be tried again.
	var storms []*peer
	var addrs []string
	for range 3 {
		p := peerOf(t, func(p *peer, _ net.Conn, br *bufio.Reader) {
			if _, _, err := request(br); err == nil {
				p.asked.Add(1)
			}
		})
		storms, addrs = append(storms, p), append(addrs, p.addr)
	}
	s.join("storm", addrs...)
	broken := &load.Load{Addrs: s.front, Path: "/api/storm/hit", Posts: -1}
	broken.Start()
	wait(t, lasting(30*time.Second, 10*time.Second))
	off := broken.Stop()
	asked := int64(0)
	for _, p := range storms {
		asked += p.asked.Load()
	}
	brokenFactor := float64(asked) / float64(off.Requests)
	r.set("broken_errors", off.Errors)
	r.set("broken_factor", brokenFactor)
	r.must(brokenFactor <= 1.25, "nodes that break off saw %.2f times the requests of the clients", brokenFactor)
	r.set("requests", res.Requests)
	r.set("errors", res.Errors)
	r.set("factor", factor)
	r.must(factor <= 1.2, "the nodes saw %.2f times the requests of the clients", factor)
}
