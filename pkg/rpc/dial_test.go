package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/rpc"
	"github.com/goms-io/goms/test/ports"
)

func TestNoNodeFailsFast(t *testing.T) {
	conn, c := dial(t, rpc.DialConfig{Timeout: time.Minute})
	for range 2 {
		start := time.Now()
		_, err := c.UnaryCall(t.Context(), ask("who"))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), `no node of service "user"`) {
			t.Errorf("UnaryCall() = %v, want Unavailable, no node of service", err)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("UnaryCall() took %v, want it not to wait for its deadline", d)
		}
	}
	n := start(t, "a")
	done := make(chan error, 1)
	go func() {
		_, err := c.UnaryCall(t.Context(), ask("who"), grpc.WaitForReady(true))
		done <- err
	}()
	conn.Update(targetsOf(n))
	if err := <-done; err != nil {
		t.Errorf("UnaryCall() that waits = %v", err)
	}
}

// A node that joins serves the very next call, however often the service was empty.
func TestJoinAfterEmpty(t *testing.T) {
	n := start(t, "a")
	conn, c := dial(t, rpc.DialConfig{})
	for i := range 50 {
		conn.Update(nil)
		if _, err := c.UnaryCall(t.Context(), ask("who")); status.Code(err) != codes.Unavailable {
			t.Fatalf("round %d: UnaryCall() without node = %v, want Unavailable", i, err)
		}
		conn.Update(targetsOf(n))
		if _, err := c.UnaryCall(t.Context(), ask("who")); err != nil {
			t.Fatalf("round %d: UnaryCall() = %v", i, err)
		}
	}
}

func TestSpreadByWeight(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	conn, client := dial(t, rpc.DialConfig{})
	conn.Update([]rpc.Target{{Addr: a.addr, Weight: 1}, {Addr: b.addr, Weight: 3}, {Addr: c.addr, Weight: 0}})
	poll(t, "both connected", func() bool { return peerOf(t, client) == a.addr })
	poll(t, "both connected", func() bool { return peerOf(t, client) == b.addr })
	count := map[string]int{}
	for range 80 {
		count[peerOf(t, client)]++
	}
	if count[a.addr] != 20 || count[b.addr] != 60 || count[c.addr] != 0 {
		t.Errorf("80 calls went %d, %d, %d by weights 1, 3, 0", count[a.addr], count[b.addr], count[c.addr])
	}
}

// A node that is withdrawn finishes the call it has and gets no other.
func TestWithdrawnNodeFinishes(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	conn, client := dial(t, rpc.DialConfig{}, a)
	done := make(chan error, 1)
	go func() {
		_, err := client.UnaryCall(context.WithoutCancel(t.Context()), ask("hang"))
		done <- err
	}()
	<-a.entered
	conn.Update(targetsOf(b))
	for range 20 {
		if got := peerOf(t, client); got != b.addr {
			t.Fatalf("call went to %s after it was withdrawn", got)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("call in flight ended early: %v", err)
	default:
	}
	close(a.release)
	if err := <-done; err != nil {
		t.Errorf("call in flight = %v", err)
	}
}

func TestDeadNodeIsSkipped(t *testing.T) {
	a := start(t, "a")
	dead := ports.Addr(t)
	conn, client := dial(t, rpc.DialConfig{})
	conn.Update([]rpc.Target{{Addr: dead, Weight: 1}, {Addr: a.addr, Weight: 1}})
	for range 20 {
		if got := peerOf(t, client); got != a.addr {
			t.Fatalf("call went to %s", got)
		}
	}
	conn.Update([]rpc.Target{{Addr: dead, Weight: 1}})
	_, err := client.UnaryCall(t.Context(), ask("who"))
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no node of service") {
		t.Errorf("UnaryCall() with only a dead node = %v, want Unavailable", err)
	}
}

