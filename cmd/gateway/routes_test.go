package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/route"
)

func TestFormatRoutes(t *testing.T) {
	none, three := 0, 3
	services := route.Services{
		"user": {"login": {Path: "/login"}, "a/b": {Path: "/x$y"}},
		"order": {"submit": {
			Path: "/submit", Methods: []string{"POST", "PUT"}, Timeout: 90 * time.Second, AttemptTimeout: time.Second,
			Hedge: 20 * time.Millisecond, IdempotencyKey: true, Retries: &three, MaxBody: 3 << 20,
		}},
		"once":  {"only": {Path: "/only", Retries: &none}},
		"empty": {},
	}
	text, err := formatRoutes(services)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "services:\n") || !strings.Contains(string(text), "    login: /login\n") || strings.Contains(string(text), "empty") {
		t.Errorf("formatRoutes() =\n%s", text)
	}
	again, err := formatRoutes(services)
	if err != nil || string(again) != string(text) {
		t.Errorf("formatRoutes() again = %v\n%s", err, again)
	}
	got, err := parseRoutes("x", text)
	delete(services, "empty")
	if err != nil || !reflect.DeepEqual(got, services) {
		t.Errorf("parseRoutes() = %+v, %v, want %+v", got, err, services)
	}
}

func TestParseRoutes(t *testing.T) {
	t.Setenv("SECRET", "/s3cret")
	f := func(text, want string) {
		t.Helper()
		_, err := parseRoutes("version 7", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("parseRoutes(%q) = %v, want %q", text, err, want)
		}
	}
	f("services:\n  user:\n    login: login\n", "version 7:3: services.user.login")
	f("services:\n  user:\n    login: ${SECRET}\n", "version 7:3: services.user.login: variable SECRET is not set")
	f("services: {}\nprojectName: goms\n", "version 7:2: projectName: unknown key")
	f("services: [\n", "version 7:")
	f("services: {}\n---\nservices: {}\n", "a second YAML document")
}

func TestDiffRoutes(t *testing.T) {
	one, two := 1, 1
	f := func(from, to route.Services, sum string, want ...string) {
		t.Helper()
		got := diffRoutes("/api/", from, to)
		if strings.Join(got.lines, "\n") != strings.Join(want, "\n") || got.String() != sum || got.none() != (len(want) == 0) {
			t.Errorf("diffRoutes() = %q, %s, want %q, %s", got.lines, got, want, sum)
		}
	}
	old := route.Services{"user": {"login": {Path: "/login", Retries: &one}, "out": {Path: "/out"}}, "none": {}}
	f(nil, nil, "0 added, 0 removed, 0 changed")
	f(old, route.Services{"user": {"out": {Path: "/out", Methods: []string{}}, "login": {Path: "/login", Retries: &two}}}, "0 added, 0 removed, 0 changed")
	f(nil, old, "2 added, 0 removed, 0 changed", "+ /api/user/login path=/login retries=1", "+ /api/user/out path=/out")
	f(old, nil, "0 added, 2 removed, 0 changed", "- /api/user/login path=/login retries=1", "- /api/user/out path=/out")
	f(old, route.Services{"user": {"login": {Path: "/logon", Methods: []string{"GET", "POST"}}, "sub/way": {Path: "/w", Timeout: time.Minute}}}, "1 added, 1 removed, 1 changed",
		"~ /api/user/login path=/login→/logon methods=-→[GET,POST] retries=1→-", "- /api/user/out path=/out", "+ /api/user/sub/way path=/w timeout=1m0s")
}
