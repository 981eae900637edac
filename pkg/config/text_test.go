package config_test

import (
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/config"
)

func TestLoadText(t *testing.T) {
	type tree struct {
		Name  string         `yaml:"name"`
		Ports map[string]int `yaml:"ports"`
	}
	got := tree{Name: "default"}
	o := config.Options{Env: func(string) (string, bool) { return "", false }}
	if err := config.LoadText("version 3", []byte("ports: {a: 1}\n"), &got, o); err != nil || got.Name != "default" || got.Ports["a"] != 1 {
		t.Errorf("LoadText() = %+v, %v", got, err)
	}
	f := func(text, want string) {
		t.Helper()
		var dst tree
		if err := config.LoadText("version 3", []byte(text), &dst, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("LoadText(%.40q) = %v, want %q", text, err, want)
		}
	}
	f("name: x\nnane: y\n", `version 3:2: nane: unknown key (did you mean "name"?)`)
	f("name: x\nname: y\n", "version 3:2: name: duplicate key")
	f("name: ${HOME}\n", "version 3:1: name: variable HOME is not set")
	f("name: \xff\n", "version 3:1: is not UTF-8 text")
	f("name: "+strings.Repeat("x", 5<<20), "version 3: is larger than")
}
