package registry_test

import (
	"context"
	"errors"
	"testing"

	"github.com/goms-io/goms/pkg/registry"
)

// words is a Source that says one thing and then nothing any more.
type words struct {
	nodes     registry.Snapshot
	overrides []registry.Override
}

func (w words) WatchFrom(ctx context.Context, _ registry.Snapshot, fn func(registry.Snapshot)) error {
	fn(w.nodes)
	<-ctx.Done()
	return ctx.Err()
}

func (w words) WatchOverrides(ctx context.Context, fn func([]registry.Override)) error {
	fn(w.overrides)
	<-ctx.Done()
	return ctx.Err()
}

func (words) Status() registry.Status { return registry.Status{} }

// TestTakes asks of which nodes requests are sent to, after all that is known of them.
func TestTakes(t *testing.T) {
	t.Parallel()
	n := registry.NewNode("user", "10.0.0.1:1", "10.0.0.1:2")
	with := func(change func(*registry.Node)) registry.Node {
		m := n
		change(&m)
		return m
	}
	drained, idle, raised := with(func(m *registry.Node) { m.HTTPAddr = "10.0.0.1:3" }), with(func(m *registry.Node) { m.HTTPAddr = "10.0.0.1:4" }),
		with(func(m *registry.Node) { m.HTTPAddr, m.Weight = "10.0.0.1:5", 0 })
	over := func(m registry.Node, weight int, state registry.State) registry.Override {
		return registry.Override{Service: m.Service, ID: m.ID(), Weight: weight, State: state}
	}
	src := words{
		nodes:     registry.NewSnapshot(1, []registry.Node{n}),
		overrides: []registry.Override{over(drained, registry.AsPublished, registry.Draining), over(idle, 0, ""), over(raised, 5, "")},
	}
	m := registry.NewMembers(registry.MembersConfig{Source: src, Trust: registry.NewTrust(registry.TrustConfig{})})
	if !m.Takes(drained) {
		t.Error("Takes() = false before anything is known of what operators have set")
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 9)
	done := make(chan error, 1)
	go func() { done <- m.Watch(ctx, func(registry.Snapshot) { told <- struct{}{} }) }()
	<-told
	for len(m.Status().Overrides) == 0 {
		<-told // the second call is for the overrides, if they came later
	}
	f := func(what string, n registry.Node, want bool) {
		t.Helper()
		if got := m.Takes(n); got != want {
			t.Errorf("%s: Takes() = %t, want %t", what, got, want)
		}
	}
	f("a node", n, true)
	f("drained by an operator", drained, false)
	f("given no weight by an operator", idle, false)
	f("given weight by an operator", raised, true)
	f("of weight 0", with(func(m *registry.Node) { m.Weight = 0 }), false)
	f("draining", with(func(m *registry.Node) { m.State = registry.Draining }), false)
	f("not believed", with(func(m *registry.Node) { m.HTTPAddr = "8.8.8.8:80" }), false)
	f("of the same address, in another service", with(func(m *registry.Node) { m.Service, m.HTTPAddr = "other", "10.0.0.1:3" }), true)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch() = %v, want %v", err, context.Canceled)
	}
}
