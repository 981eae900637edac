package route

import (
	"slices"
	"strings"
	"time"
)

// RetriesUnset is the Retries of a rule whose route does not say.
const RetriesUnset = -1

// otherMethod stands for every method without a name of its own in span names, so that
// a client cannot make up new ones.
const otherMethod = "HTTP"

// common are the methods that have span names of their own in a rule that lists none,
// and that its Allow names, sorted.
var common = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// Rule is a compiled route. Its strings live as long as the program cares to hold
// them. It is immutable: do not modify its fields.
type Rule struct {
	// Service is the service that serves the route.
	Service string
	// Action is the route's name within the service.
	Action string
	// Path is the path to send to a node of the service, canonical, without a query.
	Path string
	// Name is the path that clients use, such as "/api/user/login": the rule's name in
	// metrics and logs.
	Name string
	// Timeout bounds the time until the head of the answer is there, all attempts
	// together; 0 means the gateway's default.
	Timeout time.Duration
	// AttemptTimeout bounds one attempt within Timeout, when another node may be asked
	// instead; 0 means that it does not.
	AttemptTimeout time.Duration
	// Hedge is after how long without an answer a second node is asked beside the
	// first; 0 means never.
	Hedge time.Duration
	// IdempotencyKey says that the service's nodes do a request with an Idempotency-Key
	// once, however often it comes.
	IdempotencyKey bool
	// Retries is how many further attempts there may be after the first; RetriesUnset
	// means the gateway's default.
	Retries int
	// MaxBody bounds the request's body in bytes; 0 means the gateway's default.
	MaxBody int64

	any     bool     // no methods listed: all but the unroutable ones
	methods []method // those with a span name of their own, sorted
	other   string   // the span name of methods that are not in methods
	refusal *MethodError
}

// MethodError says that a route does not serve a request's method.
type MethodError struct {
	// Allow lists the methods that the route serves, as the header of that name does:
	// "GET, HEAD".
	Allow string
}

// Error returns the message.
func (e *MethodError) Error() string { return "method not allowed: the route serves " + e.Allow }

// method is a method and the name of its spans.
type method struct{ name, span string }

// Allow returns the methods that the rule serves, as the header of that name lists
// them. For a rule without a list these are the common ones.
func (r *Rule) Allow() string { return r.refusal.Allow }

// SpanName returns the name of a span for a request with the given method, such as
// "POST /api/user/login"; a method that is neither listed nor common is named "HTTP".
// It allocates nothing.
func (r *Rule) SpanName(method []byte) string {
	for i := range r.methods {
		if r.methods[i].name == string(method) {
			return r.methods[i].span
		}
	}
	return r.other
}

// serves reports whether the rule serves requests with the given method.
func (r *Rule) serves(method []byte) bool {
	if r.any {
		return !unroutable(string(method))
	}
	for i := range r.methods {
		if r.methods[i].name == string(method) {
			return true
		}
	}
	return false
}

// unroutable reports whether no route may serve the method: CONNECT does not ask for a
// path, and the answer to TRACE repeats the request's headers, also those that the
// client must not see.
func unroutable(method string) bool { return method == "CONNECT" || method == "TRACE" }

// newRule compiles a valid route.
func newRule(prefix, service, action string, route Route) *Rule {
	r := &Rule{
		Service: service,
		Action:  action,
		Path:    route.Path,
		Name:    prefix + "/" + service + "/" + action,
		Timeout: route.Timeout,
		Retries: RetriesUnset,
		MaxBody: int64(route.MaxBody),
		any:     len(route.Methods) == 0,

		AttemptTimeout: route.AttemptTimeout,
		Hedge:          route.Hedge,
		IdempotencyKey: route.IdempotencyKey,
	}
	if route.Retries != nil {
		r.Retries = *route.Retries
	}
	names := slices.Clone(route.Methods)
	if r.any {
		names = common
	} else if slices.Contains(names, "GET") && !slices.Contains(names, "HEAD") {
		names = append(names, "HEAD")
	}
	names = slices.Sorted(slices.Values(names))
	for _, name := range names {
		r.methods = append(r.methods, method{name: name, span: name + " " + r.Name})
	}
	r.other = otherMethod + " " + r.Name
	r.refusal = &MethodError{Allow: strings.Join(names, ", ")}
	return r
}
