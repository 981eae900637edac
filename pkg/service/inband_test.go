package service_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

const attemptName = "0123456789abcdef"

func testKeys(t testing.TB) *auth.CallKeys {
	t.Helper()
	k, err := auth.NewCallKeys(canary)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ask sends a request as a gateway does, with further headers in pairs.
func askNode(t testing.TB, n *servicetest.Node, method, path string, fields ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, n.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header[fields[i]] = append(r.Header[fields[i]], fields[i+1])
	}
	resp, err := n.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// aValue is a key of a value that handlers put into a context.
type aValue struct{}

// holding is a node whose /hold answers when it is let.
type holding struct {
	*servicetest.Node
	held atomic.Int64
	seen atomic.Int64
	let  chan struct{}
	late chan struct{} // GET /late waits for it
}

func newHolding(t *testing.T, reg *registry.Memory, edit func(*service.Config)) *holding {
	t.Helper()
	h := &holding{let: make(chan struct{}), late: make(chan struct{})}
	h.Node = servicetest.Start(t, "user", func(s *service.Service) error {
		s.Any("/hold", func(c *gin.Context) {
			h.held.Add(1)
			<-h.let
			service.Success(c, nil)
		})
		s.Any("/late", func(c *gin.Context) {
			h.held.Add(1)
			<-h.late
			service.Success(c, nil)
		})
		s.Any("/login", func(c *gin.Context) {
			h.seen.Add(1)
			c.Header("Goms-Node", "draining")
			c.Writer.Header()["goms_refused"] = []string{"x"}
			service.Success(c, c.Request.Header)
		})
		return nil
	}, servicetest.Options{Registry: reg, Config: quick(edit)})
	return h
}

// hold has n requests in the node's handlers until release is called.
func (h *holding) hold(t *testing.T, n int) (release func()) {
	t.Helper()
	var wg sync.WaitGroup
	before := h.held.Load()
	for range n {
		wg.Go(func() {
			resp, err := h.Client().Get(h.URL + "/hold")
			if err != nil {
				t.Errorf("GET /hold: %v", err)
				return
			}
			resp.Body.Close()
		})
	}
	poll(t, "the requests are held", func() bool { return h.held.Load() == before+int64(n) })
	return sync.OnceFunc(func() {
		for range n {
			h.let <- struct{}{}
		}
		wg.Wait()
	})
}

func TestNodeSaysHowItIs(t *testing.T) {
	n := newHolding(t, nil, nil)
	resp := askNode(t, n.Node, "GET", "/login", "Goms-Attempt", attemptName, "goms_attempt", "x")
	body := bodyOf(t, resp)
	if strings.Contains(strings.ToLower(body), "goms") {
		t.Errorf("the handler sees %s", body)
	}
	for name := range resp.Header {
		if strings.HasPrefix(strings.ToLower(name), "goms") {
			t.Errorf("a node with nothing to say says %s: %s", name, resp.Header[name])
		}
	}
	release := n.hold(t, 3)
	defer release()
	if got := askNode(t, n.Node, "GET", "/login").Header.Values("Goms-Node"); len(got) != 1 || got[0] != "load=3" {
		t.Errorf("Goms-Node = %q, want load=3", got)
	}
	stranger, err := http.NewRequestWithContext(t.Context(), "GET", n.URL+"/login", nil)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(stranger)
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	if got := refused.Header.Get("Goms-Node"); refused.StatusCode != 403 || got != "" {
		t.Errorf("a stranger is told %q with %d", got, refused.StatusCode)
	}
	n.Leave()
	poll(t, "the node leaves", func() bool { return isClosed(n.Service.Draining()) })
	release()
}

// TestLoadIsThatOfTheAnswer: what was there when a long request came says nothing of now.
func TestLoadIsThatOfTheAnswer(t *testing.T) {
	n := newHolding(t, nil, nil)
	load := make(chan string, 1)
	go func() {
		defer close(load)
		resp, err := n.Client().Get(n.URL + "/late")
		if err != nil {
			t.Errorf("GET /late: %v", err)
			return
		}
		resp.Body.Close()
		load <- resp.Header.Get("Goms-Node")
	}()
	poll(t, "the first request is held", func() bool { return n.held.Load() == 1 })
	release := n.hold(t, 3)
	defer release()
	close(n.late)
	if got := <-load; got != "load=3" {
		t.Errorf("Goms-Node = %q of a request that came first and is answered last, want load=3", got)
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// TestMaxInFlight: a request too many is refused before its handler, with proof for whoever named it.
func TestMaxInFlight(t *testing.T) {
	n := newHolding(t, nil, func(c *service.Config) { c.Service.MaxInFlight = 2 })
	release := n.hold(t, 2)
	keys := testKeys(t)
	f := func(proven bool, fields ...string) {
		t.Helper()
		resp := askNode(t, n.Node, "POST", "/login", fields...)
		body := bodyOf(t, resp)
		if resp.StatusCode != 503 || !strings.Contains(body, `"code":503`) || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Goms-Node") != "load=2" {
			t.Errorf("%q = %d %s %v, want 503", fields, resp.StatusCode, body, resp.Header)
		}
		proof := resp.Header.Get("Goms-Refused")
		if keys.Refused([]byte(attemptName), []byte(proof)) != proven || !proven && proof != "" {
			t.Errorf("%q: proof %q, want one %v", fields, proof, proven)
		}
		noCanary(t, "a refusal", body+fmt.Sprint(resp.Header))
	}
	f(true, "Goms-Attempt", attemptName)
	f(false)
	f(false, "Goms-Attempt", "made up")
	f(false, "Goms-Attempt", attemptName, "Goms-Attempt", attemptName)
	if status, _ := get(t, n.Node, "/livez", false); status != 200 {
		t.Errorf("/livez = %d of a node that has enough", status)
	}
	if status, body := get(t, n.Node, "/metrics", true); status != 200 || !strings.Contains(body, `goms_node_refusals_total{cause="full"} 4`+"\n") {
		t.Errorf("/metrics = %d of a node that has enough, and has refused 4 requests:\n%s", status, body)
	}
	if n.seen.Load() != 0 {
		t.Errorf("the handler saw %d requests, want none", n.seen.Load())
	}
	release()
	if resp := askNode(t, n.Node, "GET", "/login"); resp.StatusCode != 200 {
		t.Errorf("after that = %d", resp.StatusCode)
	}
}

// TestLeavingNodeRefuses what can go elsewhere, and serves what cannot.
func TestLeavingNodeRefuses(t *testing.T) {
	n := newHolding(t, nil, func(c *service.Config) { c.Service.DrainDelay = 4 * time.Second })
	release := n.hold(t, 1)
	defer release()
	n.Leave()
	poll(t, "the node leaves", func() bool { return isClosed(n.Service.Draining()) })
	f := func(fields ...string) *http.Response {
		t.Helper()
		resp := askNode(t, n.Node, "POST", "/login", fields...)
		if got := resp.Header.Get("Goms-Node"); got != "draining, load=1" || !resp.Close {
			t.Errorf("a node that leaves says %q, closes %v", got, resp.Close)
		}
		return resp
	}
	if resp := f("Goms-Attempt", attemptName); resp.StatusCode != 200 { // at first nobody can know
		t.Errorf("a named request at once = %d, want 200", resp.StatusCode)
	}
	var resp *http.Response
	poll(t, "the node refuses", func() bool {
		resp = f("Goms-Attempt", attemptName)
		return resp.StatusCode != 200
	})
	if proof := resp.Header.Get("Goms-Refused"); resp.StatusCode != 503 || !testKeys(t).Refused([]byte(attemptName), []byte(proof)) {
		t.Errorf("a named request later = %d, proof %q, want a proven refusal", resp.StatusCode, proof)
	}
	before := n.seen.Load()
	if resp := f(); resp.StatusCode != 200 || n.seen.Load() != before+1 {
		t.Errorf("a request that cannot go elsewhere = %d, want 200", resp.StatusCode)
	}
	release()
}

func TestDeadlineReachesTheHandler(t *testing.T) {
	type seen struct {
		left  time.Duration
		timed bool
		err   error
		child error
	}
	got := make(chan seen, 1)
	n := servicetest.Start(t, "user", func(s *service.Service) error {
		s.GET("/now", func(c *gin.Context) {
			until, ok := c.Request.Context().Deadline()
			got <- seen{left: time.Until(until), timed: ok}
			service.Success(c, nil)
		})
		s.GET("/slow", func(c *gin.Context) {
			child, cancel := context.WithCancel(context.WithValue(c.Request.Context(), aValue{}, 1))
			defer cancel()
			<-child.Done()
			got <- seen{err: c.Request.Context().Err(), child: child.Err()}
			service.Failure(c, 504, 504, "too late")
		})
		s.GET("/silent", func(c *gin.Context) { <-c.Request.Context().Done() })
		s.GET("/stream", func(c *gin.Context) {
			io.WriteString(c.Writer, "begun ")
			c.Writer.Flush()
			_, timed := c.Request.Context().Deadline()
			select {
			case <-c.Request.Context().Done():
			case <-time.After(300 * time.Millisecond): // three times what there was until the head
			}
			got <- seen{err: c.Request.Context().Err(), timed: timed}
			io.WriteString(c.Writer, "ended")
		})
		return nil
	}, servicetest.Options{Config: quick(nil)})

	f := func(want time.Duration, fields ...string) {
		t.Helper()
		askNode(t, n, "GET", "/now", fields...)
		if s := <-got; s.timed != (want != 0) || s.timed && (s.left > want || s.left < want-10*time.Second) {
			t.Errorf("%q: deadline %v in %v, want %v", fields, s.timed, s.left, want)
		}
	}
	const field = "X-Request-Timeout-Ms"
	f(0)
	f(time.Minute, field, "60000")
	f(time.Minute, field, "600000", field, "60000")
	f(0, field, "soon")
	f(0, field, "99999999999999999999")

	resp := askNode(t, n, "GET", "/slow", field, "100")
	if s := <-got; !errors.Is(s.err, context.DeadlineExceeded) || !errors.Is(s.child, context.DeadlineExceeded) || resp.StatusCode != 504 {
		t.Errorf("the context of a late handler ended with %v, what it made of it with %v", s.err, s.child)
	}
	if resp := askNode(t, n, "GET", "/silent", field, "100"); resp.StatusCode != 504 {
		t.Errorf("a late handler that says nothing = %d, want 504", resp.StatusCode)
	}
	if body := bodyOf(t, askNode(t, n, "GET", "/stream", field, "100")); body != "begun ended" {
		t.Errorf("the stream is %q", body)
	}
	if s := <-got; s.err != nil || s.timed {
		t.Errorf("a stream whose head has left ended with %v, deadline %v", s.err, s.timed)
	}
	for _, over := range []string{"0", "-5"} {
		resp = askNode(t, n, "GET", "/now", field, over, "Goms-Attempt", attemptName)
		if resp.StatusCode != 503 || !testKeys(t).Refused([]byte(attemptName), []byte(resp.Header.Get("Goms-Refused"))) {
			t.Errorf("a request whose time is over = %d %v, want a proven refusal", resp.StatusCode, resp.Header)
		}
	}
	// A caller that goes away ends the context as ever.
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", n.URL+"/slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(field, "60000")
	time.AfterFunc(50*time.Millisecond, cancel)
	if resp, err := n.Client().Do(r); err == nil {
		resp.Body.Close()
		t.Error("a request whose caller went away is answered")
	}
	if s := <-got; !errors.Is(s.err, context.Canceled) {
		t.Errorf("the context ended with %v, want Canceled", s.err)
	}
}

// TestTunnelsOutliveTheTime: what an upgrade opened is no late answer.
func TestTunnelsOutliveTheTime(t *testing.T) {
	ended := make(chan error, 1)
	n := servicetest.Start(t, "user", func(s *service.Service) error {
		s.GET("/tunnel", func(c *gin.Context) {
			conn, _, err := c.Writer.Hijack()
			if err != nil {
				t.Errorf("Hijack() = %v", err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			select {
			case <-c.Request.Context().Done():
			case <-time.After(300 * time.Millisecond):
			}
			ended <- c.Request.Context().Err()
		})
		return nil
	}, servicetest.Options{Config: quick(nil)})
	c := dialNode(t, n.URL)
	io.WriteString(c, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\nX-Request-Timeout-Ms: 100\r\nCall-Service-Key: "+canary+"\r\n\r\n")
	if err := <-ended; err != nil {
		t.Errorf("the tunnel's context ended with %v", err)
	}
}

// TestCallGoesOnAfterRefusal: a POST that a node proves not to have begun goes to another.
func TestCallGoesOnAfterRefusal(t *testing.T) {
	caller, _ := pair(t, 0, nil)
	edit := func(c *service.Config) { services(c); c.Service.MaxInFlight = 1 }
	full, free := newHolding(t, caller.Registry, edit), newHolding(t, caller.Registry, edit)
	caller.Await(t, "user", 2)
	release := full.hold(t, 1)
	defer release()
	// A body that cannot be read again is not offered for refusal, so it gets an error or an answer.
	refused := 0
	for range 4 {
		_, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "POST", Body: io.LimitReader(strings.NewReader("x"), 1)})
		if e, ok := errors.AsType[*service.StatusError](err); ok && e.Code == 503 {
			refused++
		} else if err != nil {
			t.Errorf("POST of a stream = %v", err)
		}
	}
	if got := free.seen.Load(); got != int64(4-refused) || refused == 0 {
		t.Errorf("%d of 4 streams were refused, the free node saw %d requests", refused, got)
	}
	// Any other goes on, and leaves a node alone that has refused.
	before := free.seen.Load()
	for i := range 10 {
		resp, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "POST", JSON: i})
		if err != nil {
			t.Fatalf("POST %d = %v", i, err)
		}
		for name := range resp.Header {
			if strings.HasPrefix(strings.ToLower(name), "goms") {
				t.Errorf("the caller sees %s", name)
			}
		}
	}
	if full.seen.Load() != 0 || free.seen.Load() != before+10 {
		t.Errorf("the handlers saw %d and %d requests, want 0 and 10", full.seen.Load(), free.seen.Load()-before)
	}
	// When all are full, the caller learns that.
	other := free.hold(t, 1)
	defer other()
	_, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "POST", JSON: 1})
	if e, ok := errors.AsType[*service.StatusError](err); !ok || e.Code != 503 {
		t.Errorf("POST to nodes that are full = %v, want status 503", err)
	}
}

