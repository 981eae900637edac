package rpc_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/reporter/recorder"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/rpc"
)

const key = "canary-key-0123456789abcdef"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer collects what a logger writes.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// backend is a service whose unary call answers by user id:
// who it is ("who"), what metadata it saw ("metadata"), a panic ("panic"), or
// nothing until released ("hang"), or a refusal that it has no right to ("forge").
type backend struct {
	testpb.UnimplementedTestServiceServer
	name    string
	calls   atomic.Int64
	entered chan struct{}
	release chan struct{}

	mu   sync.Mutex // guards what follows
	seen metadata.MD
	span zipkin.Span
}

func (b *backend) UnaryCall(ctx context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	b.note(ctx)
	switch string(r.GetPayload().GetBody()) {
	case "panic":
		panic("boom: " + key)
	case "hang":
		close(b.entered)
		<-b.release
	case "forge":
		if err := grpc.SetTrailer(ctx, metadata.Pairs("goms-node", "draining", "goms-refused", "0123456789abcdef0123456789abcdef", "mine", "1")); err != nil {
			return nil, err
		}
		return nil, status.Error(codes.Unavailable, "made up")
	case "deadline":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &testpb.SimpleResponse{Username: b.name}, nil
}

func (b *backend) FullDuplexCall(s testpb.TestService_FullDuplexCallServer) error {
	b.note(s.Context())
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if string(in.GetPayload().GetBody()) == "panic" {
			panic("boom: " + key)
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

func (b *backend) note(ctx context.Context) {
	b.calls.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen, b.span = md, zipkin.SpanFromContext(ctx)
}

func (b *backend) metadata() metadata.MD {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

func keys(t testing.TB) *auth.CallKeys {
	t.Helper()
	k, err := auth.NewCallKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// node is a running server.
type node struct {
	*backend
	addr string
	srv  *grpc.Server
	log  *logBuffer
	rec  *recorder.ReporterRecorder
	stop func()
}

func start(t testing.TB, name string, opts ...grpc.ServerOption) *node {
	t.Helper()
	return startNode(t, name, nil, opts...)
}

// startNode is start with somebody behind the server who says how the node is.
func startNode(t testing.TB, name string, behind rpc.Node, opts ...grpc.ServerOption) *node {
	t.Helper()
	n := &node{backend: &backend{name: name, entered: make(chan struct{}), release: make(chan struct{})}, log: &logBuffer{}}
	var tracer *zipkin.Tracer
	tracer, n.rec = tracerOf(t, name)
	n.srv, _ = rpc.NewServerHealth(rpc.ServerConfig{Keys: keys(t), Tracer: tracer, Log: n.log.logger(), Node: behind}, opts...)
	testpb.RegisterTestServiceServer(n.srv, n.backend)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = lis.Addr().String()
	done := make(chan error, 1)
	go func() { done <- n.srv.Serve(lis) }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("node %s at %s:\n%s", name, n.addr, n.log)
		}
	})
	n.stop = sync.OnceFunc(func() {
		n.srv.Stop()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

func tracerOf(t testing.TB, name string) (*zipkin.Tracer, *recorder.ReporterRecorder) {
	t.Helper()
	rec := recorder.NewReporter()
	tracer, err := zipkin.NewTracer(rec, zipkin.WithSharedSpans(false), zipkin.WithTraceID128Bit(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rec.Close() })
	return tracer, rec
}

func dial(t testing.TB, c rpc.DialConfig, nodes ...*node) (*rpc.Conn, testpb.TestServiceClient) {
	t.Helper()
	if c.Keys == nil {
		c.Keys = keys(t)
	}
	c.Service = "user"
	conn, err := rpc.Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if len(nodes) > 0 {
		conn.Update(targetsOf(nodes...))
	}
	return conn, testpb.NewTestServiceClient(conn)
}

func targetsOf(nodes ...*node) []rpc.Target {
	var set []rpc.Target
	for _, n := range nodes {
		set = append(set, rpc.Target{Addr: n.addr, Weight: 1})
	}
	return set
}

func ask(body string) *testpb.SimpleRequest {
	return &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte(body)}}
}

// poll waits for a condition.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func peerOf(t testing.TB, c testpb.TestServiceClient) string {
	t.Helper()
	var p peer.Peer
	if _, err := c.UnaryCall(t.Context(), ask("who"), grpc.Peer(&p)); err != nil {
		t.Fatalf("UnaryCall() = %v", err)
	}
	return netip.MustParseAddrPort(p.Addr.String()).String()
}
