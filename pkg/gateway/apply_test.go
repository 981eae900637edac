package gateway_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// crowd is n nodes, in services of the given size.
func crowd(n, size int) []registry.Node {
	nodes := make([]registry.Node, n)
	for i := range nodes {
		host := fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
		nodes[i] = registry.NewNode(fmt.Sprintf("service%d", i/size), host+":9180", host+":9080")
	}
	return nodes
}

// BenchmarkApply measures one snapshot of 10,000 nodes in which 20 have left and 20 have joined: a fiftieth of a second of a
// thousand joins and a thousand leaves.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{10_000, 100} {
		b.Run(fmt.Sprintf("services of %d", size), func(b *testing.B) {
			g := start(b, nil).g
			nodes := crowd(10_040, size)
			full := registry.NewSnapshot(1, nodes[:10_020])
			even := full.Apply(2, nil, nodes[5000:5020])
			odd := full.Apply(3, nodes[10_020:], nodes[7000:7020])
			g.Apply(full)
			b.ReportAllocs()
			cpu := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					g.Apply(even)
				} else {
					g.Apply(odd)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process has used of the processors: on a machine that others use too it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
