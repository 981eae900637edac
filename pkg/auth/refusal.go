package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// A node that refuses a request before its handler has begun may prove that: nothing
// was processed, so the caller may send even a POST to another node. The caller names
// its attempt, and the node answers with what only a holder of the call-service key can
// make of that name. A handler sees neither, so nothing that it copies into an answer
// is believed, and a proof is good for one attempt only.
const (
	// AttemptHeader is the header in which a caller names one attempt: 16 random
	// hexadecimal digits in lower case. A caller sends it only when it can repeat the
	// request.
	AttemptHeader = "Goms-Attempt"
	// RefusedHeader is the header in which a node proves a refusal: what Refusal
	// returns, 32 hexadecimal digits in lower case.
	RefusedHeader = "Goms-Refused"
)

const (
	attemptLen = 16             // of a name
	proofBytes = 16             // of the digest that are sent
	proofLen   = 2 * proofBytes // as hexadecimal digits
)

// Refusal returns the proof that the named attempt was refused before its handler, made
// with the current key; "" when there is no key or the name is not one that a caller
// makes.
func (k *CallKeys) Refusal(attempt string) string {
	if k == nil || k.keys == nil || !isAttempt([]byte(attempt)) {
		return ""
	}
	proof := prove(k.keys().current, []byte(attempt))
	return string(proof[:])
}

// Refused reports whether proof says, under either of the keys, that the named attempt
// was refused before its handler. How long it takes does not depend on the proof's
// digits. It keeps neither argument.
func (k *CallKeys) Refused(attempt, proof []byte) bool {
	if k == nil || k.keys == nil || !isAttempt(attempt) || len(proof) != proofLen {
		return false
	}
	keys := k.keys()
	current, other := prove(keys.current, attempt), prove(keys.other, attempt)
	return subtle.ConstantTimeCompare(proof, current[:])|subtle.ConstantTimeCompare(proof, other[:]) == 1
}

// prove is the keyed digest of an attempt's name, cut to half.
func prove(key string, attempt []byte) (proof [proofLen]byte) {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte("refused "))
	mac.Write(attempt)
	hex.Encode(proof[:], mac.Sum(nil)[:proofBytes])
	return proof
}

func isAttempt(name []byte) bool {
	if len(name) != attemptLen {
		return false
	}
	for _, c := range name {
		if ('0' > c || c > '9') && ('a' > c || c > 'f') {
			return false
		}
	}
	return true
}
