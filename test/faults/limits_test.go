//go:build linux

package faults_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

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

// TestF45DiskFull has the disk of a gateway's snapshot be full when the snapshot is written: traffic goes on, and the old one is whole.
func TestF45DiskFull(t *testing.T) {
	if !apart(t) {
		return
	}
	r := begin(t)
	s := open(r, props{})
	g := s.gateways[1]
	g.Stop(60 * time.Second)
	disk := smallDisk(r, "128k")
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
