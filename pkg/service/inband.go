package service

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/lb"
)

// timeoutHeader says how many milliseconds there are until the head of the answer must
// be at the caller.
const timeoutHeader = "X-Request-Timeout-Ms"

// gomsPrefix begins the names of the headers in which gateways and nodes speak to one
// another. Handlers neither see nor write them.
const gomsPrefix = "goms-"

func isGomsHeader(name string) bool {
	return len(name) >= len(gomsPrefix) && strings.EqualFold(strings.Map(dashed, name[:len(gomsPrefix)]), gomsPrefix)
}

// ask is what a caller says of its request besides the request itself.
type ask struct {
	attempt string        // the name of the attempt, "" when it cannot be repeated
	timeout time.Duration // until the head of the answer
	timed   bool          // there is a timeout
}

// askOf reads what the caller says. It is to be called before the headers are stripped.
func askOf(h http.Header) (a ask) {
	if names := h[auth.AttemptHeader]; len(names) == 1 {
		a.attempt = names[0]
	}
	for _, text := range h[timeoutHeader] {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms > int64(24*time.Hour/time.Millisecond) {
			continue // not ours, or as good as none
		}
		if d := time.Duration(max(ms, 0)) * time.Millisecond; !a.timed || d < a.timeout {
			a.timeout, a.timed = d, true
		}
	}
	return a
}

// The reasons for which a request is refused before its handler.
const (
	refusedLate     = "the time given to the request is over"
	refusedLeaving  = "the node is leaving"
	refusedOverload = "the node has as many requests as it takes"
)

// refusalCauses are the same in the metrics.
var refusalCauses = map[string]string{refusedLate: "late", refusedLeaving: "leaving", refusedOverload: "full"}

// refuses returns why the request must not reach a handler, "" when it may. others is
// how many other requests there are.
func (s *Service) refuses(a ask, others int64) string {
	most := s.config.Service.MaxInFlight
	switch {
	case a.timed && a.timeout == 0:
		return refusedLate
	case s.closing.Load() && a.attempt != "":
		// Who did not name the attempt cannot ask another node: it is still served.
		return refusedLeaving
	case most > 0 && others >= int64(most):
		return refusedOverload
	}
	return ""
}

// refuseAttempt answers a request that reaches no handler, and proves that to a caller
// who named its attempt.
func (s *Service) refuseAttempt(a *answer, rec *record, q ask, why string) {
	rec.err = "refused"
	s.metrics.refusals.WithLabelValues(refusalCauses[why]).Inc()
	a.proof = s.keys.Refusal(q.attempt)
	a.Header().Set("Cache-Control", "no-store")
	a.Header().Set("Retry-After", "1")
	refuse(a, http.StatusServiceUnavailable, why)
}

// speak writes what the node says of itself into the head of an answer, in place of
// whatever a handler put there under such names.
func (a *answer) speak() {
	h := a.Header()
	for name := range h {
		if isGomsHeader(name) {
			delete(h, name)
		}
	}
	if !a.known {
		return
	}
	r := lb.Report{Draining: a.leaving()}
	if a.busy != nil {
		r.Load = int(max(a.busy.Load()-1, 0)) // at this moment: it may be long ago that the request came
	}
	if text := r.Append(nil); len(text) > 0 {
		h[lb.ReportHeader] = []string{string(text)}
	}
	if a.proof != "" {
		h[auth.RefusedHeader] = []string{a.proof}
	}
}
