package config_test

import (
	"slices"
	"testing"

	"github.com/goms-io/goms/pkg/config"
)

func TestChanged(t *testing.T) {
	type inner struct {
		Port int
		On   bool
		Set  *int
	}
	type tree struct {
		Name   string
		Secret string `secret:"true"`
		In     inner  `yaml:"in"`
		List   []string
		Map    map[string]map[string]inner
	}
	make := func(change func(*tree)) tree {
		v := tree{Name: "a", Secret: "s", In: inner{Port: 1}, List: []string{"x"}, Map: map[string]map[string]inner{"u": {"v": {Port: 2}}}}
		if change != nil {
			change(&v)
		}
		return v
	}
	f := func(change func(*tree), want ...string) {
		t.Helper()
		a, b := make(nil), make(change)
		if got := config.Changed(&a, b); !slices.Equal(got, want) {
			t.Errorf("Changed() = %q, want %q", got, want)
		}
	}
	f(nil)
	f(func(v *tree) { v.Name = "b"; v.In.On = true }, "in.on", "name")
	f(func(v *tree) { v.Secret = "t" }, "secret")
	f(func(v *tree) { v.In.Set = new(int) }, "in.set")
	f(func(v *tree) { v.List = []string{"y"} }, "list")
	f(func(v *tree) { v.Map["u"]["v"] = inner{Port: 3} }, "map.u.v.port")
	f(func(v *tree) { v.Map["w"] = map[string]inner{"y": {}, "z": {}} }, "map.w")
	f(func(v *tree) { v.Map["u"]["w"] = inner{} }, "map.u.w")
	f(func(v *tree) { v.Map["u"] = map[string]inner{"w": {Port: 2}} }, "map.u.v", "map.u.w")
	f(func(v *tree) { delete(v.Map, "u") }, "map")
}