// TestCallUnderWayLeavesSilentNode: what may be repeated does not wait for a node that is found to answer nothing. What may have been
// done there waits until its time is over, and is not done twice.
func TestCallUnderWayLeavesSilentNode(t *testing.T) {
	caller, _ := pair(t, 0, nil)
	var mu sync.Mutex
	met, done := map[string]bool{}, map[string]int{}
	answering(t, caller.Registry, func(r *http.Request) string {
		mu.Lock()
		defer mu.Unlock()
		met[r.URL.RawQuery] = true
		return ""
	})
	servicetest.Start(t, "user", func(s *service.Service) error {
		s.Any("/login", func(c *gin.Context) {
			mu.Lock()
			defer mu.Unlock()
			done[c.Request.URL.RawQuery]++
			service.Success(c, nil)
		})
		return nil
	}, servicetest.Options{Registry: caller.Registry, Config: quick(services)})
	caller.Await(t, "user", 2)

	const n, limit = 300, 6 * time.Second
	var all sync.WaitGroup
	errs := make([]error, n)
	pace := time.NewTicker(8 * time.Millisecond)
	defer pace.Stop()
	method := func(i int) string {
		if i%3 == 0 { // not in step with the turns of the nodes
			return "POST"
		}
		return "GET"
	}
	id := func(i int) string { return "id=" + strconv.Itoa(i) }
	for i := range n {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, errs[i] = caller.Service.Call(ctx, "user", "login", &service.Request{Method: method(i), Query: url.Values{"id": {strconv.Itoa(i)}}, JSON: 1})
		})
		<-pace.C
	}
	all.Wait()
	moved, waited := 0, 0
	for i, err := range errs {
		silent := met[id(i)]
		switch {
		case method(i) == "POST" && silent:
			waited++
			if !errors.Is(err, context.DeadlineExceeded) || done[id(i)] != 0 {
				t.Errorf("POST %d = %v, done %d times by another node, want DeadlineExceeded, 0", i, err, done[id(i)])
			}
			continue
		case silent:
			moved++
		}
		if err != nil || done[id(i)] != 1 {
			t.Errorf("%s %d = %v, done %d times, want once", method(i), i, err, done[id(i)])
		}
	}
	if moved < 5 || waited == 0 {
		t.Errorf("%d GETs and %d POSTs met the silent node: the test tests nothing", moved, waited)
	}
}

