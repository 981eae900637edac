package certs

import "time"

// SetRetry makes the pause after a failed order d.
func (a *ACME) SetRetry(d time.Duration) { a.retry = d }

// RetryAfter is how long the authority is left alone when its answer says s.
var RetryAfter = retryAfter
