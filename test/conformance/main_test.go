//go:build linux

// Package conformance_test holds the gateway against others' judgement: other parsers of HTTP/1.1, and the attack and
// conformance tools that the trade uses.
//
// What needs a tool asks for it by need: where the tool is absent the test is skipped with a line that says so, and with
// CI=true it fails.
//
//	tool           found by                                      used for
//	node           PATH (Node 18 or later)                       llhttp as an oracle; an origin
//	python3        PATH                                          an origin
//	nginx          PATH                                          an origin
//	h2spec 2.2.1   $H2SPEC, else .ci/tools/bin/h2spec            the HTTP/2 side
//	slowhttptest   PATH                                          5,000 slow clients
//
// Random input comes from fixed seeds: a run that fails does so again.
package conformance_test

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "goms-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	code := m.Run()
	if n := running.Load(); n != 0 {
		fmt.Fprintf(os.Stderr, "BUG: %d processes were started and never waited for\n", n)
		return 1
	}
	return code
}