// TestFullNodeIsNotSilent: a node that refuses speaks, and what it works at is not given up.
func TestFullNodeIsNotSilent(t *testing.T) {
	caller, _ := pair(t, 0, nil)
	edit := func(c *service.Config) { services(c); c.Service.MaxInFlight = 1 }
	full, free := newHolding(t, caller.Registry, edit), newHolding(t, caller.Registry, edit)
	caller.Await(t, "user", 2)
	done := make(chan error, 1)
	go func() {
		_, err := caller.Service.Call(context.WithoutCancel(t.Context()), "user", "hold", nil)
		done <- err
	}()
	poll(t, "a node works", func() bool { return full.held.Load()+free.held.Load() == 1 })
	if free.held.Load() == 1 {
		full, free = free, full
	}
	refused := func() bool {
		_, body := get(t, full.Node, "/metrics", true)
		return strings.Contains(body, `goms_node_refusals_total{cause="full"} 7`)
	}
	for began := time.Now(); !refused() && free.held.Load() == 0 && time.Since(began) < 30*time.Second; { // it is asked about once a second
		for range 20 {
			if _, err := caller.Service.Call(t.Context(), "user", "login", &service.Request{Method: "POST", JSON: 1}); err != nil {
				t.Fatalf("POST = %v", err)
			}
		}
	}
	if full.held.Load() != 1 || free.held.Load() != 0 || !refused() {
		t.Errorf("what a full node works at was begun %d times there and %d times elsewhere, want 1, 0", full.held.Load(), free.held.Load())
	}
	close(full.let)
	close(free.let)
	if err := <-done; err != nil {
		t.Errorf("GET of a busy node = %v", err)
	}
}

