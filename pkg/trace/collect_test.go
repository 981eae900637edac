package trace_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openzipkin/zipkin-go/model"
)

// collect is a collector without a network: an http.RoundTripper. answer says what the
// n-th post (from 0) gets; nil takes them all.
type collect struct {
	answer func(n int) (status int, header http.Header, err error)

	mu     sync.Mutex // guards below
	times  []time.Time
	posts  []*http.Request
	bodies [][]byte // of those that were taken
}

func (c *collect) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	n := len(c.posts)
	c.posts = append(c.posts, req)
	c.times = append(c.times, time.Now())
	c.mu.Unlock()
	status, header := http.StatusAccepted, http.Header{}
	if c.answer != nil {
		status, header, err = c.answer(n)
	}
	if err != nil {
		return nil, err
	}
	if status/100 == 2 {
		c.mu.Lock()
		c.bodies = append(c.bodies, body)
		c.mu.Unlock()
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: req}, nil
}

func (c *collect) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.posts)
}

// spans returns what was taken, by id; no id may come twice.
func (c *collect) spans(t testing.TB) map[model.ID]model.SpanModel {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[model.ID]model.SpanModel{}
	for _, body := range c.bodies {
		for _, s := range decode(t, body) {
			if _, twice := all[s.ID]; twice {
				t.Errorf("span %v came twice", s.ID)
			}
			all[s.ID] = s
		}
	}
	return all
}

// logBuffer is a log that many may write and read.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) lines(msg string) int {
	return strings.Count(l.String(), "msg="+msg)
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// eventually polls a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
