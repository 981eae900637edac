package route_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/route"
)

func newTable(t testing.TB, prefix string, s route.Services) *route.Table {
	t.Helper()
	table, err := route.New(prefix, s)
	if err != nil {
		t.Fatalf("New(%q): %v", prefix, err)
	}
	return table
}

func services() route.Services {
	retries := 2
	return route.Services{
		"user": {
			"login":    {Path: "/login", Methods: []string{"POST"}, Timeout: time.Second, Retries: &retries, MaxBody: 1 << 10},
			"register": {Path: "/register"},
			"show":     {Path: "/v1/show", Methods: []string{"GET", "BREW"}},
			"head":     {Path: "/head", Methods: []string{"HEAD"}},
		},
		"order":  {"submit": {Path: "/order/submit"}, "order/submit": {Path: "/"}},
		"a.b_c~": {"X-1": {Path: "/%20;x"}},
		"idle":   nil,
	}
}

func TestMatch(t *testing.T) {
	table := newTable(t, route.DefaultPrefix, services())
	f := func(method, path, want string) {
		t.Helper()
		rule, err := table.Match([]byte(method), []byte(path))
		got := fmt.Sprint(err)
		if err == nil {
			got = rule.Service + " " + rule.Path
		}
		if got != want {
			t.Errorf("Match(%s %s) = %s, want %s", method, path, got, want)
		}
	}
	noService, noRoute := route.ErrNoService.Error(), route.ErrNoRoute.Error()
	f("POST", "/api/user/login", "user /login")
	f("GET", "/api/user/register", "user /register")
	f("POST", "/api/order/submit", "order /order/submit")
	f("PURGE", "/api/order/order/submit", "order /")
	f("GET", "/api/a.b_c~/X-1", "a.b_c~ /%20;x")

	f("GET", "/api/user/show", "user /v1/show")
	f("HEAD", "/api/user/show", "user /v1/show")
	f("BREW", "/api/user/show", "user /v1/show")
	f("OPTIONS", "/api/user/register", "user /register")
	f("GET", "/api/user/login", "method not allowed: the route serves POST")
	f("post", "/api/user/login", "method not allowed: the route serves POST")
	f("OPTIONS", "/api/user/login", "method not allowed: the route serves POST")
	f("", "/api/user/login", "method not allowed: the route serves POST")
	f("POST", "/api/user/show", "method not allowed: the route serves BREW, GET, HEAD")
	f("GET", "/api/user/head", "method not allowed: the route serves HEAD")
	all := "method not allowed: the route serves DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
	f("TRACE", "/api/user/register", all)
	f("CONNECT", "/api/user/register", all)

	f("GET", "/api/nobody/login", noService)
	f("GET", "/api/User/login", noService)
	f("GET", "/api/", noService)
	f("GET", "/api/users", noService)
	f("GET", "/api/user", noRoute)
	f("GET", "/api/user/", noRoute)
	f("GET", "/api/idle/x", noRoute)
	f("GET", "/api/user/Login", noRoute)
	f("GET", "/api/user/login/", noRoute)
	f("GET", "/api/user/login/x", noRoute)
	f("GET", "/api/order/order", noRoute)
	f("GET", "/api", noRoute)
	f("GET", "/", noRoute)
	f("GET", "", noRoute)
	f("GET", "/API/user/login", noRoute)
	f("GET", "/apiuser/login", noRoute)
	f("GET", "/apix/user/login", noRoute)
	f("GET", "/user/login", noRoute)
	f("GET", "/user/api/user/login", noRoute)
}

func TestRule(t *testing.T) {
	table := newTable(t, "/api", services())
	login, err := table.Match([]byte("POST"), []byte("/api/user/login"))
	if err != nil {
		t.Fatal(err)
	}
	if login.Service != "user" || login.Action != "login" || login.Path != "/login" || login.Name != "/api/user/login" ||
		login.Timeout != time.Second || login.Retries != 2 || login.MaxBody != 1024 || login.Allow() != "POST" {
		t.Errorf("rule = %+v", login)
	}
	register, err := table.Match([]byte("POST"), []byte("/api/user/register"))
	if err != nil {
		t.Fatal(err)
	}
	if register.Timeout != 0 || register.Retries != route.RetriesUnset || register.MaxBody != 0 {
		t.Errorf("rule without settings = %+v", register)
	}
	f := func(r *route.Rule, method, want string) {
		t.Helper()
		if got := r.SpanName([]byte(method)); got != want {
			t.Errorf("SpanName(%q) = %q, want %q", method, got, want)
		}
	}
	f(login, "POST", "POST /api/user/login")
	f(login, "GET", "HTTP /api/user/login")
	f(login, "", "HTTP /api/user/login")
	f(register, "DELETE", "DELETE /api/user/register")
	f(register, "MADE-UP", "HTTP /api/user/register")

	refused, err := table.Match([]byte("GET"), []byte("/api/user/login"))
	if e, ok := errors.AsType[*route.MethodError](err); !ok || e.Allow != "POST" || refused != login {
		t.Errorf("Match() = %v, %v, want the rule of login and Allow POST", refused, err)
	}
	var names []string
	for _, r := range table.Rules() {
		names = append(names, r.Name)
	}
	want := []string{
		"/api/a.b_c~/X-1", "/api/order/order/submit", "/api/order/submit",
		"/api/user/head", "/api/user/login", "/api/user/register", "/api/user/show",
	}
	if !slices.Equal(names, want) {
		t.Errorf("Rules() = %q, want %q", names, want)
	}
}

