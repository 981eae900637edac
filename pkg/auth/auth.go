// Package auth says who may call a node.
//
// The call-service key is a secret that gateways and services share. Whoever calls a
// node sends it in the header Call-Service-Key, and the node answers nobody else:
//
//	keys, err := auth.NewCallKeys("the new key", "the old one, until all have the new")
//	…
//	if !keys.Valid(r.Header.Get(auth.CallKeyHeader)) { // 403 }
//	r.Header.Set(auth.CallKeyHeader, keys.Current())   // calling another node
//
// With the same key a node proves that it refused a request before its handler, see
// AttemptHeader.
//
// The package knows nothing of requests, configuration or logs, and does its best that
// a key is in none of the latter.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// CallKeyHeader is the header that carries the call-service key.
const CallKeyHeader = "Call-Service-Key"

const (
	maxKey  = 256
	goodKey = 16 // bytes that a key should have
	masked  = "***"
)

// published are keys that stand in documentation: everybody knows them.
var published = []string{"goms by panco"}

// CallKeys are the one or two call-service keys that are valid, two while one replaces
// the other. They are immutable, but for those that Follow others, and safe for
// concurrent use. However they are printed,
// logged or marshalled, "***" is what comes out. The nil and the zero CallKeys accept
// nothing.
type CallKeys struct {
	// A function, because printing by reflection cannot look into one. A pointer would
	// not do: inside of another struct's unexported field fmt cannot call Format, and
	// for a verb such as %s follows pointers.
	keys func() *keys
}

type keys struct {
	current string
	other   string // with one key, it too
	weak    string
	digests [2][sha256.Size]byte // with one key, both are its
}

// NewCallKeys returns the valid keys, the one to send first. Each is of 1 to 256
// printable ASCII characters, without blanks at its ends. Errors never quote a key.
func NewCallKeys(all ...string) (*CallKeys, error) {
	if len(all) == 0 {
		return nil, errors.New("make call keys: there is none")
	}
	if len(all) > 2 {
		return nil, fmt.Errorf("make call keys: there are %d, at most 2 can be valid", len(all))
	}
	k := &keys{current: all[0], other: all[len(all)-1]}
	for i, key := range all {
		if err := check(key); err != nil {
			return nil, fmt.Errorf("make call keys: key %d: %w", i+1, err)
		}
		if k.weak == "" {
			k.weak = weakness(key)
		}
	}
	k.digests[0] = sha256.Sum256([]byte(all[0]))
	k.digests[1] = sha256.Sum256([]byte(all[len(all)-1]))
	return &CallKeys{func() *keys { return k }}, nil
}

// Follow returns keys that are, whenever they are used, those that now returns. It is
// for whoever is made once and has to go on when keys are replaced. now must be safe for
// concurrent use, quick, and return what NewCallKeys made, never nil.
func Follow(now func() *CallKeys) *CallKeys {
	return &CallKeys{func() *keys { return now().keys() }}
}

// Valid reports whether got is one of the keys, in a time that depends on got's length
// only. It does not allocate.
func (k *CallKeys) Valid(got string) bool {
	var buf [maxKey]byte
	if len(got) > len(buf) {
		return false
	}
	return k.ValidBytes(buf[:copy(buf[:], got)])
}

// ValidBytes is Valid for bytes, which it does not keep.
func (k *CallKeys) ValidBytes(got []byte) bool {
	if k == nil || k.keys == nil || len(got) > maxKey {
		return false
	}
	valid := &k.keys().digests
	digest := sha256.Sum256(got)
	first := subtle.ConstantTimeCompare(digest[:], valid[0][:])
	second := subtle.ConstantTimeCompare(digest[:], valid[1][:])
	return first|second == 1
}

// Current returns the key to send: the first. It is the one way to get at a key.
func (k *CallKeys) Current() string {
	if k == nil || k.keys == nil {
		return ""
	}
	return k.keys().current
}

// Weak returns why a key should be replaced, "" when none needs to be: it is shorter
// than 16 bytes, or published in documentation.
func (k *CallKeys) Weak() string {
	if k == nil || k.keys == nil {
		return ""
	}
	return k.keys().weak
}

// String returns "***".
func (k CallKeys) String() string { return masked }

// GoString returns "***", for %#v.
func (k CallKeys) GoString() string { return masked }

// Format writes "***" whatever the verb.
func (k CallKeys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(masked)) }

// LogValue returns "***", for slog.
func (k CallKeys) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText returns "***", for JSON, YAML and others.
func (k CallKeys) MarshalText() ([]byte, error) { return []byte(masked), nil }

func check(key string) error {
	if key == "" {
		return errors.New("it is empty")
	}
	if len(key) > maxKey {
		return fmt.Errorf("it has %d bytes, at most %d can be sent", len(key), maxKey)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return fmt.Errorf("byte %d is not a printable ASCII character", i+1)
		}
	}
	if key[0] == ' ' || key[len(key)-1] == ' ' {
		return errors.New("it begins or ends with a blank")
	}
	return nil
}

func weakness(key string) string {
	for _, p := range published {
		if key == p {
			return "it is published in documentation"
		}
	}
	if len(key) < goodKey {
		return fmt.Sprintf("it is shorter than %d bytes", goodKey)
	}
	return ""
}
