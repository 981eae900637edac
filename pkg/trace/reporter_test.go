package trace_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openzipkin/zipkin-go/model"

	"github.com/goms-io/goms/pkg/trace"
	"github.com/goms-io/goms/test/ports"
)

func modelSpan(n int) model.SpanModel {
	return model.SpanModel{
		SpanContext: model.SpanContext{TraceID: model.TraceID{Low: lo}, ID: model.ID(n)},
		Name:        "x", Kind: model.Server, Timestamp: time.Unix(1700000000, 0), Duration: time.Second,
		Tags: map[string]string{"k": "v"},
	}
}

// running starts Run and returns what ends it: stop cancels its context and returns how
// long Run then took.
func running(t *testing.T, r *trace.Reporter) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	once := sync.OnceValue(func() time.Duration {
		began := time.Now()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run() = %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
		return time.Since(began)
	})
	t.Cleanup(func() {
		if once(); t.Failed() {
			sent, dropped := r.Stats()
			t.Logf("%d spans were sent, %d dropped", sent, dropped)
		}
	})
	return once
}

// server is a collector on the network; handle may answer, else it is 202.
func server(t *testing.T, handle func(n int, w http.ResponseWriter, r *http.Request) bool) (url string, taken *collect) {
	t.Helper()
	taken = &collect{}
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if handle != nil && handle(int(n.Add(1))-1, w, req) {
			return
		}
		if req.Method != http.MethodPost || req.URL.Path != "/api/v2/spans" || req.Header.Get("Content-Type") != "application/json" {
			t.Errorf("unexpected request %s %s %v", req.Method, req.URL, req.Header)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || int64(len(body)) != req.ContentLength {
			t.Errorf("read body: %d of %d bytes, %v", len(body), req.ContentLength, err)
		}
		taken.mu.Lock()
		taken.bodies = append(taken.bodies, body)
		taken.posts = append(taken.posts, req)
		taken.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/api/v2/spans", taken
}

func sentAre(r *trace.Reporter, n int64) func() bool {
	return func() bool { sent, _ := r.Stats(); return sent == n }
}

func stats(t *testing.T, r *trace.Reporter, sent, dropped int64) {
	t.Helper()
	if s, d := r.Stats(); s != sent || d != dropped {
		t.Errorf("Stats() = %d, %d; want %d, %d", s, d, sent, dropped)
	}
}

func TestReporterPostsBoth(t *testing.T) {
	url, taken := server(t, nil)
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, BatchSize: 10})
	tr := newTracer(r)
	stop := running(t, r)
	for i := range 100 {
		tr.Record(sampled(i + 1))
		r.Send(modelSpan(i + 1001))
	}
	eventually(t, "200 spans", sentAre(r, 200))
	stop()
	stats(t, r, 200, 0)
	spans := taken.spans(t)
	if len(spans) != 200 {
		t.Errorf("collected %d spans, want 200", len(spans))
	}
	taken.mu.Lock()
	defer taken.mu.Unlock()
	from := map[string]bool{}
	for i, post := range taken.posts {
		from[post.RemoteAddr] = true
		if n := len(decode(t, taken.bodies[i])); n > 10 {
			t.Errorf("a batch has %d spans, want at most 10", n)
		}
		if got := post.Header.Get("b3"); got != "0" {
			t.Errorf("b3 = %q, want 0", got)
		}
	}
	if len(from) != 1 {
		t.Errorf("used %d connections, want 1", len(from))
	}
}

func TestReporterLargeSpans(t *testing.T) {
	url, taken := server(t, nil)
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond})
	large := modelSpan(1)
	large.Tags["k"] = strings.Repeat("x", 200<<10)
	for i := range 20 {
		large.ID = model.ID(i + 1)
		r.Send(large)
	}
	large.Tags["k"] = strings.Repeat("x", 300<<10)
	r.Send(large) // too large
	running(t, r)
	eventually(t, "20 large spans", sentAre(r, 20))
	stats(t, r, 20, 1)
	taken.mu.Lock()
	defer taken.mu.Unlock()
	for _, body := range taken.bodies {
		if len(body) > 2<<20 {
			t.Errorf("a batch has %d bytes", len(body))
		}
	}
}

func TestReporterBoundsBytes(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{})
	large := modelSpan(1)
	large.Tags["k"] = strings.Repeat("x", 250<<10)
	for range 200 {
		r.Send(large)
	}
	if _, dropped := r.Stats(); dropped < 60 || dropped > 100 {
		t.Errorf("dropped %d of 200 spans of 250 KiB, want what is above 32 MiB", dropped)
	}
	n := 0
	for d := r.Drain(); d > 0; d = r.Drain() {
		n += d
	}
	if _, dropped := r.Stats(); int64(n)+dropped != 200 {
		t.Errorf("kept %d and dropped %d of 200", n, dropped)
	}
	r.Send(large)
	if r.Drain() != 1 {
		t.Error("the room is not free again")
	}
}

