//go:build linux

package faults_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestF28SlowClients has 5,000 clients, of which a thousand come each second, send a head, send a body or read an answer as slowly as can be.
// Others are served as before, and the slow ones are gone when their time is up.
func TestF28SlowClients(t *testing.T) {
	r := begin(t)
	process.EnoughFiles(r, 20_000)
	times := "" // those that are the default
	if !full {
		times = "  headTimeout: 5s\n  bodyTimeout: 10s\n"
	}
	s := open(r, props{gateways: 1, bare: true, gateway: times + "  upstreamIdleTimeout: 2s\n"})
	g := s.gateways[0]
	base := s.calm()
	l := s.gentle()
	wait(t, lasting(5*time.Second, 3*time.Second))
	came := l.Elapsed()
	used := processorTime(t, g.PID())
	// Another process, and one that gives way: what it takes is not the gateway's, nor is it to be in the way of the load that measures.
	slow := process.Start(t, process.Launch{
		Name: "slow clients", Path: process.Need(t, "nice (Debian package coreutils)", "nice"), Args: []string{"-n", "19", os.Args[0]}, Env: []string{slowAddr + "=" + g.addr()},
	})
	slow.Line(30*time.Second, fmt.Sprintf("^%d slow clients are there$", slowClients))
	there := l.Elapsed()
	used = processorTime(t, g.PID()) - used
	most := 0
	process.Eventually(r, 90*time.Second, "the slow clients are gone", func() error {
		n := g.Files() - base.files - l.Connections()
		if most = max(most, n); n > 200 { // idle connections to nodes are closed after two seconds
			return fmt.Errorf("%d files are open above the base", n)
		}
		return nil
	})
	gone := l.Elapsed()
	slow.Signal(syscall.SIGTERM)
	slow.Line(10*time.Second, "^the slow clients have ended$")
	peak := base.peak()
	res := l.Stop()
	r.account(res, losses{}, s.witnesses()...)
	before, during := res.Latency(0, came, 99), res.Latency(came, gone, 99)
	r.set("p99_before_ms", before)
	r.set("p99_while_they_come_ms", res.Latency(came, there, 99))
	r.set("p99_until_they_go_ms", during)
	r.set("slow_clients", slowClients)
	r.set("came_ms", there-came)
	r.set("cpu_while_they_come_ms", used)
	r.set("gone_ms", gone-came)
	r.set("most_files", most)
	r.set("rss_growth_kib", peak>>10)
	base.settled(r, 20*time.Second, 60)
	r.must(most > slowClients, "only %d files were open above the base: where are the slow clients?", most)
	r.must(gone-there <= 40*time.Second, "the last of them left %v after it had come", gone-there)
	r.must(peak <= 150<<20, "memory grew by %d MiB", peak>>20)
	// On a machine that is busy with something else the others fared no better before.
	r.must(during <= max(lasting(250*time.Millisecond, time.Second), 4*before), "99 of 100 others were answered within %v, and within %v before", during, before)
}

const (
	slowClients = 5000
	slowAddr    = "FAULTS_SLOW" // in the environment: be the slow clients of the gateway at this address
)

// beSlow is the process of the slow clients, which come until they are all there and stay until SIGTERM.
func beSlow(addr string) {
	over := make(chan os.Signal, 1)
	signal.Notify(over, syscall.SIGTERM)
	stop := make(chan struct{})
	var all sync.WaitGroup
	var there atomic.Int64
	next := time.NewTicker(10 * time.Millisecond)
	defer next.Stop()
	for i := range slowClients {
		if i%10 == 0 {
			<-next.C
		}
		all.Go(func() {
			conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
			if err != nil {
				fmt.Println("connect:", err)
				return
			}
			defer conn.Close()
			if there.Add(1) == slowClients {
				fmt.Println(slowClients, "slow clients are there")
			}
			slowClient(conn, i%3, stop)
		})
	}
	<-over
	close(stop)
	all.Wait()
	fmt.Println("the slow clients have ended")
}

// slowClient does one of three things, until its connection ends or it is over.
func slowClient(conn net.Conn, kind int, over <-chan struct{}) {
	go func() {
		<-over
		conn.Close()
	}()
	switch kind {
	case 0: // a header line every second
		io.WriteString(conn, "GET /api/count/hit HTTP/1.1\r\nHost: a\r\n")
		for {
			if _, err := io.WriteString(conn, "X-Slow: 1\r\n"); err != nil {
				return
			}
			conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := conn.Read(make([]byte, 1000)); err == nil || !isTimeout(err) {
				return // answered, or closed
			}
		}
	case 1: // half a body, and silence
		io.WriteString(conn, "POST /api/count/up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf of it")
		io.Copy(io.Discard, conn)
	case 2: // a large answer that is not read: that the connection is closed, nobody can see who does not read
		conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		io.WriteString(conn, "GET /api/count/down?n=8000000 HTTP/1.1\r\nHost: a\r\n\r\n")
		<-over
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
