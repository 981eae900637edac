package lb_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/lb"
)

// specs reads "a b*5 c*0 d! e? f@z": names, weights (1 when absent), "!" for draining, "?"
// for backup, and zones.
func specs(t testing.TB, text string) []lb.Spec {
	t.Helper()
	var out []lb.Spec
	for _, word := range strings.Fields(text) {
		word, zone, _ := strings.Cut(word, "@")
		word, draining := strings.CutSuffix(word, "!")
		word, backup := strings.CutSuffix(word, "?")
		s := lb.Spec{Weight: 1, Draining: draining, Backup: backup, Zone: zone}
		var weighted bool
		s.ID, _, weighted = strings.Cut(word, "*")
		if weighted {
			if _, err := fmt.Sscanf(word, s.ID+"*%d", &s.Weight); err != nil {
				t.Fatalf("read spec %q: %v", word, err)
			}
		}
		s.Addr = s.ID + ":80"
		out = append(out, s)
	}
	return out
}

func pool(t testing.TB, text string) *lb.Pool {
	t.Helper()
	p := lb.NewPool("user", lb.Options{})
	p.Update(specs(t, text))
	return p
}

func node(t testing.TB, p *lb.Pool, id string) *lb.Node {
	t.Helper()
	for _, n := range p.Nodes() {
		if n.ID() == id {
			return n
		}
	}
	t.Fatalf("node %q is not in the pool", id)
	return nil
}

func name(n *lb.Node) string {
	if n == nil {
		return "-"
	}
	return n.ID()
}

// picks returns the IDs of the next n picks; each is checked against PollNext.
func picks(t testing.TB, p *lb.Pool, n int) string {
	t.Helper()
	var ids []string
	for range n {
		s := p.Status()
		got := name(p.Pick(nil, 0))
		if len(s.Nodes) > 0 && got != "-" && s.Nodes[s.PollNext].ID != got {
			t.Fatalf("PollNext = %d (%s), want the place of %s", s.PollNext, s.Nodes[s.PollNext].ID, got)
		}
		ids = append(ids, got)
	}
	return strings.Join(ids, " ")
}

func TestPickOrder(t *testing.T) {
	f := func(nodes, want string) {
		t.Helper()
		p := pool(t, nodes)
		round := len(strings.Fields(want))
		if got := picks(t, p, round); got != want {
			t.Errorf("%s: picks = %s, want %s", nodes, got, want)
		}
		if got := picks(t, p, round); got != want {
			t.Errorf("%s: second round = %s, want %s", nodes, got, want)
		}
	}
	f("a*5 b c", "a a b a c a a")
	f("c b a*5", "a a b a c a a")
	f("a", "a")
	f("a*7", "a")
	f("a b c", "a b c")
	f("a*100 b*100 c*100", "a b c")
	f("a*500 b*100 c*100", "a a b a c a a")
	f("a b*2", "b a b")
	f("a*4 b*2", "a b a")
	f("a b*0 c", "a c")
	f("a b! c", "a c")
	f("a*0 b! c!", "b c")
	f("a! b! c!", "a b c")
	f("a*2! b!", "a b a")
	f("a*0 b*0", "-")
	f("", "-")
	f("a*-3 b", "b")
}

// TestPickIsSmooth compares rounds with the textbook algorithm.
func TestPickIsSmooth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var set []lb.Spec
		weights := make([]int, 1+random.IntN(12))
		sum := 0
		for i := range weights {
			weights[i] = 1 + random.IntN(1+random.IntN(60))
			sum += weights[i]
			set = append(set, lb.Spec{ID: fmt.Sprintf("n%02d", i), Weight: weights[i]})
		}
		p := lb.NewPool("user", lb.Options{})
		p.Update(set)
		credit := make([]int, len(weights))
		for turn := range 2 * sum {
			best := 0
			for i := range credit {
				credit[i] += weights[i]
				if credit[i] > credit[best] {
					best = i
				}
			}
			credit[best] -= sum
			if got := p.Pick(nil, 0).ID(); got != set[best].ID {
				t.Fatalf("weights %v: turn %d = %s, want %s", weights, turn, got, set[best].ID)
			}
		}
	}
}

