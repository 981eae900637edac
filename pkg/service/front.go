package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/openzipkin/zipkin-go"
	"github.com/openzipkin/zipkin-go/model"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/trace"
)

// requestIDHeader carries the id a gateway gave a request.
const requestIDHeader = "X-Request-Id"

// releaseMode silences Gin's debug output, which is one switch for the process. A
// program that wants it calls gin.SetMode in its setup function.
var releaseMode = sync.OnceFunc(func() {
	if gin.Mode() == gin.DebugMode {
		gin.SetMode(gin.ReleaseMode)
	}
})

// newEngine returns Gin as nodes use it: it redirects nobody, believes no
// X-Forwarded-For but that of the proxies named, answers 404 and 405 in the
// envelope, and hands a request's context to whoever is passed the *gin.Context.
func newEngine(trustedProxies []string) (*gin.Engine, error) {
	releaseMode()
	e := gin.New()
	if err := e.SetTrustedProxies(trustedProxies); err != nil {
		return nil, &project.ConfigError{Key: "service.trustedProxies", Msg: err.Error()}
	}
	e.RedirectTrailingSlash = false
	e.RedirectFixedPath = false
	e.HandleMethodNotAllowed = true
	e.ContextWithFallback = true
	e.Use(func(c *gin.Context) {
		ctx := c.Request.Context()
		if rec := recordOf(ctx); rec != nil {
			rec.route = c.FullPath()
		}
		c.Next()
		if !c.Writer.Written() && c.Writer.Status() == http.StatusOK && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			// It gave up and said nothing, which would be an empty success.
			Failure(c, http.StatusGatewayTimeout, http.StatusGatewayTimeout, refusedLate)
		}
	})
	e.NoRoute(func(c *gin.Context) { Failure(c, http.StatusNotFound, http.StatusNotFound, "no such route") })
	e.NoMethod(func(c *gin.Context) {
		Failure(c, http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, "method not allowed")
	})
	return e, nil
}

// record is what is remembered of one request.
type record struct {
	start     time.Time
	method    string // one of a fixed list
	route     string // the template, "" while or when none matched
	requestID string
	err       string // why the node failed, "" when it did not
	span      zipkin.Span
}

type recordKey struct{}

func recordOf(ctx context.Context) *record {
	rec, _ := ctx.Value(recordKey{}).(*record)
	return rec
}

// ServeHTTP is the whole life of a request at the node: health, key, trace, routes,
// recovery, record. Tests may call it without listening.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, leaving: s.leaving, timeout: s.config.Service.WriteTimeout}
	a.rollWrite()
	switch r.URL.Path {
	case "/livez":
		s.answerHealth(a, true)
		return
	case "/readyz":
		s.answerHealth(a, s.published.Load() && !s.leaving())
		return
	}
	rec := &record{start: time.Now(), method: methodName(r.Method)}
	s.metrics.inFlight.Inc()
	defer s.finish(a, rec, r)
	if !s.admits(r) {
		// Nobody we know: his body is not read, his connection not kept.
		a.Header().Set("Connection", "close")
		refuse(a, http.StatusForbidden, "call-service key missing or wrong")
		return
	}
	a.known = true
	q := askOf(r.Header)
	stripKey(r.Header)
	if r.URL.Path == "/metrics" {
		rec.route = r.URL.Path
		s.metrics.handler.ServeHTTP(a, r)
		return
	}
	rec.requestID = headerID(r.Header.Get(requestIDHeader))
	why := s.enter(q)
	defer s.leave()
	a.busy = &s.busy
	if why != "" {
		s.refuseAttempt(a, rec, q, why)
		return
	}
	r = s.begin(a, rec, r)
	if q.timed {
		ctx, left, stop := withHeadTime(r.Context(), q.timeout)
		defer stop()
		a.left = left
		r = r.WithContext(ctx)
	}
	s.Engine.ServeHTTP(a, r)
}