func TestReporterRetries503(t *testing.T) {
	url, taken := server(t, func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 0 {
			w.WriteHeader(http.StatusServiceUnavailable) // without reading the body
		}
		return n == 0
	})
	log := &logBuffer{}
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, BatchSize: 1000, Log: log.logger()})
	tr := newTracer(r)
	stop := running(t, r)
	for i := range 5000 {
		tr.Record(sampled(i + 1))
	}
	eventually(t, "5000 spans", sentAre(r, 5000))
	stop()
	stats(t, r, 5000, 0)
	if got := len(taken.spans(t)); got != 5000 {
		t.Errorf("collected %d spans, want 5000", got)
	}
	if log.lines(`"spans not delivered"`) != 1 || log.lines(`"spans delivered again"`) != 1 {
		t.Errorf("log:\n%s", log)
	}
}

func TestReporterRefusedConnection(t *testing.T) {
	addr := ports.Addr(t)
	log := &logBuffer{}
	r := newReporter(t, trace.ReporterConfig{URL: "http://someone:hunter2@" + addr + "/api/v2/spans?key=hunter3", Interval: time.Millisecond, QueueSize: 10, Log: log.logger()})
	stop := running(t, r)
	r.Send(modelSpan(1))
	eventually(t, "a line in the log", func() bool { return log.lines(`"spans not delivered"`) == 1 })
	for i := range 50 {
		r.Send(modelSpan(i + 2))
	}
	if took := stop(); took > 2*time.Second {
		t.Errorf("Run took %v to end, want not to wait for a collector that is away", took)
	}
	stats(t, r, 0, 51)
	text := log.String()
	for _, secret := range []string{"someone", "hunter", "key="} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q:\n%s", secret, text)
		}
	}
	if !strings.Contains(text, addr) || !strings.Contains(text, "refused") {
		t.Errorf("the log does not say what failed:\n%s", text)
	}
	if n := strings.Count(text, "\n"); n != 1 {
		t.Errorf("%d lines in the log, want 1:\n%s", n, text)
	}
}

func TestReporterHanging(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 100)
	url, _ := server(t, func(_ int, _ http.ResponseWriter, req *http.Request) bool {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-req.Context().Done():
		}
		return true
	})
	defer close(release)
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, Timeout: time.Hour})
	stop := running(t, r)
	r.Send(modelSpan(1))
	<-arrived
	r.Send(modelSpan(2))
	if took := stop(); took < time.Second || took > 10*time.Second {
		t.Errorf("Run took %v to end, want about 2 s", took)
	}
	stats(t, r, 0, 2)
}

func TestReporterTimeout(t *testing.T) {
	url, taken := server(t, func(n int, _ http.ResponseWriter, req *http.Request) bool {
		if n == 0 {
			_, _ = io.Copy(io.Discard, req.Body)
			<-req.Context().Done()
		}
		return n == 0
	})
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, Timeout: time.Second}) // a second attempt that is late would count twice
	running(t, r)
	r.Send(modelSpan(1))
	eventually(t, "the span at the second attempt", sentAre(r, 1))
	if got := len(taken.spans(t)); got != 1 {
		t.Errorf("collected %d spans, want 1", got)
	}
}

func TestReporterSlowDoesNotBlock(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 100)
	url, taken := server(t, func(_ int, _ http.ResponseWriter, _ *http.Request) bool {
		arrived <- struct{}{}
		<-release
		return false
	})
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, QueueSize: 16})
	tr := newTracer(r)
	stop := running(t, r)
	tr.Record(sampled(1))
	<-arrived            // Run waits for the answer, while
	for i := range 100 { // nobody who reports does
		tr.Record(sampled(i + 2))
		r.Send(modelSpan(i + 1002))
	}
	if _, dropped := r.Stats(); dropped != 2*(100-16) {
		t.Errorf("dropped %d, want %d", dropped, 2*(100-16))
	}
	close(release)
	eventually(t, "what was queued", sentAre(r, 1+2*16))
	stop()
	if got := len(taken.spans(t)); got != 1+2*16 {
		t.Errorf("collected %d spans, want %d", got, 1+2*16)
	}
}

func TestReporterFollowsNoRedirect(t *testing.T) {
	var followed atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer target.Close()
	url, _ := server(t, func(n int, w http.ResponseWriter, req *http.Request) bool {
		if n == 0 {
			http.Redirect(w, req, target.URL+"/api/v2/spans", http.StatusTemporaryRedirect)
		} else {
			w.WriteHeader(http.StatusBadRequest)
		}
		return true
	})
	log := &logBuffer{}
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, Log: log.logger()})
	running(t, r)
	for i := range 2 { // neither answer is retried
		r.Send(modelSpan(i + 1))
		eventually(t, "a drop", func() bool { _, dropped := r.Stats(); return dropped == int64(i+1) })
	}
	if followed.Load() != 0 {
		t.Error("the redirect was followed")
	}
	if !strings.Contains(log.String(), "answered 307") {
		t.Errorf("log:\n%s", log)
	}
}

