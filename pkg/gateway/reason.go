package gateway

import (
	"errors"

	"github.com/goms-io/goms/pkg/http1"
	"github.com/goms-io/goms/pkg/route"
)

// Reason says why a request was not answered by a node, or not to its end. The list is fixed: it is
// the same in answers, logs, metrics and spans.
type Reason uint8

// The reasons. ReasonNone is a request that a node answered.
const (
	ReasonNone Reason = iota
	ReasonLocal
	ReasonBadRequest
	ReasonBadPath
	ReasonHeadTooLarge
	ReasonTargetTooLong
	ReasonBadVersion
	ReasonBadCoding
	ReasonBadExpectation
	ReasonBadProtocol
	ReasonBodyTooLarge
	ReasonClientTimeout
	ReasonClientGone
	ReasonForbidden
	ReasonUnknownRoute
	ReasonUnknownService
	ReasonMethodNotAllowed
	ReasonLoop
	ReasonNoRegistry
	ReasonNoNode
	ReasonOverloaded
	ReasonConnectFailed
	ReasonNodeClosed
	ReasonBadAnswer
	ReasonNodeTimeout
	ReasonRefused
	ReasonDeadline
	ReasonInternal
	reasonCount
)

// reasons holds, for each Reason, its name, the status that answers it and a sentence for the client.
var reasons = [reasonCount]struct {
	name   string
	status int
	msg    string
}{
	ReasonNone:             {"", 0, ""},
	ReasonLocal:            {"local", 0, ""},
	ReasonBadRequest:       {"bad_request", 400, "the request is malformed or ambiguous"},
	ReasonBadPath:          {"bad_path", 400, "the path of the request is malformed or ambiguous"},
	ReasonHeadTooLarge:     {"head_too_large", 431, "the head of the request is too large"},
	ReasonTargetTooLong:    {"target_too_long", 414, "the request target is too long"},
	ReasonBadVersion:       {"bad_version", 505, "only HTTP/1.0 and HTTP/1.1 are served here"},
	ReasonBadCoding:        {"bad_coding", 501, "the only transfer coding understood is chunked"},
	ReasonBadExpectation:   {"bad_expectation", 417, "the only expectation understood is 100-continue"},
	ReasonBadProtocol:      {"bad_protocol", 501, "the only protocol that CONNECT opens here is websocket"},
	ReasonBodyTooLarge:     {"body_too_large", 413, "the body of the request is too large for this route"},
	ReasonClientTimeout:    {"client_timeout", 408, "the request did not arrive in time"},
	ReasonClientGone:       {"client_gone", 499, "the client went away"},
	ReasonForbidden:        {"forbidden", 403, "this address may not be asked from where you are"},
	ReasonUnknownRoute:     {"unknown_route", 404, "no route has this path"},
	ReasonUnknownService:   {"unknown_service", 404, "no service has this name"},
	ReasonMethodNotAllowed: {"method_not_allowed", 405, "the route does not take this method"},
	ReasonLoop:             {"loop", 508, "the request has been through this gateway before"},
	ReasonNoRegistry:       {"no_registry", 503, "the gateway has not yet learned which nodes there are"},
	ReasonNoNode:           {"no_node", 503, "no node of the service is there"},
	ReasonOverloaded:       {"overloaded", 503, "the nodes of the service have as many requests as they can take"},
	ReasonConnectFailed:    {"connect_failed", 502, "no node of the service could be reached"},
	ReasonNodeClosed:       {"node_closed", 502, "the node closed the connection before it answered"},
	ReasonBadAnswer:        {"bad_answer", 502, "the node's answer is malformed"},
	ReasonNodeTimeout:      {"node_timeout", 504, "the node did not answer in time"},
	ReasonRefused:          {"refused", 503, "no node of the service takes requests now; this one was not begun"},
	ReasonDeadline:         {"deadline", 504, "the time given to the request was over before a node could take it"},
	ReasonInternal:         {"internal", 500, "the gateway failed"},
}

// String returns the name, as in metrics; "" for ReasonNone.
func (r Reason) String() string { return reasons[r].name }

// failure is an error with the reason it stands for. The cause goes to the log, never to a client.
type failure struct {
	reason Reason
	cause  error
}

func (f *failure) Error() string {
	if f.cause == nil {
		return reasons[f.reason].name
	}
	return reasons[f.reason].name + ": " + f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

// statusOf is the one place where an error becomes a reason and a status.
func statusOf(err error) (Reason, int) {
	reason := reasonOf(err)
	return reason, reasons[reason].status
}

func reasonOf(err error) Reason {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.reason
	}
	if p, ok := errors.AsType[*http1.Error](err); ok {
		return problemReason[p.Problem]
	}
	if _, ok := errors.AsType[*route.MethodError](err); ok {
		return ReasonMethodNotAllowed
	}
	switch {
	case errors.Is(err, route.ErrNoService):
		return ReasonUnknownService
	case errors.Is(err, route.ErrNoRoute):
		return ReasonUnknownRoute
	case errors.Is(err, route.ErrPath):
		return ReasonBadPath
	}
	return ReasonInternal
}

var problemReason = [...]Reason{
	http1.ProblemNone:      ReasonInternal,
	http1.ProblemSyntax:    ReasonBadRequest,
	http1.ProblemFraming:   ReasonBadRequest,
	http1.ProblemHead:      ReasonHeadTooLarge,
	http1.ProblemTarget:    ReasonTargetTooLong,
	http1.ProblemVersion:   ReasonBadVersion,
	http1.ProblemCoding:    ReasonBadCoding,
	http1.ProblemExpect:    ReasonBadExpectation,
	http1.ProblemHost:      ReasonBadRequest,
	http1.ProblemTruncated: ReasonClientGone,
}
