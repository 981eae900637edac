package rpc_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/rpc"
)

const attemptName = "0123456789abcdef"

// host is the node behind a server. It refuses every call, or only named ones, for the
// reasons given.
type host struct {
	all, named   string
	report       lb.Report
	count        atomic.Int64
	asked, alone atomic.Int64 // all calls, and those of them that have no name

	mu sync.Mutex // guards all, named and report
}

func (h *host) Enter(attempt string, late bool) string {
	h.count.Add(1)
	h.asked.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case late:
		return "too late"
	case h.all != "":
		return h.all
	case attempt != "":
		return h.named
	}
	h.alone.Add(1)
	return ""
}

func (h *host) Report() lb.Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.report
}

func (h *host) Leave() { h.count.Add(-1) }

func (h *host) is(r lb.Report, named, all string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report, h.named, h.all = r, named, all
}

// both makes calls until each node has had one, so that both are connected.
func both(t *testing.T, c testpb.TestServiceClient, a, b *node) {
	t.Helper()
	poll(t, "calls come to a", func() bool { return peerOf(t, c) == a.addr })
	poll(t, "calls come to b", func() bool { return peerOf(t, c) == b.addr })
}

// TestNodeSaysHowItIs in the trailer of each answer, to those who hold the key, and proves what it refuses.
func TestNodeSaysHowItIs(t *testing.T) {
	h := &host{}
	n := startNode(t, "a", h)
	c := testpb.NewTestServiceClient(plain(t, n))
	f := func(want string, code codes.Code, proven bool, pairs ...string) {
		t.Helper()
		var md metadata.MD
		_, err := c.UnaryCall(metadata.AppendToOutgoingContext(t.Context(), pairs...), ask("who"), grpc.Trailer(&md))
		if got := strings.Join(md["goms-node"], "|"); status.Code(err) != code || got != want {
			t.Errorf("%q = %v, goms-node %q, want %v, %q", pairs, err, got, code, want)
		}
		proof := strings.Join(md["goms-refused"], "|")
		if keys(t).Refused([]byte(attemptName), []byte(proof)) != proven || !proven && proof != "" {
			t.Errorf("%q: proof %q, want one %v", pairs, proof, proven)
		}
		if strings.Contains(fmt.Sprint(md, err), key) {
			t.Errorf("%q: the answer holds the key", pairs)
		}
	}
	own, name := []string{rpc.KeyMetadata, key}, []string{rpc.KeyMetadata, key, "goms-attempt", attemptName}
	f("", codes.OK, false, own...)
	h.is(lb.Report{Draining: true, Load: 3}, "leaving", "")
	f("draining, load=3", codes.OK, false, own...)
	f("draining, load=3", codes.Unavailable, true, name...)
	f("draining, load=3", codes.OK, false, append(name, "goms-attempt", attemptName)...)
	h.is(lb.Report{Load: 7}, "", "full")
	f("load=7", codes.Unavailable, false, own...)
	f("load=7", codes.Unavailable, true, name...)
	f("load=7", codes.Unavailable, false, rpc.KeyMetadata, key, "goms-attempt", "made up")
	f("", codes.PermissionDenied, false)
	f("", codes.PermissionDenied, false, rpc.KeyMetadata, "x", "goms-attempt", attemptName)
	if got := n.calls.Load(); got != 3 {
		t.Errorf("the handler saw %d calls, want 3", got)
	}
	if got := h.count.Load(); got != 0 {
		t.Errorf("%d calls have not left the node", got)
	}
	if log := n.log.String(); !strings.Contains(log, "Unavailable") || strings.Contains(log, key) {
		t.Errorf("the log has no record of a refusal, or the key:\n%s", log)
	}
}

