package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/goms-io/goms/pkg/console"
)

func newLog(t testing.TB, w *bytes.Buffer, format string, level slog.Leveler) *slog.Logger {
	t.Helper()
	log, err := console.New(w, format, "gateway", level)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

var at = time.Date(2021, 8, 10, 11, 8, 14, 999, time.Local)

// record writes one record with a fixed time.
func record(log *slog.Logger, level slog.Level, msg string, args ...any) {
	r := slog.NewRecord(at, level, msg, 0)
	r.Add(args...)
	_ = log.Handler().Handle(context.Background(), r)
}

type bomb struct{}

func (bomb) Error() string { panic("boom") }

type nilErr struct{ s string }

func (e *nilErr) Error() string { return e.s }

type badText struct{}

func (badText) MarshalText() ([]byte, error) { return nil, errors.New("no text") }

type masked string

func (masked) LogValue() slog.Value { return slog.StringValue("***") }

func TestText(t *testing.T) {
	f := func(want string, level slog.Level, msg string, args ...any) {
		t.Helper()
		var b bytes.Buffer
		record(newLog(t, &b, "text", nil), level, msg, args...)
		if got := b.String(); got != "2021/08/10 11:08:14 "+want+"\n" {
			t.Errorf("%q %v =\n%s, want\n%s", msg, args, got, want)
		}
	}
	info := slog.LevelInfo
	f("[user] node [a:1_a:2] join", info, "join", "service", "user", "node", "a:1_a:2")
	f("[user] node [[::1]:1_[::1]:2] leave", info, "leave", "node", "[::1]:1_[::1]:2", "service", "user")
	f("[gateway] Http Listen on port: 8080", info, "Http Listen on port: 8080")
	f("[gateway]", info, "")
	f("[gateway] WARN pool empty", slog.LevelWarn, "pool empty")
	f("[gateway] ERROR node [x] lost err=EOF", slog.LevelError, "lost", "node", "x", "err", errors.New("EOF"))
	f("[gateway] WARN+1 m", slog.LevelWarn+1, "m")
	f("[gateway] m", slog.LevelDebug, "m")

	f(`[gateway] m a=1 b=true c=1.5 d=2s e=x`, info, "m", "a", 1, "b", true, "c", 1.5, "d", 2*time.Second, "e", "x")
	f(`[gateway] m s="a b" e="" q="\"" eq="a=b" u=服务`, info, "m", "s", "a b", "e", "", "q", `"`, "eq", "a=b", "u", "服务")
	f(`[gateway] m n=<nil> b=hi l="[a b]" s={X:1}`, info, "m", "n", nil, "b", []byte("hi"), "l", []string{"a", "b"}, "s", struct{ X int }{1})
	f(`[gateway] m ip=::1 t=2021-08-10T11:08:14Z i=18446744073709551615 f=+Inf`, info, "m", "ip", netip.IPv6Loopback(),
		"t", time.Date(2021, 8, 10, 11, 8, 14, 0, time.UTC), "i", uint64(math.MaxUint64), "f", math.Inf(1))
	f(`[gateway] m k=*** p="!PANIC: boom" z=<nil> t="!ERROR: no text"`, info, "m", "k", masked("secret"), "p", bomb{}, "z", (*nilErr)(nil), "t", badText{})
	f(`[gateway] m !BADKEY=x`, info, "m", "x")
	f(`[gateway] m =x "a b"=1`, info, "m", "", "x", "a b", 1)

	f(`[gateway] m g.a=1 g.h.b=2 c=3 g.service=s g.node=n`, info, "m", slog.Group("g", "a", 1, slog.Group("h", "b", 2)),
		slog.Group("", "c", 3), slog.Group("empty"), slog.Attr{}, slog.Group("g", "service", "s", "node", "n"))
	f(`[inner] m`, info, "m", slog.Group("", "service", "inner"))
	f(`[b] node [2] m`, info, "m", "service", "a", "service", "b", "node", 1, "node", 2)
	f(`[] node [] m`, info, "m", "service", "", "node", "")
	f(`[gateway] m a=1 a=2`, info, "m", "a", 1, "a", 2)

	// Nothing that a stranger chose makes a line or a bracket of its own.
	f(`[gateway] a\nb\x1b[2J v="a\n2021/08/10 11:08:14 [user] x"`, info, "a\nb\x1b[2J", "v", "a\n2021/08/10 11:08:14 [user] x")
	f(`["u\n] node [x"] node ["y] join\u202e"] m "k\r"="\x00\xff\u2028"`, info, "m", "service", "u\n] node [x", "node", "y] join\u202e", "k\r", "\x00\xff\u2028")
	f(`["user] node [x"] m\xff`, info, "m\xff", "service", "user] node [x")
}

func TestTextWith(t *testing.T) {
	f := func(want string, derive func(*slog.Logger) *slog.Logger, args ...any) {
		t.Helper()
		var b bytes.Buffer
		log := newLog(t, &b, "text", nil)
		record(derive(log), slog.LevelInfo, "m", args...)
		record(log, slog.LevelInfo, "m")
		if got := b.String(); got != "2021/08/10 11:08:14 "+want+"\n2021/08/10 11:08:14 [gateway] m\n" {
			t.Errorf("derived =\n%s, want\n%s, then the first logger as it was", got, want)
		}
	}
	f("[user] node [n] m a=1 b=2", func(l *slog.Logger) *slog.Logger { return l.With("service", "user", "a", 1).With("node", "n") }, "b", 2)
	f("[order] m", func(l *slog.Logger) *slog.Logger { return l.With("service", "user") }, "service", "order")
	f("[gateway] m a=1 g.b=2 g.h.service=x g.h.node=y g.h.i.c=3", func(l *slog.Logger) *slog.Logger {
		return l.With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").WithGroup("")
	}, "service", "x", "node", "y", slog.Group("i", "c", 3))
	f("[gateway] m", func(l *slog.Logger) *slog.Logger { return l.With().WithGroup("g") })
}

func TestTextSiblingsDoNotShare(t *testing.T) {
	var b bytes.Buffer
	base := newLog(t, &b, "text", nil).With("a", 1, "b", 2, "c", 3)
	one, two := base.With("x", 1), base.With("y", 2)
	record(one, slog.LevelInfo, "m", "k", 1)
	record(two, slog.LevelInfo, "m", "k", 2)
	want := "2021/08/10 11:08:14 [gateway] m a=1 b=2 c=3 x=1 k=1\n2021/08/10 11:08:14 [gateway] m a=1 b=2 c=3 y=2 k=2\n"
	if b.String() != want {
		t.Errorf("siblings wrote\n%s, want\n%s", b.String(), want)
	}
}

func TestLevel(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var b bytes.Buffer
		var level slog.LevelVar
		log := newLog(t, &b, format, &level)
		log.Debug("unseen")
		level.Set(slog.LevelDebug)
		log.With("a", 1).Debug("seen")
		level.Set(slog.LevelError)
		log.WithGroup("g").Warn("unseen", "a", 1)
		if s := b.String(); strings.Contains(s, "unseen") || strings.Count(s, "seen") != 1 {
			t.Errorf("%s wrote %q, want one record", format, s)
		}
	}
	var b bytes.Buffer
	newLog(t, &b, "text", nil).Debug("x")
	if b.Len() != 0 {
		t.Errorf("nil level wrote %q, want Info and above", b.String())
	}
}

