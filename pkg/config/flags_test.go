package config_test

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
)

type flags struct {
	fs      *pflag.FlagSet
	http    int
	etcd    string
	verbose bool
	demo    bool
	n       int
}

func newFlags() *flags {
	f := &flags{fs: pflag.NewFlagSet("gateway", pflag.ExitOnError)}
	f.fs.SetOutput(io.Discard)
	f.fs.IntVar(&f.http, "http_port", 8080, "")
	f.fs.StringVar(&f.etcd, "etcd-addr", "", "")
	f.fs.BoolVar(&f.demo, "demo", false, "")
	f.fs.BoolVarP(&f.verbose, "verbose", "v", false, "")
	f.fs.IntVarP(&f.n, "count", "n", 0, "")
	return f
}

func TestParseFlags(t *testing.T) {
	f := func(line string, want flags, rest ...string) {
		t.Helper()
		got := newFlags()
		if err := config.ParseFlags(got.fs, strings.Fields(line)); err != nil {
			t.Fatalf("ParseFlags(%q) = %v", line, err)
		}
		args := got.fs.Args()
		got.fs = nil
		if *got != want || !slices.Equal(args, rest) {
			t.Errorf("ParseFlags(%q) = %+v %q, want %+v %q", line, *got, args, want, rest)
		}
	}
	port := flags{http: 8081}
	f("-http_port 8081", port)
	f("--http_port 8081", port)
	f("-http-port 8081", port)
	f("--http-port 8081", port)
	f("-http_port=8081", port)
	f("--http-port=8081", port)
	f("-http_port -5", flags{http: -5})
	f("-etcd_addr a:1|b:2", flags{http: 8080, etcd: "a:1|b:2"})
	f("--etcd-addr=a:1,b:2", flags{http: 8080, etcd: "a:1,b:2"})
	f("-etcd_addr -http_port", flags{http: 8080, etcd: "-http_port"})
	f("-etcd_addr -- -http_port 1", flags{http: 1, etcd: "--"})
	f("-etcd_addr=", flags{http: 8080})
	f("-etcd_addr=a=b", flags{http: 8080, etcd: "a=b"})
	f("-demo -http_port 1", flags{http: 1, demo: true})
	f("-demo=false -v", flags{http: 8080, verbose: true})
	f("-verbose", flags{http: 8080, verbose: true})
	f("-v -n 3", flags{http: 8080, verbose: true, n: 3})
	f("-vn3", flags{http: 8080, verbose: true, n: 3})
	f("-vn -3", flags{http: 8080, verbose: true, n: -3})
	f("-n=3 -http_port 1", flags{http: 1, n: 3})
	f("-n3", flags{http: 8080, n: 3})
	f("a -http_port 1 b", flags{http: 1}, "a", "b")
	f("-http_port 1 -- -demo x", flags{http: 1}, "-demo", "x")
	f("- -demo", flags{http: 8080, demo: true}, "-")
	f("", flags{http: 8080})
}

func TestParseFlagsChanged(t *testing.T) {
	f := newFlags()
	if err := config.ParseFlags(f.fs, []string{"-http_port", "8080", "-etcd-addr", "x"}); err != nil {
		t.Fatal(err)
	}
	if !f.fs.Changed("http_port") || !f.fs.Changed("http-port") || !f.fs.Changed("etcd_addr") || f.fs.Changed("demo") {
		t.Error("Changed() does not say what was given")
	}
}

func TestParseFlagsErrors(t *testing.T) {
	f := func(line, want string) {
		t.Helper()
		err := config.ParseFlags(newFlags().fs, strings.Fields(line))
		if _, ok := errors.AsType[*config.UsageError](err); !ok || err.Error() != want {
			t.Errorf("ParseFlags(%q) = %T %v, want *UsageError %s", line, err, err, want)
		}
	}
	f("-http_prot 1", "unknown flag -http_prot (did you mean -http_port?)")
	f("--http-prot=1", "unknown flag -http-prot (did you mean -http_port?)")
	f("--etcd.addr a", "unknown flag -etcd.addr (did you mean -etcd_addr?)")
	f("-zzzzzz", "unknown flag -zzzzzz")
	f("-hfoo", "unknown flag -hfoo")
	f("-x", "unknown flag -x")
	f("-va", "unknown flag -a")
	f("-5", "unknown flag -5")
	f("-a\x1bb", `unknown flag -a\x1bb`)
	f("-http_port", "flag -http_port needs a value")
	f("-n", "flag -count needs a value")
	f("-http_port x", `parse flag -http_port: value "x": invalid syntax`)
	f("-http_port 99999999999999999999", `parse flag -http_port: value "99999999999999999999": value out of range`)
	f("-demo=maybe", `parse flag -demo: value "maybe": invalid syntax`)
	f("---x", `malformed flag "---x"`)
	f("--=x", `malformed flag "--=x"`)

	err := config.ParseFlags(newFlags().fs, []string{"-http_port", "x"})
	if !errors.Is(err, strconv.ErrSyntax) {
		t.Errorf("errors.Is(%v, ErrSyntax) = false, want the cause kept", err)
	}
}

func TestParseFlagsHelp(t *testing.T) {
	for _, arg := range []string{"-h", "--help", "-help", "--help=x"} {
		f := newFlags()
		var b strings.Builder
		f.fs.SetOutput(&b)
		if err := config.ParseFlags(f.fs, []string{arg}); err != pflag.ErrHelp {
			t.Errorf("ParseFlags(%s) = %v, want pflag.ErrHelp itself", arg, err)
		}
		if !strings.Contains(b.String(), "--http_port") {
			t.Errorf("ParseFlags(%s) printed %q, want the usage", arg, b.String())
		}
	}
}
