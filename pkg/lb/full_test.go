package lb_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// TestFull: a node that refuses is left out until it has answered, for a second at most, and while there are others.
func TestFull(t *testing.T) {
	every(t, func(policy string, by lb.Policy) {
		for bounds, o := range map[string]lb.Options{"no bounds": {}, "bounds": {MaxInFlight: 1000, MaxInFlightPerNode: 500}} {
			c := newClock()
			o.Now, o.Policy, o.Zone = c.Now, by, "x"
			p := lb.NewPool("user", o)
			p.Update(specs(t, "a@x b@x"))
			a, b := node(t, p, "a"), node(t, p, "b")
			key := uint64(0)
			want := func(what, want string, tried ...*lb.Node) {
				t.Helper()
				met := map[string]bool{}
				for range 200 {
					key++
					n, err := p.Acquire(tried, lb.HashKey(string(rune(key))))
					if err != nil {
						t.Fatalf("%s, %s, %s: %v", policy, bounds, what, err)
					}
					met[n.ID()] = true
					n.End()
				}
				if got := strings.Join(slices.Sorted(maps.Keys(met)), ""); got != want {
					t.Errorf("%s, %s, %s: picks meet %q, want %q", policy, bounds, what, got, want)
				}
			}
			want("at first", "ab")
			p.Full(a)
			want("a is full", "b")
			want("there is no other", "a", b)
			p.Answered(a, time.Millisecond, false)
			want("a has answered", "ab")
			p.Full(a)
			c.Advance(time.Second - 1)
			want("a is full for a second", "b")
			p.Full(b)
			want("all are full", "ab")
			c.Advance(1)
			want("a second later", "a")
			c.Advance(time.Second)
			want("two seconds later", "ab")
			// Another zone has room; what is ill or leaves is no help.
			p.Update(specs(t, "a@x b!@x z@y"))
			want("one zone", "a")
			p.Full(a)
			want("another zone", "z")
			p.SetHealth(node(t, p, "z"), false)
			p.Update(specs(t, "a@x b!@x z@y"))
			p.Configure(lb.Options{Policy: by, Zone: "x", MaxInFlight: o.MaxInFlight, PanicThreshold: -1})
			want("nobody else is well", "a")
		}
	})
}

func TestFullAllocatesNothing(t *testing.T) {
	every(t, func(name string, policy lb.Policy) {
		p := with(t, policy, "a b c")
		a := node(t, p, "a")
		if n := testing.AllocsPerRun(1000, func() {
			p.Full(a)
			p.Pick(nil, 1)
		}); n != 0 {
			t.Errorf("%s: %v allocations a pick while a node is full, want 0", name, n)
		}
	})
}
