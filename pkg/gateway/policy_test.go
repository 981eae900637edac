package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/gateway"
)

func ptr[T any](v T) *T { return &v }

func TestPoliciesThatCannotBeUsed(t *testing.T) {
	f := func(p gateway.Policy, want ...string) {
		t.Helper()
		err := gateway.Policies{"user": p}.Validate()
		if err == nil {
			t.Errorf("Validate(%+v) succeeds, want %q", p, want)
			return
		}
		if got := strings.Count(err.Error(), "\n") + 1; got != 1 {
			t.Errorf("Validate() makes %d complaints, want one: %v", got, err)
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("Validate() = %q, want it to say %q", err, part)
			}
		}
	}
	// Unknown names, with what there is.
	f(gateway.Policy{Balance: "fastest"}, "user.balance", `"fastest"`, "roundRobin, random, weightedRandom, leastRequests, p2c, hash")
	f(gateway.Policy{Balance: "hash", HashOn: "moon"}, "user.hashOn", `"moon"`, "clientAddress, path, header:NAME, cookie:NAME")
	f(gateway.Policy{Balance: "hash", HashOn: "header:"}, "user.hashOn")
	f(gateway.Policy{Balance: "hash", HashOn: "cookie:a b"}, "user.hashOn")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "icmp"}}, "user.check.type", `"icmp"`, "none, http, tcp, grpc")
	// Negative and absurd.
	f(gateway.Policy{MaxInFlight: ptr(-1)}, "user.maxInFlight", "-1")
	f(gateway.Policy{MaxInFlightPerNode: ptr(1 << 40)}, "user.maxInFlightPerNode", "10000000")
	f(gateway.Policy{PanicThreshold: ptr(101)}, "user.panicThreshold", "between 0 and 100")
	f(gateway.Policy{ZoneMinimum: ptr(0)}, "user.zoneMinimum")
	f(gateway.Policy{SlowStart: ptr(-time.Second)}, "user.slowStart")
	f(gateway.Policy{Eject: gateway.EjectPolicy{Rate: ptr(300)}}, "user.eject.rate")
	f(gateway.Policy{Eject: gateway.EjectPolicy{Window: time.Millisecond}}, "user.eject.window")
	f(gateway.Policy{Eject: gateway.EjectPolicy{Silence: ptr(-time.Second)}}, "user.eject.silence")
	f(gateway.Policy{Breaker: gateway.BreakerPolicy{Minimum: -3}}, "user.breaker.minimum")
	f(gateway.Policy{NodeBreaker: gateway.BreakerPolicy{Pause: time.Nanosecond}}, "user.nodeBreaker.pause")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "tcp", Interval: 2 * time.Hour}}, "user.check.interval")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "tcp", Unhealthy: 1000}}, "user.check.unhealthy")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "http", Path: "readyz"}}, "user.check.path", "begins with /")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "http", Path: "/a\r\nX: y"}}, "user.check.path")
	// What contradicts itself.
	f(gateway.Policy{HashOn: "path"}, "user.hashOn", "balance is roundRobin")
	f(gateway.Policy{MaxInFlight: ptr(10), MaxInFlightPerNode: ptr(11)}, "user.maxInFlightPerNode", "10")
	f(gateway.Policy{Eject: gateway.EjectPolicy{Pause: time.Minute}}, "user.eject.pause", "pauseMax", "30s")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "http", Timeout: 10 * time.Second}}, "user.check.timeout", "5s")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "tcp", Path: "/well"}}, "user.check.path", "tcp")
	f(gateway.Policy{Check: gateway.CheckPolicy{Type: "http", Service: "user"}}, "user.check.service", "http")

	if err := (gateway.Policies{}).Validate(); err != nil {
		t.Errorf("Validate() of no policy = %v", err)
	}
	// A service takes from the default what it does not say, also for contradictions.
	both := gateway.Policies{
		"default": {Balance: "hash", MaxInFlight: ptr(5), Check: gateway.CheckPolicy{Type: "http"}},
		"user":    {HashOn: "cookie:session", Check: gateway.CheckPolicy{Path: "/well"}},
		"order":   {MaxInFlight: ptr(0), Eject: gateway.EjectPolicy{After: ptr(0), Rate: ptr(0), Slow: ptr(0), Silence: ptr(time.Duration(0))}, Check: gateway.CheckPolicy{Type: "none"}},
	}
	if err := both.Validate(); err != nil {
		t.Errorf("Validate() = %v", err)
	}
	// In the settings the whole key is named.
	s := gateway.DefaultSettings()
	s.Policies = gateway.Policies{"default": {Balance: "rr"}}
	if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), "policies.default.balance: ") {
		t.Errorf("Settings.Validate() = %v, want policies.default.balance named", err)
	}
}
