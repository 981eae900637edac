package trace_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goms-io/goms/pkg/trace"
)

var errAway = errors.New("away")

// inBubble runs a reporter with a collector that answers as told, in fake time.
func inBubble(t *testing.T, c trace.ReporterConfig, answer func(n int) (int, http.Header, error),
	test func(t *testing.T, r *trace.Reporter, posts *collect, log *logBuffer, stop func() time.Duration),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		posts, log := &collect{answer: answer}, &logBuffer{}
		c.Log = log.logger()
		r := newReporter(t, c)
		r.SetTransport(posts)
		test(t, r, posts, log, running(t, r))
	})
}

func TestReporterInterval(t *testing.T) {
	inBubble(t, trace.ReporterConfig{Interval: 3 * time.Second, BatchSize: 4}, nil,
		func(t *testing.T, r *trace.Reporter, posts *collect, _ *logBuffer, _ func() time.Duration) {
			r.Send(modelSpan(1))
			time.Sleep(3*time.Second - time.Nanosecond)
			synctest.Wait()
			stats(t, r, 0, 0)
			time.Sleep(2 * time.Nanosecond)
			synctest.Wait()
			stats(t, r, 1, 0)
			for i := range 8 { // full batches need not wait
				r.Send(modelSpan(i + 2))
			}
			synctest.Wait()
			if sent, _ := r.Stats(); sent < 5 {
				t.Errorf("sent %d spans, want a full batch at once", sent)
			}
		})
}

