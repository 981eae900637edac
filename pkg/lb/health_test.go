package lb_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_700_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// patient is a pool with an injected clock: three failures, pauses of 1 s to 5 s.
func patient(t *testing.T, nodes string) (*lb.Pool, *clock) {
	t.Helper()
	c := newClock()
	p := lb.NewPool("user", lb.Options{Eject: lb.Eject{PauseMax: 5 * time.Second}, Now: c.Now})
	p.Update(specs(t, nodes))
	return p, c
}

// fail reports n failures of each node and whether the last one ejected it.
func fail(t *testing.T, p *lb.Pool, n int, ids ...string) (ejected bool) {
	t.Helper()
	for _, id := range ids {
		for range n {
			ejected = p.Failed(node(t, p, id))
		}
	}
	return ejected
}

func ejected(p *lb.Pool) string {
	var ids []string
	for _, n := range p.Status().Nodes {
		if n.Ejected {
			ids = append(ids, n.ID)
		}
	}
	return strings.Join(ids, " ")
}

func wantPicks(t *testing.T, p *lb.Pool, want string) {
	t.Helper()
	if got := picks(t, p, len(strings.Fields(want))); got != want {
		t.Fatalf("picks = %s, want %s", got, want)
	}
}

func TestEjection(t *testing.T) {
	p, c := patient(t, "a b c")
	b := node(t, p, "b")
	if fail(t, p, 2, "b") || b.Ejected() {
		t.Fatal("b is ejected after 2 failures, want 3")
	}
	p.Succeeded(b)
	if fail(t, p, 2, "b") || b.Ejected() {
		t.Fatal("b is ejected after 2 failures in a row, want 3: a success resets")
	}
	wantPicks(t, p, "a b c a")
	if !p.Failed(b) || !b.Ejected() || b.Failures() != 5 {
		t.Fatalf("b is not ejected after 3 failures in a row: %+v", p.Status())
	}
	// b's turn passes to c; the others share alike.
	wantPicks(t, p, "c a c a")

	// Late failures, of requests picked before, change nothing.
	c.Advance(900 * time.Millisecond)
	if p.Failed(b) {
		t.Error("Failed() = true for a node that is ejected already")
	}
	wantPicks(t, p, "c a")
	c.Advance(100 * time.Millisecond)

	// One request after each pause, which doubles up to the longest.
	for _, pause := range []time.Duration{2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		wantPicks(t, p, "b c a c a")
		if p.Failed(b) {
			t.Error("Failed() = true for a node that is ejected still")
		}
		c.Advance(pause - 1)
		wantPicks(t, p, "c a c a")
		c.Advance(1)
	}
	wantPicks(t, p, "b c a")
	if !p.Succeeded(b) || b.Ejected() {
		t.Error("Succeeded() does not restore b")
	}
	wantPicks(t, p, "c a b c a b")

	// All is forgotten: three failures again, and the first pause again.
	if fail(t, p, 2, "b") || !p.Failed(b) {
		t.Error("a restored node is not ejected by three failures")
	}
	c.Advance(time.Second)
	wantPicks(t, p, "b c a")
}

func TestEjectedNodeReturnsWithoutReport(t *testing.T) {
	p, c := patient(t, "a b")
	fail(t, p, 3, "a")
	for range 3 {
		c.Advance(time.Second)
		wantPicks(t, p, "a b b b")
	}
	// A failure that ends such a return counts once.
	p.Failed(node(t, p, "a"))
	p.Failed(node(t, p, "a"))
	c.Advance(2*time.Second - 1)
	wantPicks(t, p, "b b")
	c.Advance(1)
	wantPicks(t, p, "a b")
}

func TestEjectedNodeIsPickedWhenOthersWereTried(t *testing.T) {
	p, c := patient(t, "a b c!")
	fail(t, p, 3, "a")
	a, b, d := node(t, p, "a"), node(t, p, "b"), node(t, p, "c")
	f := func(want string, tried ...*lb.Node) {
		t.Helper()
		if got := name(p.Pick(tried, 0)); got != want {
			t.Errorf("Pick(tried) = %s, want %s", got, want)
		}
	}
	f("c", b)
	f("a", b, d)
	f("-", a, b, d)
	// Its failure then is no failed return: the pause is still the first.
	p.Failed(a)
	c.Advance(time.Second)
	f("b", a) // due, but tried
	f("a")
	f("b")
}

