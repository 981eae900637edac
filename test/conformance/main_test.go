//go:build linux

// Package conformance_test holds the gateway against others' judgement: other parsers of HTTP/1.1, and the attack and
// conformance tools that the trade uses.
//
// What needs a tool asks for it by process.Need: where the tool is absent the test is skipped with a line that says so, and with
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
	"os"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// patience is how long a test waits for what takes a moment on a machine that is not busy.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	os.Exit(process.Main(m))
}
