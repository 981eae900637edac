package lb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

// answers reports n answers of each node.
func answers(t *testing.T, p *lb.Pool, n int, took time.Duration, bad bool, ids ...string) (ejected bool) {
	t.Helper()
	for _, id := range ids {
		for range n {
			e, _ := p.Answered(node(t, p, id), took, bad)
			ejected = ejected || e
		}
	}
	return ejected
}

func TestBadAnswersEject(t *testing.T) {
	p, c := patient(t, "a b c d")
	answers(t, p, 20, time.Millisecond, false, "a", "b", "c", "d")
	if answers(t, p, 19, time.Millisecond, true, "a") {
		t.Fatal("a is ejected with less than half bad")
	}
	c.Advance(200 * time.Millisecond)
	if !answers(t, p, 1, time.Millisecond, true, "a") {
		t.Fatalf("a is not ejected with half its answers bad: %+v", p.Status())
	}
	if s := p.Status().Nodes[0]; s.Cause != "bad answers" || !s.Ejected {
		t.Errorf("a = %+v, want ejected for bad answers", s)
	}
	a := node(t, p, "a")
	// A good answer among the bad ones is not its return.
	if _, restored := p.Answered(a, time.Millisecond, false); restored {
		t.Error("an ejected node is back by an answer that is no return")
	}
	// A failed return doubles the pause.
	c.Advance(time.Second)
	wantPicks(t, p, "a")
	c.Advance(time.Millisecond)
	p.Answered(a, time.Millisecond, true)
	c.Advance(2*time.Second - 1)
	wantPicks(t, p, "b c d")
	c.Advance(1)
	wantPicks(t, p, "a")
	c.Advance(time.Millisecond)
	if _, restored := p.Answered(a, time.Millisecond, false); !restored || a.Ejected() {
		t.Error("a good return does not bring a back")
	}
	// Its past is forgotten, but not that it was out: the next pause is longer.
	if answers(t, p, 19, 0, true, "a") {
		t.Fatal("a is ejected by 19 outcomes, want 20")
	}
	c.Advance(time.Second)
	if !answers(t, p, 1, 0, true, "a") {
		t.Fatal("a is not ejected again")
	}
	c.Advance(4*time.Second - 1)
	if got := name(p.Pick(nil, 0)); got == "a" {
		t.Error("the pause of a node that relapses is not longer")
	}
}

func TestWhatIsBadEverywhereEjectsNobody(t *testing.T) {
	p, c := patient(t, "a b c d")
	for range 50 {
		c.Advance(150 * time.Millisecond)
		if answers(t, p, 2, time.Millisecond, true, "a", "b", "c", "d") {
			t.Fatalf("a node is ejected though all answer badly: %q", ejected(p))
		}
	}
	p.Configure(lb.Options{Eject: lb.Eject{Rate: -1}, Now: nil})
	c.Advance(time.Minute)
	answers(t, p, 50, time.Millisecond, false, "b", "c", "d")
	if answers(t, p, 50, time.Millisecond, true, "a") {
		t.Error("a node is ejected though that is turned off")
	}
}

func TestSlowAnswersEject(t *testing.T) {
	p, c := patient(t, "a b c")
	for range 30 {
		c.Advance(100 * time.Millisecond)
		answers(t, p, 1, 5*time.Millisecond, false, "a", "b")
		answers(t, p, 1, 2*time.Second, false, "c")
	}
	if got := ejected(p); got != "c" {
		t.Fatalf("ejected = %q, want c, which takes 2 s where others take 5 ms", got)
	}
	// Where all are slow, now and then, nobody is an outlier.
	p, c = patient(t, "a b c")
	for i := range 100 {
		c.Advance(100 * time.Millisecond)
		took := 5 * time.Millisecond
		if i%3 == 0 {
			took = 5 * time.Second
		}
		answers(t, p, 1, took, false, "a", "b", "c")
	}
	if got := ejected(p); got != "" {
		t.Errorf("ejected = %q where all nodes have the same slow route", got)
	}
	// Ten times nearly nothing is still quick.
	p, c = patient(t, "a b")
	for range 100 {
		c.Advance(100 * time.Millisecond)
		answers(t, p, 1, time.Millisecond, false, "a")
		answers(t, p, 1, 400*time.Millisecond, false, "b")
	}
	if got := ejected(p); got != "" {
		t.Errorf("ejected = %q for 400 ms, want none below half a second", got)
	}
}