func TestPickLargeWeights(t *testing.T) {
	var set []lb.Spec
	total := 0
	for i := range 1000 {
		set = append(set, lb.Spec{ID: fmt.Sprintf("n%04d", i), Weight: i + 1})
		total += i + 1
	}
	set = append(set, lb.Spec{ID: "x", Weight: 1 << 62}) // counts as MaxWeight
	total += lb.MaxWeight
	p := lb.NewPool("user", lb.Options{})
	p.Update(set)
	const n = 200_000
	got := map[string]int{}
	for range n {
		got[p.Pick(nil, 0).ID()]++
	}
	// Each node is served; the shares of the heavy ones are right.
	if len(got) != len(set) {
		t.Errorf("%d nodes were picked, want %d", len(got), len(set))
	}
	want := float64(n) * lb.MaxWeight / float64(total)
	if share := float64(got["x"]); share < 0.9*want || share > 1.1*want {
		t.Errorf("the heaviest node had %v picks, want about %v", share, want)
	}
}

func TestPickTried(t *testing.T) {
	f := func(nodes, tried, want string) {
		t.Helper()
		p := pool(t, nodes)
		var list []*lb.Node
		for _, id := range strings.Fields(tried) {
			list = append(list, node(t, p, id))
		}
		for range 5 {
			if got := name(p.Pick(list, 0)); !slices.Contains(strings.Fields(want), got) {
				t.Errorf("%s: Pick(%s) = %s, want one of %s", nodes, tried, got, want)
			}
		}
	}
	f("a b c", "a", "b c")
	f("a b c", "a b", "c")
	f("a b c", "c b a", "-")
	f("a", "a", "-")
	f("a*1000 b", "a", "b")
	f("a b!", "a", "b")
	f("a b! c!", "a b", "c")
	f("a b! c*0", "a b", "-")
	f("a!", "a", "-")
}

func TestUpdateKeepsWhatStays(t *testing.T) {
	var made, dropped []string
	p := lb.NewPool("user", lb.Options{
		NewData: func(n *lb.Node) any {
			made = append(made, fmt.Sprintf("%s %s %d %t", n.ID(), n.Addr(), n.Weight(), n.Draining()))
			return "data of " + n.ID()
		},
		DropData: func(data any) { dropped = append(dropped, data.(string)) },
	})
	p.Update(specs(t, "c*3 a b!"))
	if want := []string{"a a:80 1 false", "b b:80 1 true", "c c:80 3 false"}; !slices.Equal(made, want) {
		t.Errorf("NewData saw %q, want %q", made, want)
	}
	a, b := node(t, p, "a"), node(t, p, "b")
	a.Begin()
	p.Done(a)
	p.Done(nil)
	p.Failed(a)

	made = nil
	p.Update(specs(t, "a*4! b d"))
	if node(t, p, "a") != a || node(t, p, "b") != b {
		t.Error("a node that stayed has another Node")
	}
	if a.Data != "data of a" || a.Weight() != 4 || !a.Draining() || b.Draining() {
		t.Errorf("node a = %v %d %t, want the new weight and state with the old data", a.Data, a.Weight(), a.Draining())
	}
	if !slices.Equal(made, []string{"d d:80 1 false"}) || !slices.Equal(dropped, []string{"data of c"}) {
		t.Errorf("made %q, dropped %q, want d made and c dropped", made, dropped)
	}
	want := lb.Status{Policy: "roundRobin", PollNext: 1, RequestFinish: 2, InFlight: 1, Nodes: []lb.NodeStatus{
		{ID: "a", Addr: "a:80", Weight: 4, Draining: true, Healthy: true, InFlight: 1, Requests: 1, Failures: 1},
		{ID: "b", Addr: "b:80", Weight: 1, Healthy: true},
		{ID: "d", Addr: "d:80", Weight: 1, Healthy: true},
	}}
	if got := p.Status(); !reflect.DeepEqual(got, want) {
		t.Errorf("Status() = %+v, want %+v", got, want)
	}

	moved := specs(t, "a b d")
	moved[0].Addr = "elsewhere:80"
	p.Update(moved)
	if node(t, p, "a") == a || node(t, p, "a").Requests() != 0 {
		t.Error("a node with another address is the old Node")
	}
	p.Update(nil)
	if p.Len() != 0 || p.Pick(nil, 0) != nil || p.Status().PollNext != 0 || p.Status().Nodes == nil {
		t.Errorf("emptied pool: %+v", p.Status())
	}
	if want := []string{"data of c", "data of a", "data of a", "data of b", "data of d"}; !slices.Equal(dropped, want) {
		t.Errorf("dropped %q, want %q", dropped, want)
	}
	if p.Service() != "user" {
		t.Errorf("Service() = %q, want user", p.Service())
	}
}

