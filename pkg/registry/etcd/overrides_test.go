package etcd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/etcd"
)

func drain(o *registry.Override) {
	o.State, o.By, o.At = registry.Draining, "me@here", time.Unix(1700000000, 0).UTC()
}

func TestOverridesAreSetAndRemoved(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	start(t, s.addr, node(0))
	r := open(t, s.addr, etcd.Config{})
	ctx := t.Context()
	set := func(n registry.Node, change func(*registry.Override)) (registry.Override, error) {
		return r.SetOverride(ctx, n.Service, n.ID(), change)
	}
	want := func(list ...registry.Override) {
		t.Helper()
		got, err := r.Overrides(ctx)
		if err != nil || len(got) != len(list) || len(list) == 1 && got[0] != list[0] {
			t.Errorf("Overrides() = %v, %v, want %v", got, err, list)
		}
	}
	o, err := set(node(0), drain)
	if err != nil {
		t.Fatal(err)
	}
	want(o)
	if o, err = set(node(0), func(o *registry.Override) { o.Weight = 5 }); err != nil || o.State != registry.Draining || o.Weight != 5 {
		t.Errorf("SetOverride() = %v, %v, want draining and weight 5", o, err)
	}
	want(o)
	if _, err := set(node(0), func(o *registry.Override) { o.Weight = 1001 }); err == nil || !strings.Contains(err.Error(), "weight 1001: want 0 to 1000") {
		t.Errorf("SetOverride() of an absurd weight = %v", err)
	}
	if _, err := set(node(0), func(o *registry.Override) { o.Weight = -2 }); err == nil {
		t.Error("SetOverride() of a negative weight = nil")
	}
	want(o)
	if _, err := set(node(1), drain); !errors.Is(err, etcd.ErrNoNode) || !strings.Contains(err.Error(), node(1).ID()) {
		t.Errorf("SetOverride() of a node that is not there = %v, want %v", err, etcd.ErrNoNode)
	}
	if _, err := r.SetOverride(ctx, "user", "nonsense", drain); err == nil || errors.Is(err, etcd.ErrNoNode) {
		t.Errorf("SetOverride() of nonsense = %v, want a complaint about its form", err)
	}
	clear := func(o *registry.Override) { o.Weight, o.State = registry.AsPublished, "" }
	if _, err := set(node(0), clear); err != nil {
		t.Error(err)
	}
	want()
	if _, err := set(node(0), clear); err != nil { // nothing to remove is no error
		t.Error(err)
	}
	if _, err := set(node(1), clear); !errors.Is(err, etcd.ErrNoNode) { // but somebody may have mistyped
		t.Errorf("SetOverride() of nothing, for a node that is not there = %v, want %v", err, etcd.ErrNoNode)
	}
	left := node(2)
	s.put("goms/overrides/user/"+left.ID(), `{"weight":4}`)
	if _, err := set(left, clear); err != nil { // of a node that is gone
		t.Error(err)
	}
	want()
}

// TestOverridesReachMembers holds that what is set is laid over the nodes, also when they register again, and that nodes flow when
// overrides cannot be read.
func TestOverridesReachMembers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	a := start(t, s.addr, node(0), node(1))
	m := members(t, s.addr, registry.MembersConfig{}, etcd.Config{})
	m.await(patience, node(0), node(1))
	drained := node(0)
	drained.State, drained.Weight = registry.Draining, 3
	if _, err := m.r.SetOverride(t.Context(), "user", node(0).ID(), func(o *registry.Override) { drain(o); o.Weight = 3 }); err != nil {
		t.Fatal(err)
	}
	m.await(patience, drained, node(1))
	a.withdraw(node(0))
	m.await(patience, node(1))
	a.publish(node(0))
	m.await(patience, drained, node(1))
	s.put("goms/overrides/user/"+node(1).ID(), `{"weight":-4}`)
	eventually(t, "complaint", patience, func() bool { return m.Status().Ignored == 1 })
	m.await(0, drained, node(1))
	if list := m.Status().Overrides; len(list) != 1 || list[0].Weight != 3 {
		t.Errorf("Status().Overrides = %v, want the one", list)
	}
	if _, err := m.r.SetOverride(t.Context(), "user", node(0).ID(), func(o *registry.Override) { o.State, o.Weight = "", registry.AsPublished }); err != nil {
		t.Fatal(err)
	}
	m.await(patience, node(0), node(1))
	for _, line := range []string{"is overridden", `override="draining, weight 3"`, "by=me@here", "is no longer overridden"} {
		if n := m.log.count(line); n != 1 {
			t.Errorf("%q logged %d times, want once:\n%s", line, n, m.log)
		}
	}
}

// TestOverridesMayBeForbidden has a role that reads the keys of nodes only: nodes are told all the same.
func TestOverridesMayBeForbidden(t *testing.T) {
	t.Parallel()
	s := newLockedStore(t)
	c := etcd.Config{Username: "goms", Password: password}
	run(t, open(t, s.addr, c)).publish(node(0))
	m := members(t, s.addr, registry.MembersConfig{}, c)
	m.await(patience, node(0))
	eventually(t, "complaint", patience, func() bool { return m.log.count("part of the registry unavailable") == 1 })
	eventually(t, "connected: the nodes can be read", patience, func() bool { return m.Status().Connected })
	pause(500 * time.Millisecond)
	if n := m.log.count("part of the registry unavailable"); n != 1 {
		t.Errorf("complained %d times, want once", n)
	}
}

// member is Members over a registry, and what they told.
type member struct {
	*watcher
	r       *etcd.Registry
	members *registry.Members
}

func (m *member) Status() registry.Status { return m.members.Status() }

// members starts Members over addr.
func members(t *testing.T, addr string, c registry.MembersConfig, ec etcd.Config) *member {
	t.Helper()
	m := &member{watcher: newWatcher(t, addr, ec)}
	m.r = m.Registry
	c.Source, c.Log = m.r, m.logger()
	m.members = registry.NewMembers(c)
	m.run(func(ctx context.Context) error {
		return m.members.Watch(ctx, m.take)
	})
	return m
}
