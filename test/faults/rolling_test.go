//go:build linux

package faults_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/goms-io/goms/test/process"
)

// TestRollEverything is what the project promises: all nodes restarted one after the other, then all gateways behind nginx, then all
// members of etcd, three rounds, and no request lost and none repeated.
func TestRollEverything(t *testing.T) {
	r := begin(t)
	s := open(r, props{members: 3})
	l := s.load()
	wait(t, time.Second)
	rounds := times(3, 1)
	for range rounds {
		s.rollNodes()
		s.rollGateways()
		s.rollEtcd()
	}
	wait(t, lasting(30*time.Second, 2*time.Second)) // three leases
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("rounds", rounds)
	r.set("restarts", rounds*(len(s.nodes)+len(s.gateways)+len(s.etcd.Members)))
	s.seen("count", len(s.nodes))
}

// rollEtcd restarts one member after the other, each when the one before follows again.
func (s *scene) rollEtcd() {
	s.t.Helper()
	for i := range s.etcd.Members {
		s.etcd.Members[i].Signal(syscall.SIGTERM)
		s.etcd.Members[i].Exited(30 * time.Second)
		s.etcd.Restart(i)
		c := process.EtcdClient(s.t, s.etcd.Addrs[i])
		process.Eventually(s.t, 30*time.Second, s.etcd.Members[i].Name+" follows", func() error {
			ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
			defer cancel()
			status, err := c.Status(ctx, s.etcd.Addrs[i])
			if err == nil && (status.Leader == 0 || status.RaftIndex != status.RaftAppliedIndex) {
				err = fmt.Errorf("leader %x, index %d of %d", status.Leader, status.RaftAppliedIndex, status.RaftIndex)
			}
			return err
		})
		c.Close()
	}
}
