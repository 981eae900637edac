package rpc

import (
	"context"
	"strings"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/trace"
)

// fromMetadata reads the caller's trace: B3 single, B3 multi, then traceparent. Without
// one the result may still hold a decision.
func fromMetadata(md metadata.MD) model.SpanContext {
	var carrier trace.Carrier
	carrier.Extract(md.Get)
	c, _ := carrier.Context()
	return c.Zipkin()
}

// outgoing returns ctx with the metadata of a call to a node: the caller's own,
// less any key, trace and word of ours he set, plus the trace of span. The key itself is added
// by callKey, below every interceptor.
func outgoing(ctx context.Context, span zipkin.Span) context.Context {
	md, ok := metadata.FromOutgoingContext(ctx) // a copy, names in lower case
	if !ok {
		md = metadata.MD{}
	}
	delete(md, KeyMetadata)
	stripGoms(md)
	if span != nil {
		for name := range md {
			if traceName(name) {
				delete(md, name)
			}
		}
		trace.FromZipkin(span.Context()).Inject(func(name, value string) { md.Set(name, value) })
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// traceName reports whether a metadata name (lower case) carries a trace.
func traceName(name string) bool {
	return name == "b3" || name == "traceparent" || name == "tracestate" || strings.HasPrefix(name, "x-b3-")
}

func spanName(method string) string { return strings.TrimPrefix(method, "/") }

func finishSpan(span zipkin.Span, err error) {
	if code := status.Code(err); code != codes.OK {
		span.Tag("grpc.status_code", code.String())
		zipkin.TagError.Set(span, code.String())
	}
	span.Finish()
}

// callKey adds the call-service key to each call. It sits below interceptors and
// stats handlers, so none of them can log the key.
type callKey struct{ keys *auth.CallKeys }

// GetRequestMetadata returns the key as metadata.
func (k callKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{KeyMetadata: k.keys.Current()}, nil
}

// RequireTransportSecurity is false: nodes talk on a private network.
func (k callKey) RequireTransportSecurity() bool { return false }

// String hides the key from anything that prints the credentials.
func (k callKey) String() string { return "***" }

// GoString hides the key from %#v.
func (k callKey) GoString() string { return "***" }