// TestReporterLogRate: a collector that is away for an hour costs a line a minute, and
// what waited comes when it is back.
func TestReporterLogRate(t *testing.T) {
	var back time.Time
	inBubble(t, trace.ReporterConfig{QueueSize: 100}, func(int) (int, http.Header, error) {
		if time.Now().Before(back) {
			return 0, nil, errAway
		}
		return http.StatusAccepted, nil, nil
	}, func(t *testing.T, r *trace.Reporter, posts *collect, log *logBuffer, stop func() time.Duration) {
		back = time.Now().Add(time.Hour)
		for i := range 3600 {
			r.Send(modelSpan(i + 1))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if n := log.lines(`"spans not delivered"`); n < 50 || n > 60 {
			t.Errorf("%d lines in an hour, want about 60", n)
		}
		if n := log.lines(`"spans delivered again"`); n != 0 {
			t.Errorf("the end was logged %d times before it was", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := log.lines(`"spans delivered again"`); n != 1 {
			t.Errorf("the end was logged %d times, want 1", n)
		}
		stop()
		sent, dropped := r.Stats()
		if sent+dropped != 3600 || sent < 50 || len(posts.spans(t)) != int(sent) {
			t.Errorf("sent %d and dropped %d of 3600", sent, dropped)
		}
		if n := strings.Count(log.String(), "\n"); n > 62 {
			t.Errorf("%d lines in all", n)
		}
		// attempts: backing off to one in 5 to 10 s
		if n := posts.count(); n < 3600/10 || n > 3600/4 {
			t.Errorf("%d attempts in an hour", n)
		}
	})
}

// TestReporterFlapping: a collector that fails every other time gets no more lines.
func TestReporterFlapping(t *testing.T) {
	inBubble(t, trace.ReporterConfig{}, func(n int) (int, http.Header, error) {
		if n%2 == 0 {
			return http.StatusInternalServerError, nil, nil
		}
		return http.StatusOK, nil, nil
	}, func(t *testing.T, r *trace.Reporter, posts *collect, log *logBuffer, stop func() time.Duration) {
		for i := range 600 {
			r.Send(modelSpan(i + 1))
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		stop()
		stats(t, r, 600, 0)
		if n := strings.Count(log.String(), "\n"); n < 10 || n > 24 {
			t.Errorf("%d lines in ten minutes, want about 20", n)
		}
	})
}

func TestReporterGivesUp(t *testing.T) {
	// One poisonous batch must not block the others for ever.
	inBubble(t, trace.ReporterConfig{}, nil,
		func(t *testing.T, r *trace.Reporter, posts *collect, _ *logBuffer, _ func() time.Duration) {
			poison := true
			posts.answer = func(int) (int, http.Header, error) {
				if poison {
					return http.StatusInternalServerError, nil, nil
				}
				return http.StatusAccepted, nil, nil
			}
			r.Send(modelSpan(1))
			for {
				synctest.Wait()
				if _, dropped := r.Stats(); dropped == 1 {
					break
				}
				if posts.count() > 100 {
					t.Fatal("tries the same batch for ever")
				}
				time.Sleep(time.Second)
			}
			poison = false
			r.Send(modelSpan(2))
			time.Sleep(2 * time.Second)
			synctest.Wait()
			stats(t, r, 1, 1)
		})
}

func TestReporterRetryAfter(t *testing.T) {
	f := func(header string, atLeast, atMost time.Duration) {
		t.Helper()
		inBubble(t, trace.ReporterConfig{}, func(n int) (int, http.Header, error) {
			if n == 0 {
				return http.StatusTooManyRequests, http.Header{"Retry-After": {header}}, nil
			}
			return http.StatusAccepted, nil, nil
		}, func(t *testing.T, r *trace.Reporter, posts *collect, _ *logBuffer, _ func() time.Duration) {
			r.Send(modelSpan(1))
			time.Sleep(time.Minute)
			synctest.Wait()
			stats(t, r, 1, 0)
			if pause := posts.times[1].Sub(posts.times[0]); pause < atLeast || pause > atMost {
				t.Errorf("Retry-After %q: paused %v, want %v to %v", header, pause, atLeast, atMost)
			}
		})
	}
	f("7", 7*time.Second, 7*time.Second)
	f("99999999999", 100*time.Millisecond, 30*time.Second)
	f("86400", 30*time.Second, 30*time.Second)
	f("-1", 100*time.Millisecond, 200*time.Millisecond)
	f("soon", 100*time.Millisecond, 200*time.Millisecond)
}

func TestReporterFlush(t *testing.T) {
	f := func(name string, answer func(n int) (int, http.Header, error), sent int64, atMost time.Duration) {
		t.Helper()
		inBubble(t, trace.ReporterConfig{BatchSize: 10, Interval: time.Hour}, answer,
			func(t *testing.T, r *trace.Reporter, posts *collect, _ *logBuffer, stop func() time.Duration) {
				synctest.Wait()
				for i := range 95 {
					r.Send(modelSpan(i + 1))
				}
				if took := stop(); took > atMost {
					t.Errorf("%s: flush took %v, want at most %v", name, took, atMost)
				}
				stats(t, r, sent, 95-sent)
			})
	}
	f("well", nil, 95, 0)
	f("a hiccup", func(n int) (int, http.Header, error) {
		if n == 3 {
			return 503, nil, nil
		}
		return 202, nil, nil
	}, 95, 200*time.Millisecond)
	f("away", func(int) (int, http.Header, error) { return 0, nil, errAway }, 0, time.Second)
}

// TestReporterFlushDeadline: a collector that answers slowly gets two seconds.
func TestReporterFlushDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReporter(t, trace.ReporterConfig{BatchSize: 1, QueueSize: 1000, Interval: time.Hour})
		r.SetTransport(slow{})
		stop := running(t, r)
		synctest.Wait()
		for i := range 50 {
			r.Send(modelSpan(i + 1))
		}
		if took := stop(); took > 2*time.Second {
			t.Errorf("flush took %v, want 2 s at most", took)
		}
		if sent, dropped := r.Stats(); sent+dropped != 50 || sent == 0 || dropped == 0 {
			t.Errorf("Stats() = %d, %d; want some of each", sent, dropped)
		}
	})
}

// slow answers after 300 ms, or fails when the request is cancelled.
type slow struct{}

func (slow) RoundTrip(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	select {
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	case <-time.After(300 * time.Millisecond):
		return &http.Response{StatusCode: 202, Body: http.NoBody, Request: req}, nil
	}
}

func TestReporterOverflowIsLogged(t *testing.T) {
	takesTime := func(int) (int, http.Header, error) {
		time.Sleep(100 * time.Millisecond)
		return http.StatusAccepted, nil, nil
	}
	inBubble(t, trace.ReporterConfig{QueueSize: 10, BatchSize: 10}, takesTime,
		func(t *testing.T, r *trace.Reporter, _ *collect, log *logBuffer, _ func() time.Duration) {
			tr := newTracer(r)
			for range 90 { // a second each, with twice of what one batch and the queue hold
				for i := range 40 {
					tr.Record(sampled(i + 1))
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if n := log.lines(`"spans dropped"`); n != 2 {
				t.Errorf("%d lines in 90 s, want 2:\n%s", n, log)
			}
		})
}
