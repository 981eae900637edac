package rpc_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/openzipkin/zipkin-go/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/rpc"
)

// plain is a client that adds nothing of ours.
func plain(t *testing.T, n *node) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestKeyIsRequired(t *testing.T) {
	n := start(t, "a")
	cc := plain(t, n)
	calls := map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error {
			_, err := testpb.NewTestServiceClient(cc).UnaryCall(ctx, ask("who"))
			return err
		},
		"stream": func(ctx context.Context) error {
			s, err := testpb.NewTestServiceClient(cc).FullDuplexCall(ctx)
			if err != nil {
				return err
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			if _, err = s.Recv(); err.Error() == "EOF" {
				return nil
			}
			return err
		},
		"health": func(ctx context.Context) error {
			r, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
			if err == nil && r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("Check() = %v, want SERVING", r.GetStatus())
			}
			return err
		},
		"reflection": func(ctx context.Context) error {
			s, err := reflectionpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
			if err != nil {
				return err
			}
			err = s.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
			if err != nil && err != io.EOF { // EOF: the answer is there already
				return err
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			_, err = s.Recv()
			return err
		},
		"unknown": func(ctx context.Context) error {
			return cc.Invoke(ctx, "/nobody.Knows/This", &testpb.Empty{}, &testpb.Empty{})
		},
	}
	mds := map[string]metadata.MD{
		"missing": nil,
		"empty":   metadata.Pairs(rpc.KeyMetadata, ""),
		"wrong":   metadata.Pairs(rpc.KeyMetadata, key+"x"),
		"twice":   metadata.Pairs(rpc.KeyMetadata, key, rpc.KeyMetadata, key),
		"other":   metadata.Pairs("call_service_key", key),
	}
	for name, call := range calls {
		for kind, md := range mds {
			err := call(metadata.NewOutgoingContext(t.Context(), md))
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s with %s key = %v, want PermissionDenied", name, kind, err)
			}
		}
		err := call(metadata.NewOutgoingContext(t.Context(), metadata.Pairs(rpc.KeyMetadata, key)))
		want := codes.OK
		if name == "unknown" {
			want = codes.Unimplemented
		}
		if status.Code(err) != want {
			t.Errorf("%s with key = %v, want %v", name, err, want)
		}
	}
	if !strings.Contains(n.log.String(), "PermissionDenied") {
		t.Error("refused calls left no record")
	}
	if strings.Contains(n.log.String(), key) {
		t.Error("the key is in the log")
	}
}

func TestHandlersDoNotSeeTheKey(t *testing.T) {
	var intercepted metadata.MD
	n := start(t, "a", grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		intercepted, _ = metadata.FromIncomingContext(ctx)
		return h(ctx, req)
	}))
	_, c := dial(t, rpc.DialConfig{}, n)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-mine", "1")
	if _, err := c.UnaryCall(ctx, ask("who")); err != nil {
		t.Fatal(err)
	}
	for who, md := range map[string]metadata.MD{"handler": n.metadata(), "interceptor": intercepted} {
		if got := md.Get(rpc.KeyMetadata); len(got) != 0 {
			t.Errorf("%s sees the key", who)
		}
		if got := md.Get("x-mine"); len(got) != 1 || got[0] != "1" {
			t.Errorf("%s sees x-mine = %q, want 1", who, got)
		}
	}
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.CloseSend()
	s.Recv()
	if got := n.metadata().Get(rpc.KeyMetadata); len(got) != 0 {
		t.Error("stream handler sees the key")
	}
}

func TestPanicEndsOneCall(t *testing.T) {
	n := start(t, "a")
	_, c := dial(t, rpc.DialConfig{}, n)
	_, err := c.UnaryCall(t.Context(), ask("panic"))
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "boom") {
		t.Errorf("UnaryCall() that panics = %v, want Internal without detail", err)
	}
	s, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte("panic")}}); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Recv(); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "boom") {
		t.Errorf("stream that panics = %v, want Internal without detail", err)
	}
	if _, err := c.UnaryCall(t.Context(), ask("who")); err != nil {
		t.Errorf("UnaryCall() after a panic = %v", err)
	}
	log := n.log.String()
	for _, want := range []string{"handler panicked", "boom: ***", "main_test.go"} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q", want)
		}
	}
	if strings.Contains(log, key) {
		t.Error("the key is in the log")
	}
}

func TestServerJoinsTrace(t *testing.T) {
	const traceID, spanID = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	for name, md := range map[string]metadata.MD{
		"b3":          metadata.Pairs("b3", traceID+"-"+spanID+"-1"),
		"b3 multi":    metadata.Pairs("X-B3-TraceId", traceID, "X-B3-SpanId", spanID, "X-B3-Sampled", "1"),
		"traceparent": metadata.Pairs("traceparent", "00-"+traceID+"-"+spanID+"-01"),
	} {
		n := start(t, "a")
		cc := plain(t, n)
		md.Set(rpc.KeyMetadata, key)
		if _, err := testpb.NewTestServiceClient(cc).UnaryCall(metadata.NewOutgoingContext(t.Context(), md), ask("who")); err != nil {
			t.Fatal(err)
		}
		var spans []model.SpanModel
		poll(t, "a span", func() bool { spans = append(spans, n.rec.Flush()...); return len(spans) > 0 })
		s := spans[0]
		if s.TraceID.String() != traceID || s.ParentID == nil || s.ParentID.String() != spanID || s.ID.String() == spanID {
			t.Errorf("%s: span %v of trace %v with parent %v", name, s.ID, s.TraceID, s.ParentID)
		}
		if s.Kind != model.Server || s.Name != "grpc.testing.TestService/UnaryCall" {
			t.Errorf("%s: span is %v %q", name, s.Kind, s.Name)
		}
	}
}

func TestMessageLimit(t *testing.T) {
	n := start(t, "a")
	_, c := dial(t, rpc.DialConfig{}, n)
	if _, err := c.UnaryCall(t.Context(), ask(strings.Repeat("x", rpc.MaxMessage-100))); err != nil {
		t.Errorf("UnaryCall() just below the limit = %v", err)
	}
	_, err := c.UnaryCall(t.Context(), ask(strings.Repeat("x", rpc.MaxMessage+1)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("UnaryCall() above the limit = %v, want ResourceExhausted", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpc.KeyMetadata, key)
	_, err = testpb.NewTestServiceClient(plain(t, n)).UnaryCall(ctx, ask(strings.Repeat("x", rpc.MaxMessage+1)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("UnaryCall() of another client above the limit = %v, want ResourceExhausted", err)
	}
}
