package auth_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/auth"
)

const (
	canary = "canary-0123456789-abcdef" // in no output, ever
	old    = "canary-old-key-0123456789"
)

func newKeys(t testing.TB, all ...string) *auth.CallKeys {
	t.Helper()
	k, err := auth.NewCallKeys(all...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestValid(t *testing.T) {
	f := func(k *auth.CallKeys, got string, want bool) {
		t.Helper()
		if ok := k.Valid(got); ok != want {
			t.Errorf("Valid(%q) = %v, want %v", got, ok, want)
		}
		if ok := k.ValidBytes([]byte(got)); ok != want {
			t.Errorf("ValidBytes(%q) = %v, want %v", got, ok, want)
		}
	}
	long := strings.Repeat("k", 256)
	one, two, longest := newKeys(t, canary), newKeys(t, canary, old), newKeys(t, long)
	f(one, canary, true)
	f(one, old, false)
	f(two, canary, true)
	f(two, old, true)
	f(longest, long, true)
	f(longest, long+"k", false)
	f(longest, long[1:], false)
	for _, k := range []*auth.CallKeys{one, two, longest, {}, nil} {
		f(k, "", false)
		f(k, " ", false)
		f(k, canary+" ", false)
		f(k, canary[1:], false)
		f(k, strings.ToUpper(canary), false)
		f(k, canary+"\x00", false)
		f(k, canary+old, false)
		f(k, strings.Repeat("x", 100000), false)
		f(k, "***", false)
	}
	if ok := one.ValidBytes(nil); ok {
		t.Error("ValidBytes(nil) = true")
	}
	var none *auth.CallKeys
	if one.Current() != canary || two.Current() != canary || none.Current() != "" || none.Weak() != "" {
		t.Error("Current() is not the first key")
	}
}

func TestNewCallKeys(t *testing.T) {
	f := func(ok bool, all ...string) {
		t.Helper()
		_, err := auth.NewCallKeys(all...)
		if (err == nil) != ok {
			t.Errorf("NewCallKeys(%q) = %v, want ok %v", all, err, ok)
		}
		for _, key := range all {
			if err != nil && len(key) > 2 && strings.Contains(err.Error(), key) {
				t.Errorf("the error has the key: %v", err)
			}
		}
	}
	f(true, "x")
	f(true, "goms by panco")
	f(true, "~!@#$%^&*()\"\\ ,;:=", "x")
	f(true, "same", "same")
	f(true, strings.Repeat("k", 256))
	f(false)
	f(false, "")
	f(false, canary, "")
	f(false, "one", "two", "three")
	f(false, strings.Repeat("k", 257))
	for _, bad := range []string{" canary", "canary ", "\tcanary", "canary\n", "can\r\nary", "can\x00ary", "canary\x7f", "canéary", " "} {
		f(false, bad)
		f(false, canary, bad)
	}
}

func TestWeak(t *testing.T) {
	f := func(want string, all ...string) {
		t.Helper()
		if got := newKeys(t, all...).Weak(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("Weak() of %q = %q, want %q", all, got, want)
		}
	}
	f("", canary)
	f("", canary, old)
	f("", "0123456789abcdef")
	f("shorter than 16", "0123456789abcde")
	f("published", "goms by panco")
	f("published", canary, "goms by panco")
	f("shorter", canary, "x")
}

// TestNothingPrintsAKey looks for the keys in everything that prints or marshals.
func TestNothingPrintsAKey(t *testing.T) {
	k := newKeys(t, canary, old)
	type unexported struct {
		p *auth.CallKeys
		v auth.CallKeys
	}
	type exported struct {
		P *auth.CallKeys
		V auth.CallKeys
		M map[string]*auth.CallKeys
	}
	values := map[string]any{
		"pointer": k, "value": *k, "nil": (*auth.CallKeys)(nil), "zero": auth.CallKeys{},
		"unexported": unexported{k, *k}, "pointer to unexported": &unexported{k, *k},
		"exported": exported{k, *k, map[string]*auth.CallKeys{"k": k}},
		"slice":    []auth.CallKeys{*k}, "error": fmt.Errorf("wrap %v %w", k, fmt.Errorf("%+v", *k)),
	}
	check := func(what, out string) {
		t.Helper()
		hex := fmt.Sprintf("%x", canary)
		for _, secret := range []string{canary, old, "canary", hex, strings.ToUpper(hex), fmt.Sprintf("%v", []byte(canary[:6]))[1:10]} {
			if strings.Contains(out, secret) {
				t.Errorf("%s has the key: %s", what, out)
			}
		}
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%t", "%p", "%10s", "%U", "%c", "%e"} {
			check(name+" by "+verb, fmt.Sprintf(verb, v))
		}
		check(name+" by Sprint", fmt.Sprint(v)+fmt.Sprintln(v))
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "keys", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "keys", v, slog.Group("g", "keys", v))
		check(name+" by slog text", text.String())
		check(name+" by slog json", js.String())
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("json.Marshal(%s): %v", name, err)
		}
		check(name+" by json", string(b))
	}
	for _, got := range []string{fmt.Sprintf("%s", k), fmt.Sprintf("%#v", *k), k.String(), k.GoString(), k.LogValue().String()} {
		if got != "***" {
			t.Errorf("printed %q, want ***", got)
		}
	}
	if b, _ := json.Marshal(values["exported"]); string(b) != `{"P":"***","V":"***","M":{"k":"***"}}` {
		t.Errorf("marshalled %s", b)
	}
}

func TestValidDoesNotAllocate(t *testing.T) {
	k := newKeys(t, canary, old)
	right, wrong, long := old, canary[1:], strings.Repeat("x", 1000)
	asBytes := []byte(old)
	f := func(name string, fn func()) {
		t.Helper()
		if n := testing.AllocsPerRun(200, fn); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	f("Valid", func() { k.Valid(right); k.Valid(wrong); k.Valid(long); k.Valid("") })
	f("ValidBytes", func() { k.ValidBytes(asBytes) })
}

func FuzzNewCallKeys(f *testing.F) {
	f.Add("a", "b", "a")
	f.Add(canary, "", old)
	f.Add(" a", "\n", "é")
	f.Fuzz(func(t *testing.T, a, b, got string) {
		k, err := auth.NewCallKeys(a, b)
		if err != nil {
			return
		}
		if !k.Valid(a) || !k.Valid(b) || k.Current() != a || k.Valid(got) != (got == a || got == b) {
			t.Errorf("keys %q and %q, got %q", a, b, got)
		}
		// A key that is accepted survives a header unchanged.
		h := httptest.NewRequest(http.MethodGet, "/", nil)
		h.Header.Set(auth.CallKeyHeader, a)
		var wire bytes.Buffer
		if err := h.Write(&wire); err != nil || !strings.Contains(wire.String(), auth.CallKeyHeader+": "+a+"\r\n") {
			t.Errorf("key %q in a header: %v\n%s", a, err, wire.String())
		}
	})
}

func BenchmarkValid(b *testing.B) {
	k := newKeys(b, canary, old)
	got := []byte(old)
	b.ReportAllocs()
	for b.Loop() {
		if !k.ValidBytes(got) {
			b.Fatal("refused")
		}
	}
}

func ExampleCallKeys() {
	keys, err := auth.NewCallKeys("the new key of 2026", "the old key of 2025")
	if err != nil {
		panic(err)
	}
	fmt.Println(keys.Valid("the old key of 2025"), keys.Valid("a guess"))
	fmt.Println("keys are", keys)
	// Output:
	// true false
	// keys are ***
}
