//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// TestF06Upgrade replaces a gateway's process by a new one, over and over, by SIGUSR2: no connection is refused, no WebSocket is cut.
func TestF06Upgrade(t *testing.T) {
	r := begin(t)
	s := open(r, props{gateways: 1, bare: true})
	first := s.gateways[0]
	// In a shell, which outlives the processes that replace one another and keeps what they write.
	g := *first
	g.http, g.rpc, g.admin = ports.Free(t), ports.Free(t), ports.Free(t)
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
		if err := syscall.Kill(listener(t, g.http), syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(90 * time.Second) // the process before may have something to finish
		for took := 0; took <= i; {                  // a process has the socket long before it serves
			if text, err := os.ReadFile(log); err != nil {
				t.Fatal(err)
			} else if took = strings.Count(string(text), "a new process has taken over"); took <= i && time.Now().After(deadline) {
				l.Stop()
				r.Fatalf("after SIGUSR2 %d no other process serves", i+1)
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