// serve sends one request to each of n picks; the named nodes keep theirs.
func serve(p *lb.Pool, n int, silent string) (kept []*lb.Node) {
	for range n {
		node := p.Pick(nil, 0)
		node.Begin()
		if node.ID() == silent {
			kept = append(kept, node)
			continue
		}
		p.Answered(node, time.Millisecond, false)
		node.End()
	}
	return kept
}

func TestSilentNodeIsEjected(t *testing.T) {
	p, c := patient(t, "a b c")
	var kept []*lb.Node
	var out []string
	tick := func(silent string) {
		c.Advance(100 * time.Millisecond)
		kept = append(kept, serve(p, 9, silent)...)
		p.Tick(func(n *lb.Node) { out = append(out, n.ID()) })
	}
	for range 30 {
		tick("")
	}
	if len(out) > 0 {
		t.Fatalf("%q ejected while all answer", out)
	}
	for range 12 {
		tick("b")
	}
	if len(out) != 1 || out[0] != "b" || node(t, p, "b").Cause() != lb.Silence {
		t.Fatalf("ejected after 1.2 s of silence: %q (%s), want b", out, node(t, p, "b").Cause())
	}
	// What it has is moved at once, what it is sent from now on when it has had its time.
	b := node(t, p, "b")
	c.Advance(100 * time.Millisecond)
	for waited, want := range map[time.Duration]bool{99 * time.Millisecond: false, 500 * time.Millisecond: true} {
		if b.InVain(waited, false) != want || node(t, p, "a").InVain(waited, true) {
			t.Errorf("InVain(%s) = %v, want %v, and false of a node that answers", waited, !want, want)
		}
	}
	c.Advance(1900 * time.Millisecond)
	if b.InVain(900*time.Millisecond, false) || !b.InVain(time.Second, false) {
		t.Error("a silent node does not get a second for what it is sent")
	}
	// It gets less and less while it stays silent.
	before := len(kept)
	for range 280 {
		tick("b")
	}
	if n := len(kept) - before; n < 5 || n > 12 {
		t.Errorf("a silent node had %d requests in 28 s, want about 8: after 1, 2, 4, 4 … s", n)
	}
	if len(out) != 1 {
		t.Errorf("ejected %q, want b once", out)
	}
	// Whatever it answers, it is back.
	_, restored := p.Answered(kept[0], 30*time.Second, false)
	for _, n := range kept {
		n.End()
	}
	if !restored || ejected(p) != "" {
		t.Error("a silent node that speaks is not back")
	}
}

func TestSilenceIsNoProofByItself(t *testing.T) {
	f := func(what string, o lb.Options, each func(p *lb.Pool)) {
		t.Helper()
		c := newClock()
		o.Now = c.Now
		p := lb.NewPool("user", o)
		p.Update(specs(t, "a b"))
		for range 100 {
			c.Advance(100 * time.Millisecond)
			each(p)
			p.Tick(func(n *lb.Node) { t.Errorf("%s: %s is ejected", what, n.ID()) })
		}
	}
	a := func(p *lb.Pool) *lb.Node { return p.Nodes()[0] }
	b := func(p *lb.Pool) *lb.Node { return p.Nodes()[1] }
	f("idle node", lb.Options{}, func(p *lb.Pool) { p.Answered(b(p), time.Millisecond, false) })
	f("a few long polls", lb.Options{}, func(p *lb.Pool) {
		for a(p).InFlight() < 4 {
			a(p).Begin()
		}
		p.Answered(b(p), time.Millisecond, false)
	})
	f("nobody answers", lb.Options{}, func(p *lb.Pool) { a(p).Begin(); b(p).Begin() })
	f("all take long", lb.Options{}, func(p *lb.Pool) {
		a(p).Begin()
		p.Answered(b(p), 2*time.Second, false)
	})
	f("turned off", lb.Options{Eject: lb.Eject{Silence: -1}}, func(p *lb.Pool) {
		a(p).Begin()
		p.Answered(b(p), time.Millisecond, false)
	})
	f("too late to count: it answers", lb.Options{}, func(p *lb.Pool) {
		a(p).Begin()
		p.Answered(a(p), time.Millisecond, false)
		p.Answered(b(p), time.Millisecond, false)
	})
}

