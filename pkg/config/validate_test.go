package config_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/goms-io/goms/pkg/config"
)

// at is an error that knows its key.
type at struct{ key, msg string }

func (e at) Error() string     { return e.key + ": " + e.msg }
func (e at) ConfigKey() string { return e.key }

// trace is what Validate was called on, in order.
var trace []string

type leaf struct {
	Name string
	Err  string
}

func (l leaf) Validate() error {
	trace = append(trace, "leaf "+l.Name)
	if l.Err != "" {
		return errors.New(l.Err)
	}
	return nil
}

type group map[string]*leaf

func (g group) Validate() error {
	trace = append(trace, fmt.Sprint("group of ", len(g)))
	var errs []error
	for name, l := range g {
		if l.Name == "bad" {
			errs = append(errs, at{name + ".name", "is bad"}, at{name + ".other.deep", "is bad too"})
		}
	}
	return errors.Join(errs...)
}

type top struct {
	One    leaf
	Ptr    *leaf
	Nil    *leaf
	List   []leaf
	Group  group
	Secret string `secret:"true"`
	Port   int
	check  func(*top) error
}

func (c *top) Validate() error {
	trace = append(trace, "top")
	if c.check == nil {
		return nil
	}
	return c.check(c)
}

func TestValidateOrder(t *testing.T) {
	trace = nil
	write(t, map[string]string{"c.yml": "one: {name: a}\nptr: {name: b}\nlist: [{name: c}, {name: d}]\ngroup: {y: {name: f}, x: {name: e}}\n"})
	var c top
	if err := config.Load("c.yml", &c, config.Options{Apply: func() { trace = append(trace, "apply "+c.One.Name) }}); err != nil {
		t.Fatal(err)
	}
	want := []string{"apply a", "leaf a", "leaf b", "leaf c", "leaf d", "leaf e", "leaf f", "group of 2", "top"}
	if !slices.Equal(trace, want) {
		t.Errorf("calls = %q, want %q", trace, want)
	}
}

func TestValidatePlaces(t *testing.T) {
	f := func(yml string, check func(*top) error, want string) {
		t.Helper()
		write(t, map[string]string{"c.yml": yml})
		c := top{check: check}
		err := config.Load("c.yml", &c, config.Options{EnvPrefix: "P_", Env: environ(map[string]string{"P_PORT": "7"}), Apply: func() {
			if c.One.Name == "flag" {
				c.One.Name = "from a flag"
			}
		}})
		if text(err) != want {
			t.Errorf("Load(%q):\n got %v\nwant %s", yml, err, want)
		}
	}
	say := func(errs ...error) func(*top) error { return func(*top) error { return errors.Join(errs...) } }
	f("\none:\n  err: boom\n", nil, "c.yml:2: one: boom")
	f("list:\n- err: a\n- name: x\n- err: b\n", nil, "c.yml:2: list[0]: a\nc.yml:4: list[2]: b")
	f("group:\n  g:\n    name: bad\n", nil, "c.yml:2: group.g.other.deep: is bad too\nc.yml:3: group.g.name: is bad")
	f("ptr: {err: boom}", nil, "c.yml:1: ptr: boom")

	f("", say(errors.New("no")), "c.yml: no")
	f("\none: {name: a}", say(at{"one.name", "x"}, at{"ptr.name", "y"}, at{"one.other[3].z", "w"}),
		"c.yml: ptr.name: y\nc.yml:2: one.name: x\nc.yml:2: one.other[3].z: w")
	f("\none: {name: a}", say(fmt.Errorf("check it: %w", at{"one.name", "x"})), "c.yml:2: one.name: check it: one.name: x")
	f("one: {name: a}", say(fmt.Errorf("two: %w, %w", errors.New("a"), errors.New("b"))), "c.yml: two: a, b")
	f("", say(at{"port", "bad"}), "environment: P_PORT: bad")
	f("one: {name: flag}", say(at{"one.name", "bad"}), "one.name: bad")
	f("one: {name: file}", say(at{"one.name", "bad"}), "c.yml:1: one.name: bad")
	f("", say(errors.New("a"), errors.New("a")), "c.yml: a")
	f("", say(errors.New("a\nb")), "c.yml: a; b")
	f("secret: hunter2", func(c *top) error { return fmt.Errorf("bad secret %q", c.Secret) }, `c.yml: bad secret "***"`)
}

func TestValidateLeavesConsequencesOut(t *testing.T) {
	f := func(yml string, err error, want string) {
		t.Helper()
		write(t, map[string]string{"c.yml": yml})
		c := top{check: func(*top) error { return err }}
		if got := text(config.Load("c.yml", &c, config.Options{})); got != want {
			t.Errorf("Load(%q):\n got %s\nwant %s", yml, got, want)
		}
	}
	const port = `c.yml:1: port: must be a whole number, not "x"`
	f("port: x", at{"port", "must be set"}, port)
	f("port: x", errors.New("something is missing"), port)
	f("port: x", at{"secret", "must be set"}, "c.yml: secret: must be set\n"+port)
	f("prt: 1", at{"port", "must be set"}, `c.yml:1: prt: unknown key (did you mean "port"?)`)
	f("prt: 1\nport: 2", at{"port", "must be 3"}, "c.yml:1: prt: unknown key (did you mean \"port\"?)\nc.yml:2: port: must be 3")
	f("one: {err: [x], name: [y]}", nil, "c.yml:1: one.err: must be text, not a list\nc.yml:1: one.name: must be text, not a list")
}

func TestValidateIsNotCalledWithoutTheFile(t *testing.T) {
	write(t, map[string]string{"c.yml": "a: ["})
	c := top{check: func(*top) error { return errors.New("called") }}
	err := config.Load("c.yml", &c, config.Options{Apply: func() { t.Error("Apply was called") }})
	if want := "c.yml:1: did not find expected node content"; text(err) != want {
		t.Errorf("Load() = %v, want %s", err, want)
	}
}

// Common is embedded below and promotes its Validate.
type Common struct{ Project string }

func (c Common) Validate() error {
	if c.Project == "" {
		return at{"project", "must be set"}
	}
	return nil
}

func TestValidateEmbedded(t *testing.T) {
	type promoted struct {
		Common
		Port int
	}
	want := "project: must be set"
	if err := config.Load("", new(promoted), config.Options{}); text(err) != want {
		t.Errorf("Load(promoted) = %v, want it once: %s", err, want)
	}
	if err := config.Load("", new(shadowing), config.Options{}); text(err) != want+"\nshadow" && text(err) != "shadow\n"+want {
		t.Errorf("Load(shadowing) = %v, want both complaints", err)
	}
}

type shadowing struct{ Common }

func (shadowing) Validate() error { return errors.New("shadow") }
