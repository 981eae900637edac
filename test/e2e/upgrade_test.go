package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// replaceable is a gateway whose program is a file of the test. It runs in a shell, which outlives the processes that replace one
// another, says how the first ended, and keeps what they write.
// What it tells systemd goes to notify.
func (s *system) replaceable(program string, notify net.Addr) (g *gateway, pid int) {
	s.t.Helper()
	g = &gateway{t: s.t, http: ports.Free(s.t), rpc: ports.Free(s.t), admin: ports.Free(s.t)}
	g.Process = process.Start(s.t, process.Launch{
		Name: "replaceable gateway", Path: "/bin/sh", Dir: s.dir,
		Args: []string{
			"-c", `"$@" & echo "began $!"; wait $!; echo "ended $?"; exec sleep 3600`, "sh",
			program, "-http_port", fmt.Sprint(g.http), "-rpc_port", fmt.Sprint(g.rpc), "-etcd_addr", strings.Join(s.etcd, "|"),
		},
		Env: []string{"GOMS_GATEWAY_LISTEN_HOST=127.0.0.1", fmt.Sprintf("GOMS_GATEWAY_ADMIN_PORT=%d", g.admin), "NOTIFY_SOCKET=" + notify.String()},
	})
	pid, err := strconv.Atoi(strings.TrimPrefix(g.Line(patience, `^began \d+$`), "began "))
	if err != nil {
		s.t.Fatal(err)
	}
	g.ready()
	return g, pid
}

// systemd listens as systemd does for what a service says of itself.
func systemd(t testing.TB) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// mainPID waits until a process says that it serves, and is the main process from now on.
func mainPID(t testing.TB, c *net.UnixConn) int {
	t.Helper()
	b := make([]byte, 512)
	err := c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	number, ok := strings.CutPrefix(string(b[:n]), "READY=1\nMAINPID=")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil {
		t.Fatalf("systemd was told %q, want that it is ready and who it is", b[:n])
	}
	return pid
}

// install puts a program at a path in one step, as a package manager does.
func install(t testing.TB, path string, program []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", program, 0o755), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// TestReplacedBinary replaces a gateway's process under load by SIGUSR2. One that does not start changes nothing. From one that does on, nothing
// is lost, refused or cut: what has begun ends in the process before, and nobody hears of a leave.
func TestReplacedBinary(t *testing.T) {
	good, err := os.ReadFile(process.Build(t, "cmd/gateway"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "gateway")
	install(t, path, good)
	s := newSystem(t, setup{})
	other := s.gateway() // holds etcd
	told := systemd(t)
	gw, pid := s.replaceable(path, told.LocalAddr())
	if main := mainPID(t, told); main != pid {
		t.Errorf("systemd was told that process %d is the main one, want %d", main, pid)
	}
	n, held := s.countNode("count"), s.countNode("big")
	for _, g := range []*gateway{other, gw} {
		g.sees("count", 1)
		g.sees("big", 1)
		g.sees("gateway", 2)
	}
	replace := func() {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	socket, _, err := websocket.Dial(ctx, "ws://"+gw.addr()+"/api/count/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.CloseNow()
	still := func(when string) {
		t.Helper()
		err := socket.Write(ctx, websocket.MessageText, []byte(when))
		if err == nil {
			_, _, err = socket.Read(ctx)
		}
		if err != nil {
			t.Fatalf("the WebSocket %s: %v", when, err)
		}
	}
	l := &load{addr: gw.addr(), path: "/api/count/hit", rate: 100}
	l.during(t, func() {
		install(t, path, []byte("#!/bin/sh\necho no gateway >&2\nexit 3\n"))
		replace()
		gw.Line(patience, `upgrade failed, this process goes on`)
		l.more(t, 2*l.rate)
		still("after one that did not start")

		install(t, path, good)
		w := dial(t, gw.addr())
		w.send("GET /api/count/hold?id=held HTTP/1.1\r\nHost: x\r\n\r\n")
		process.Eventually(t, patience, "the held request is at the node", func() error {
			if counted(t, n)["held"] == 0 {
				return errors.New("it is not")
			}
			return nil
		})
		replace()
		gw.Line(patience, `a new process has taken over`)
		// Not the one that did not start: systemd goes by this process from now on.
		if main := mainPID(t, told); main == pid || syscall.Kill(main, 0) != nil {
			t.Errorf("systemd was told that process %d is the main one, want that which replaced %d", main, pid)
		}
		l.more(t, l.rate)
		replace() // says nothing to one that drains
		still("in the process before")
		release(t, n)
		if a := w.answer("GET"); a.status != 200 || a.body != "held to the end" {
			t.Errorf("the request in flight: %d %q", a.status, a.body)
		}
		if err := socket.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Errorf("close the WebSocket: %v", err)
		}
		if ended := gw.Line(patience, `^ended \d+$`); ended != "ended 0" {
			t.Errorf("the process before %s, want 0", ended)
		}
		l.more(t, l.rate)
	})
	l.verdict(t, losses{}, n)
	if _, there := keys(t, process.EtcdClient(t, s.etcd...), "goms_gateway_")["goms_gateway_"+gw.id()]; !there {
		t.Error("the gateway's key is gone with the process before")
	}
	gw.ready()
	for _, p := range []*process.Process{other.Process, n.Process, held.Process} {
		if leaves := strings.Count(p.Output(), "["+gw.id()+"] leave"); leaves != 0 {
			t.Errorf("%s was told of a leave:\n%s", p.Name, process.Tail(p.Output(), 10))
		}
	}

	other.Signal(syscall.SIGUSR2)
	other.Line(patience, `upgrade failed, this process goes on.*-etcd_addr`)
	if !other.Alive() {
		t.Error("the gateway with etcd inside has ended")
	}
}
