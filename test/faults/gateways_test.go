//go:build linux

package faults_test

import (
	"testing"
	"time"
)

// TestF04RollGateways restarts the gateways behind nginx in turn, until 10,000 requests have passed.
func TestF04RollGateways(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	restarts := 0
	for n := 0; n < 10_000; n, _ = l.Sent() {
		s.rollGateways()
		restarts += len(s.gateways)
	}
	r.account(l.Stop(), losses{}, s.witnesses()...)
	r.set("restarts", restarts)
}

// rollGateways restarts one gateway after the other, each on its old ports.
func (s *scene) rollGateways() {
	s.t.Helper()
	for _, g := range s.gateways {
		g.Stop(60 * time.Second)
		g.again()
		g.ready()
		g.sees("count", len(s.nodes))
	}
}

// TestF05KillGateways kills the gateways behind nginx in turn. What was in flight in one may be lost, if it may not be repeated.
func TestF05KillGateways(t *testing.T) {
	r := begin(t)
	s := open(r, props{})
	l := s.load()
	kills, flying := times(8, 4), 0
	for i := range kills {
		g := s.gateways[i%len(s.gateways)]
		flying += l.InFlight()
		g.Kill()
		g.again()
		g.ready()
		wait(t, time.Second)
	}
	r.account(l.Stop(), losses{post: max(10*kills, flying), twice: max(10*kills, flying)}, s.witnesses()...)
	r.set("in_flight_at_kills", flying)
	r.set("kills", kills)
}
