package auth_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/goms-io/goms/pkg/auth"
)

const attempt = "0123456789abcdef"

func TestRefusal(t *testing.T) {
	one, two := newKeys(t, canary), newKeys(t, canary, old)
	proof := one.Refusal(attempt)
	if raw, err := hex.DecodeString(proof); err != nil || len(raw) != 16 || strings.Contains(proof, canary) {
		t.Fatalf("Refusal() = %q, want 32 hexadecimal digits", proof)
	}
	// What others need to make the same: HMAC-SHA256(key, "refused " + attempt), its first half.
	if want := "f36cbcffa03f66ac712710be46b993f2"; proof != want {
		t.Errorf("Refusal() = %q, want %q", proof, want)
	}
	f := func(k *auth.CallKeys, attempt, proof string, want bool) {
		t.Helper()
		if got := k.Refused([]byte(attempt), []byte(proof)); got != want {
			t.Errorf("Refused(%q, %q) = %v, want %v", attempt, proof, got, want)
		}
	}
	f(one, attempt, proof, true)
	f(two, attempt, proof, true)
	f(two, attempt, newKeys(t, old).Refusal(attempt), true) // a node that has the old key only
	f(newKeys(t, old, canary), attempt, proof, true)
	f(one, attempt, newKeys(t, old).Refusal(attempt), false)
	f(newKeys(t, old), attempt, proof, false)
	f(one, "0123456789abcde0", proof, false) // said of another attempt
	f(one, attempt, "", false)
	f(one, attempt, proof[1:], false)
	f(one, attempt, proof+"0", false)
	f(one, attempt, strings.ToUpper(proof), false)
	f(one, attempt, strings.Repeat("0", len(proof)), false)
	f(one, "", proof, false)
	for _, none := range []*auth.CallKeys{nil, {}} {
		f(none, attempt, proof, false)
		if got := none.Refusal(attempt); got != "" {
			t.Errorf("Refusal() without a key = %q", got)
		}
	}
}

func TestRefusalOfNoAttempt(t *testing.T) {
	k := newKeys(t, canary)
	for _, name := range []string{"", "0", attempt[1:], attempt + "0", strings.ToUpper(attempt), "0123456789abcdeg", "0123456789abcde\n", strings.Repeat("a", 1<<20)} {
		if got := k.Refusal(name); got != "" {
			t.Errorf("Refusal(%.20q) = %q, want none", name, got)
		}
	}
}