// TestWhoWasStoppedHeardNothing: when this process was stopped, the answers of one node may
// be read before those of the other.
func TestWhoWasStoppedHeardNothing(t *testing.T) {
	p, c := patient(t, "a b")
	a, b := node(t, p, "a"), node(t, p, "b")
	tick := func() { p.Tick(func(n *lb.Node) { t.Errorf("%s is ejected", n.ID()) }) }
	a.Begin()
	c.Advance(100 * time.Millisecond)
	tick()
	for range 10 {
		a.Begin()
	}
	c.Advance(30 * time.Second)
	for range 10 {
		p.Answered(b, time.Millisecond, false)
	}
	tick()
	p.Answered(a, 30*time.Second, false)
	c.Advance(100 * time.Millisecond)
	tick()
}

// TestSilentNodeIsTriedByWhatMayMoveOn: what can go nowhere else is not sent to find out whether a silent node is back,
// unless there is nothing else for long.
func TestSilentNodeIsTriedByWhatMayMoveOn(t *testing.T) {
	for name, o := range map[string]lb.Options{"no bounds": {}, "bounds": {MaxInFlight: 1000, MaxInFlightPerNode: 500}} {
		c := newClock()
		o.Now = c.Now
		p := lb.NewPool("user", o)
		p.Update(specs(t, "a b c"))
		b := node(t, p, "b")
		for range 30 {
			c.Advance(100 * time.Millisecond)
			serve(p, 9, "b")
			p.Tick(nil)
		}
		if b.Cause() != lb.Silence {
			t.Fatalf("%s: b is ejected for %q, want its silence", name, b.Cause())
		}
		probes := func(how func([]*lb.Node, uint64) (*lb.Node, error)) (n int) {
			t.Helper()
			for range 20 {
				got, err := how(nil, 0)
				if err != nil {
					t.Fatal(err)
				}
				if got == b {
					n++
				}
				got.End()
			}
			return n
		}
		probes(p.Acquire)
		for range 8 { // the pauses are as long as they come, whether its failures are reported or not
			c.Advance(4 * time.Second)
			if n := probes(p.AcquireOnce); n != 0 {
				t.Errorf("%s: %d attempts that cannot move on were sent to a silent node", name, n)
			}
			if n := probes(p.Acquire); n != 1 {
				t.Errorf("%s: %d attempts that can move on were sent to a silent node, want 1", name, n)
			}
			p.Failed(b)
		}
		c.Advance(8*time.Second - 1)
		if n := probes(p.AcquireOnce); n != 0 {
			t.Errorf("%s: a silent node is tried by what cannot move on within 4 s", name)
		}
		c.Advance(1)
		if n := probes(p.AcquireOnce); n != 1 {
			t.Errorf("%s: a silent node is tried %d times when nothing else came for 4 s, want once", name, n)
		}
	}
	// Of other causes the first to come finds out: it is refused at once, and goes elsewhere.
	p, c := patient(t, "a b")
	fail(t, p, 3, "b")
	c.Advance(time.Second)
	if n, err := p.AcquireOnce(nil, 0); err != nil || n.ID() != "b" {
		t.Errorf("AcquireOnce() = %s, %v, want b, which could not be reached a while ago", name(n), err)
	}
}

