// Package e2e_test looks at goms from the outside: it builds the programs, runs them as processes, and talks to them over sockets.
//
// What needs nothing but Go always runs, on the gateway's embedded etcd. What needs more asks for it by process.Need: where the tool is
// absent the test is skipped with a line that says so, and with CI=true it fails.
//
//	tool      found by                                                 used for
//	etcd 3.4  /usr/bin/etcd (GOMS_TEST_OLD_ETCD names another)         an old server, as distributions ship it
//	etcd 3.7  $ETCD_BIN_DIR/etcd, else .ci/tools/bin/etcd              a cluster of three members
//	nginx     PATH                                                     deploy/nginx.conf in front of three gateways
//	curl      PATH                                                     a PROXY header that we did not write; what the demo says to try
//	Zipkin    java in PATH and the jar named by $ZIPKIN_JAR            the trace of one request as people see it
//
// Ports are chosen free below 10000, out of reach of outgoing connections. Nothing waits by the clock where a condition can be
// waited for, and nothing leaves a process behind: every process is killed and waited for when its test ends.
package e2e_test

import (
	"os"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// patience is how long a test waits for what takes a moment on a machine that is not busy.
const patience = 30 * time.Second

// said is how long it may take until a node that stops is known to leave: less than its lease lives, which would tell it too.
const said = 8 * time.Second

func TestMain(m *testing.M) {
	os.Exit(process.Main(m))
}
