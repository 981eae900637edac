package config_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/config"
)

// Route may be written as its path alone.
type Route struct {
	Path    string        `yaml:"path"`
	Methods []string      `yaml:"methods"`
	Timeout time.Duration `yaml:"timeout"`
	Retries *int          `yaml:"retries"`
}

func (r *Route) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("path must not be empty")
	}
	r.Path = string(text)
	return nil
}

type Gateway struct {
	AdminPort uint16         `yaml:"adminPort"`
	Rate      float64        `yaml:"rate"`
	Small     float32        `yaml:"small"`
	Offset    int8           `yaml:"offset"`
	Debug     bool           `yaml:"debug"`
	MaxBody   config.Bytes   `yaml:"maxBody"`
	Trusted   []netip.Prefix `yaml:"trusted"`
	Bind      netip.Addr     `yaml:"bind"`
	Nested    *Nested        `yaml:"nested"`
}

type Nested struct {
	Wait time.Duration `yaml:"wait"`
}

type Conf struct {
	ProjectName    string                      `yaml:"projectName"`
	CallServiceKey string                      `yaml:"callServiceKey" secret:"true"`
	Keys           []string                    `yaml:"keys" secret:"true"`
	Pin            int                         `yaml:"pin" secret:"true"`
	Token          Token                       `yaml:"token" secret:"true"`
	EtcdAddr       []string                    `yaml:"etcdAddr" split:"addrs"`
	Tags           []string                    `yaml:"tags"`
	Wait           time.Duration               `yaml:"wait"`
	Gateway        Gateway                     `yaml:"gateway"`
	TLS            config.TLS                  `yaml:"tls"`
	Services       map[string]map[string]Route `yaml:"services"`
	Limits         map[string]int              `yaml:"limits"`
	Free           any                         `yaml:"free"`
	Other          any                         `yaml:"other" open:"true"`
	Part           Nested                      `yaml:"part" open:"true"`
	Hidden         string                      `yaml:"-"`
}

// Token is text that refuses, and says what it was given.
type Token string

func (t *Token) UnmarshalText(text []byte) error {
	if !strings.HasPrefix(string(text), "tok-") {
		return errors.New("bad token " + string(text))
	}
	*t = Token(text)
	return nil
}

// write makes files in a new working directory.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func environ(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

var env = environ(map[string]string{
	"NAME": "goms", "PORT": "9000", "EMPTY": "", "TREE": "a: [b]\nc: d", "DOLLAR": "${NAME}",
})