// TestRefusedCallGoesOn: any method goes on at another node when one proves that it has not begun, once, and then leaves that one alone.
func TestRefusedCallGoesOn(t *testing.T) {
	ha, hb := &host{}, &host{}
	a, b := startNode(t, "a", ha), startNode(t, "b", hb)
	conn, c := dial(t, rpc.DialConfig{}, a, b)
	both(t, c, a, b)
	before, calls := ha.asked.Load(), a.calls.Load()
	ha.is(lb.Report{Draining: true}, "leaving", "")
	ends := 0
	for range 20 {
		var p peer.Peer
		r, err := c.UnaryCall(t.Context(), ask("who"), grpc.Peer(&p), grpc.OnFinish(func(err error) {
			ends++
			if err != nil {
				t.Errorf("a call that went on ends with %v", err)
			}
		}))
		if err != nil || r.GetUsername() != "b" || p.Addr.String() != b.addr {
			t.Fatalf("UnaryCall() = %v from %v, %v, want the node that does not leave", r, p.Addr, err)
		}
	}
	if got := ha.asked.Load() - before; got != 1 || a.calls.Load() != calls || ends != 20 {
		t.Errorf("the leaving node was asked %d times and began %d calls, want 1 and 0; %d of 20 calls were finished", got, a.calls.Load()-calls, ends)
	}
	// Where there is nobody else, who leaves is not told that there is, and serves.
	conn.Update(targetsOf(a))
	alone := ha.alone.Load()
	if got := peerOf(t, c); got != a.addr || ha.alone.Load() != alone+1 {
		t.Errorf("the only node is told that it is not")
	}
	// A node that does not leave any more says so, and takes its turns again.
	ha.is(lb.Report{}, "", "")
	conn.Update(targetsOf(a, b))
	both(t, c, a, b)
}

// TestFullNodes: when all nodes refuse, the caller learns why, and what refusals cost is bounded.
func TestFullNodes(t *testing.T) {
	ha, hb := &host{}, &host{}
	a, b := startNode(t, "a", ha), startNode(t, "b", hb)
	_, c := dial(t, rpc.DialConfig{}, a, b)
	both(t, c, a, b)
	ha.is(lb.Report{Load: 1}, "", "full")
	for range 10 {
		if got := peerOf(t, c); got != b.addr {
			t.Fatalf("a call came from %s", got)
		}
	}
	hb.is(lb.Report{Load: 1}, "", "full too")
	before, calls := ha.asked.Load()+hb.asked.Load(), a.calls.Load()+b.calls.Load()
	const n = 200
	for range n {
		if _, err := c.UnaryCall(t.Context(), ask("who")); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "full") || strings.Contains(err.Error(), key) {
			t.Fatalf("UnaryCall() = %v, want Unavailable, full", err)
		}
	}
	asked := ha.asked.Load() + hb.asked.Load() - before
	if asked > n+n/5+2*30+10 || asked < n+10 || a.calls.Load()+b.calls.Load() != calls {
		t.Errorf("%d calls cost %d attempts, want some more and not twice as many", n, asked)
	}
}

// TestUnprovenRefusalIsAnAnswer: a handler can say what it likes, the call is not done twice, and nobody else hears of it.
func TestUnprovenRefusalIsAnAnswer(t *testing.T) {
	ha, hb := &host{}, &host{}
	a, b := startNode(t, "a", ha), startNode(t, "b", hb)
	_, c := dial(t, rpc.DialConfig{}, a, b)
	both(t, c, a, b)
	before := a.calls.Load() + b.calls.Load()
	for range 10 {
		var md metadata.MD
		if _, err := c.UnaryCall(t.Context(), ask("forge"), grpc.Trailer(&md)); status.Code(err) != codes.Unavailable {
			t.Errorf("UnaryCall() = %v, want Unavailable", err)
		}
		if len(md["mine"]) != 1 || strings.Contains(fmt.Sprint(md), "goms-") {
			t.Errorf("the caller sees %v, want what is the handler's", md)
		}
	}
	if got := a.calls.Load() + b.calls.Load() - before; got != 10 {
		t.Errorf("10 calls were done %d times", got)
	}
	both(t, c, a, b) // neither is taken for draining
}

// TestGomsMetadataStaysInside: handlers do not see it, and callers neither see nor send it.
func TestGomsMetadataStaysInside(t *testing.T) {
	h := &host{}
	n, other := startNode(t, "a", h), startNode(t, "b", h)
	_, c := dial(t, rpc.DialConfig{}, n, other)
	both(t, c, n, other)
	h.is(lb.Report{Load: 2}, "", "")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "Goms-Attempt", attemptName, "goms-node", "draining")
	var md metadata.MD
	if _, err := c.UnaryCall(ctx, ask("who"), grpc.Trailer(&md)); err != nil {
		t.Fatal(err)
	}
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("Recv() = %v", err)
	}
	for what, md := range map[string]metadata.MD{"caller": md, "caller of a stream": s.Trailer(), "handler": n.metadata(), "other handler": other.metadata()} {
		if strings.Contains(fmt.Sprint(md), "goms-") {
			t.Errorf("the %s sees %v", what, md)
		}
	}
}

