package route_test

import (
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/route"
)

func TestDigest(t *testing.T) {
	table := func(prefix string, s route.Services) string {
		t.Helper()
		made, err := route.New(prefix, s)
		if err != nil {
			t.Fatal(err)
		}
		return made.Digest()
	}
	one, two := 1, 1
	base := table("/api", route.Services{"user": {"login": {Path: "/login", Retries: &one}, "out": {Path: "/out"}}})
	if len(base) != 16 {
		t.Errorf("Digest() = %q, want 16 digits", base)
	}
	if same := table("/api/", route.Services{"user": {"out": {Path: "/out"}, "login": {Path: "/login", Retries: &two}}}); same != base {
		t.Errorf("Digest() = %s for the same routes, want %s", same, base)
	}
	seen := map[string]string{base: "base"}
	for name, d := range map[string]string{
		"prefix":  table("/", route.Services{"user": {"login": {Path: "/login", Retries: &one}, "out": {Path: "/out"}}}),
		"path":    table("/api", route.Services{"user": {"login": {Path: "/logon", Retries: &one}, "out": {Path: "/out"}}}),
		"retries": table("/api", route.Services{"user": {"login": {Path: "/login"}, "out": {Path: "/out"}}}),
		"timeout": table("/api", route.Services{"user": {"login": {Path: "/login", Retries: &one, Timeout: time.Second}, "out": {Path: "/out"}}}),
		"attempt": table("/api", route.Services{"user": {"login": {Path: "/login", Retries: &one, AttemptTimeout: time.Second}, "out": {Path: "/out"}}}),
		"hedge":   table("/api", route.Services{"user": {"login": {Path: "/login", Retries: &one, Hedge: time.Second}, "out": {Path: "/out"}}}),
		"keyed":   table("/api", route.Services{"user": {"login": {Path: "/login", Retries: &one, IdempotencyKey: true}, "out": {Path: "/out"}}}),
		"fewer":   table("/api", route.Services{"user": {"login": {Path: "/login", Retries: &one}}}),
		"none":    table("/api", nil),
	} {
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[d] = name
	}
}
