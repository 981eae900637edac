package config_test

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/config"
)

func TestDump(t *testing.T) {
	three := 3
	c := Conf{
		ProjectName:    "goms",
		CallServiceKey: "hunter2",
		Keys:           []string{"hunter2"},
		Pin:            7,
		EtcdAddr:       []string{"a:1", "b:2"},
		Wait:           90 * time.Second,
		Gateway: Gateway{
			AdminPort: 80, Rate: 1, MaxBody: 10 << 20, Bind: netip.IPv6Loopback(),
			Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		},
		Services: map[string]map[string]Route{"user": {"login": {Path: "/l", Retries: &three}}, "order": nil},
		Limits:   map[string]int{"2": 1, "b": 2, "a": 3},
		Free:     map[string]any{"z": 1, "a": []any{true, nil, "x"}},
		Other:    map[string]any{"password": "hunter2"},
		Hidden:   "no",
	}
	var b strings.Builder
	if err := config.Dump(&b, &c); err != nil {
		t.Fatal(err)
	}
	want := `projectName: goms
callServiceKey: '***'
keys: '***'
pin: '***'
token: ""
etcdAddr:
  - a:1
  - b:2
tags: []
wait: 1m30s
gateway:
  adminPort: 80
  rate: 1
  small: 0
  offset: 0
  debug: false
  maxBody: 10MiB
  trusted:
    - 10.0.0.0/8
  bind: ::1
  nested: null
tls:
  caFile: ""
  certFile: ""
  keyFile: ""
  serverName: ""
services:
  order: {}
  user:
    login:
      path: /l
      methods: []
      timeout: 0s
      retries: 3
limits:
  "2": 1
  a: 3
  b: 2
free:
  a:
    - true
    - null
    - x
  z: 1
part:
  wait: 0s
`
	if b.String() != want {
		t.Errorf("Dump() =\n%s\nwant\n%s", b.String(), want)
	}
}

// plain has no secrets, so that what Dump writes loads to the same.
type plain struct {
	Text string
	List []string
	Map  map[string]string
	Wait time.Duration
	N    int64
	U    uint64
	F    float64
	B    bool
	Size config.Bytes
}

// roundTrip dumps p, loads it and returns what came of it.
func roundTrip(t *testing.T, p plain) (got plain, dumped string) {
	t.Helper()
	var b strings.Builder
	if err := config.Dump(&b, p); err != nil {
		t.Fatal(err)
	}
	write(t, map[string]string{"c.yml": b.String()})
	if err := config.Load("c.yml", &got, config.Options{Env: environ(nil)}); err != nil {
		t.Fatalf("Load(Dump(%+v)) = %v\n%s", p, err, b.String())
	}
	return got, b.String()
}

func TestDumpRoundTrip(t *testing.T) {
	f := func(text string) {
		t.Helper()
		p := plain{
			Text: text, List: []string{text, "x"}, Map: map[string]string{"k" + text: text}, Wait: -1500 * time.Millisecond,
			N: -1 << 63, U: 1<<64 - 1, F: 1e21, B: true, Size: 1<<63 - 1,
		}
		if got, dumped := roundTrip(t, p); !reflect.DeepEqual(got, p) {
			t.Errorf("Load(Dump(%q)) = %+v, want %+v\n%s", text, got, p, dumped)
		}
	}
	for _, s := range []string{
		"", "a", "null", "~", "true", "yes", "on", "5", "1.5", "0x10", "1_000", "2021-08-10", "<<", "=", "a: b", "- a", "# x", "a #x",
		"'", `"`, `\`, "a\nb", "\n", " a ", "\ta", "a\n\n b\n", "\x00\x01\x1b", "\u0085\u2028\ufeff", "服务", "*a", "&a", "!a", "%a", "@a", "`a", "|", ">", "?", "{", "[", "]", ",", "---", "...",
		"$", "$$", "$$$", "${", "${X}", "$${X}", "$$${X}", "a$b", "${X:-y}", strings.Repeat("long words ", 20),
	} {
		f(s)
	}
}

type badText struct{ A int }

func (badText) MarshalText() ([]byte, error) { return nil, errors.New("no text") }

// shortSecret marshals to text and has fields.
type shortSecret struct{ V string }

func (s *shortSecret) MarshalText() ([]byte, error) { return []byte(s.V), nil }

type badWriter struct{}

func (badWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestDumpErrorsAndSecrets(t *testing.T) {
	var b strings.Builder
	err := config.Dump(&b, struct{ X struct{ Y []badText } }{struct{ Y []badText }{[]badText{{1}}}})
	if want := "dump x.y[0]: no text"; text(err) != want || b.Len() != 0 {
		t.Errorf("Dump() = %v, %q, want %s and nothing written", err, b.String(), want)
	}
	if err := config.Dump(badWriter{}, plain{}); text(err) != "write configuration: disk full" {
		t.Errorf("Dump() = %v, want the writer's error", err)
	}
	type inner struct{ User, Pass string }
	in := struct {
		Deep  inner             `secret:"true"`
		Map   map[string]string `secret:"true"`
		Ptr   *string           `secret:"true"`
		Any   any               `secret:"true"`
		Short shortSecret       `secret:"true"`
		Empty shortSecret       `secret:"true"`
	}{inner{"", "hunter2"}, map[string]string{"k": "hunter2"}, new(string), map[string]any{"x": []any{"hunter2"}}, shortSecret{"hunter2"}, shortSecret{}}
	if err := config.Dump(&b, in); err != nil {
		t.Fatal(err)
	}
	want := "deep:\n  user: \"\"\n  pass: '***'\nmap:\n  k: '***'\nptr: \"\"\nany:\n  x: '***'\nshort: '***'\nempty: \"\"\n"
	if b.String() != want {
		t.Errorf("Dump() =\n%s\nwant\n%s", b.String(), want)
	}
}
