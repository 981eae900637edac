package service_test

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
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/goms-io/goms/pkg/service"
)

// keyedShop is an engine whose POST /order counts what it does.
type keyedShop struct {
	engine *gin.Engine
	done   atomic.Int64
	answer func(*gin.Context, int64)
}

func newKeyedShop(o service.IdempotencyOptions) *keyedShop {
	gin.SetMode(gin.ReleaseMode)
	s := &keyedShop{engine: gin.New()}
	s.engine.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { c.AbortWithStatus(500) }))
	s.answer = func(c *gin.Context, n int64) {
		body, _ := io.ReadAll(c.Request.Body)
		c.Header("X-Order", fmt.Sprint(n))
		c.String(http.StatusCreated, "order %d of %s", n, body)
	}
	s.engine.Any("/order", service.Idempotent(o), func(c *gin.Context) { s.answer(c, s.done.Add(1)) })
	s.engine.Any("/other", service.Idempotent(o), func(c *gin.Context) { s.answer(c, s.done.Add(1)) })
	return s
}

type keyedRequest struct {
	method, path, key, caller, body string
	ctx                             context.Context
	broken                          bool // the client takes nothing
}

func (s *keyedShop) send(r keyedRequest) *httptest.ResponseRecorder {
	if r.method == "" {
		r.method = "POST"
	}
	if r.path == "" {
		r.path = "/order"
	}
	if r.ctx == nil {
		r.ctx = context.Background()
	}
	req := httptest.NewRequestWithContext(r.ctx, r.method, r.path, strings.NewReader(r.body))
	if r.key != "" {
		req.Header["Idempotency-Key"] = strings.Split(r.key, "|")
	}
	if r.caller != "" {
		req.Header.Set("Authorization", r.caller)
	}
	w := httptest.NewRecorder()
	var to http.ResponseWriter = w
	if r.broken {
		to = brokenWriter{w}
	}
	s.engine.ServeHTTP(to, req)
	return w
}

func TestIdempotent(t *testing.T) {
	s := newKeyedShop(service.IdempotencyOptions{})
	f := func(r keyedRequest, status int, body string, replayed bool) {
		t.Helper()
		w := s.send(r)
		if w.Code != status || !strings.Contains(w.Body.String(), body) || (w.Header().Get("Idempotency-Replayed") == "true") != replayed {
			t.Errorf("%+v = %d %q %v, want %d %q, replayed %v", r, w.Code, w.Body, w.Header(), status, body, replayed)
		}
		if status == 201 && w.Header().Get("X-Order") == "" {
			t.Errorf("%+v = %v, want X-Order", r, w.Header())
		}
	}
	f(keyedRequest{key: "a", body: "tea"}, 201, "order 1 of tea", false)
	f(keyedRequest{key: "a", body: "tea"}, 201, "order 1 of tea", true)
	f(keyedRequest{key: "a", body: "tea"}, 201, "order 1 of tea", true)
	f(keyedRequest{key: "a", body: "milk"}, 422, "another request", false)
	f(keyedRequest{key: "a", body: "tea", path: "/order?cups=2"}, 422, "another request", false)
	f(keyedRequest{key: "b", body: "tea"}, 201, "order 2 of tea", false)
	f(keyedRequest{key: "a", body: "tea", caller: "somebody"}, 201, "order 3 of tea", false)
	f(keyedRequest{key: "a", body: "tea", caller: "somebody"}, 201, "order 3 of tea", true)
	f(keyedRequest{key: "a", body: "tea", method: "PATCH"}, 201, "order 4 of tea", false)
	f(keyedRequest{key: "a", body: "tea", path: "/other"}, 201, "order 5 of tea", false)
	// Without a key, and for methods that may be repeated anyway, it is not there.
	f(keyedRequest{body: "tea"}, 201, "order 6", false)
	f(keyedRequest{key: "a", body: "tea", method: "PUT"}, 201, "order 7", false)
	f(keyedRequest{key: "a", body: "tea", method: "PUT"}, 201, "order 8", false)
	for _, bad := range []string{"|", "a|b", strings.Repeat("x", 256), "a\x01", "ü"} {
		f(keyedRequest{key: bad}, 400, "Idempotency-Key", false)
	}
	f(keyedRequest{key: "big", body: strings.Repeat("x", 1<<20+1)}, 413, "too large", false)
	if n := s.done.Load(); n != 8 {
		t.Errorf("%d orders, want 8", n)
	}
	s = newKeyedShop(service.IdempotencyOptions{Required: true, Caller: func(c *gin.Context) string { return c.Query("who") }})
	f(keyedRequest{}, 400, "needs an Idempotency-Key", false)
	f(keyedRequest{key: "a", path: "/order?who=1", caller: "x"}, 201, "order 1", false)
	f(keyedRequest{key: "a", path: "/order?who=1", caller: "y"}, 201, "order 1", true)
	f(keyedRequest{key: "a", path: "/order?who=2"}, 201, "order 2", false)
}

