package service

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/lb"
	"github.com/goms-io/goms/pkg/trace"
)

const (
	// DefaultCallTimeout bounds a Call whose context has no deadline.
	DefaultCallTimeout = 10 * time.Second
	// MaxAnswer is the largest body in bytes that Call returns.
	MaxAnswer = 10 << 20

	maxAttempts   = 3
	retryPercent  = 20          // of the calls of a service that may be tried again, and
	retryFloor    = 3           // a second besides; see lb.Budget
	maxErrorBody  = 64 << 10    // of an answer kept in a StatusError
	firstSnapshot = time.Second // a call waits for the registry's first word
)

// The errors of Call that callers tell apart. They come wrapped: compare with errors.Is.
// With the first three the request has reached no node.
var (
	ErrNoService = errors.New("no such service in the configuration")
	ErrNoAction  = errors.New("no such action of the service in the configuration")
	ErrNoNode    = errors.New("no node of the service")
	// ErrTooLarge means an answer of more than MaxAnswer bytes. The node has processed
	// the request.
	ErrTooLarge = errors.New("answer is too large")
)

// StatusError is an answer of 400 and above.
type StatusError struct {
	Service, Action string
	Code            int
	Header          http.Header
	Body            []byte // at most 64 KiB
}

// Error names the service, the action and the status; the body is not in it.
func (e *StatusError) Error() string {
	return fmt.Sprintf("call %s/%s: status %d", e.Service, e.Action, e.Code)
}

// Is makes errors.Is(err, context.DeadlineExceeded) true for an answer of 504: whoever
// gave up first, the time was over.
func (e *StatusError) Is(target error) bool {
	return e.Code == http.StatusGatewayTimeout && target == context.DeadlineExceeded
}

// FailureError is an envelope with status false in an answer below 400.
type FailureError struct {
	Code int
	Msg  string
}

// Error returns code and message of the envelope.
func (e *FailureError) Error() string { return fmt.Sprintf("answer has code %d: %s", e.Code, e.Msg) }

// Request is what Call sends. The zero value, or nil, is a GET.
type Request struct {
	Method string      // "" = GET, with a body POST
	Query  url.Values  // nil = none
	Header http.Header // nil = none; the call-service key, the trace and what concerns the connection are the SDK's
	Body   io.Reader   // nil = none. Only in-memory readers can be sent to a second node
	JSON   any         // a body to be sent as JSON; not together with Body
}

// Response is an answer below 400. Redirects are not followed.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // all of it, at most MaxAnswer
}

// Decode unpacks the envelope: its data goes to v (nil = not wanted). An envelope
// with status false is a *FailureError.
func (r *Response) Decode(v any) error {
	var e struct {
		Code   int             `json:"code"`
		Msg    string          `json:"msg"`
		Data   json.RawMessage `json:"data"`
		Status *bool           `json:"status"`
	}
	if err := json.Unmarshal(r.Body, &e); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	if e.Status != nil && !*e.Status {
		return &FailureError{Code: e.Code, Msg: e.Msg}
	}
	if v == nil || len(e.Data) == 0 {
		return nil
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("decode data of answer: %w", err)
	}
	return nil
}

// Call sends a request to one live node of a service, at the path the configuration
// gives the action, with the call-service key and the trace of ctx (a *gin.Context
// will do). Without a deadline in ctx it takes 10 s at most.
//
// It tries another node when a connection could not be made; when the node proves that
// it refused the request before its handler, as nodes do that are leaving or have too
// many; and, when the method is idempotent and the body in memory, when the connection
// closed before a byte of the answer, or nothing is heard of the node while others answer
// (it takes about a second to find that out, and calls under way leave it then). So
// nothing is done twice that must not be. What is tried again because a node closed or was
// full is at most a fifth of the calls of a service, and three a second besides.
//
// The node is told how much time is left, and its handler's context ends with it.
//
// Errors are ErrNoService, ErrNoAction, ErrNoNode, ErrTooLarge, *StatusError for an
// answer of 400 and above, the context's, or the network's, wrapped.
func (s *Service) Call(ctx context.Context, service, action string, req *Request) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, s.callTimeout(ctx))
	defer cancel()
	if err := ctx.Err(); err != nil { // nobody waits for an answer
		return nil, fmt.Errorf("call %s/%s: %w", service, action, err)
	}
	c, err := s.newCall(ctx, service, action, req)
	if err != nil {
		return nil, fmt.Errorf("call %s/%s: %w", service, action, err)
	}
	resp, err := c.run(ctx)
	if err != nil {
		if is[*StatusError](err) {
			return nil, err
		}
		return nil, fmt.Errorf("call %s/%s: %w", service, action, err)
	}
	return resp, nil
}

// callTimeout leaves a deadline of ctx alone.
func (s *Service) callTimeout(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return DefaultCallTimeout
}