func (s *Service) answerHealth(w http.ResponseWriter, ok bool) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Cache-Control", "no-store")
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"status":` + strconv.FormatBool(ok) + `}`))
}

// admits reports whether the request carries exactly one key and it is valid.
func (s *Service) admits(r *http.Request) bool {
	got := r.Header[auth.CallKeyHeader]
	return len(got) == 1 && s.keys.Valid(got[0])
}

// stripKey removes the key from what handlers see, and what gateways and nodes tell one
// another, with every spelling that some program takes for the same header.
func stripKey(h http.Header) {
	for name := range h {
		if isKeyHeader(name) || isGomsHeader(name) {
			delete(h, name)
		}
	}
}

// stripTrace removes every header that carries a trace.
func stripTrace(h http.Header) {
	for name := range h {
		switch lower := strings.ToLower(name); {
		case lower == "b3", lower == "traceparent", lower == "tracestate", strings.HasPrefix(lower, "x-b3-"):
			delete(h, name)
		}
	}
}

func isKeyHeader(name string) bool {
	if len(name) != len(auth.CallKeyHeader) {
		return false
	}
	return strings.EqualFold(strings.Map(dashed, name), auth.CallKeyHeader)
}

func dashed(r rune) rune {
	if r == '_' || r == '.' {
		return '-'
	}
	return r
}

// begin opens the server span and returns the request that handlers see.
func (s *Service) begin(a *answer, rec *record, r *http.Request) *http.Request {
	parent, _ := trace.FromHTTP(r.Header) // without a trace it may still hold a decision
	rec.span = s.tracer.StartSpan(rec.method,
		zipkin.Kind(model.Server), zipkin.StartTime(rec.start), zipkin.Parent(parent.Zipkin()))
	ctx := context.WithValue(zipkin.NewContext(r.Context(), rec.span), recordKey{}, rec)
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &body{ReadCloser: r.Body, answer: a, timeout: s.config.Service.ReadTimeout}
	}
	return r
}

// finish ends a request in every case: it turns a panic into 500, and writes metrics,
// span and access record.
func (s *Service) finish(a *answer, rec *record, r *http.Request) {
	p, cut := recover(), false
	if p != nil {
		cut = s.panicked(a, rec, p)
	}
	a.rollEnd(s.config.Service.ReadHeaderTimeout)
	s.metrics.inFlight.Dec()
	s.metrics.observe(rec, a.code())
	s.finishSpan(rec, a.code())
	s.logRequest(rec, a.code(), r)
	if cut { // only breaking the connection says so to the client
		panic(http.ErrAbortHandler)
	}
}

// panicked answers 500 for a handler that panicked, and reports whether that could not
// be because the answer had begun.
func (s *Service) panicked(a *answer, rec *record, p any) (cut bool) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		rec.err = "aborted"
		return true
	}
	rec.err = "panic"
	s.log.Error("handler panicked", "method", rec.method, "route", rec.route,
		"err", s.redact(fmt.Sprint(p)), "stack", s.redact(string(debug.Stack())))
	if a.started() {
		return true
	}
	clear(a.Header()) // what the handler had in mind no longer holds
	refuse(a, http.StatusInternalServerError, "internal error")
	return false
}

// redact removes the key from text that did not come from us. Handlers never see the
// key, so this is the second lock on the same door.
func (s *Service) redact(text string) string {
	return strings.ReplaceAll(text, s.keys.Current(), "***")
}

func (s *Service) finishSpan(rec *record, code int) {
	if rec.span == nil {
		return
	}
	if rec.route != "" {
		rec.span.SetName(rec.method + " " + rec.route)
		rec.span.Tag("http.route", rec.route)
	}
	rec.span.Tag("http.method", rec.method)
	rec.span.Tag("http.status_code", strconv.Itoa(code))
	if rec.err != "" {
		rec.span.Tag("error", rec.err)
	} else if code >= http.StatusInternalServerError {
		rec.span.Tag("error", strconv.Itoa(code))
	}
	rec.span.Finish()
}

// logRequest writes the access record: the template of the route, never the path or
// the query, which may hold anything.
func (s *Service) logRequest(rec *record, code int, r *http.Request) {
	ctx := context.WithoutCancel(r.Context())
	if !s.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("method", rec.method), slog.String("route", routeName(rec.route)),
		slog.Int("status", code), slog.Duration("duration", time.Since(rec.start)), slog.String("addr", r.RemoteAddr))
	if rec.err != "" {
		attrs = append(attrs, slog.String("reason", rec.err))
	}
	if rec.requestID != "" {
		attrs = append(attrs, slog.String("request_id", rec.requestID))
	}
	if rec.span != nil && !rec.span.Context().TraceID.Empty() {
		attrs = append(attrs, slog.String("trace_id", rec.span.Context().TraceID.String()))
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// headerID returns an id a gateway sent, if it looks like one.
func headerID(id string) string {
	if len(id) > 128 {
		return ""
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return ""
		}
	}
	return id
}

// methodName bounds what clients can put into logs, labels and span names.
func methodName(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return m
	}
	return "OTHER"
}

func routeName(route string) string {
	if route == "" {
		return "none"
	}
	return route
}