// TestIdempotentAnswers: what is remembered of which answer.
func TestIdempotentAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer   func(*gin.Context, int64)
		status   int
		again    int // status of the second
		body     string
		done     int64
		replayed bool
	}{
		"empty":     {func(c *gin.Context, _ int64) { c.Status(204) }, 204, 204, "", 1, true},
		"failure":   {func(c *gin.Context, _ int64) { c.String(500, "half done") }, 500, 500, "half done", 1, true},
		"conflict":  {func(c *gin.Context, _ int64) { service.Failure(c, 409, 7, "sold out") }, 409, 409, "sold out", 1, true},
		"not now":   {func(c *gin.Context, _ int64) { c.String(503, "later") }, 503, 503, "later", 2, false},
		"too many":  {func(c *gin.Context, _ int64) { c.String(429, "later") }, 429, 429, "later", 2, false},
		"panic":     {func(*gin.Context, int64) { panic("no") }, 500, 500, "", 1, true},
		"too large": {func(c *gin.Context, _ int64) { c.String(200, strings.Repeat("x", 64<<10+1)) }, 200, 409, "too large to keep", 1, false},
		"in pieces": {func(c *gin.Context, _ int64) {
			for range 3 {
				io.WriteString(c.Writer, "piece ")
				c.Writer.Flush()
			}
		}, 200, 200, "piece piece piece ", 1, true},
	} {
		s := newKeyedShop(service.IdempotencyOptions{})
		s.answer = c.answer
		first, second := s.send(keyedRequest{key: "k"}), s.send(keyedRequest{key: "k"})
		if first.Code != c.status || second.Code != c.again || !strings.Contains(second.Body.String(), c.body) || s.done.Load() != c.done {
			t.Errorf("%s: %d, then %d %.60q, done %d times, want %d, %d %q, %d", name, first.Code, second.Code, second.Body, s.done.Load(), c.status, c.again, c.body, c.done)
		}
		if got := second.Header().Get("Idempotency-Replayed") == "true"; got != c.replayed {
			t.Errorf("%s: replayed %v, want %v", name, got, c.replayed)
		}
	}
}

// TestIdempotentWaits: of many at once one is done and all get its answer; who cannot wait gets 409.
func TestIdempotentWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newKeyedShop(service.IdempotencyOptions{})
		usual := s.answer
		s.answer = func(c *gin.Context, n int64) {
			time.Sleep(2 * time.Second)
			usual(c, n)
		}
		var wg sync.WaitGroup
		var replayed atomic.Int64
		for range 20 {
			wg.Go(func() {
				w := s.send(keyedRequest{key: "k", body: "x"})
				if w.Code != 201 || w.Body.String() != "order 1 of x" {
					t.Errorf("one of many = %d %s", w.Code, w.Body)
				}
				if w.Header().Get("Idempotency-Replayed") == "true" {
					replayed.Add(1)
				}
			})
		}
		time.Sleep(time.Second)
		if w := s.send(keyedRequest{key: "k", body: "y"}); w.Code != 422 {
			t.Errorf("another request while the first runs = %d, want 422 at once", w.Code)
		}
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if w := s.send(keyedRequest{key: "k", body: "x", ctx: short}); w.Code != 409 || w.Header().Get("Retry-After") == "" {
			t.Errorf("one that cannot wait = %d %v, want 409 with Retry-After", w.Code, w.Header())
		}
		wg.Wait()
		if s.done.Load() != 1 || replayed.Load() != 19 {
			t.Errorf("done %d times, %d replayed, want 1 and 19", s.done.Load(), replayed.Load())
		}

		// The wait itself is bounded.
		s = newKeyedShop(service.IdempotencyOptions{Wait: time.Second})
		s.answer = func(c *gin.Context, n int64) { time.Sleep(3 * time.Second); usual(c, n) }
		wg.Go(func() { s.send(keyedRequest{key: "k"}) })
		synctest.Wait()
		begun := time.Now()
		if w := s.send(keyedRequest{key: "k"}); w.Code != 409 || time.Since(begun) != time.Second {
			t.Errorf("waited %v for %d, want 1 s and 409", time.Since(begun), w.Code)
		}
		wg.Wait()

		// Whoever waits for one that was not done does it, one of them.
		s = newKeyedShop(service.IdempotencyOptions{})
		s.answer = func(c *gin.Context, n int64) {
			time.Sleep(time.Second)
			if n == 1 {
				c.Status(503)
				return
			}
			usual(c, n)
		}
		var created atomic.Int64
		for range 5 {
			wg.Go(func() {
				if w := s.send(keyedRequest{key: "k"}); w.Code == 201 {
					created.Add(1)
				}
			})
		}
		wg.Wait()
		if s.done.Load() != 2 || created.Load() != 4 {
			t.Errorf("done %d times, %d of 5 have the order, want 2 and 4", s.done.Load(), created.Load())
		}
	})
}

