package lb_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/lb"
)

func TestReport(t *testing.T) {
	f := func(r lb.Report, text string) {
		t.Helper()
		if got := string(r.Append(nil)); got != text {
			t.Errorf("%+v.Append() = %q, want %q", r, got, text)
		}
		if got := lb.ParseReport([]byte(text)); got != r {
			t.Errorf("ParseReport(%q) = %+v, want %+v", text, got, r)
		}
	}
	f(lb.Report{}, "")
	f(lb.Report{Draining: true}, "draining")
	f(lb.Report{Load: 12}, "load=12")
	f(lb.Report{Draining: true, Load: 1}, "draining, load=1")
	f(lb.Report{Load: 999999999}, "load=999999999")

	g := func(text string, want lb.Report) {
		t.Helper()
		if got := lb.ParseReport([]byte(text)); got != want {
			t.Errorf("ParseReport(%q) = %+v, want %+v", text, got, want)
		}
	}
	g(" load=3 ,\tdraining ", lb.Report{Draining: true, Load: 3})
	g("warm, draining, zone=a", lb.Report{Draining: true})
	g(",,", lb.Report{})
	for _, text := range []string{"Draining", "drainingx", "draining=no", "load", "load=", "load=x", "load=-1", "load=1x", "load= 1", "load=1234567890", "load=99999999999999999999"} {
		g(text, lb.Report{})
	}
}

// wantTurns checks who gets the next picks, in whatever order.
func wantTurns(t *testing.T, p *lb.Pool, want string) {
	t.Helper()
	sorted := func(text string) string {
		ids := strings.Fields(text)
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	if got := picks(t, p, len(strings.Fields(want))); sorted(got) != sorted(want) {
		t.Fatalf("picks = %s, want %s in any order", got, want)
	}
}

func TestHeed(t *testing.T) {
	p, c := patient(t, "a b c")
	b := node(t, p, "b")
	drains := lb.Report{Draining: true, Load: 7}
	if p.Heed(b, lb.Report{Load: 3}) || b.Load() != 3 || b.Draining() {
		t.Errorf("a load makes b draining %v, load %d", b.Draining(), b.Load())
	}
	wantTurns(t, p, "a b c")
	if !p.Heed(b, drains) || p.Heed(b, drains) || !b.Draining() || b.Load() != 7 {
		t.Error("Heed() does not report once that b drains")
	}
	wantTurns(t, p, "a c a c")
	// A snapshot that does not know yet changes nothing, nor does another node's word.
	p.Update(specs(t, "a b c d"))
	p.Heed(node(t, p, "a"), lb.Report{})
	wantTurns(t, p, "a c d a c d")
	// It is back.
	if p.Heed(b, lb.Report{}) || b.Draining() || b.Load() != 0 {
		t.Error("Heed() does not take back that b drains")
	}
	p.Update(specs(t, "a b"))
	for range 2 {
		wantTurns(t, p, "a b")
	}

	// What the registry says stays.
	p.Update(specs(t, "a b!"))
	if p.Heed(b, drains) {
		t.Error("Heed() reports what the registry had said")
	}
	p.Heed(b, lb.Report{})
	wantTurns(t, p, "a a")
	p.Heed(b, drains)
	p.Update(specs(t, "a b"))
	wantTurns(t, p, "a a")
	c.Advance(10 * time.Second)
	p.Refresh()
	wantTurns(t, p, "a b")

	// One that left says what it likes.
	p.Update(specs(t, "a"))
	p.Heed(b, drains)
	p.Heed(b, lb.Report{})
	wantTurns(t, p, "a a")
}

func TestHeedIsForgotten(t *testing.T) {
	p, c := patient(t, "a b c")
	drains := lb.Report{Draining: true}
	p.Heed(node(t, p, "a"), drains)
	c.Advance(4 * time.Second)
	p.Heed(node(t, p, "b"), drains)
	c.Advance(2 * time.Second)
	p.Heed(node(t, p, "a"), drains) // again, at 6 s
	c.Advance(8*time.Second - 1)
	p.Refresh()
	wantTurns(t, p, "c c c")
	c.Advance(1) // 14 s: b was last heard of 10 s ago
	p.Refresh()
	wantTurns(t, p, "c b c b")
	c.Advance(2 * time.Second)
	p.Refresh()
	wantTurns(t, p, "c a b")
	p.Refresh()
}

func TestAllDrainInBand(t *testing.T) {
	p := pool(t, "a b")
	for _, n := range p.Nodes() {
		p.Heed(n, lb.Report{Draining: true})
	}
	wantTurns(t, p, "a b a b")
}

func TestHeedAllocatesNothing(t *testing.T) {
	p := pool(t, "a b")
	a, load := node(t, p, "a"), []byte("load=12")
	p.Heed(a, lb.Report{Draining: true})
	p.Heed(a, lb.Report{})
	if n := testing.AllocsPerRun(1000, func() {
		p.Heed(a, lb.ParseReport(load))
		p.Heed(a, lb.Report{})
		p.Refresh()
	}); n != 0 {
		t.Errorf("%v allocations an answer, want 0", n)
	}
}
