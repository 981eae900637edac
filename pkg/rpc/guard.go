package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/auth"
)

var (
	errRefused  = status.Error(codes.PermissionDenied, "call-service key missing or wrong")
	errInternal = status.Error(codes.Internal, "internal error")
)

// guard is the life of one call on the server: key, trace, recovery, record.
type guard struct {
	keys   *auth.CallKeys
	tracer *zipkin.Tracer
	log    *slog.Logger
	node   Node // nil: there is nobody to ask
}

func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	c := g.begin(ctx, info.FullMethod)
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, c.panicked(p)
		}
		c.end(err)
	}()
	if ctx, err = c.admit(); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	c := g.begin(ss.Context(), info.FullMethod)
	defer func() {
		if p := recover(); p != nil {
			err = c.panicked(p)
		}
		c.end(err)
	}()
	ctx, err := c.admit()
	if err != nil {
		return err
	}
	return handler(srv, &guardedStream{ServerStream: ss, ctx: ctx})
}

// guardedStream shows handlers the context without the key.
type guardedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context of the call, without the call-service key.
func (s *guardedStream) Context() context.Context { return s.ctx }

// call is one call in progress.
type call struct {
	g      *guard
	ctx    context.Context // this type is one call
	method string
	start  time.Time
	span   zipkin.Span

	entered bool   // the node counts it
	proof   string // that the node refused it; "" when it did not
}

func (g *guard) begin(ctx context.Context, method string) *call {
	return &call{g: g, ctx: ctx, method: method, start: time.Now()}
}

// admit checks the key, asks the node, and returns the context handlers see.
func (c *call) admit() (context.Context, error) {
	md, _ := metadata.FromIncomingContext(c.ctx)
	if !c.g.admits(md) {
		return nil, errRefused
	}
	attempt := ""
	if names := md[attemptMetadata]; len(names) == 1 {
		attempt = names[0]
	}
	delete(md, KeyMetadata) // FromIncomingContext returns a copy
	stripGoms(md)
	ctx := metadata.NewIncomingContext(c.ctx, md)
	if err := c.enter(ctx, attempt); err != nil {
		return nil, err
	}
	if c.g.tracer == nil {
		return ctx, nil
	}
	c.span = c.g.tracer.StartSpan(spanName(c.method),
		zipkin.Kind(model.Server), zipkin.StartTime(c.start), zipkin.Parent(fromMetadata(md)))
	return zipkin.NewContext(ctx, c.span), nil
}

// panicked logs a panic and returns what the caller is told of it: nothing.
func (c *call) panicked(p any) error {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return errInternal
	}
	c.g.log.Error("handler panicked", "method", c.method,
		"err", c.g.redact(fmt.Sprint(p)), "stack", c.g.redact(string(debug.Stack())))
	return errInternal
}

// end says how the node is, writes the one record of the call and finishes its span.
func (c *call) end(err error) {
	c.speak()
	code := status.Code(err)
	if c.span != nil {
		finishSpan(c.span, err)
	}
	level := slog.LevelInfo
	if internal(c.method) {
		level = slog.LevelDebug
	}
	if !c.g.log.Enabled(c.ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", c.method), slog.String("status", code.String()),
		slog.Duration("duration", time.Since(c.start)), slog.String("addr", peerAddr(c.ctx)),
	}
	if c.span != nil {
		attrs = append(attrs, slog.String("trace_id", c.span.Context().TraceID.String()))
	}
	c.g.log.LogAttrs(c.ctx, level, "rpc", attrs...)
}

// admits reports whether md carries exactly one key and it is valid.
func (g *guard) admits(md metadata.MD) bool {
	got := md[KeyMetadata]
	return g.keys != nil && len(got) == 1 && g.keys.Valid(got[0])
}

// refused records a call the tap turned away.
func (g *guard) refused(ctx context.Context, method string) {
	g.log.LogAttrs(ctx, slog.LevelInfo, "rpc", slog.String("method", bounded(method)),
		slog.String("status", codes.PermissionDenied.String()), slog.String("addr", peerAddr(ctx)))
}

// redact removes the key from text that did not come from us. Handlers never see
// the key, so this is the second lock on the same door.
func (g *guard) redact(text string) string {
	if g.keys == nil {
		return text
	}
	return strings.ReplaceAll(text, g.keys.Current(), "***")
}

func peerAddr(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// bounded shortens what a stranger sent before it reaches a log.
func bounded(s string) string {
	const limit = 200
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