// TestCallLeavesSilentNode: a node that takes requests and answers none is left out while another answers, and no POST tries it.
func TestCallLeavesSilentNode(t *testing.T) {
	caller, _ := pair(t, 1, callee)
	var taken atomic.Int64
	answering(t, caller.Registry, func(*http.Request) string {
		taken.Add(1)
		return ""
	})
	caller.Await(t, "user", 2)
	ctx, cancel := context.WithCancel(t.Context())
	call := func() error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, err := caller.Service.Call(ctx, "user", "login", &service.Request{Method: "POST", JSON: 1})
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	// One after the other they come to one node and the other; those that came to the silent one wait there.
	answered := 0
	for began := time.Now(); answered < 50 && time.Since(began) < 30*time.Second; {
		before, done := taken.Load(), make(chan error, 1)
		all.Go(func() { done <- call() })
		for waiting := true; waiting; {
			select {
			case err := <-done:
				if waiting = false; err != nil {
					t.Fatalf("POST = %v", err)
				}
				answered++
			case <-time.After(20 * time.Millisecond):
				if taken.Load() > before {
					waiting, answered = false, 0
				}
			}
		}
	}
	if answered < 50 {
		t.Errorf("the silent node still gets requests, %d in all", taken.Load())
	}
}

// TestCallHeedsDraining: a node's own word is enough.
func TestCallHeedsDraining(t *testing.T) {
	caller, users := pair(t, 1, callee)
	var seen atomic.Int64
	answering(t, caller.Registry, func(*http.Request) string {
		seen.Add(1)
		return "HTTP/1.1 200 OK\r\nGoms-Node: draining\r\nContent-Length: 11\r\n\r\n{\"data\":{}}"
	})
	caller.Await(t, "user", 2)
	for i := range 10 {
		if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err != nil {
			t.Fatalf("Call() %d = %v", i, err)
		}
	}
	if seen.Load() != 1 {
		t.Errorf("the node that drains saw %d of 10 calls, want 1", seen.Load())
	}
	if err := users[0].Stop(); err != nil {
		t.Fatal(err)
	}
	caller.Await(t, "user", 1)
	if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err != nil {
		t.Errorf("Call() of the last node, which drains = %v", err)
	}
}

