package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/goms-io/goms/pkg/trace"
)

// finish records the outcome of the exchange: figures, span, access record. It is the one place for it.
func (x *exchange) finish() {
	g := x.gw
	took := x.took
	if took == 0 {
		took = time.Since(x.start)
	}
	if x.stats == nil {
		x.stats = g.metrics.unmatched
	}
	x.stats.observe(x.status, took)
	if x.reason != ReasonNone {
		g.metrics.reasons[x.reason].Add(1)
	}
	if x.rule != nil && x.trace.Sampling.Sampled() {
		s := trace.Span{
			Context: x.trace, Kind: trace.Server, Name: x.rule.SpanName(x.req.Method), Start: x.start, Duration: took,
			Method: methodName(x.req.Method), Route: x.rule.Name,
			Status: x.status, Error: x.reason.String(), RemoteAddr: x.peer,
		}
		g.tracer.Record(&s)
	}
	if g.set().AccessLog {
		x.accessRecord(took)
	}
}

// recordAttempt records the client span of one attempt.
func (x *exchange) recordAttempt(ctx trace.Context, u *upstream, began time.Time, err error) {
	if !ctx.Sampling.Sampled() {
		return
	}
	took := time.Since(x.start)
	if x.took = took; err != nil { // else the answer has passed, and the request is over too
		x.took = 0
	}
	s := trace.Span{
		Context: ctx, Kind: trace.Client, Name: x.rule.SpanName(x.req.Method), Route: x.rule.Name, Method: methodName(x.req.Method),
		RemoteService: x.rule.Service, RemoteAddr: u.remote, Start: began, Duration: took - began.Sub(x.start), Attempt: x.attempts,
	}
	if err != nil {
		s.Error = reasonOf(err).String()
	} else {
		s.Status = x.status
	}
	x.gw.tracer.Record(&s)
}

// accessRecord writes the one log record of a request.
func (x *exchange) accessRecord(took time.Duration) {
	service, route := "", ""
	if x.rule != nil {
		service, route = x.rule.Service, x.rule.Name
	}
	node := ""
	if x.attempts > 0 {
		node = x.tried[x.attempts-1].ID()
	}
	x.gw.log.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("to", service), slog.String("route", route), slog.String("method", string(x.req.Method)),
		slog.Int("status", x.status), slog.String("reason", x.reason.String()), slog.Duration("duration", took),
		slog.String("to_node", node), slog.Int("attempt", x.attempts), slog.String("addr", x.peer.String()),
		slog.String("request_id", string(x.id)), slog.String("trace_id", x.trace.TraceID.String()))
}

// methodName returns the method as a string that outlives the request; "other" for uncommon ones.
func methodName(method []byte) string {
	for _, m := range [...]string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"} {
		if m == string(method) {
			return m
		}
	}
	return "other"
}

// statusText is the reason phrase; 499 is this gateway's own and never sent.
func statusText(code int) string {
	if t := http.StatusText(code); t != "" {
		return t
	}
	return "Status"
}