// call is one Call: the request as it goes to any node.
type call struct {
	s               *Service
	service, action string
	pool            *lb.Pool
	budget          *lb.Budget
	method          string
	url             url.URL
	header          http.Header
	body            *replay
}

func (s *Service) newCall(ctx context.Context, service, action string, req *Request) (*call, error) {
	actions, ok := s.config.Services[service]
	if !ok {
		return nil, ErrNoService
	}
	a, ok := actions[action]
	if !ok {
		return nil, ErrNoAction
	}
	if req == nil {
		req = &Request{}
	}
	c := &call{
		s: s, service: service, action: action, method: req.Method, budget: s.nodes.budget(service),
		url: url.URL{Path: a.Path, RawQuery: req.Query.Encode()},
	}
	if err := c.setBody(req); err != nil {
		return nil, err
	}
	c.setHeader(ctx, req)
	if c.pool = s.nodes.pool(service); c.pool == nil {
		first, cancel := context.WithTimeout(ctx, firstSnapshot)
		defer cancel()
		_ = s.nodes.wait(first) // without a snapshot there is no node, which is said
		if c.pool = s.nodes.pool(service); c.pool == nil {
			return nil, ErrNoNode
		}
	}
	return c, nil
}

func (c *call) setBody(req *Request) error {
	r := req.Body
	if req.JSON != nil {
		if req.Body != nil {
			return errors.New("request has both Body and JSON")
		}
		data, err := json.Marshal(req.JSON)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		r = bytes.NewReader(data)
	}
	c.body = newReplay(r)
	if c.method == "" {
		c.method = http.MethodGet
		if r != nil {
			c.method = http.MethodPost
		}
	}
	return nil
}

// setHeader takes the caller's headers but for those we vouch for, then sets ours.
func (c *call) setHeader(ctx context.Context, req *Request) {
	c.header = req.Header.Clone()
	if c.header == nil {
		c.header = http.Header{}
	}
	for _, names := range c.header.Values("Connection") {
		for name := range splitTokens(names) {
			c.header.Del(name)
		}
	}
	for _, name := range [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length", "Host", timeoutHeader,
	} {
		c.header.Del(name)
	}
	stripKey(c.header)
	stripTrace(c.header)
	if req.JSON != nil && c.header.Get("Content-Type") == "" {
		c.header.Set("Content-Type", "application/json")
	}
	if c.header.Get("User-Agent") == "" {
		c.header.Set("User-Agent", "goms/"+c.s.name)
	}
	if rec := recordOf(ctx); rec != nil && rec.requestID != "" && c.header.Get(requestIDHeader) == "" {
		c.header.Set(requestIDHeader, rec.requestID)
	}
}

// again says whether a call may go to another node.
type again int

const (
	againNever again = iota
	againFree        // no node has worked for it
	againCosts       // one has, if only to refuse it
)

// run tries nodes until one answers or there is no point.
func (c *call) run(ctx context.Context) (*Response, error) {
	var tried []*lb.Node
	last := ErrNoNode
	how := againFree
	c.pool.Refresh()
	c.pool.Tick(nil)
	c.budget.Request(now())
	acquire := c.pool.Acquire
	if !idempotent(c.method) || !c.body.inMem { // what a silent node may keep is not what tries it
		acquire = c.pool.AcquireOnce
	}
	for {
		node, err := acquire(tried, 0)
		if err != nil {
			return nil, last
		}
		granted := how == againCosts
		if granted && !c.budget.Retry(now(), retryPercent, retryFloor) {
			node.End()
			return nil, last
		}
		tried = append(tried, node)
		var resp *Response
		resp, how, last = c.try(ctx, node, len(tried), len(tried) < maxAttempts && c.pool.Others(tried))
		if granted {
			c.budget.Ended(now(), last == nil)
		}
		if last == nil || how == againNever || len(tried) == maxAttempts || ctx.Err() != nil {
			return resp, last
		}
	}
}

var clockStart = time.Now()

// now is the time for budgets, on a clock that does not go back.
func now() int64 { return int64(time.Since(clockStart)) }

