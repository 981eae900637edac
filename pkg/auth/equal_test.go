package auth_test

import (
	"testing"

	"github.com/goms-io/goms/pkg/auth"
)

func TestEqual(t *testing.T) {
	keys := func(all ...string) *auth.CallKeys {
		t.Helper()
		k, err := auth.NewCallKeys(all...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	f := func(a, b *auth.CallKeys, want bool) {
		t.Helper()
		if got := a.Equal(b); got != want {
			t.Errorf("Equal() = %v, want %v", got, want)
		}
	}
	f(keys("a"), keys("a"), true)
	f(keys("a", "b"), keys("a", "b"), true)
	f(keys("a", "b"), keys("b", "a"), false)
	f(keys("a"), keys("a", "b"), false)
	f(keys("a"), keys("b"), false)
	f(nil, keys("a"), false)
	f(keys("a"), new(auth.CallKeys), false)
	f(nil, new(auth.CallKeys), true)
}
