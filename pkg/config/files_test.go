package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/config"
)

func TestLoadDirectory(t *testing.T) {
	f := func(files map[string]string, want string) (c Conf) {
		t.Helper()
		write(t, files)
		err := config.Load("configs", &c, config.Options{Env: env})
		if got := text(err); got != want {
			t.Errorf("Load(%v):\n got %s\nwant %s", files, got, want)
		}
		return c
	}
	c := f(map[string]string{
		"configs/b.yaml":       "services:\n  order: {submit: /s}\n",
		"configs/a.yml":        "projectName: x\nservices:\n  user: {login: /l}\n",
		"configs/c.yml":        "services:\n",
		"configs/z.json":       "{",
		"configs/.hidden.yml":  "[",
		"configs/sub.yml/x":    "",
		"configs/nested/x.yml": "[",
	}, "")
	if c.ProjectName != "x" || len(c.Services) != 2 {
		t.Errorf("Load() = %+v, want a.yml and b.yaml merged", c)
	}
	c = f(map[string]string{"configs/a.yml": "services:\n", "configs/b.yml": "services: {u: {l: /l}}"}, "")
	if len(c.Services) != 1 {
		t.Errorf("Load() = %+v, want the service of b.yml", c)
	}
	f(map[string]string{
		"configs/a.yml":  "projectName: x\nservices:\n  user: {login: /l}\n  order: {submit: /s}\n",
		"configs/b.yaml": "projectName: y\nservices:\n  user: {out: /o}\n",
	}, "configs/b.yaml:1: projectName: duplicate key (first at configs/a.yml:1)\n"+
		"configs/b.yaml:3: services.user: duplicate key (first at configs/a.yml:3)")
	f(map[string]string{"configs/a.yml": "gateway: {rate: 1}", "configs/b.yml": "gateway: {debug: true}"},
		"configs/b.yml:1: gateway: duplicate key (first at configs/a.yml:1)")
	f(map[string]string{"configs/a.yml": "services: {u: {l: /l}}", "configs/b.yml": "services: 5"},
		"configs/b.yml:1: services: duplicate key (first at configs/a.yml:1)")
	c = f(map[string]string{"configs/a.yml": "other: {u: 1}", "configs/b.yml": "other: {v: 2}"}, "")
	if !reflect.DeepEqual(c.Other, map[string]any{"u": 1, "v": 2}) {
		t.Errorf("Load() = %v, want the entries of both files", c.Other)
	}
	f(map[string]string{"configs/x.txt": ""}, "configs: no *.yml or *.yaml file in this directory")
	f(map[string]string{"configs/a.yml": "wait: x", "configs/b.yml": "a: [", "configs/c.yml": "zzz: 1"},
		"configs/a.yml:1: wait: must be a duration like \"10s\", not \"x\"\n"+
			"configs/b.yml:1: did not find expected node content\n"+
			"configs/c.yml:1: zzz: unknown key")
}

func TestLoadDirectoryLinks(t *testing.T) {
	write(t, map[string]string{"data/real": "projectName: linked", "configs/x.txt": ""})
	for _, link := range [][2]string{{"../data/real", "configs/a.yml"}, {"nowhere", "configs/b.yml"}} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	var c Conf
	err := config.Load("configs", &c, config.Options{})
	if want := "configs/b.yml: no such file or directory"; text(err) != want || c.ProjectName != "linked" {
		t.Errorf("Load() = %v, %q, want %s and the linked file read", err, c.ProjectName, want)
	}
}

func TestLoadFiles(t *testing.T) {
	f := func(path, want string) {
		t.Helper()
		var c Conf
		if got := text(config.Load(path, &c, config.Options{})); got != want {
			t.Errorf("Load(%q) = %s, want %s", path, got, want)
		}
	}
	write(t, map[string]string{
		"big.yml":  "a: 1 " + strings.Repeat("#", 4<<20),
		"full.yml": "projectName: x # " + strings.Repeat("#", 4<<20-17),
	})
	f("none.yml", "none.yml: no such file or directory")
	f("big.yml", "big.yml: is larger than 4MiB")
	f("full.yml", "")
	f("", "")
}