func TestJSON(t *testing.T) {
	f := func(want string, derive func(*slog.Logger) *slog.Logger, args ...any) {
		t.Helper()
		var b bytes.Buffer
		log := newLog(t, &b, "json", nil)
		if derive != nil {
			log = derive(log)
		}
		log.Info("join", args...)
		got := regexp.MustCompile(`^\{"time":"[^"]+","level":"INFO","msg":"join"(.*)\}\n$`).FindStringSubmatch(b.String())
		if got == nil || got[1] != want {
			t.Errorf("wrote %s, want …%s", b.String(), want)
		}
	}
	with := func(args ...any) func(*slog.Logger) *slog.Logger {
		return func(l *slog.Logger) *slog.Logger { return l.With(args...) }
	}
	group := func(l *slog.Logger) *slog.Logger { return l.With("a", 1).WithGroup("g") }
	f(`,"service":"gateway","node":"a:1_a:2"`, nil, "node", "a:1_a:2")
	f(`,"service":"user","node":"a:1_a:2"`, nil, "service", "user", "node", "a:1_a:2")
	f(`,"service":"user","b":1`, with("service", "user"), "b", 1)
	f(`,"b":1,"service":"order"`, with("service", "user"), "b", 1, "service", "order")
	f(`,"service":"z","a":1,"b":2`, with("a", 1, slog.Group("", "service", "z")), "b", 2)
	f(`,"service":"inner"`, nil, slog.Group("", "service", "inner"))
	f(`,"service":"gateway","a":1,"g":{"service":"x"}`, group, "service", "x")
	f(`,"service":"gateway","a":1,"g":{"b":2,"service":"y","c":3}`, func(l *slog.Logger) *slog.Logger { return group(l).With("b", 2, "service", "y") }, "c", 3)
	f(`,"service":"gateway","s":{"service":"x"}`, nil, slog.Group("s", "service", "x"))
	f(`,"service":"gateway","v":"a\nb"`, func(l *slog.Logger) *slog.Logger { return l.With().WithGroup("") }, "v", "a\nb")
}