// TestIdempotentForgets: answers are forgotten by age, and the least recently used by size.
func TestIdempotentForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newKeyedShop(service.IdempotencyOptions{TTL: time.Minute, MaxBytes: 8 << 10})
		f := func(key string, done int64) {
			t.Helper()
			s.send(keyedRequest{key: key})
			if got := s.done.Load(); got != done {
				t.Errorf("%d orders after %q, want %d", got, key, done)
			}
		}
		f("a", 1)
		time.Sleep(time.Minute - 1)
		f("a", 1)
		time.Sleep(1)
		f("a", 2)
		// Many others push out those that nobody asks for.
		f("b", 3)
		for i := range 100 {
			s.send(keyedRequest{key: fmt.Sprint(i)})
			f("a", int64(4+i))
		}
		f("b", 104)
		f("99", 104)
	})
}

// TestIdempotentWithoutAnEnd: a handler that gave up is not remembered as one that had nothing to say, nor
// part of an answer as the whole.
func TestIdempotentWithoutAnEnd(t *testing.T) {
	f := func(what string, ctx context.Context, fails bool, answer func(*gin.Context, int64), again int) {
		t.Helper()
		s := newKeyedShop(service.IdempotencyOptions{})
		s.answer = answer
		s.send(keyedRequest{key: "k", ctx: ctx, broken: fails})
		second := s.send(keyedRequest{key: "k"})
		if second.Code != again || s.done.Load() != 1 {
			t.Errorf("%s: the next one is %d %q, done %d times, want %d, and once", what, second.Code, second.Body, s.done.Load(), again)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	late, stop := context.WithDeadline(t.Context(), time.Now())
	defer stop()
	nothing := func(*gin.Context, int64) {}
	f("nothing to say", t.Context(), false, nothing, 200)
	f("out of time", late, false, nothing, 409)
	f("an answer, out of time", late, false, func(c *gin.Context, _ int64) { c.String(200, "done") }, 200)
	f("a status, out of time", late, false, func(c *gin.Context, _ int64) { c.Status(204) }, 204)
	pieces := func(c *gin.Context, _ int64) {
		for range 3 {
			if _, err := io.WriteString(c.Writer, "piece "); err != nil {
				return
			}
		}
	}
	f("in pieces", t.Context(), false, pieces, 200)
	f("a body that there cannot be", t.Context(), false, func(c *gin.Context, _ int64) {
		c.Status(204)
		io.WriteString(c.Writer, "x")
	}, 204)
	f("a client that left amid the answer", t.Context(), true, pieces, 409)
	cancelled := func(c *gin.Context, _ int64) {
		cancel()
		<-c.Request.Context().Done()
	}
	f("a client that left", gone, false, cancelled, 409)
}

// brokenWriter is the answer of a client that has left.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error)       { return 0, io.ErrClosedPipe }
func (brokenWriter) WriteString(string) (int, error) { return 0, io.ErrClosedPipe }
