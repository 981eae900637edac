package registry_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry"
)

func TestOverrideIsReadAsWritten(t *testing.T) {
	f := func(o registry.Override) {
		t.Helper()
		got, err := registry.ParseOverride("goms", o.Key("goms"), o.Value())
		if err != nil || got != o {
			t.Errorf("ParseOverride(%q, %q) = %v, %v, want %v", o.Key("goms"), o.Value(), got, err, o)
		}
		if strings.HasPrefix(o.Key("goms"), registry.Prefix("goms")) {
			t.Errorf("Key() = %q: a watch of nodes sees it", o.Key("goms"))
		}
	}
	at := time.Unix(1700000000, 0).UTC()
	f(registry.Override{Service: "user", ID: "10.0.0.1:1_10.0.0.1:2", Weight: 0, By: "root@here", At: at})
	f(registry.Override{Service: "my_order", ID: "[::1]:1_[::1]:2", Weight: registry.AsPublished, State: registry.Draining, By: "root@here", At: at})
	f(registry.Override{Service: "user", ID: "a.example:1_b:2", Weight: registry.MaxWeight, State: registry.Draining, At: at})
}

func TestOverrideThatCannotBeUsed(t *testing.T) {
	const key = "goms/overrides/user/10.0.0.1:1_10.0.0.1:2"
	f := func(key, value, want string) {
		t.Helper()
		if o, err := registry.ParseOverride("goms", key, value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseOverride(%q, %.60q) = %v, %v, want %q", key, value, o, err, want)
		}
	}
	f(key, `{"weight":-1}`, "weight -1: want 0 to 1000")
	f(key, `{"weight":-5}`, "weight -5: want 0 to 1000")
	f(key, `{"weight":1000000}`, "weight 1000000: want 0 to 1000")
	f(key, `{"state":"up"}`, `state "up": want "draining"`)
	f(key, `{"by":"a\u0000b"}`, "U+0000")
	f(key, "0", "want one JSON object, not number")
	f(key, "{\"by\":\"\xff\"}", "UTF-8")
	f(key, `{"by":"`+strings.Repeat("x", 1<<20)+`"}`, "at most 4096 bytes")
	f("goms/overrides/user", "{}", "want project/overrides/service/node")
	f("goms/overrides/user/x", "{}", "want host:port_host:port")
	f("goms/overrides/us er/10.0.0.1:1_10.0.0.1:2", "{}", "blank")
	f("shop/overrides/user/10.0.0.1:1_10.0.0.1:2", "{}", "want project/overrides")
}

func TestSnapshotOverride(t *testing.T) {
	a, b, c := registry.NewNode("order", "10.0.0.1:1", "10.0.0.1:2"), registry.NewNode("user", "10.0.0.1:3", "10.0.0.1:4"), registry.NewNode("user", "10.0.0.1:30", "10.0.0.1:4")
	s := registry.NewSnapshot(7, []registry.Node{a, b, c})
	drain := registry.Override{Service: "user", ID: b.ID(), Weight: registry.AsPublished, State: registry.Draining}
	weigh := registry.Override{Service: "user", ID: c.ID(), Weight: 0}
	nobody := registry.Override{Service: "user", ID: a.ID(), Weight: 5}
	drained, weighed := b, c
	drained.State, weighed.Weight = registry.Draining, 0

	got := s.Override([]registry.Override{drain, nobody, weigh})
	if want := []registry.Node{a, weighed, drained}; !slices.Equal(got.Nodes, want) || got.Revision != 7 {
		t.Errorf("Override() = %v, want %v", got, want)
	}
	if want := []registry.Node{a, c, b}; !slices.Equal(s.Nodes, want) {
		t.Errorf("the snapshot became %v, want it unchanged", s.Nodes)
	}
	if same := s.Override([]registry.Override{nobody}); &same.Nodes[0] != &s.Nodes[0] {
		t.Error("Override() copies though it changes nothing")
	}
}