func TestUpdateKeepsTheTurn(t *testing.T) {
	f := func(before string, n int, after, want string) {
		t.Helper()
		p := pool(t, before)
		picks(t, p, n)
		p.Update(specs(t, after))
		if got := picks(t, p, len(strings.Fields(want))); got != want {
			t.Errorf("%s, %d picks, then %s: picks = %s, want %s", before, n, after, got, want)
		}
	}
	f("a b c", 1, "a b c", "b c a")
	f("a b c", 2, "a b c d", "c d a b")
	f("a b c", 3, "a b c", "a b c")
	f("b c", 1, "a b c", "c a b")
	f("a b c", 1, "a c", "c a")         // b left: its turn passes on
	f("a b c", 2, "a b", "a b")         // c left
	f("a b c", 1, "a b! c", "c a c")    // b drains
	f("a b c", 1, "x y z", "x y z")     // nobody stayed
	f("b c", 0, "a b c", "a b c")       // nobody was picked yet
	f("a*5 b c", 3, "a*5 b c", "a c a") // the same place of the same round
	f("a*5 b c", 4, "a*5 b c d", "c a") // about the same place
	f("a b", 1, "", "-")
}

func TestUpdateSpecs(t *testing.T) {
	p := lb.NewPool("user", lb.Options{})
	set := specs(t, "c a*2 b a*9")
	p.Update(set)
	if set[0].ID != "c" || len(set) != 4 {
		t.Errorf("Update changed its argument: %v", set)
	}
	if p.Len() != 3 || node(t, p, "a").Weight() != 9 {
		t.Errorf("pool has %d nodes, a of weight %d; want 3, and the last a", p.Len(), node(t, p, "a").Weight())
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	c := newClock()
	p := lb.NewPool("user", lb.Options{Eject: lb.Eject{After: 1}, Now: c.Now})
	p.Update(specs(t, "a*5 b c d!"))
	f := func(what string, run func()) {
		t.Helper()
		if got := testing.AllocsPerRun(1000, run); got != 0 {
			t.Errorf("%s: %v allocations, want 0", what, got)
		}
	}
	request := func() {
		n := p.Pick(nil, 0)
		n.Begin()
		n = p.Pick([]*lb.Node{n}, 0)
		if p.Pick(p.Nodes(), 0) != nil {
			t.Fatal("Pick of nothing left is not nil")
		}
		n.End()
		p.Succeeded(n)
		p.Done(n)
	}
	f("healthy", request)
	p.Failed(node(t, p, "b"))
	f("one ejected", request)
	f("one returning", func() {
		c.Advance(lb.DefaultEjectPauseMax)
		n := p.Pick(nil, 0)
		if n.ID() != "b" {
			t.Fatalf("Pick() = %s, want b, whose pause is over", n.ID())
		}
		p.Failed(n)
	})
}

func TestOthers(t *testing.T) {
	f := func(text, tried string, want bool, change ...func(*lb.Pool)) {
		t.Helper()
		p := pool(t, text)
		for _, c := range change {
			c(p)
		}
		var nodes []*lb.Node
		for _, id := range strings.Fields(tried) {
			nodes = append(nodes, node(t, p, id))
		}
		if got := p.Others(nodes); got != want {
			t.Errorf("Others(%q) of %q = %v, want %v", tried, text, got, want)
		}
	}
	ill := func(p *lb.Pool) { p.SetHealth(node(t, p, "b"), false) }
	out := func(p *lb.Pool) { fail(t, p, 3, "b") }
	f("", "", false)
	f("a", "", true)
	f("a", "a", false)
	f("a b", "a", true)
	f("a b", "a b", false)
	f("a b*0", "a", false)
	f("a b!", "a", true)
	f("a b?", "a", true)
	f("a b", "a", false, out)
	f("a b c", "a", true, out)
	f("a b c", "a", true, ill)
	f("a b c", "a c", false, ill)
	f("a b c d?", "a c", true, ill)
	f("a b c", "a c", false, out)
	f("a@x b@y", "a", true, func(p *lb.Pool) { p.Configure(lb.Options{Zone: "x"}) })
}