// TestSilenceInAZone: nodes of other zones, which are sent nothing, are no reason to wait for a silent one.
func TestSilenceInAZone(t *testing.T) {
	f := func(what, nodes string, perTick, talks, want int) {
		t.Helper()
		c := newClock()
		p := lb.NewPool("user", lb.Options{Zone: "x", Now: c.Now})
		p.Update(specs(t, nodes))
		out := 0
		for tick := 1; tick <= talks+60 && out == 0; tick++ {
			silent := ""
			if tick > talks {
				silent = "a"
			}
			c.Advance(100 * time.Millisecond)
			serve(p, perTick, silent)
			p.Tick(func(n *lb.Node) {
				if n.ID() != "a" {
					t.Errorf("%s: %s is ejected", what, n.ID())
				}
				out = tick - talks
			})
		}
		if out < want-1 || out > want+1 {
			t.Errorf("%s: a is ejected %d ticks after it fell silent, want about %d", what, out, want)
		}
	}
	f("two in the zone, of many", "a@x b@x c@y d@y e@y f@y g@y h@y", 2, 10, 11)
	f("alone in the zone", "a@x b@y c@y", 2, 10, 21)
	f("alone, with few requests", "a@x b@y c@y", 1, 10, 21)
	f("alone, and never heard of", "a@x b@y c@y", 2, 0, 0)
	f("alone", "a@x", 2, 10, 0)
}

// TestSilentNodeIsNoLastResort: better no answer at once than one that is never known.
func TestSilentNodeIsNoLastResort(t *testing.T) {
	for bounds, o := range map[string]lb.Options{"no bounds": {}, "bounds": {MaxInFlightPerNode: 500}} {
		c := newClock()
		o.Now = c.Now
		p := lb.NewPool("user", o)
		p.Update(specs(t, "a b"))
		a, b := node(t, p, "a"), node(t, p, "b")
		for range 30 {
			c.Advance(100 * time.Millisecond)
			serve(p, 9, "b")
			p.Tick(nil)
		}
		p.Acquire(nil, 0) // it has its turn
		tried := []*lb.Node{a}
		if n, err := p.Acquire(tried, 0); n != b || err != nil || b.Cause() != lb.Silence {
			t.Errorf("%s: Acquire(a) = %s, %v, want b, which is silent", bounds, name(n), err)
		}
		if n, err := p.AcquireOnce(tried, 0); err == nil {
			t.Errorf("%s: AcquireOnce(a) = %s, want an error", bounds, name(n))
		}
		p.Configure(lb.Options{MaxInFlightPerNode: 1, PanicThreshold: -1})
		a.Begin()
		if n, err := p.AcquireOnce(nil, 0); !errors.Is(err, lb.ErrOverloaded) {
			t.Errorf("%s: AcquireOnce() = %s, %v while a has no room, want ErrOverloaded", bounds, name(n), err)
		}
	}
}

// TestHeard: a silent node of which something is heard gets the next request, whichever that is; others get nothing by it.
func TestHeard(t *testing.T) {
	p, c := patient(t, "a b c")
	var kept []*lb.Node
	for i := range 42 {
		c.Advance(100 * time.Millisecond)
		silent := "b"
		if i < 30 {
			silent = ""
		}
		kept = append(kept, serve(p, 9, silent)...)
		p.Tick(nil)
	}
	b := node(t, p, "b")
	if b.Cause() != lb.Silence {
		t.Fatalf("b is %q, want silent", b.Cause())
	}
	next := func() string {
		n, err := p.AcquireOnce(nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer n.End()
		return n.ID()
	}
	for range 6 {
		if got := next(); got == "b" {
			t.Fatal("a silent node is sent requests in its pause")
		}
	}
	p.Heard(node(t, p, "a"))
	if got := ejected(p); got != "b" {
		t.Errorf("ejected %q after a node was heard that was not, want b", got)
	}
	p.Heard(b)
	if got := []string{next(), next(), next()}; got[0] != "b" || got[1] == "b" || got[2] == "b" {
		t.Errorf("requests go to %q after b was heard, want the first one to b", got)
	}
	if b.Cause() != lb.Silence {
		t.Error("b is back before it has answered")
	}
	if _, restored := p.Answered(b, time.Millisecond, false); !restored || ejected(p) != "" {
		t.Error("b is not back though it answers")
	}
	p.Heard(b)
	for _, n := range kept {
		n.End()
	}
}
