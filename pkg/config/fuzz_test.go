package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
)

// fuzzed has a field of each kind and no secret, so that a dump loads again.
type fuzzed struct {
	Text    string
	Wait    time.Duration
	Gateway Gateway
	List    []string `split:"addrs"`
	Map     map[string]map[string]Route
	Any     any
	Open    any `open:"true"`
	Next    *fuzzed
}

func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"", "text: a\n", "wait: 10s\ngateway: {adminPort: 80, rate: 1.5, debug: true, maxBody: 1MiB, trusted: [::/0], bind: ::1}\n",
		"list: [a, b|c]\nmap:\n  user:\n    login: /l\n    out: {path: /o, methods: [GET], timeout: 1s, retries: 2}\n",
		"any: {a: [1, null, true, {b: ~}]}\nopen: ${X}\nnext: {next: {text: ${NAME:-x} $$}}\n",
		"a: &a [*a]\n<<: *a\n? [x]\n: !!binary z\n", "text: |\n  a\n\n  b\n--- \n...\n", "\ttext: \"\\x00\\e\\u2028\"\n",
		"text: ${NAME}${", "1: 2\ntrue: {}\ntext: a\ntext: b\n", strings.Repeat("[", 100), strings.Repeat("any: {", 100), "# c\n\n# d\ntext: # e\n  x # f\n# g\n",
	} {
		f.Add([]byte(s))
	}
	file := filepath.Join(f.TempDir(), "c.yml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var c fuzzed
		err := config.Load(file, &c, config.Options{Env: env})
		if err != nil {
			checkErrors(t, err)
			return
		}
		first := dumped(t, c)
		if err := os.WriteFile(file, first, 0o600); err != nil {
			t.Fatal(err)
		}
		var again fuzzed
		if err := config.Load(file, &again, config.Options{Env: env}); err != nil {
			t.Fatalf("Load(Dump()) = %v\n%s", err, first)
		}
		if second := dumped(t, again); !bytes.Equal(first, second) {
			t.Fatalf("Dump(Load(Dump())) =\n%s\nwant\n%s", second, first)
		}
	})
}

func dumped(t *testing.T, c fuzzed) []byte {
	var b bytes.Buffer
	if err := config.Dump(&b, c); err != nil {
		t.Fatalf("Dump(%+v) = %v", c, err)
	}
	return b.Bytes()
}

// checkErrors holds what is promised of any complaint.
func checkErrors(t *testing.T, err error) {
	all, ok := errors.AsType[*config.Errors](err)
	if !ok || len(*all) == 0 || len(*all) > 1001 {
		t.Fatalf("Load() = %T of %d, want *Errors of 1 to 1001", err, len(*all))
	}
	line := 0
	for _, e := range *all {
		if s := e.Error(); e.Msg == "" || len(s) > 2000 || strings.ContainsAny(s, "\n\x1b\x00") {
			t.Fatalf("complaint %q is not one short printable line", s)
		}
		if e.File != "" && e.Line < line {
			t.Fatalf("complaints are not sorted: %v", err)
		}
		line = e.Line
	}
}

func FuzzParseFlags(f *testing.F) {
	for _, s := range []string{"", "-http_port 1", "--http-port=1 x -v", "-vn 3 -- -x", "-h", "-=x", "---", "-\xff", "-etcd_addr -- -demo", "-test.v", "--http_prot"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		given := strings.Join(args, " ")
		fl := newFlags()
		err := config.ParseFlags(fl.fs, args)
		if _, ok := errors.AsType[*config.UsageError](err); !ok && err != nil && err != pflag.ErrHelp {
			t.Fatalf("ParseFlags(%q) = %T %v, want ErrHelp or *UsageError", args, err, err)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x1b\x00") {
			t.Fatalf("ParseFlags(%q) = %q, want one printable line", args, err.Error())
		}
		if strings.Join(args, " ") != given {
			t.Fatalf("ParseFlags changed its arguments to %q", args)
		}
		if len(fl.fs.Args()) > len(args) {
			t.Fatalf("ParseFlags(%q) leaves %q", args, fl.fs.Args())
		}
	})
}

func FuzzDump(f *testing.F) {
	f.Add("a: b", "k")
	f.Add("${X}$$", "<<")
	f.Fuzz(func(t *testing.T, s, key string) {
		if key == "" || len(key) > 200 {
			return // a key that Load refuses
		}
		s, key = strings.ToValidUTF8(s, "?"), strings.ToValidUTF8(key, "?")
		p := plain{Text: s, List: []string{s}, Map: map[string]string{key: s}}
		got, out := roundTrip(t, p)
		if got.Text != s || got.List[0] != s || got.Map[key] != s {
			t.Fatalf("Load(Dump(%q)) = %+v\n%s", s, got, out)
		}
	})
}