func TestHalfRule(t *testing.T) {
	f := func(nodes string, most int) {
		t.Helper()
		p, _ := patient(t, nodes)
		for range 2 {
			for _, n := range p.Nodes() {
				fail(t, p, 5, n.ID())
			}
		}
		if got := len(strings.Fields(ejected(p))); got != most {
			t.Errorf("%s: %d ejected, want %d", nodes, got, most)
		}
		if p.Pick(nil, 0) == nil {
			t.Errorf("%s: no node left", nodes)
		}
	}
	f("a", 0)
	f("a b", 1)
	f("a b c", 1)
	f("a b c d", 2)
	f("a b c d e", 2)
	f("a b c d e f", 3)
	f("a b c! d*0", 1)  // only nodes that take turns count
	f("a! b! c! d", 0)  // d is the last
	f("a! b! c! d!", 2) // all drain: they take turns
}

func TestHalfRuleGivesWay(t *testing.T) {
	p, _ := patient(t, "a b c")
	fail(t, p, 3, "a", "b")
	if got := ejected(p); got != "a" {
		t.Fatalf("ejected = %q, want a", got)
	}
	// b had its failures; when there is room the next one counts.
	p.Succeeded(node(t, p, "a"))
	if !p.Failed(node(t, p, "b")) {
		t.Error("Failed() = false, want b ejected once a is back")
	}
}

func TestEjectionAcrossUpdate(t *testing.T) {
	p, c := patient(t, "a b c d")
	fail(t, p, 3, "a")
	c.Advance(500 * time.Millisecond)
	fail(t, p, 3, "b")
	p.Update(specs(t, "a b c d e*2"))
	if got := ejected(p); got != "a b" {
		t.Fatalf("ejected = %q after a node joined, want a b", got)
	}
	// Of two nodes one may be ejected: the one that would return first is released.
	p.Update(specs(t, "a b"))
	if got := ejected(p); got != "b" {
		t.Fatalf("ejected = %q of two nodes, want b", got)
	}
	wantPicks(t, p, "a a")
	// The last node is released, but its failures are not forgotten.
	p.Update(specs(t, "b"))
	if got := ejected(p); got != "" {
		t.Fatalf("ejected = %q of one node, want none", got)
	}
	p.Update(specs(t, "b c"))
	if !p.Failed(node(t, p, "b")) {
		t.Error("Failed() = false, want b ejected again at once")
	}
	c.Advance(2*time.Second - 1) // its second pause
	wantPicks(t, p, "c c")
	c.Advance(1)
	wantPicks(t, p, "b c")
}

func TestEjectedNodeThatDrainsOrLeaves(t *testing.T) {
	p, c := patient(t, "a b c")
	a := node(t, p, "a")
	fail(t, p, 3, "a")
	p.Update(specs(t, "a! b c"))
	c.Advance(time.Minute)
	wantPicks(t, p, "b c b c")
	p.Update(specs(t, "a b c"))
	wantPicks(t, p, "a b c b c")

	p.Update(specs(t, "b c"))
	if p.Failed(a); !p.Succeeded(a) || p.Failed(a) {
		t.Error("a node that left is not restored, or is ejected")
	}
	wantPicks(t, p, "b c b c")
	p.Update(specs(t, "a b c"))
	if n := node(t, p, "a"); n == a || n.Ejected() {
		t.Error("a node that came back has its old Node")
	}
}

func TestEjectNever(t *testing.T) {
	p := lb.NewPool("user", lb.Options{Eject: lb.Eject{After: -1}})
	p.Update(specs(t, "a b"))
	if fail(t, p, 100, "a") {
		t.Error("Failed() = true, want never")
	}
	wantPicks(t, p, "a b a b")
}

func TestOneReturnForManyCallers(t *testing.T) {
	p, c := patient(t, "a b c d e f")
	fail(t, p, 3, "a", "b", "c")
	for range 50 {
		c.Advance(time.Second)
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					id := p.Pick(nil, 0).ID()
					mu.Lock()
					got[id]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if got["a"] != 1 || got["b"] != 1 || got["c"] != 1 {
			t.Fatalf("picks = %v, want one each of a, b and c", got)
		}
	}
}