// GracefulStop of a node that was withdrawn first loses no call of a busy client.
func TestStopLosesNothing(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	conn, client := dial(t, rpc.DialConfig{}, a, b)
	stop := make(chan struct{})
	result := make(chan error, 1)
	var calls atomic.Int64
	go func() {
		defer close(result)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := client.UnaryCall(context.WithoutCancel(t.Context()), ask("who")); err != nil {
				result <- fmt.Errorf("call %d: %w", calls.Load(), err)
				return
			}
			calls.Add(1)
		}
	}()
	busy := func() {
		before := calls.Load()
		poll(t, "the client is busy", func() bool { return calls.Load() > before+50 || len(result) > 0 })
	}
	busy()
	conn.Update(targetsOf(b))
	a.srv.GracefulStop()
	busy()
	close(stop)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestCallerCannotSetKeyOrTrace(t *testing.T) {
	n := start(t, "a")
	tracer, rec := tracerOf(t, "order")
	_, c := dial(t, rpc.DialConfig{Tracer: tracer}, n)
	parent := tracer.StartSpan("parent")
	ctx := zipkin.NewContext(t.Context(), parent)
	ctx = metadata.AppendToOutgoingContext(ctx, "Call-Service-Key", "mine", "traceparent", "00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01")
	if _, err := c.UnaryCall(ctx, ask("who")); err != nil {
		t.Fatalf("UnaryCall() with a key of the caller's = %v", err)
	}
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	s.Recv()
	var client, server []model.SpanModel
	poll(t, "two spans each", func() bool {
		client, server = append(client, rec.Flush()...), append(server, n.rec.Flush()...)
		return len(client) >= 2 && len(server) >= 2
	})
	for i, c := range client {
		if c.Kind != model.Client || c.TraceID != parent.Context().TraceID || c.ParentID == nil || *c.ParentID != parent.Context().ID {
			t.Errorf("client span %d is %v of trace %v, want child of %v", i, c.Kind, c.TraceID, parent.Context().TraceID)
		}
		if s := server[i]; s.TraceID != c.TraceID || s.ParentID == nil || *s.ParentID != c.ID {
			t.Errorf("server span %d has trace %v parent %v, want %v %v", i, s.TraceID, s.ParentID, c.TraceID, c.ID)
		}
	}
	if got := n.metadata()["x-b3-traceid"]; len(got) != 1 {
		t.Errorf("node saw %d trace ids, want 1", len(got))
	}
}

func TestDefaultDeadline(t *testing.T) {
	n := start(t, "a")
	_, c := dial(t, rpc.DialConfig{Timeout: time.Second}, n) // long enough for a call that is answered
	if _, err := c.UnaryCall(t.Context(), ask("deadline")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("UnaryCall() without deadline = %v, want DeadlineExceeded", err)
	}
	if _, err := c.UnaryCall(t.Context(), ask("who")); err != nil {
		t.Errorf("UnaryCall() = %v", err)
	}
}

func TestDialNeeds(t *testing.T) {
	if _, err := rpc.Dial(rpc.DialConfig{Service: "user"}); err == nil {
		t.Error("Dial() without keys succeeds")
	}
	if _, err := rpc.Dial(rpc.DialConfig{Keys: keys(t)}); err == nil {
		t.Error("Dial() without service succeeds")
	}
}

func BenchmarkUnary(b *testing.B) {
	n := start(b, "a")
	_, c := dial(b, rpc.DialConfig{}, n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.UnaryCall(b.Context(), ask("who")); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleDial() {
	var users testpb.TestServiceClient // a generated client
	conn, err := rpc.Dial(rpc.DialConfig{Service: "user"})
	if err == nil {
		defer conn.Close()
		conn.Update([]rpc.Target{{Addr: "10.0.0.1:9180", Weight: 1}})
		users = testpb.NewTestServiceClient(conn)
	}
	fmt.Println(users != nil, err)
	// Output: false dial: service and call-service key are required
}

// TestTargetTurnsTLS: a target that says TLS is not spoken to plain, and one that takes it back is.
func TestTargetTurnsTLS(t *testing.T) {
	n := start(t, "a")
	conn, client := dial(t, rpc.DialConfig{})
	call := func(secure bool) error {
		t.Helper()
		conn.Update([]rpc.Target{{Addr: n.addr, Weight: 1, TLS: secure}})
		_, err := client.UnaryCall(t.Context(), ask("who"))
		return err
	}
	for range 2 {
		if err := call(false); err != nil {
			t.Errorf("plain: %v", err)
		}
		if err := call(true); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), n.addr+", expected to be ") {
			t.Errorf("TLS to a plain node = %v, want Unavailable and whom was expected", err)
		}
	}
}