func TestPrefix(t *testing.T) {
	f := func(prefix, normal, path string) {
		t.Helper()
		table := newTable(t, prefix, services())
		rule, err := table.Match([]byte("POST"), []byte(path))
		if err != nil || rule.Name != path || table.Prefix() != normal {
			t.Errorf("New(%q).Match(%s) = %v, %v, prefix %q, want prefix %q", prefix, path, rule, err, table.Prefix(), normal)
		}
	}
	f("", "", "/user/login")
	f("/", "", "/user/login")
	f("/api", "/api", "/api/user/login")
	f("/api/", "/api", "/api/user/login")
	f("/v1/public", "/v1/public", "/v1/public/user/login")

	bad := func(prefix, want string) {
		t.Helper()
		table, err := route.New(prefix, services())
		if err == nil || table != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q) = %v, %v, want an error with %q", prefix, table, err, want)
		}
	}
	bad("api", `must begin with "/"`)
	bad("//", "must not be empty")
	bad("/a//b", "empty segment")
	bad("/a//", "empty segment")
	bad("/..", "segment \"..\"")
	bad("/a b", "must not hold ' '")
	bad("/%61", "must not hold '%'")
	bad("/a?b", "must not hold '?'")
}

func TestNewDoesNotShare(t *testing.T) {
	s := services()
	table := newTable(t, "/api", s)
	s["user"]["login"].Methods[0] = "GET"
	*s["user"]["login"].Retries = 9
	delete(s, "order")
	rule, err := table.Match([]byte("POST"), []byte("/api/user/login"))
	if err != nil || rule.Retries != 2 {
		t.Errorf("Match() = %+v, %v, want the rule as it was compiled", rule, err)
	}
	if _, err := table.Match([]byte("GET"), []byte("/api/order/submit")); err != nil {
		t.Errorf("Match() = %v, want the service that was deleted from the argument", err)
	}
}

func TestNewValidates(t *testing.T) {
	_, err := route.New("/api", route.Services{"user": {"login": {Path: "login"}}})
	if e, ok := errors.AsType[*route.Error](err); !ok || e.ConfigKey() != "user.login.path" {
		t.Errorf("New() = %v, want a complaint about user.login.path", err)
	}
}

func TestMatchTogether(t *testing.T) {
	table := newTable(t, "/api", services())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				rule, err := table.Match([]byte("POST"), []byte("/api/user/login"))
				if err != nil || rule.SpanName([]byte("POST")) != "POST /api/user/login" {
					t.Errorf("Match() = %v, %v", rule, err)
				}
				if _, err := table.Match([]byte("GET"), []byte("/api/user/login")); err == nil {
					t.Error("Match(GET) = nil, want a *MethodError")
				}
			}
		})
	}
	wg.Wait()
}

func TestMatchAllocatesNothing(t *testing.T) {
	table := large(t, 10_000)
	f := func(method, path string, found bool) {
		t.Helper()
		m, p := []byte(method), []byte(path)
		n := testing.AllocsPerRun(1000, func() {
			rule, err := table.Match(m, p)
			if (err == nil) != found {
				t.Fatalf("Match(%s %s) = %v", method, path, err)
			}
			if rule != nil {
				rule.SpanName(m)
				rule.Allow()
			}
		})
		if n != 0 {
			t.Errorf("Match(%s %s): %v allocations, want 0", method, path, n)
		}
	}
	f("POST", "/api/service-with-a-long-name-0007/action/with/a/long/name-0007", true)
	f("GET", "/api/service-with-a-long-name-0007/action/with/a/long/name-0007", false)
	f("POST", "/api/service-with-a-long-name-0007/action/with/a/long/name-x", false)
	f("POST", "/api/a-service-that-nobody-has-with-a-long-name/action", false)
	f("POST", "/nothing/here", false)
}

// large is a table of n routes, at most 100 a service.
func large(t testing.TB, n int) *route.Table {
	s := route.Services{}
	for i := range n {
		service := fmt.Sprintf("service-with-a-long-name-%04d", i%max(1, n/100))
		if s[service] == nil {
			s[service] = map[string]route.Route{}
		}
		action := fmt.Sprintf("action/with/a/long/name-%04d", i)
		s[service][action] = route.Route{Path: "/" + action, Methods: []string{"POST"}}
	}
	return newTable(t, "/api", s)
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		table := large(b, n)
		var paths [][]byte
		for _, r := range table.Rules() {
			paths = append(paths, []byte(r.Name))
		}
		method := []byte("POST")
		for _, c := range []struct {
			name string
			step int
		}{{"same", 0}, {"spread", 7919}} {
			b.Run(fmt.Sprintf("routes=%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if _, err := table.Match(method, paths[i]); err != nil {
						b.Fatal(err)
					}
					i = (i + c.step) % len(paths)
				}
			})
		}
		b.Run(fmt.Sprintf("routes=%d/parallel", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := table.Match(method, paths[0]); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
	table := newTable(b, "/api", route.Services{"user": {"login": {Path: "/login"}}})
	method, path := []byte("POST"), []byte("/api/user/login")
	b.Run("user/login", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := table.Match(method, path); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	s := route.Services{}
	for i := range 10_000 {
		service := fmt.Sprintf("s%d", i%100)
		if s[service] == nil {
			s[service] = map[string]route.Route{}
		}
		s[service][fmt.Sprintf("a%d", i)] = route.Route{Path: "/a"}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := route.New("/api", s); err != nil {
			b.Fatal(err)
		}
	}
}
