package registry_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

// BenchmarkChange measures what 20 joins and 20 leaves among 10,000 nodes cost before anybody is told: the new snapshot, who is
// believed, what operators have set.
func BenchmarkChange(b *testing.B) {
	nodes := make([]registry.Node, 10_040)
	for i := range nodes {
		host := fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
		nodes[i] = registry.NewNode(fmt.Sprintf("service%d", i%100), host+":9180", host+":9080")
	}
	full := registry.NewSnapshot(1, nodes[:10_020])
	even, odd := full.Apply(2, nil, nodes[5000:5020]), full.Apply(3, nodes[10_020:], nodes[7000:7020])
	trust := registry.NewTrust(registry.TrustConfig{})
	set := []registry.Override{{Service: nodes[0].Service, ID: nodes[0].ID(), Weight: 5, At: time.Now()}}
	b.ReportAllocs()
	cpu := cpuTime(b)
	for i := 0; b.Loop(); i++ {
		s := even
		if i%2 == 0 {
			s = odd
		}
		s = s.Apply(int64(i), nodes[100:120], nodes[200:220])
		trust.Filter(s).Override(set)
	}
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
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
