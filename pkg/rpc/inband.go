package rpc

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/lb"
)

// What callers and nodes tell one another beside a call and its answer, in metadata that
// neither callers nor handlers see or send. Meaning and form are those of the headers of
// the same names: see lb.ReportHeader, auth.AttemptHeader and auth.RefusedHeader. What a
// node says comes in the trailer, and behind what a handler may have put there: of
// several values the last counts.
const (
	gomsPrefix      = "goms-"
	attemptMetadata = gomsPrefix + "attempt"
	refusedMetadata = gomsPrefix + "refused"
	reportMetadata  = gomsPrefix + "node"
)

// Node is the node behind a server. All methods may run together. Calls of grpc's own
// services, health and reflection, are none of its business: they are answered whatever
// it says.
type Node interface {
	// Enter counts a call that holds the call-service key, and returns why it must not
	// reach its handler, "" when it may. attempt is the name of the attempt, "" when the
	// caller could not repeat it elsewhere; late says that the caller's deadline is over.
	// The reason is told to the caller.
	Enter(attempt string, late bool) (refusal string)
	// Report is how the node is, from within a call that is counted: its load is that of
	// the others.
	Report() lb.Report
	// Leave ends what Enter counted, whatever it returned.
	Leave()
}

// enter asks the node whether the call may reach its handler. attempt is the name that
// the caller gave it.
func (c *call) enter(ctx context.Context, attempt string) error {
	if c.g.node == nil || internal(c.method) {
		return nil
	}
	late := ctx.Err() != nil
	c.entered = true
	why := c.g.node.Enter(attempt, late)
	if why == "" {
		return nil
	}
	c.proof = c.g.keys.Refusal(attempt)
	if late {
		return status.Error(codes.DeadlineExceeded, why)
	}
	return status.Error(codes.Unavailable, why)
}

// speak says in the trailer how the node is, and whether it refused the call.
func (c *call) speak() {
	if !c.entered {
		return
	}
	md := metadata.MD{reportMetadata: {string(c.g.node.Report().Append(nil))}}
	if c.proof != "" {
		md[refusedMetadata] = []string{c.proof}
	}
	c.g.node.Leave()
	// It fails when the trailer has left, which it has not before the call ends here.
	_ = grpc.SetTrailer(c.ctx, md)
}

// internal reports whether a method is of grpc's own services: health and reflection.
func internal(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// stripGoms removes what is not for callers and handlers. md is changed.
func stripGoms(md metadata.MD) {
	for name := range md {
		if strings.HasPrefix(name, gomsPrefix) {
			delete(md, name)
		}
	}
}

// lastOf returns the last value, if there is one.
func lastOf(values []string) (value string, ok bool) {
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}

// options are the caller's, of which finish are to be called once when all attempts have
// ended, and trailers then hold what is the caller's.
type options struct {
	each     []grpc.CallOption // of each attempt
	finish   []func(error)
	trailers []*metadata.MD
}

func newOptions(all []grpc.CallOption) options {
	o := options{each: make([]grpc.CallOption, 0, len(all))}
	for _, opt := range all {
		switch v := opt.(type) {
		case grpc.OnFinishCallOption:
			o.finish = append(o.finish, v.OnFinish)
			continue
		case grpc.TrailerCallOption:
			o.trailers = append(o.trailers, v.TrailerAddr)
		}
		o.each = append(o.each, opt)
	}
	return o
}

// end is called when the call has ended.
func (o options) end(err error) {
	for _, md := range o.trailers {
		stripGoms(*md)
	}
	for _, f := range o.finish {
		f(err)
	}
}

// stream is a stream whose trailer is the caller's.
type stream struct{ grpc.ClientStream }

// Trailer returns the trailer without what is not for callers.
func (s stream) Trailer() metadata.MD {
	md := s.ClientStream.Trailer().Copy()
	stripGoms(md)
	return md
}