// TestCallBelievesNoForgery: a refusal without proof is an answer like others.
func TestCallBelievesNoForgery(t *testing.T) {
	caller, _ := pair(t, 1, callee)
	var seen atomic.Int64
	answering(t, caller.Registry, func(req *http.Request) string {
		if name := req.Header.Get("Goms-Attempt"); len(name) != 16 {
			t.Errorf("attempt %q, want a name", name)
		}
		seen.Add(1)
		return "HTTP/1.1 503 X\r\nGoms-Refused: " + testKeys(t).Refusal(attemptName) + "\r\nContent-Length: 0\r\n\r\n"
	})
	caller.Await(t, "user", 2)
	failed := 0
	for range 10 {
		_, err := caller.Service.Call(t.Context(), "user", "login", nil)
		if e, ok := errors.AsType[*service.StatusError](err); ok && e.Code == 503 && e.Header.Get("Goms-Refused") == "" {
			failed++
		} else if err != nil {
			t.Errorf("Call() = %v", err)
		}
	}
	if failed != 5 || seen.Load() != 5 {
		t.Errorf("%d of 10 calls failed, the node saw %d, want 5", failed, seen.Load())
	}
}

// TestCallRetriesAreBounded: nodes that close are not asked more and more.
func TestCallRetriesAreBounded(t *testing.T) {
	caller, _ := pair(t, 0, nil)
	var seen atomic.Int64
	closing := func(conn net.Conn) {
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			seen.Add(1)
		}
	}
	for i := range 3 {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lis.Close() })
		go func() {
			for {
				conn, err := lis.Accept()
				if err != nil {
					return
				}
				go closing(conn)
			}
		}()
		if err := caller.Registry.Publish(t.Context(), registry.NewNode("user", fmt.Sprintf("127.0.0.%d:1", i+1), lis.Addr().String())); err != nil {
			t.Fatal(err)
		}
	}
	caller.Await(t, "user", 3)
	const calls = 200
	for range calls {
		if _, err := caller.Service.Call(t.Context(), "user", "login", nil); err == nil {
			t.Fatal("Call() of nodes that close succeeds")
		}
	}
	// A fifth, and three a second over ten seconds; the test may take some of the latter.
	if got := seen.Load(); got > calls*120/100+60 || got < calls*120/100 {
		t.Errorf("the nodes saw %d requests of %d calls, want 240 to 300", got, calls)
	}
}

