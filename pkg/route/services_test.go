package route_test

import (
	"encoding"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/route"
)

// complaints returns the keys and messages of a join of *Error.
func complaints(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Validate() = %T, want a join", err)
	}
	var out []string
	for _, err := range joined.Unwrap() {
		e, ok := errors.AsType[*route.Error](err)
		if !ok {
			t.Fatalf("Validate() holds a %T, want *Error", err)
		}
		if !strings.HasPrefix(e.Error(), e.ConfigKey()) {
			t.Errorf("Error() = %q, want it to begin with %q", e, e.ConfigKey())
		}
		out = append(out, e.ConfigKey()+": "+e.Msg)
	}
	return out
}

func TestValidate(t *testing.T) {
	if err := services().Validate(); err != nil {
		t.Errorf("Validate() = %v, want nil", err)
	}
	if err := route.Services(nil).Validate(); err != nil {
		t.Errorf("Validate() of nothing = %v, want nil", err)
	}
	f := func(service, action string, r route.Route, want ...string) {
		t.Helper()
		got := complaints(t, route.Services{service: {action: r}}.Validate())
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("Validate() =\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	ok := route.Route{Path: "/"}
	f("", "a", ok, `: service name "": it must not be empty`)
	f("a/b", "a", ok, `a/b: service name "a/b": it must not hold "/"`)
	f("a b", "a", ok, `a b: service name "a b": it must not hold ' ', only letters, digits and - . _ ~`)
	f("ü", "a", ok, `ü: service name "ü": it must not hold 'ü', only letters, digits and - . _ ~`)
	f("..", "a", ok, `..: service name "..": it must not hold the segment ".."`)
	f("a%2e", "a", ok, `a%2e: service name "a%2e": it must not hold '%', only letters, digits and - . _ ~`)
	long := strings.Repeat("x", 256)
	f(long, "a", ok, long+`: service name "`+long+`": it is longer than 255 bytes`)
	f("s", "", ok, `s.: action "": it must not be empty`)
	f("s", "/a", ok, `s./a: action "/a": it must not begin or end with "/"`)
	f("s", "a/", ok, `s.a/: action "a/": it must not begin or end with "/"`)
	f("s", "a//b", ok, `s.a//b: action "a//b": it must not hold an empty segment`)
	f("s", "a/../b", ok, `s.a/../b: action "a/../b": it must not hold the segment ".."`)
	f("s", "a/.", ok, `s.a/.: action "a/.": it must not hold the segment "."`)
	f("s", "a:b", ok, `s.a:b: action "a:b": it must not hold ':', only letters, digits and - . _ ~`)

	path := func(path, want string) {
		t.Helper()
		f("user", "login", route.Route{Path: path}, "user.login.path: "+want)
	}
	path("", `it must not be empty: write the path at the node, such as "/login"`)
	path("login", `path "login": it does not begin with "/"`)
	path("http://host/login", `path "http://host/login": it does not begin with "/"`)
	path("/login?a=1", `path "/login?a=1": it holds "?" or "#"`)
	path("/login#a", `path "/login#a": it holds "?" or "#"`)
	path("/log in", `path "/log in": it holds a character that must be percent-encoded`)
	path("/login\n", `path "/login\n": it holds a control character`)
	path("/a/../b", `path "/a/../b": it holds a dot segment`)
	path("//a", `path "//a": it holds an empty segment`)
	path("/%61%c3", `path "/%61%c3" is not canonical: write "/a%C3"`)

	methods := func(want string, methods ...string) {
		t.Helper()
		f("user", "login", route.Route{Path: "/", Methods: methods}, "user.login.methods: "+want)
	}
	methods(`method "get": write "GET"`, "POST", "get")
	methods(`method "*": leave methods out to serve all`, "*")
	methods(`method "": it must be a token of at most 32 characters`, "")
	methods(`method "A B": it must be a token of at most 32 characters`, "A B")
	methods(`method "É": it must be a token of at most 32 characters`, "É")
	methods(`method "`+long+`": it must be a token of at most 32 characters`, long)
	methods(`method "GET" is listed twice`, "GET", "PUT", "GET")
	methods(`method "CONNECT" cannot be routed`, "CONNECT")
	methods(`method "TRACE" cannot be routed`, "TRACE")
	f("user", "login", route.Route{Path: "/", Methods: []string{"GET", "M-SEARCH", "X_1"}})

	minus, many := -1, 6
	f("user", "login", route.Route{Path: "/", Timeout: -time.Second, Retries: &minus, MaxBody: -1},
		"user.login.timeout: -1s is not between 0s and 1h0m0s",
		"user.login.retries: -1 is not between 0 and 5",
		"user.login.maxBody: -1 is negative")
	f("user", "login", route.Route{Path: "/", Timeout: time.Hour + 1, Retries: &many},
		"user.login.timeout: 1h0m0.000000001s is not between 0s and 1h0m0s",
		"user.login.retries: 6 is not between 0 and 5")
	f("user", "login", route.Route{Path: "/", Timeout: time.Second, AttemptTimeout: 99 * time.Millisecond, Hedge: time.Second},
		"user.login.attemptTimeout: 99ms is not between 100ms and 1h0m0s",
		"user.login.hedge: 1s is not less than the route's timeout of 1s")
	f("user", "login", route.Route{Path: "/", AttemptTimeout: -time.Second, Hedge: time.Hour + 1},
		"user.login.attemptTimeout: -1s is not between 100ms and 1h0m0s",
		"user.login.hedge: 1h0m0.000000001s is not between 1ms and 1h0m0s")
	none := 0
	f("user", "login", route.Route{Path: "/", Hedge: time.Second, Retries: &none},
		"user.login.hedge: a second attempt contradicts retries: 0")
	f("user", "login", route.Route{Path: "/", Timeout: time.Second, AttemptTimeout: 100 * time.Millisecond, Hedge: time.Millisecond, IdempotencyKey: true})
	zero, most := 0, 5
	f("user", "login", route.Route{Path: "/", Timeout: time.Hour, Retries: &most, MaxBody: math.MaxInt64})
	f("user", "login", route.Route{Path: "/", Retries: &zero})
}

func TestValidateTellsAll(t *testing.T) {
	got := complaints(t, route.Services{
		"b": {"z": {Path: "x"}, "y": {}},
		"a": {"x y": {Path: "x", Methods: []string{"get"}}},
	}.Validate())
	var keys []string
	for _, c := range got {
		key, _, _ := strings.Cut(c, ":")
		keys = append(keys, key)
	}
	if got, want := strings.Join(keys, ","), "a.x y,a.x y.path,a.x y.methods,b.y.path,b.z.path"; got != want {
		t.Errorf("keys = %s, want %s", got, want)
	}
}

func TestRouteShortForm(t *testing.T) {
	r := route.Route{Path: "/old", Methods: []string{"GET"}, Timeout: time.Second}
	if err := r.UnmarshalText([]byte("/login")); err != nil {
		t.Fatal(err)
	}
	if r.Path != "/login" || r.Methods != nil || r.Timeout != 0 {
		t.Errorf("route = %+v, want the path alone", r)
	}
	if _, ok := any(r).(encoding.TextMarshaler); ok {
		t.Error("Route marshals to text, which would drop all but the path")
	}
}

func TestSize(t *testing.T) {
	f := func(text string, want route.Size, back string) {
		t.Helper()
		var got route.Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("UnmarshalText(%q) = %d, %v, want %d", text, int64(got), err, int64(want))
		}
		if text, err := want.MarshalText(); err != nil || string(text) != back {
			t.Errorf("MarshalText(%d) = %q, %v, want %q", int64(want), text, err, back)
		}
	}
	f("0", 0, "0")
	f("512", 512, "512")
	f("64KiB", 64<<10, "64KiB")
	f("10MiB", 10<<20, "10MiB")
	f("1536KiB", 3<<19, "1536KiB")
	f("1024KiB", 1<<20, "1MiB")
	f("2GiB", 2<<30, "2GiB")
	f("3TiB", 3<<40, "3TiB")
	f("9223372036854775807", math.MaxInt64, "9223372036854775807")
	f("8388607TiB", 8388607<<40, "8388607TiB")

	bad := func(text string) {
		t.Helper()
		got := route.Size(7)
		if err := got.UnmarshalText([]byte(text)); err == nil || got != 7 || !strings.Contains(err.Error(), "64KiB") {
			t.Errorf("UnmarshalText(%q) = %d, %v, want an error that says how", text, int64(got), err)
		}
	}
	bad("")
	bad("KiB")
	bad("10MB")
	bad("10 MiB")
	bad(" 10MiB")
	bad("10mib")
	bad("1.5MiB")
	bad("-1")
	bad("+1")
	bad("-1KiB")
	bad("1KiBKiB")
	bad("0x10")
	bad("1_000")
	bad("9223372036854775808")
	bad("8388608TiB")
}