// TestSlogRules holds both handlers to what slog demands of any.
func TestSlogRules(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		b.Reset()
		return newLog(t, &b, "json", nil).Handler()
	}, func(t *testing.T) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(b.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	})
	slogtest.Run(t, func(*testing.T) slog.Handler {
		b.Reset()
		return newLog(t, &b, "text", nil).Handler()
	}, func(t *testing.T) map[string]any { return parseLine(t, b.String()) })
}

var layout = regexp.MustCompile(`^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?\[[^\]]*\](?: (WARN|ERROR))? ([a-z]+)((?: [^ =]+=(?:"[^"]*"|[^ ]*))*)\n$`)

// parseLine reads a simple line of text back.
func parseLine(t *testing.T, s string) map[string]any {
	t.Helper()
	p := layout.FindStringSubmatch(s)
	if p == nil {
		t.Fatalf("line %q does not parse", s)
	}
	m := map[string]any{slog.MessageKey: p[3], slog.LevelKey: p[2]}
	if p[1] != "" {
		m[slog.TimeKey] = p[1]
	}
	for _, kv := range strings.Fields(p[4]) {
		key, value, _ := strings.Cut(kv, "=")
		if q, err := strconv.Unquote(value); err == nil {
			value = q
		}
		groups := strings.Split(key, ".")
		in := m
		for _, g := range groups[:len(groups)-1] {
			if in[g] == nil {
				in[g] = map[string]any{}
			}
			in = in[g].(map[string]any)
		}
		in[groups[len(groups)-1]] = value
	}
	return m
}

// lines counts Writes and keeps what each had.
type lines struct{ got []string } // no lock: Writes must not overlap

func (l *lines) Write(p []byte) (int, error) {
	l.got = append(l.got, string(p))
	return len(p), nil
}

func TestConcurrentRecordsAreWholeLines(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var w lines
		log, err := console.New(&w, format, "gateway", nil)
		if err != nil {
			t.Fatal(err)
		}
		const loggers, records = 8, 100
		var wg sync.WaitGroup
		for i := range loggers {
			derived := log.With("logger", i, "service", fmt.Sprint("s", i))
			wg.Go(func() {
				for n := range records {
					derived.Info("m", "n", n, "service", "own")
					derived.Warn("m", "n", n)
				}
			})
		}
		wg.Wait()
		if len(w.got) != 2*loggers*records {
			t.Errorf("%s: %d writes, want %d", format, len(w.got), 2*loggers*records)
		}
		for _, s := range w.got {
			if strings.Count(s, "\n") != 1 || !strings.HasSuffix(s, "\n") {
				t.Fatalf("%s: write %q is not one line", format, s)
			}
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestErrors(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		log, err := console.New(full{}, format, "s", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Handler().Handle(t.Context(), slog.NewRecord(at, 0, "m", 0)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: Handle() = %v, want the writer's error", format, err)
		}
	}
	for _, format := range []string{"", "xml", "JSON"} {
		log, err := console.New(full{}, format, "s", nil)
		if want := fmt.Sprintf("make log: format %q is neither text nor json", format); log != nil || err == nil || err.Error() != want {
			t.Errorf("New(%q) = %v, %v, want %s", format, log, err, want)
		}
	}
	defer func() {
		if p := recover(); p != "BUG: console: w must not be nil" {
			t.Errorf("New(nil) panics with %v, want a BUG", p)
		}
	}()
	_, _ = console.New(nil, "text", "s", nil)
}

func FuzzText(f *testing.F) {
	f.Add("join", "user", "a:1_a:2", "key", "value")
	f.Add("\n", "\x1b[0m", "\u202e", "a=b", "\xff")
	f.Fuzz(func(t *testing.T, msg, service, node, key, value string) {
		var b bytes.Buffer
		newLog(t, &b, "text", nil).Info(msg, "service", service, "node", node, slog.Group("g", key, value))
		s, ok := strings.CutSuffix(b.String(), "\n")
		if !ok || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u202e' }) {
			t.Fatalf("line %q is not one printable line", b.String())
		}
	})
}

func BenchmarkText(b *testing.B) {
	var buf bytes.Buffer
	log := newLog(b, &buf, "text", nil).With("service", "user")
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		log.Info("access", "method", "GET", "route", "/api/user/login", "status", 200, "duration", time.Millisecond)
	}
}