// TestCallCarriesTheTime onwards: a call has what its handler has left.
func TestCallCarriesTheTime(t *testing.T) {
	reg := registry.NewMemory()
	times := make(chan string, 10)
	user := servicetest.Start(t, "user", func(s *service.Service) error {
		s.GET("/login", func(c *gin.Context) {
			times <- c.GetHeader("X-Request-Timeout-Ms")
			service.Success(c, nil)
		})
		return nil
	}, servicetest.Options{Registry: reg, Config: quick(services)})
	order := servicetest.Start(t, "order", func(s *service.Service) error {
		s.GET("/submit", func(c *gin.Context) {
			if _, err := s.Call(c, "user", "login", &service.Request{Header: http.Header{"X-Request-Timeout-Ms": {"7"}}}); err != nil {
				service.Failure(c, 502, 502, err.Error())
				return
			}
			service.Success(c, nil)
		})
		return nil
	}, servicetest.Options{Registry: reg, Config: quick(services)})
	order.Await(t, "user", 1)
	f := func(least, most int, fields ...string) {
		t.Helper()
		if resp := askNode(t, order, "GET", "/submit", fields...); resp.StatusCode != 200 {
			t.Fatalf("GET /submit = %d", resp.StatusCode)
		}
		if ms, err := strconv.Atoi(<-times); err != nil || ms < least || ms > most {
			t.Errorf("%q: the call has %d ms, want %d to %d", fields, ms, least, most)
		}
	}
	f(1000, 10_000)
	f(15_000, 20_000, "X-Request-Timeout-Ms", "20000")
	f(1000, 4000, "X-Request-Timeout-Ms", "4000")

	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := order.Service.Call(over, "user", "login", &service.Request{Query: url.Values{"x": {"1"}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Call() when the time is over = %v", err)
	}
	if len(times) != 0 {
		t.Error("a call whose time was over reached the node")
	}
	_ = user
}