// try is one attempt, which has begun, and its span. others says that another could follow;
// it says whether that may be.
func (c *call) try(ctx context.Context, node *lb.Node, attempt int, others bool) (resp *Response, how again, err error) {
	span, ctx := c.s.tracer.StartSpanFromContext(ctx, methodName(c.method)+" "+c.url.Path, zipkin.Kind(model.Client),
		zipkin.RemoteEndpoint(&model.Endpoint{ServiceName: c.service}))
	defer span.Finish()
	span.Tag("http.method", methodName(c.method))
	span.Tag("http.route", c.url.Path)
	if attempt > 1 {
		span.Tag("attempt", strconv.Itoa(attempt))
	}
	defer node.End()

	var w wire
	link := upstreamOf(node).link.Load()
	name := ""
	if c.body.inMem && others {
		name = attemptName()
	}
	h := c.hearken(ctx, node, others)
	defer h.end()
	answer, err := link.transport.RoundTrip(c.request(httptrace.WithClientTrace(h.ctx, w.trace()), node, link.scheme, span, name))
	if !h.answered() {
		if err == nil {
			answer.Body.Close()
		}
		span.Tag("error", "silent")
		return nil, againFree, fmt.Errorf("node %s: %w", node.ID(), cmp.Or(ctx.Err(), errSilent))
	}
	if err != nil {
		span.Tag("error", reasonOf(ctx, err))
		return nil, c.failed(ctx, node, &w, err), fmt.Errorf("node %s: %w", node.ID(), err)
	}
	report, refused := c.heed(answer, name)
	c.pool.Heed(node, report)
	span.Tag("http.status_code", strconv.Itoa(answer.StatusCode))
	if refused {
		_, err := c.read(answer)
		span.Tag("error", "refused")
		c.pool.Succeeded(node) // it is there, and says so
		if report.Draining {
			return nil, againFree, err
		}
		c.pool.Full(node)
		return nil, againCosts, err
	}
	c.pool.Succeeded(node)
	defer c.pool.Done(node)
	resp, err = c.read(answer)
	if err != nil {
		span.Tag("error", "answer")
	}
	return resp, againNever, err
}

// heed takes in what the node says of itself with its answer, and whether it proves that
// it refused the named attempt before its handler.
func (c *call) heed(answer *http.Response, name string) (report lb.Report, refused bool) {
	proofs := answer.Header[auth.RefusedHeader]
	refused = answer.StatusCode == http.StatusServiceUnavailable && len(proofs) == 1 &&
		c.s.keys.Refused([]byte(name), []byte(proofs[0]))
	report = lb.ParseReport([]byte(answer.Header.Get(lb.ReportHeader)))
	stripKey(answer.Header)
	return report, refused
}

// attemptName names an attempt.
func attemptName() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// request builds the request of one attempt. A Transport takes it as it is: no
// redirects, no cookies, no proxy.
func (c *call) request(ctx context.Context, node *lb.Node, scheme string, span zipkin.Span, name string) *http.Request {
	u := c.url
	u.Scheme, u.Host = scheme, node.Addr()
	r := (&http.Request{
		Method: c.method, URL: &u, Host: u.Host, Header: c.header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	c.body.attach(r)
	trace.FromZipkin(span.Context()).Inject(r.Header.Set)
	r.Header.Set(auth.CallKeyHeader, c.s.keys.Current())
	if name != "" {
		r.Header.Set(auth.AttemptHeader, name)
	}
	if until, ok := ctx.Deadline(); ok {
		left := (time.Until(until) + time.Millisecond - 1) / time.Millisecond
		r.Header.Set(timeoutHeader, strconv.FormatInt(max(int64(left), 1), 10))
	}
	return r
}

// failed reports the outcome of a connection to the pool and decides on another try.
func (c *call) failed(ctx context.Context, node *lb.Node, w *wire, err error) again {
	if ctx.Err() != nil {
		return againNever // ours or the caller's impatience, not the node's fault
	}
	if dial, ok := errors.AsType[*dialError](err); ok {
		upstreamOf(node).unheard.Store(dial.timeout())
		c.pool.Failed(node)
		if c.body.again() {
			return againFree
		}
		return againNever
	}
	if w.answered.Load() {
		return againNever
	}
	if !w.reused.Load() { // an idle connection that the node had given up says nothing of it
		c.pool.Failed(node)
	}
	if idempotent(c.method) && c.body.inMem {
		return againCosts
	}
	return againNever
}

// read takes the answer in, and turns a bad status into an error.
func (c *call) read(answer *http.Response) (*Response, error) {
	defer answer.Body.Close()
	limit := int64(MaxAnswer)
	bad := answer.StatusCode >= http.StatusBadRequest
	if bad {
		limit = maxErrorBody
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	tooLarge := int64(len(data)) > limit
	if bad {
		// A truncated or broken body does not change what the node said.
		return nil, &StatusError{
			Service: c.service, Action: c.action, Code: answer.StatusCode,
			Header: answer.Header, Body: data[:min(int64(len(data)), limit)],
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if tooLarge {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return &Response{Status: answer.StatusCode, Header: answer.Header, Body: data}, nil
}

// wire is what a connection tells of one attempt.
type wire struct{ reused, answered atomic.Bool }

func (w *wire) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { w.reused.Store(i.Reused) },
		GotFirstResponseByte: func() { w.answered.Store(true) },
	}
}

func idempotent(method string) bool {
	return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete}, method)
}

// reasonOf is a short word for a span.
func reasonOf(ctx context.Context, err error) string {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "timeout"
	case ctx.Err() != nil:
		return "canceled"
	case is[*dialError](err):
		return "dial"
	}
	return "connection"
}

// unavailable makes an error gRPC callers understand.
func unavailable(err error) error { return status.Error(codes.Unavailable, err.Error()) }

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