// TestLeavingNodeServesStreams: they cannot be repeated, and are not named.
func TestLeavingNodeServesStreams(t *testing.T) {
	h := &host{}
	h.is(lb.Report{Draining: true}, "leaving", "")
	n, other := startNode(t, "a", h), startNode(t, "b", h)
	_, c := dial(t, rpc.DialConfig{}, n, other)
	for range 4 {
		s, err := c.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Errorf("a stream at a node that leaves = %v", err)
		}
	}
}

// TestDrainingTarget gets calls only when there is no other; so does a backup.
func TestDrainingTarget(t *testing.T) {
	a, b, d := start(t, "a"), start(t, "b"), start(t, "d")
	conn, c := dial(t, rpc.DialConfig{}, a, b, d)
	both(t, c, a, b)
	both(t, c, b, d)
	f := func(want *node, set ...rpc.Target) {
		t.Helper()
		conn.Update(set)
		for range 6 {
			if got := peerOf(t, c); got != want.addr {
				t.Errorf("a call of %+v came from %s, want %s", set, got, want.addr)
			}
		}
	}
	up, backup, draining := rpc.Target{Addr: a.addr, Weight: 1}, rpc.Target{Addr: b.addr, Weight: 1, Backup: true}, rpc.Target{Addr: d.addr, Weight: 1, Draining: true}
	f(a, up, backup, draining)
	f(b, backup, draining)
	f(d, draining)
}

// TestSilentTargetIsLeft: one that takes calls and answers none is left out while the others answer.
func TestSilentTargetIsLeft(t *testing.T) {
	release := make(chan struct{})
	silent := start(t, "a", grpc.ChainUnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		select {
		case <-ctx.Done():
		case <-release:
		}
		return &testpb.SimpleResponse{Username: "a"}, nil
	}))
	b := start(t, "b")
	_, c := dial(t, rpc.DialConfig{Timeout: time.Minute}, silent, b)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(release)
	answered := make(chan struct{}, 1000)
	inARow := 0
	poll(t, "calls leave the silent node", func() bool {
		waiting.Go(func() {
			if _, err := c.UnaryCall(context.WithoutCancel(t.Context()), ask("who")); err != nil {
				t.Errorf("UnaryCall() = %v", err)
			}
			answered <- struct{}{}
		})
		select {
		case <-answered:
			inARow++
		case <-time.After(50 * time.Millisecond):
			inARow = 0
		}
		return inARow == 20
	})
}

// TestLateCallIsRefused before its handler. Only a stream's handler would ever be asked; over grpc's ServeHTTP a deadline that is over
// at once does not end the call before that.
func TestLateCallIsRefused(t *testing.T) {
	h := &host{}
	n := startNode(t, "a", h)
	web := httptest.NewUnstartedServer(n.srv)
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	r, err := http.NewRequestWithContext(t.Context(), "POST", web.URL+"/grpc.testing.TestService/FullDuplexCall", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/grpc", "Te": "trailers", "Grpc-Timeout": "1n", "Call-Service-Key": key, "Goms-Attempt": attemptName,
	} {
		r.Header.Set(name, value)
	}
	resp, err := web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	said := func(name string) string { return resp.Header.Get(name) + resp.Trailer.Get(name) } // an answer without messages has its trailer in front
	if said("Grpc-Status") != "4" || said("Grpc-Message") != "too late" || !keys(t).Refused([]byte(attemptName), []byte(said("Goms-Refused"))) {
		t.Errorf("a call whose time is over = %v, %v, want a proven refusal, DeadlineExceeded", resp.Header, resp.Trailer)
	}
	if n.calls.Load() != 0 {
		t.Error("the handler was called")
	}
}

// TestDeadlineReachesTheHandler and comes from the context of the call.
func TestDeadlineReachesTheHandler(t *testing.T) {
	left := make(chan time.Duration, 1)
	n := startNode(t, "a", &host{}, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		until, ok := ctx.Deadline()
		if !ok {
			t.Error("the handler's context has no deadline")
		}
		left <- time.Until(until)
		return handler(ctx, req)
	}))
	_, c := dial(t, rpc.DialConfig{Timeout: time.Hour}, n)
	f := func(ctx context.Context, most time.Duration) {
		t.Helper()
		if _, err := c.UnaryCall(ctx, ask("who")); err != nil {
			t.Fatal(err)
		}
		if got := <-left; got > most || got < most-30*time.Second {
			t.Errorf("the handler has %v, want %v", got, most)
		}
	}
	f(t.Context(), time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f(ctx, time.Minute)
}
