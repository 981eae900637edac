package gateway

import (
	"strconv"
	"time"

	"github.com/goms-io/goms/pkg/http1"
)

// A request has one deadline: the route's time for the head of its answer, or less when the client says
// so. What is left of it goes along to the node with each attempt.
//
// Anybody may ask for less time than the route gives, nobody for more: who hurts himself needs no trust.
// What a client asked for is never a node's fault.

const (
	timeoutHeader = "X-Request-Timeout-Ms"
	timeoutAlias  = "x-request-timeout-ms"
)

// noTimeout is a timeout that nobody asked for.
const noTimeout time.Duration = -1

// longestTimeout bounds what is asked for, so that sums do not overflow.
const longestTimeout = 1000 * time.Hour

// siftTimeout takes in how much time the client gives the request. Of several the least counts; what
// cannot be read says nothing.
func (x *exchange) siftTimeout(value []byte, o owned) {
	var d time.Duration
	var ok bool
	if o == ownGRPCTimeout {
		d, ok = parseGRPCTimeout(value)
	} else {
		d, ok = parseDigits(value, 10, time.Millisecond)
	}
	if !ok {
		return
	}
	if x.asked == noTimeout || d < x.asked {
		x.asked = d
	}
	if o == ownGRPCTimeout && (x.rpcAsked == noTimeout || d < x.rpcAsked) {
		x.rpcAsked = d
	}
}

// parseGRPCTimeout reads up to eight digits and a unit, as gRPC over HTTP/2 writes them.
func parseGRPCTimeout(value []byte) (time.Duration, bool) {
	if len(value) < 2 {
		return 0, false
	}
	unit, ok := time.Duration(0), true
	switch value[len(value)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		ok = false
	}
	if !ok {
		return 0, false
	}
	return parseDigits(value[:len(value)-1], 8, unit)
}

// parseDigits reads a number of units.
func parseDigits(digits []byte, most int, unit time.Duration) (time.Duration, bool) {
	if len(digits) == 0 || len(digits) > most {
		return 0, false
	}
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return time.Duration(min(n, int64(longestTimeout/unit))) * unit, true
}

// total is the time until the head of the answer must be there.
func (x *exchange) total() time.Duration {
	d := x.answerTimeout()
	if x.asked != noTimeout && x.asked < d {
		return x.asked
	}
	return d
}

// instant is a time on the sweep's clock, which steps; this one does not.
func instant(t time.Time) int64 { return int64(t.Sub(clockStart)) + 1 }

// timeAttempt sets the times of the attempt that begins now: until when it may take, and whether it is
// given less than is left because another node could still be asked.
func (x *exchange) timeAttempt(now time.Time) {
	x.began, x.asking = now, time.Time{}
	x.attemptLimit = 0
	if d := x.rule.AttemptTimeout; d > 0 && x.movable() && x.othersLeft() {
		if soft := instant(now) + int64(d); soft < x.limit {
			x.attemptLimit = soft
		}
	}
}

// othersLeft reports whether another node could well take the request after this attempt.
func (x *exchange) othersLeft() bool {
	return x.attempts < maxAttempts && x.pool.Others(x.tried[:x.attempts])
}

// connectTimeout is how long the attempt may take to connect, and whether that is less than a node is given: by
// the setting, or by the route for one attempt.
func (x *exchange) connectTimeout() (patience time.Duration, hurried bool) {
	limit := x.limit
	if x.attemptLimit != 0 {
		limit = x.attemptLimit
	}
	patience = x.gw.set().ConnectTimeout
	if left := max(time.Duration(limit-instant(x.began)), time.Millisecond); left < patience {
		return left, x.attemptLimit == 0
	}
	return patience, false
}

// appendTimeout appends how much time the node has. While the request's body is still coming only what
// the client asked for counts: the route's time runs from the end of the body.
func (x *exchange) appendTimeout(dst []byte) []byte {
	limit := x.limit
	if x.attemptLimit != 0 {
		limit = x.attemptLimit
	}
	if !x.whole {
		limit = 0
		if x.asked != noTimeout {
			limit = instant(x.start) + int64(x.asked)
		}
	}
	if limit != 0 {
		dst = append(dst, timeoutHeader+": "...)
		dst = appendMillis(dst, time.Duration(limit-instant(x.began)))
		dst = append(dst, "\r\n"...)
	}
	if x.rpcAsked != noTimeout {
		// A call's timeout is for the whole of its answer, which may be a long stream.
		dst = append(dst, "Grpc-Timeout: "...)
		dst = appendMillis(dst, x.rpcAsked-x.began.Sub(x.start))
		dst = append(dst, "m\r\n"...)
	}
	return dst
}

// appendMillis appends what is left in milliseconds: at least one, at most eight digits, which are a day.
func appendMillis(dst []byte, left time.Duration) []byte {
	return strconv.AppendInt(dst, min(max(int64((left+time.Millisecond-1)/time.Millisecond), 1), 99_999_999), 10)
}

// keyed reports whether the client named the request by exactly one Idempotency-Key, and the route says
// that nodes know requests by it.
func (x *exchange) keyed() bool {
	if !x.rule.IdempotencyKey {
		return false
	}
	keys := 0
	for i := range x.req.Fields {
		f := &x.req.Fields[i]
		if http1.EqualFold(f.Name, "idempotency-key") && !f.Nominated {
			keys++
			if len(f.Value) == 0 {
				return false
			}
		}
	}
	return keys == 1
}

// repeatable reports whether a node that may have begun the request may be followed by another.
func (x *exchange) repeatable() bool { return x.idempotent() || x.keyed() }
