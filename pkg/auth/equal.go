package auth

import "crypto/subtle"

// Equal reports whether k and other accept and send the same keys, in a time that does not depend on the keys.
func (k *CallKeys) Equal(other *CallKeys) bool {
	if k == nil || k.keys == nil || other == nil || other.keys == nil {
		return (k == nil || k.keys == nil) && (other == nil || other.keys == nil)
	}
	same := 1
	for i, d := range k.keys().digests {
		same &= subtle.ConstantTimeCompare(d[:], other.keys().digests[i][:])
	}
	return same == 1
}