// load loads one file c.yml.
func load(t *testing.T, yml string) (Conf, error) {
	t.Helper()
	write(t, map[string]string{"c.yml": yml})
	var c Conf
	err := config.Load("c.yml", &c, config.Options{Env: env})
	return c, err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestLoadValues(t *testing.T) {
	f := func(yml string, get func(*Conf) any, want any) {
		t.Helper()
		c, err := load(t, yml)
		if err != nil {
			t.Fatalf("Load(%q) = %v", yml, err)
		}
		if got := get(&c); !reflect.DeepEqual(got, want) {
			t.Errorf("Load(%q) = %#v, want %#v", yml, got, want)
		}
	}
	name := func(c *Conf) any { return c.ProjectName }
	f("projectName: goms", name, "goms")
	f("projectName: \"goms\"", name, "goms")
	f("projectName: 007", name, "007")
	f("projectName: 1.10", name, "1.10")
	f("projectName: true", name, "true")
	f("projectName: !!str 5", name, "5")
	f("projectName: 2021-08-10", name, "2021-08-10")
	f("projectName: |\n  a\n  b\n", name, "a\nb\n")
	f("projectName: \"\"", name, "")
	f("projectName: ~", name, "")
	f("\ufeffprojectName: a", name, "a")
	f("---\nprojectName: a\n...\n", name, "a")
	f("projectName: 服务", name, "服务")

	f("projectName: ${NAME}", name, "goms")
	f("projectName: a-${NAME}-${PORT}", name, "a-goms-9000")
	f("projectName: ${NOPE:-x y}", name, "x y")
	f("projectName: ${NOPE:-}", name, "")
	f("projectName: ${EMPTY:-x}", name, "x")
	f("projectName: ${EMPTY}", name, "")
	f("projectName: $$", name, "$")
	f("projectName: $${NAME}", name, "${NAME}")
	f("projectName: a$b$", name, "a$b$")
	f("projectName: ${DOLLAR}", name, "${NAME}") // not twice
	f("projectName: ${TREE}", name, "a: [b]\nc: d")
	f("projectName: '${NAME}'", name, "goms")

	port := func(c *Conf) any { return int(c.Gateway.AdminPort) }
	f("gateway: {adminPort: 8080}", port, 8080)
	f("gateway: {adminPort: +1}", port, 1)
	f("gateway: {adminPort: \"${PORT}\"}", port, 9000)
	f("gateway:\n  adminPort: ${PORT}", port, 9000)
	f("gateway:\n  adminPort: ${P:-7}", port, 7)
	f("gateway:\n", port, 0)
	f("gateway: {offset: -128}", func(c *Conf) any { return c.Gateway.Offset }, int8(-128))
	f("gateway: {rate: 1e3}", func(c *Conf) any { return c.Gateway.Rate }, 1000.0)
	f("gateway: {rate: -.5}", func(c *Conf) any { return c.Gateway.Rate }, -0.5)
	f("gateway: {rate: 3}", func(c *Conf) any { return c.Gateway.Rate }, 3.0)
	f("gateway: {debug: True}", func(c *Conf) any { return c.Gateway.Debug }, true)
	f("gateway: {maxBody: 10MiB}", func(c *Conf) any { return c.Gateway.MaxBody }, config.Bytes(10<<20))
	f("gateway: {maxBody: 512}", func(c *Conf) any { return c.Gateway.MaxBody }, config.Bytes(512))
	f("gateway: {bind: \"::1\"}", func(c *Conf) any { return c.Gateway.Bind }, netip.IPv6Loopback())
	f("gateway: {trusted: 10.0.0.0/8}", func(c *Conf) any { return c.Gateway.Trusted }, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	f("gateway: {nested: {wait: 1m}}", func(c *Conf) any { return c.Gateway.Nested.Wait }, time.Minute)
	f("gateway: {nested: }", func(c *Conf) any { return c.Gateway.Nested == nil }, true)
	f("wait: 1m30s", func(c *Conf) any { return c.Wait }, 90*time.Second)
	f("wait: \"-1s\"", func(c *Conf) any { return c.Wait }, -time.Second)

	addrs := func(c *Conf) any { return c.EtcdAddr }
	f("etcdAddr: a:1|b:2, c:3", addrs, []string{"a:1", "b:2", "c:3"})
	f("etcdAddr:\n- a:1\n- b:2|c:3\n", addrs, []string{"a:1", "b:2", "c:3"})
	f("etcdAddr: []", addrs, []string{})
	f("tags: a|b", func(c *Conf) any { return c.Tags }, []string{"a|b"})

	login := func(c *Conf) any { return c.Services["user"]["login"] }
	two := 2
	f("services: {user: {login: /login}}", login, Route{Path: "/login"})
	f("services:\n  user:\n    login:\n      path: /l\n      methods: POST\n      timeout: 2s\n      retries: 2\n", login,
		Route{Path: "/l", Methods: []string{"POST"}, Timeout: 2 * time.Second, Retries: &two})
	f("services: {user: }", func(c *Conf) any { _, ok := c.Services["user"]; return ok }, true)
	f("limits: {\"1\": 2}", func(c *Conf) any { return c.Limits["1"] }, 2)
	f("limits: {on: 2, yes: 3}", func(c *Conf) any { return c.Limits }, map[string]int{"on": 2, "yes": 3})

	f("free: {a: [1, x, true, 1.5, null, \"2\", '${PORT}', 'a${PORT}']}\nlimits:", func(c *Conf) any { return c.Free },
		map[string]any{"a": []any{1, "x", true, 1.5, nil, "2", "9000", "a9000"}})
	f("other: {key: '${UNSET}', n: 2}", func(c *Conf) any { return c.Other }, map[string]any{"key": "${UNSET}", "n": 2})
	f("part: {wait: 2s, more: {x: '${UNSET}'}}", func(c *Conf) any { return c.Part.Wait }, 2*time.Second)
	f("", name, "")
	f("# nothing\n", name, "")
	f("---\n", name, "")
	f("null", name, "")
}

func TestLoadComplaints(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		_, err := load(t, yml)
		if got := text(err); got != want {
			t.Errorf("Load(%q):\n got %s\nwant %s", yml, got, want)
		}
	}
	f("projectNam: x", `c.yml:1: projectNam: unknown key (did you mean "projectName"?)`)
	f("zzz: x", `c.yml:1: zzz: unknown key`)
	f("Hidden: x", `c.yml:1: Hidden: unknown key`)
	f("services:\n  user:\n    login:\n      pth: x\n", `c.yml:4: services.user.login.pth: unknown key (did you mean "path"?)`)
	f("projectName: a\nwait: 1s\nprojectName: b\n", "c.yml:3: projectName: duplicate key (first at c.yml:1)")
	f("free:\n  a: 1\n  \"a\": 2\n", "c.yml:3: free.a: duplicate key (first at c.yml:2)")
	f("projectName: [a]", "c.yml:1: projectName: must be text, not a list")
	f("projectName:\n  a: b", "c.yml:1: projectName: must be text, not a mapping")
	f("gateway: 5", `c.yml:1: gateway: must be a mapping, not "5"`)
	f("gateway: []", `c.yml:1: gateway: must be a mapping, not a list`)
	f("services: x", `c.yml:1: services: must be a mapping, not "x"`)
	f("services: {user: {login: [a]}}", `c.yml:1: services.user.login: must be text or a mapping, not a list`)
	f("services: {user: {login: ''}}", `c.yml:1: services.user.login: path must not be empty`)
	f("tags: {a: b}", `c.yml:1: tags: must be a list, not a mapping`)
	f("tags:\n- a\n-\n- [b]\n", "c.yml:3: tags[1]: must not be empty\nc.yml:4: tags[2]: must be text, not a list")

	f("wait: 10", `c.yml:1: wait: needs a unit, like "10s", not "10"`)
	f("wait: 0", `c.yml:1: wait: needs a unit, like "10s", not "0"`)
	f("wait: \"1.5\"", `c.yml:1: wait: needs a unit, like "10s", not "1.5"`)
	f("wait: soon", `c.yml:1: wait: must be a duration like "10s", not "soon"`)
	f("wait: 99999999999h", `c.yml:1: wait: must be a duration like "10s", not "99999999999h"`)
	f("gateway: {adminPort: -1}", `c.yml:1: gateway.adminPort: must be between 0 and 65535, not "-1"`)
	f("gateway: {adminPort: 65536}", `c.yml:1: gateway.adminPort: must be between 0 and 65535, not "65536"`)
	f("gateway: {adminPort: 1.0}", `c.yml:1: gateway.adminPort: must be a whole number, not "1.0"`)
	f("gateway: {adminPort: 0x10}", `c.yml:1: gateway.adminPort: must be a whole number, not "0x10"`)
	f("gateway: {adminPort: 010}", `c.yml:1: gateway.adminPort: must be a whole number, not "010"`)
	f("gateway: {adminPort: 1_0}", `c.yml:1: gateway.adminPort: must be a whole number, not "1_0"`)
	f("gateway: {adminPort: \"80\"}", `c.yml:1: gateway.adminPort: must be a whole number, not text (remove the quotes)`)
	f("gateway: {adminPort: \"${EMPTY}\"}", `c.yml:1: gateway.adminPort: must be a whole number, not ""`)
	f("gateway: {offset: 128}", `c.yml:1: gateway.offset: must be between -128 and 127, not "128"`)
	f("gateway: {offset: -+1}", `c.yml:1: gateway.offset: must be a whole number, not "-+1"`)
	f("pin: 99999999999999999999", `c.yml:1: pin: must be between -9223372036854775808 and 9223372036854775807`)
	f("gateway: {rate: .inf}", `c.yml:1: gateway.rate: must be a number, not ".inf"`)
	f("gateway: {rate: NaN}", `c.yml:1: gateway.rate: must be a number, not "NaN"`)
	f("gateway: {rate: 1e999}", `c.yml:1: gateway.rate: is too large a number, not "1e999"`)
	f("gateway: {small: 1e39}", `c.yml:1: gateway.small: is too large a number, not "1e39"`)
	f("gateway: {debug: yes}", `c.yml:1: gateway.debug: must be true or false, not "yes"`)
	f("gateway: {debug: 'true'}", `c.yml:1: gateway.debug: must be true or false, not text (remove the quotes)`)
	f("gateway: {maxBody: 10m}", `c.yml:1: gateway.maxBody: must be a size like "10MiB", "64KiB" or 512, not "10m"`)
	f("gateway: {bind: nohost}", `c.yml:1: gateway.bind: ParseAddr("nohost"): unable to parse IP`)
	f("gateway: {bind: {a: b}}", `c.yml:1: gateway.bind: must be text, not a mapping`)

	f("projectName: ${UNSET}", `c.yml:1: projectName: variable UNSET is not set (write ${UNSET:-text} for a default)`)
	f("projectName: ${UNSET", `c.yml:1: projectName: has ${ without } (write $${ for the text itself)`)
	f("projectName: ${a b}", `c.yml:1: projectName: has a malformed variable: write ${NAME} or ${NAME:-text}, without another ${ inside`)
	f("projectName: ${A:-${B}}", `c.yml:1: projectName: has a malformed variable: write ${NAME} or ${NAME:-text}, without another ${ inside`)
	f("projectName: ${}", `c.yml:1: projectName: has a malformed variable: write ${NAME} or ${NAME:-text}, without another ${ inside`)
	f("${NAME}: x", `c.yml:1: ${NAME}: unknown key`)

	const key = "a key must be text: put quotes around a number, date, true, false or null"
	f("1: x", "c.yml:1: "+key)
	f("limits: {true: 1}", "c.yml:1: limits: "+key)
	f("limits: {~: 1}", "c.yml:1: limits: "+key)
	f("limits: {2021-01-01: 1}", "c.yml:1: limits: "+key)
	f("limits: {\"\": 1}", "c.yml:1: limits: a key must not be empty")
	f("? [a]\n: b\n", "c.yml:1: a key must be text, not a list or a mapping (is a quote missing around a value with braces or brackets?)")
	f("projectName: {{ .X }}", "c.yml:1: projectName: a key must be text, not a list or a mapping (is a quote missing around a value with braces or brackets?)\nc.yml:1: projectName: must be text, not a mapping")
	f("limits: &l {a: 1}\nfree: *l\n", "c.yml:2: free: YAML aliases are not supported (put quotes around text that begins with '*')")
	f("free: &a [*a]\n", "c.yml:1: free[0]: YAML aliases are not supported (put quotes around text that begins with '*')")
	f("limits: &l {a: 1}\nfree:\n  <<: *l\n", "c.yml:3: free: YAML merge keys (<<) are not supported")
	f("projectName: !x y", "c.yml:1: projectName: YAML tags are not supported (put quotes around text that begins with '!')")
	f("projectName: !!binary aGk=", "c.yml:1: projectName: YAML tags are not supported (put quotes around text that begins with '!')")
	f("[a]", "c.yml:1: the top of a file must be a mapping of keys, not a list")
	f("just text", "c.yml:1: the top of a file must be a mapping of keys, not a single value")
	f("projectName: a\n---\nprojectName: b\n", "c.yml:2: a second YAML document begins here: only one a file is read")
	f("projectName: a\ngateway:\n\tadminPort: 1\n", "c.yml:3: found character that cannot start any token (indent with spaces, not tabs)")
	f("\tprojectName: a\n", "c.yml:1: found character that cannot start any token (indent with spaces, not tabs)")
	f("projectName: \"a\n", "c.yml:2: found unexpected end of stream")
	f("projectName: a: b\n", "c.yml:1: mapping values are not allowed in this context")
	f("projectName: a\n\xff\n", "c.yml:2: is not UTF-8 text")
	f("projectName: a\nwait: \x00", "c.yml:2: is not UTF-8 text")
	f("\"a\\nb\\e\": 1", `c.yml:1: a; b\x1b: unknown key`)
	f("projectName: [\"a\\nb\"]\nwait: \"x\\ny\"", "c.yml:1: projectName: must be text, not a list\nc.yml:2: wait: must be a duration like \"10s\", not \"x\\ny\"")
	f("free: "+strings.Repeat("[", 70)+strings.Repeat("]", 70), "c.yml:1: free"+strings.Repeat("[0]", 64)+": is nested more than 64 levels deep")

	f("free: {"+strings.Repeat("k", 257)+": 1}", "c.yml:1: free: a key must not be longer than 256 bytes")

	// All at once, sorted.
	f("wait: 1\nzzz: 1\ngateway:\n  adminPort: x\n  rte: 1\ntags: {}\n", strings.Join([]string{
		`c.yml:1: wait: needs a unit, like "10s", not "1"`,
		`c.yml:2: zzz: unknown key`,
		`c.yml:4: gateway.adminPort: must be a whole number, not "x"`,
		`c.yml:5: gateway.rte: unknown key (did you mean "rate"?)`,
		`c.yml:6: tags: must be a list, not a mapping`,
	}, "\n"))
}

func TestLoadErrorIsStructured(t *testing.T) {
	_, err := load(t, "wait: 1\nzzz: 1\n")
	all, ok := errors.AsType[*config.Errors](err)
	if !ok || len(*all) != 2 {
		t.Fatalf("Load() = %T %v, want *Errors of 2", err, err)
	}
	if got, want := *(*all)[1], (config.Error{File: "c.yml", Line: 2, Key: "zzz", Msg: "unknown key"}); got != want {
		t.Errorf("second complaint = %+v, want %+v", got, want)
	}
	if one, ok := errors.AsType[*config.Error](err); !ok || one.Line != 1 {
		t.Errorf("AsType[*Error]() = %v, want the first", one)
	}
	f := func(e config.Error, want string) {
		t.Helper()
		if e.Error() != want {
			t.Errorf("Error() = %q, want %q", e.Error(), want)
		}
	}
	f(config.Error{Msg: "m"}, "m")
	f(config.Error{Key: "k", Msg: "m"}, "k: m")
	f(config.Error{File: "f", Msg: "m"}, "f: m")
	f(config.Error{File: "f", Line: 2, Msg: "m"}, "f:2: m")
	f(config.Error{File: "f", Line: 2, Key: "k", Msg: "m\nn\x1b[31m\u202e\xff"}, `f:2: k: m; n\x1b[31m\u202e�`)
}

func TestLoadSecretsStayOut(t *testing.T) {
	const secret = "hunter2hunter2"
	f := func(yml string, vars map[string]string) {
		t.Helper()
		write(t, map[string]string{"c.yml": yml})
		var c Conf
		err := config.Load("c.yml", &c, config.Options{Env: environ(vars), EnvPrefix: "GOMS_"})
		if err == nil {
			t.Fatalf("Load(%q) = nil, want a complaint", yml)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Load(%q) tells the secret: %v", yml, err)
		}
	}
	f("callServiceKey: *"+secret, nil)
	f("callServiceKey: !"+secret+" x", nil)
	f("callServiceKey: ["+secret+"]", nil)
	f("callServiceKey: {"+secret+": 1}", nil)
	f("callServiceKey: pre${"+secret+"}", nil)
	f("callServiceKey: "+secret+"${", nil)
	f("callServiceKey: "+secret+"${a b}", nil)
	f("keys: {a: "+secret+"}", nil)
	f("keys: [["+secret+"]]", nil)
	f("pin: "+secret, nil)
	f("pin: '"+secret+"'", nil)
	f("token: "+secret, nil)
	f("callServiceKey: "+secret+": x", nil)
	f("callServiceKey: \""+secret, nil)
	f("", map[string]string{"GOMS_PIN": secret})
	f("", map[string]string{"GOMS_TOKEN": secret})

	_, err := load(t, "callServiceKey: ${GOMS_KEY}")
	if want := "c.yml:1: callServiceKey: variable GOMS_KEY is not set (write ${GOMS_KEY:-text} for a default)"; text(err) != want {
		t.Errorf("Load() = %v, want %s", err, want)
	}
}

func TestLoadKeepsDefaults(t *testing.T) {
	three := 3
	shared := map[string]map[string]Route{"order": {"submit": {Path: "/s"}}}
	retry := Route{Path: "/old", Timeout: time.Second, Retries: &three}
	shared["user"] = map[string]Route{"login": retry}
	def := Conf{ProjectName: "p", EtcdAddr: []string{"x:1"}, Wait: time.Second, Services: shared, Gateway: Gateway{Nested: &Nested{Wait: 1}}}
	c := def
	write(t, map[string]string{"c.yml": `
projectName:
etcdAddr: b:2
wait: null
gateway: {nested: {wait: 2s}}
services:
  order:
  user:
    login: {retries: 1}
    out: /logout
`})
	if err := config.Load("c.yml", &c, config.Options{}); err != nil {
		t.Fatal(err)
	}
	if c.ProjectName != "p" || c.Wait != time.Second || !reflect.DeepEqual(c.EtcdAddr, []string{"b:2"}) || c.Gateway.Nested.Wait != 2*time.Second {
		t.Errorf("Load() = %+v, want the defaults where nothing or null is said", c)
	}
	got := c.Services["user"]["login"]
	if got.Path != "/old" || got.Timeout != time.Second || *got.Retries != 1 || c.Services["user"]["out"].Path != "/logout" || c.Services["order"]["submit"].Path != "/s" {
		t.Errorf("Load() services = %+v, want them merged into the defaults", c.Services)
	}
	if three != 3 || len(shared["user"]) != 1 || def.Gateway.Nested.Wait != 1 || def.EtcdAddr[0] != "x:1" {
		t.Errorf("Load() changed what the defaults point to: %v %+v", three, def)
	}
}

func TestLoadInline(t *testing.T) {
	type Common struct {
		Project string `yaml:"project"`
		CAFile  string
	}
	type inner struct{ Port int }
	type Conf struct {
		Common
		inner
		More   struct{ HTTPPort int } `yaml:",inline"`
		secret string
	}
	write(t, map[string]string{"c.yml": "project: a\ncaFile: b\nport: 1\nhttpPort: 2\n"})
	var c Conf
	if err := config.Load("c.yml", &c, config.Options{}); err != nil {
		t.Fatal(err)
	}
	if c.Project != "a" || c.CAFile != "b" || c.Port != 1 || c.More.HTTPPort != 2 || c.secret != "" {
		t.Errorf("Load() = %+v, want all four keys", c)
	}
}

func TestLoadManyValues(t *testing.T) {
	_, err := load(t, "free:\n"+strings.Repeat("- a\n", 100_000))
	if want := "c.yml:100000: has more than 100000 values"; text(err) != want {
		t.Errorf("Load() = %v, want %s", err, want)
	}
}

func TestLoadManyComplaints(t *testing.T) {
	_, err := load(t, "limits:\n"+strings.Repeat(" ? [a]\n", 1500))
	all, ok := errors.AsType[*config.Errors](err)
	if !ok || len(*all) != 1001 || (*all)[1000].Msg != "500 more complaints are not shown" {
		t.Errorf("Load() = %d complaints, want 1000 and a count of the rest", len(*all))
	}
}

func TestLoadBugs(t *testing.T) {
	f := func(dst any, prefix, want string) {
		t.Helper()
		defer func() {
			if got, _ := recover().(string); got != want {
				t.Errorf("Load(%T) panics with %q, want %q", dst, got, want)
			}
		}()
		_ = config.Load("", dst, config.Options{EnvPrefix: prefix, Env: env})
	}
	const target = "BUG: config: dst must be a pointer to a struct"
	f(Conf{}, "", target)
	f(nil, "", target)
	f((*Conf)(nil), "", target)
	f(new(int), "", target)
	f(&struct{ A map[string][]chan int }{}, "", `BUG: config: key "a" has type chan int, which cannot be configured`)
	f(&struct{ A map[int]string }{}, "", `BUG: config: key "a" has type map[int]string, which cannot be configured`)
	f(&struct {
		A int `yaml:"x"`
		B int `yaml:"x"`
	}{}, "", `BUG: config: two fields of struct { A int "yaml:\"x\""; B int "yaml:\"x\"" } have the key "x"`)
	f(&struct {
		AB int `yaml:"aB"`
		A  struct{ B int }
	}{}, "X_", `BUG: config: keys "aB" and "a.b" have the same variable X_A_B`)
}
