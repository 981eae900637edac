package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	generator "github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/process"
)

// load is a steady stream of requests with unique ids, half of them POST. It never sends a request twice: what fails is lost.
type load struct {
	addr string
	path string // a route of the counting node's /hit
	rate int    // requests a second

	stream *generator.Load
	result *generator.Result // when it has ended
}

// during runs the load until the function returns.
func (l *load) during(t testing.TB, work func()) {
	t.Helper()
	l.stream = &generator.Load{Addrs: []string{l.addr}, Path: l.path, Rate: l.rate}
	l.stream.Start()
	defer func() {
		l.result = l.stream.Stop()
		t.Logf("load: %d requests, %d lost", l.result.Requests, l.result.Lost)
	}()
	l.more(t, 50)
	work()
	l.more(t, 100)
}

// more waits until n further requests were answered or lost.
func (l *load) more(t testing.TB, n int) {
	t.Helper()
	sent, _ := l.stream.Sent()
	goal := sent + n
	process.Eventually(t, patience, "the load goes on", func() error {
		if sent, _ := l.stream.Sent(); sent < goal {
			return fmt.Errorf("%d requests, want %d", sent, goal)
		}
		return nil
	})
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
	r := l.result
	if r.LostGET > most.GET || r.LostPOST > most.POST {
		t.Errorf("lost %d GET and %d POST of %d requests, want at most %d and %d:\n%s", r.LostGET, r.LostPOST, r.Requests, most.GET, most.POST, r.LostBy(10))
	}
	seen := counted(t, nodes...)
	for _, id := range r.Answered() {
		if seen[id] == 0 {
			t.Errorf("%s was answered, and no node has counted it", id)
		}
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
