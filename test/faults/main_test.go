//go:build linux

// Package faults_test breaks a running goms in fifty ways and counts what is lost.
//
// Each row is a test by name (go test ./test/faults -run F08): real gateways, nodes, etcd and nginx as processes, a load of 400 requests a
// second that never repeats one (test/load), one fault, and what the nodes say they saw. A row prints one line of JSON and fails when
// its criterion is not met: loss, repetition, leaks and order exactly, times with generous bounds. In the end all rows stand in a table.
//
//	go test ./test/faults               the rows of the gate, in their short form
//	go test ./test/faults -run F31      one row
//	make faults                         all rows, each as long as the criterion says (GOMS_FAULTS=full)
//	make soak HOURS=24                  rows drawn at random on one system that lives on
//
// What a machine lacks (etcd, nginx, root for namespaces and control groups) is said by the row, which is then skipped; with CI=true it fails.
package faults_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// gate are the rows that must hold before a change is merged, and that run when none is named.
var gate = []string{"F01", "F02", "F03", "F04", "F05", "F08", "F09", "F12", "F22", "F24", "F28", "F34", "F35", "F39", "F41", "F42", "Table"}

// full says that rows last as long as their criterion says.
var full = os.Getenv("GOMS_FAULTS") == "full"

func TestMain(m *testing.M) {
	if addr := os.Getenv(slowAddr); addr != "" {
		beSlow(addr)
		return
	}
	flag.Parse()
	if run := flag.Lookup("test.run"); run != nil && run.Value.String() == "" && !full {
		if err := run.Value.Set("^Test(" + strings.Join(gate, "|") + ")"); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	code := process.Main(m)
	if len(shown) > 1 && os.Getenv(inside) == "" {
		fmt.Print(table(shown))
	}
	os.Exit(code)
}

// lasting returns the first time in full runs, else the second.
func lasting(whole, short time.Duration) time.Duration {
	if full {
		return whole
	}
	return short
}

// times returns the first number in full runs, else the second.
func times(whole, short int) int {
	if full {
		return whole
	}
	return short
}
