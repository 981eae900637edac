package lb_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// shares returns the part of the picks that each node has.
func shares(p *lb.Pool) map[string]float64 {
	const n = 20_000
	out := map[string]float64{}
	for range n {
		out[p.Pick(nil, 0).ID()] += 1. / n
	}
	return out
}

func wantShares(t *testing.T, p *lb.Pool, want string) {
	t.Helper()
	got := shares(p)
	for _, s := range specs(t, want) { // "a*50": percent
		if math.Abs(got[s.ID]-float64(s.Weight)/100) > 0.01 {
			t.Errorf("shares = %.2v, want %s", got, want)
			return
		}
		delete(got, s.ID)
	}
	if len(got) > 0 {
		t.Errorf("shares of %v besides %s", got, want)
	}
}

func TestZones(t *testing.T) {
	p := lb.NewPool("user", lb.Options{Zone: "x", Now: newClock().Now})
	p.Update(specs(t, "a@x b@x c@x d@x e@y f*3@z"))
	wantShares(t, p, "a*25 b*25 c*25 d*25")

	// Three of four are enough.
	p.SetHealth(node(t, p, "a"), false)
	wantShares(t, p, "b*33 c*33 d*33")
	// Two are not: 50 of the wanted 70 % are there; the rest goes out by weight.
	p.SetHealth(node(t, p, "b"), false)
	wantShares(t, p, "c*36 d*36 e*7 f*21")
	// An ejection counts as well.
	fail(t, p, 3, "c")
	wantShares(t, p, "d*36 e*16 f*48")
	p.Succeeded(node(t, p, "c"))
	p.SetHealth(node(t, p, "a"), true)
	wantShares(t, p, "a*33 c*33 d*33")

	// Tried in the own zone: the next one is elsewhere.
	tried := []*lb.Node{node(t, p, "a"), node(t, p, "c"), node(t, p, "d")}
	if n := p.Pick(tried, 0); n.Zone() == "x" {
		t.Errorf("Pick(tried) = %s, want a node of another zone", n.ID())
	}
	// Nobody in the own zone, or one that only drains: all others.
	p.Update(specs(t, "a!@x e@y f*3@z"))
	wantShares(t, p, "e*25 f*75")
	// All of it is configured at run time.
	p.Configure(lb.Options{Zone: "y"}) // the clock stays
	wantShares(t, p, "e*100")
	p.Configure(lb.Options{})
	wantShares(t, p, "e*25 f*75")
}

func TestBackups(t *testing.T) {
	p := pool(t, "a b c? d?")
	wantShares(t, p, "a*50 b*50")
	a, b := node(t, p, "a"), node(t, p, "b")
	if n := p.Pick([]*lb.Node{a, b}, 0); !n.Backup() {
		t.Errorf("Pick(tried) = %s, want a backup", n.ID())
	}
	p.SetHealth(a, false)
	wantShares(t, p, "b*100")
	p.SetHealth(b, false)
	wantShares(t, p, "c*50 d*50")
	p.SetHealth(a, true)
	wantShares(t, p, "a*100")
	p.Update(specs(t, "a*0 b! c? d?"))
	wantShares(t, p, "c*50 d*50")
	p.Update(specs(t, "c d?"))
	wantShares(t, p, "c*100")
	p.Update(specs(t, "c! d?!"))
	wantShares(t, p, "c*50 d*50") // all drain

	// Backups in use are believed to be ill no sooner than others.
	p = pool(t, "a b? c? d? e?")
	for _, id := range strings.Fields("a b c") {
		p.SetHealth(node(t, p, id), false)
	}
	wantShares(t, p, "d*50 e*50")
	p.SetHealth(node(t, p, "d"), false)
	wantShares(t, p, "b*25 c*25 d*25 e*25")
}

