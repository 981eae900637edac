//go:build linux

package conformance_test

import (
	"bytes"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// What 5,000 slow clients may cost.
const (
	slowClients = 5000
	slowMemory  = 240 << 20 // above base, at the peak: 49 KiB each, of those who do not read, whose requests last
	slowKept    = 40 << 20  // above base, when they have gone and the runtime has given back what it can
	slowFiles   = 50        // file descriptors above base, when they have gone
)

// TestSlowClients has slowhttptest open 5,000 connections that send a head, send a body or read an answer as slowly as
// they can. All others are served meanwhile, and nothing of it stays.
func TestSlowClients(t *testing.T) {
	tool := process.Need(t, "slowhttptest (Debian package slowhttptest)", "slowhttptest")
	process.EnoughFiles(t, 3*slowClients)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB, more than sockets buffer
	fine, slow := simpleNode(t, []byte("fine")), simpleNode(t, big)
	// A slow head is gone after headTimeout; a slow body and a slow reader after the ten seconds over which
	// minBodyRate and minReadRate are judged. The tool would go on for longer. headTimeout is twice its default: on a busy machine
	// the tool needs more than ten seconds for its last connection, and then the first would be gone by then.
	common := []string{"-c", fmt.Sprint(slowClients), "-r", "2500", "-p", "3"}
	for _, c := range []struct {
		name string
		args []string
		gone time.Duration // from the start of the tool, without its own doing
	}{
		{"slow heads", []string{"-H", "-i", "5", "-x", "24", "-t", "GET", "-l", "40"}, 25 * time.Second},
		{"slow bodies", []string{"-B", "-i", "5", "-s", "8192", "-x", "10", "-l", "60"}, 40 * time.Second},
		{"slow readers", []string{"-X", "-w", "64", "-y", "256", "-n", "5", "-z", "32", "-k", "2", "-l", "60"}, 40 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startGateway(t, "services:\n  fine: {any: \"/any\"}\n  slow: {any: \"/any\"}\n", "headTimeout: 20s")
			g.join("fine", fine)
			g.join("slow", slow)
			args := append(append(c.args, common...), "-u", "http://"+g.plain+"/api/slow/any")
			slowly(t, g, tool, args, c.gone)
		})
	}
}

func slowly(t *testing.T, g *gateway, tool string, args []string, gone time.Duration) {
	cool(t, g)
	base, _ := g.Memory()
	files := g.Files()
	g.ResetPeak()
	legit := probe(&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+g.plain+"/api/fine/any")
	began := time.Now()
	attack := process.Start(t, process.Launch{Path: tool, Args: args})
	var most atomic.Int64
	process.Eventually(t, patience, "the slow clients are there", func() error {
		n := int64(g.Files() - files)
		most.Store(max(most.Load(), n))
		if n < slowClients*9/10 {
			return fmt.Errorf("%d of %d, at most %d", n, slowClients, most.Load())
		}
		return nil
	})
	t.Logf("%d slow clients after %v", g.Files()-files, time.Since(began).Round(time.Millisecond))
	// Ten seconds more than it should take: the tool needs both cores for a while, and connects late.
	process.Eventually(t, gone+10*time.Second-time.Since(began), "the slow clients are gone", func() error {
		if n := g.Files() - files; n > slowFiles {
			return fmt.Errorf("%d files are still open", n)
		}
		return nil
	})
	t.Logf("they were gone after %v", time.Since(began).Round(time.Millisecond))
	attack.Kill() // it may go on without connections until its time is over
	legit.end(t)
	alive(t, g.Process)
	_, peak := g.Memory()
	t.Logf("memory: base %d MiB, peak +%d MiB", base>>20, (peak-base)>>20)
	if peak-base > slowMemory {
		t.Errorf("memory grew by %d MiB, want at most %d", (peak-base)>>20, slowMemory>>20)
	}
	// What is not in use goes back when the runtime next collects; here it is told to, twice, since pools outlive one.
	process.Eventually(t, 60*time.Second, "memory is back", func() error {
		g.collect(t)
		if now, _ := g.Memory(); now-base > slowKept {
			return fmt.Errorf("it is %d MiB above base", (now-base)>>20)
		}
		return nil
	})
	now, _ := g.Memory()
	t.Logf("memory: %+d MiB afterwards", (now-base)>>20)
}

// cool warms the gateway up, and has it collect: what is measured from then on is not of before.
func cool(t *testing.T, g *gateway) {
	t.Helper()
	for range 200 {
		if _, err := g.get("/api/fine/any"); err != nil {
			t.Fatal(err)
		}
	}
	g.collect(t)
}

// collect has the gateway's runtime collect, twice.
func (g *gateway) collect(t *testing.T) {
	t.Helper()
	for range 2 {
		if _, err := fetch(&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+g.admin+"/debug/pprof/heap?gc=1"); err != nil {
			t.Fatal(err)
		}
	}
}