func TestReporterBasicAuth(t *testing.T) {
	got := make(chan string, 10)
	url, _ := server(t, func(_ int, _ http.ResponseWriter, req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		got <- user + "|" + password
		return false
	})
	r := newReporter(t, trace.ReporterConfig{URL: strings.Replace(url, "http://", "http://me:p%40ss@", 1), Interval: time.Millisecond})
	running(t, r)
	r.Send(modelSpan(1))
	if auth := <-got; auth != "me|p@ss" {
		t.Errorf("basic auth = %q", auth)
	}
}

func TestReporterWithoutRun(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{QueueSize: 10})
	tr := newTracer(r)
	for i := range 15 {
		r.Send(modelSpan(i + 1))
		tr.Record(sampled(i + 1))
	}
	stats(t, r, 0, 10)
	_ = r.Close()
	_ = r.Close()
	r.Send(modelSpan(1))
	tr.Record(sampled(1))
	stats(t, r, 0, 12)

	var none *trace.Reporter
	none.Send(modelSpan(1))
	_ = none.Close()
	if s, d := none.Stats(); s != 0 || d != 0 {
		t.Errorf("Stats() of nil = %d, %d", s, d)
	}
}

func TestReporterDropsSpansWithoutIDs(t *testing.T) {
	r := newReporter(t, trace.ReporterConfig{})
	r.Send(model.SpanModel{})
	r.Send(model.SpanModel{SpanContext: model.SpanContext{ID: 1}})
	r.Send(model.SpanModel{SpanContext: model.SpanContext{TraceID: model.TraceID{High: 1}}})
	stats(t, r, 0, 3)
}

func TestReporterCloseEndsRun(t *testing.T) {
	url, taken := server(t, nil)
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Hour})
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	for i := range 10 {
		r.Send(modelSpan(i + 1))
	}
	_ = r.Close()
	_ = r.Close()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v", err)
	}
	r.Send(modelSpan(11))
	stats(t, r, 10, 1)
	if got := len(taken.spans(t)); got != 10 {
		t.Errorf("collected %d spans, want 10", got)
	}
	if err := r.Run(context.Background()); err != nil { // ends at once
		t.Errorf("Run() after Close = %v", err)
	}
}

func TestReporterRunTwice(t *testing.T) {
	url, _ := server(t, nil)
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond})
	stop := running(t, r)
	r.Send(modelSpan(1))
	eventually(t, "one span", sentAre(r, 1)) // so it runs
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run at a time: no error")
	}
	stop()
	running(t, r)
	r.Send(modelSpan(2))
	eventually(t, "another span", sentAre(r, 2))
}

// TestReporterConcurrentShutdown has producers that go on while the reporter ends:
// what was accepted before Close is delivered, and nothing blocks or races.
func TestReporterConcurrentShutdown(t *testing.T) {
	url, taken := server(t, nil)
	r := newReporter(t, trace.ReporterConfig{URL: url, Interval: time.Millisecond, QueueSize: 256})
	tr := newTracer(r)
	stop := running(t, r)
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for p := range 4 {
		wg.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				tr.Record(sampled(p<<32 | i))
				r.Send(modelSpan(p<<32 | 1<<31 | i))
			}
		})
	}
	eventually(t, "some spans", func() bool { sent, _ := r.Stats(); return sent > 1000 })
	_ = r.Close()
	stop()
	close(quit)
	wg.Wait()
	sent, _ := r.Stats()
	if got := int64(len(taken.spans(t))); got != sent {
		t.Errorf("collected %d spans, Stats() says %d", got, sent)
	}
}

func TestNewReporterRefuses(t *testing.T) {
	f := func(c trace.ReporterConfig) {
		t.Helper()
		_, err := trace.NewReporter(c)
		if err == nil {
			t.Errorf("NewReporter(%+v): no error", c)
		} else if strings.Contains(err.Error(), "hunter") {
			t.Errorf("NewReporter: the error has the password: %v", err)
		}
	}
	for _, bad := range []string{
		"", "127.0.0.1:9411", "zipkin:9411/api/v2/spans", "ftp://a/b", "http://", "http:///api", "//a/b", "/api",
		"http://me:hunt er2@a/b", "http://me:hunter%zz@a/b", "http://me:hunter/2@a:1/b", "http://me:12/hunter2@a:1/b",
		"http://me:12?hunter2@a:1/b", "http://me:12#hunter2@a:1/b", "http://hunter2\x00@a/", "http://:80/hunter",
	} {
		f(trace.ReporterConfig{URL: bad})
	}
	const url = "http://hunter:hunter2@127.0.0.1:1/api/v2/spans"
	f(trace.ReporterConfig{URL: url, QueueSize: -1})
	f(trace.ReporterConfig{URL: url, BatchSize: -1})
	f(trace.ReporterConfig{URL: url, Interval: -1})
	f(trace.ReporterConfig{URL: url, Timeout: -1})
}