func TestHealthAndPanic(t *testing.T) {
	p := pool(t, "a b c d")
	set := func(healthy bool, ids string) {
		t.Helper()
		for _, id := range strings.Fields(ids) {
			if !p.SetHealth(node(t, p, id), healthy) {
				t.Errorf("SetHealth(%s, %t) = false, want a change", id, healthy)
			}
			if p.SetHealth(node(t, p, id), healthy) {
				t.Errorf("SetHealth(%s, %t) = true again", id, healthy)
			}
		}
	}
	set(false, "a b")
	wantShares(t, p, "c*50 d*50")
	set(false, "c")
	wantShares(t, p, "a*25 b*25 c*25 d*25") // below 50 %: panic
	p.Configure(lb.Options{PanicThreshold: -1})
	wantShares(t, p, "d*100")
	set(false, "d")
	wantShares(t, p, "a*25 b*25 c*25 d*25") // none is healthy: fail open
	set(true, "a")
	wantShares(t, p, "a*100")
	if n := p.Pick([]*lb.Node{node(t, p, "a")}, 0); n == nil || n.Healthy() {
		t.Error("Pick(tried) is not an unhealthy node, the last resort")
	}
	// It outlives updates and reloads.
	p.Update(specs(t, "a b*3 c d! e"))
	p.Configure(lb.Options{PanicThreshold: 30})
	if s := p.Status(); s.Nodes[1].Healthy || !s.Nodes[0].Healthy || !s.Nodes[4].Healthy {
		t.Errorf("Status() = %+v, want b unhealthy still", s)
	}
	wantShares(t, p, "a*50 e*50")
}

func TestSlowStart(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{SlowStart: 9 * time.Second, Now: c.Now})
	p.Update(specs(t, "a b")) // the gateway starts: nobody is new
	wantShares(t, p, "a*50 b*50")
	// Nor is anybody in need of a slow start where nothing happens.
	c.Advance(time.Hour)
	p.Tick(nil)
	p.Update(specs(t, "a b z"))
	wantShares(t, p, "a*33 b*33 z*33")
	p.Update(specs(t, "a b"))
	busy := func() {
		for range 21 {
			p.Done(nil)
		}
		c.Advance(time.Second)
		p.Tick(nil)
	}
	busy()
	p.Update(specs(t, "a b c"))
	wantShares(t, p, "a*47 b*47 c*5") // 1 : 1 : 0.1
	if s := p.Status(); !s.Nodes[2].Starting || s.Nodes[0].Starting {
		t.Errorf("Status() = %+v, want c starting", s)
	}
	for range 4 {
		busy()
	}
	wantShares(t, p, "a*40 b*40 c*20") // 1 : 1 : 0.5
	p.Update(specs(t, "a b*2 c"))
	wantShares(t, p, "a*28 b*57 c*14")
	c.Advance(5 * time.Second)
	p.Tick(nil)
	wantShares(t, p, "a*25 b*50 c*25")
	if s := p.Status(); s.Nodes[2].Starting {
		t.Error("c is starting still")
	}
	// Most are new: those few that are not cannot carry it all.
	p.Update(specs(t, "a b c"))
	busy()
	p.Update(specs(t, "c d e"))
	wantShares(t, p, "c*33 d*33 e*33")
	c.Advance(time.Minute)
	p.Tick(nil)
	busy()
	p.Update(specs(t, "c*2 d*2 f*4"))
	wantShares(t, p, "c*45 d*45 f*9") // half of the weight is enough
	// All are new: nobody starts slowly.
	p.Update(specs(t, "x y*3"))
	wantShares(t, p, "x*25 y*75")
	p.Configure(lb.Options{})
	p.Update(specs(t, "x y*3 z"))
	wantShares(t, p, "x*20 y*60 z*20")
}

// TestZonesWhileAllDrain: a service may leave as a whole, from its own zone and from others.
func TestZonesWhileAllDrain(t *testing.T) {
	every(t, func(name string, policy lb.Policy) {
		p := lb.NewPool("user", lb.Options{Policy: policy, Zone: "x", Now: newClock().Now})
		p.Update(specs(t, "a@x b@x c@y"))
		p.Update(specs(t, "a!@x b!@x c!@y"))
		for key := range uint64(100) {
			if n := p.Pick(nil, lb.HashKey(fmt.Sprint(key))); n == nil || n.Zone() != "x" {
				t.Fatalf("%s: Pick() = %s, want a node of the own zone", name, show(n))
			}
		}
		// Half of what drains there is not enough for all requests.
		p.Update(specs(t, "a!@x b!@x c!@y d!@x"))
		for _, id := range []string{"a", "b"} {
			for range 3 {
				p.Failed(node(t, p, id))
			}
		}
		there := map[string]bool{}
		for key := range uint64(1000) {
			there[p.Pick(nil, lb.HashKey(fmt.Sprint(key))).Zone()] = true
		}
		if !there["x"] || !there["y"] {
			t.Errorf("%s: picks in the zones %v, want x and y", name, there)
		}
	})
}
