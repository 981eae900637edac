package service

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
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

// enter counts a request or call that has come, until leave, and returns why it must not
// reach a handler, "" when it may.
func (s *Service) enter(a ask) (why string) {
	others := s.busy.Add(1) - 1
	if why = s.refuses(a, others); why != "" {
		s.metrics.refusals.WithLabelValues(refusalCauses[why]).Inc()
	}
	return why
}

func (s *Service) leave() { s.busy.Add(-1) }

// refuses is enter's answer. others is how many other requests and calls there are.
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
	r := report(a.leaving(), a.busy)
	if text := r.Append(nil); len(text) > 0 {
		h[lb.ReportHeader] = []string{string(text)}
	}
	if a.proof != "" {
		h[auth.RefusedHeader] = []string{a.proof}
	}
}

// report is how the node is at this moment, for one of the requests that busy counts: it
// may be long ago that it came. busy is nil when nobody counts.
func report(leaving bool, busy *atomic.Int64) lb.Report {
	r := lb.Report{Draining: leaving}
	if busy != nil {
		r.Load = int(max(busy.Load()-1, 0))
	}
	return r
}

// rpcSide is the node as its gRPC server asks for it: a call is a request like any other.
type rpcSide struct{ s *Service }

// Enter counts a call and says why it must be refused.
func (n rpcSide) Enter(attempt string, late bool) string {
	return n.s.enter(ask{attempt: attempt, timed: late})
}

// Report is how the node is.
func (n rpcSide) Report() lb.Report { return report(n.s.leaving(), &n.s.busy) }

// Leave ends what Enter counted.
func (n rpcSide) Leave() { n.s.leave() }
