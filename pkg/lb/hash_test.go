package lb_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/goms-io/goms/pkg/lb"
)

const keys = 100_000

func key(i int) uint64 { return lb.HashKey(fmt.Sprintf("/user/%d", i)) }

// owners returns the node of each key.
func owners(p *lb.Pool) []string {
	out := make([]string, keys)
	for i := range out {
		out[i] = p.Pick(nil, key(i)).ID()
	}
	return out
}

func TestHashSpreads(t *testing.T) {
	for round := range 5 {
		var set []lb.Spec
		for i := range 3 {
			id := fmt.Sprintf("10.1.%d.%d:9180_10.1.%d.%d:9080", round, i, round, i)
			set = append(set, lb.Spec{ID: id, Addr: id, Weight: 1})
		}
		p := lb.NewPool("user", lb.Options{Policy: lb.Hash{}})
		p.Update(set)
		got := map[string]int{}
		for _, id := range owners(p) {
			got[id]++
		}
		for id, n := range got {
			if math.Abs(float64(n)-keys/3.) > 0.05*keys/3 {
				t.Errorf("node %s has %d of %d keys, want a third within 5%%", id, n, keys)
			}
		}
	}
}

// TestHashMovesOnlyWhatMust changes a pool and looks at every key.
func TestHashMovesOnlyWhatMust(t *testing.T) {
	p := lb.NewPool("user", lb.Options{Policy: lb.Hash{}, Now: newClock().Now})
	p.Update(specs(t, "a b c d*2"))
	before := owners(p)
	f := func(what string, change func(), may func(from, to string) bool, least, most float64) {
		t.Helper()
		change()
		after := owners(p)
		moved := 0
		for i := range after {
			if before[i] == after[i] {
				continue
			}
			moved++
			if !may(before[i], after[i]) {
				t.Fatalf("%s: key %d went from %s to %s", what, i, before[i], after[i])
			}
		}
		if share := float64(moved) / keys; share < least || share > most {
			t.Errorf("%s: %.4f of the keys moved, want %.4f to %.4f", what, share, least, most)
		}
		before = after
	}
	to := func(id string) func(string, string) bool { return func(_, to string) bool { return to == id } }
	from := func(id string) func(string, string) bool { return func(from, _ string) bool { return from == id } }
	update := func(nodes string) func() { return func() { p.Update(specs(t, nodes)) } }

	f("the same set", update("a b c d*2"), to(""), 0, 0)
	f("e joins", update("a b c d*2 e"), to("e"), 0.16, 0.175)
	f("b leaves", update("a c d*2 e"), from("b"), 0.16, 0.175)
	f("b returns", update("a b c d*2 e"), to("b"), 0.16, 0.175)
	f("d loses weight", update("a b c d e"), from("d"), 0.12, 0.15)
	f("a gains weight", update("a*4 b c d e"), to("a"), 0.28, 0.32)
	f("c drains", update("a*4 b c! d e"), from("c"), 0.115, 0.135)
	f("c returns", update("a*4 b c d e"), to("c"), 0.115, 0.135)
	f("d is drained by weight", update("a*4 b c d*0 e"), from("d"), 0.115, 0.135)
	f("d is back", update("a*4 b c d e"), to("d"), 0.115, 0.135)
	f("e is ejected", func() { fail(t, p, 3, "e") }, from("e"), 0.115, 0.135)
	f("e is back", func() { p.Succeeded(node(t, p, "e")) }, to("e"), 0.115, 0.135)
	f("b is unhealthy", func() { p.SetHealth(node(t, p, "b"), false) }, from("b"), 0.115, 0.135)

	// The way to a set does not matter: all gateways choose alike.
	fresh := with(t, lb.Hash{}, "a*4 c d e")
	for i, id := range owners(fresh) {
		if id != before[i] {
			t.Fatalf("key %d: a new gateway chooses %s, the old one %s", i, id, before[i])
		}
	}
}

func TestHashSecondChoiceIsTheSameEachTime(t *testing.T) {
	p := with(t, lb.Hash{}, "a b c d")
	got := map[string]int{}
	for i := range 10_000 {
		first := p.Pick(nil, key(i))
		second := p.Pick([]*lb.Node{first}, key(i))
		if again := p.Pick([]*lb.Node{first}, key(i)); again != second {
			t.Fatalf("key %d: second choice %s, then %s", i, second.ID(), again.ID())
		}
		got[first.ID()+second.ID()]++
	}
	for pair, n := range got {
		if n < 700 || n > 970 {
			t.Errorf("%s was chosen %d times, want about 833", pair, n)
		}
	}
}

func TestHashKey(t *testing.T) {
	if a, b := lb.HashKey("10.0.0.1"), lb.HashKey([]byte("10.0.0.1")); a != b {
		t.Errorf("HashKey of text = %x, of bytes = %x", a, b)
	}
	// It is the same in every version: gateways of two versions run side by side.
	if got := lb.HashKey("goms"); got != lb.HashKey("go"+"ms") || got == lb.HashKey("gosm") {
		t.Errorf("HashKey(goms) = %x", got)
	}
}
