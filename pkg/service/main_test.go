package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/service"
	"github.com/goms-io/goms/pkg/service/servicetest"
)

// canary is the key in all tests: it must never be seen in anything a node writes.
const canary = "canary-key-0123456789abcdef"

func TestMain(m *testing.M) {
	if os.Getenv("SERVICE_TEST_MAIN") != "" { // this process is the node of a test
		service.Main("user", func(s *service.Service) error {
			s.GET("/slow", func(c *gin.Context) {
				<-s.Draining()
				time.Sleep(1500 * time.Millisecond) // a request that takes a while
				service.Success(c, nil)
			})
			return nil
		})
	}
	goleak.VerifyTestMain(m)
}

// lines collects what a logger writes.
type lines struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// records returns the JSON lines with the given message.
func (l *lines) records(t *testing.T, msg string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if r["msg"] == msg {
			all = append(all, r)
		}
	}
	return all
}

func noCanary(t *testing.T, what, text string) {
	t.Helper()
	if strings.Contains(text, canary) {
		t.Errorf("the key is in %s", what)
	}
}

// poll waits for a condition.
func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// quick is a configuration without a pause before leaving.
func quick(edit func(*service.Config)) *service.Config {
	c := service.DefaultConfig()
	c.CallServiceKey = canary
	c.Service.DrainDelay = 0
	if edit != nil {
		edit(&c)
	}
	return &c
}

func start(t *testing.T, name string, setup service.Setup, edit func(*service.Config)) (*servicetest.Node, *lines) {
	t.Helper()
	log := &lines{}
	return servicetest.Start(t, name, setup, servicetest.Options{Config: quick(edit), Log: log.logger()}), log
}

// get returns status and body; key false asks like a stranger.
func get(t *testing.T, n *servicetest.Node, path string, key bool) (int, string) {
	t.Helper()
	client := n.Client()
	if !key {
		client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}
	r, err := client.Get(n.URL + path)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return r.StatusCode, bodyOf(t, r)
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return string(b)
}

// collector is a Zipkin that remembers the spans it was sent.
type collector struct {
	*httptest.Server
	mu    sync.Mutex // guards spans
	spans []span
}

type span struct {
	TraceID  string            `json:"traceId"`
	ID       string            `json:"id"`
	ParentID string            `json:"parentId"`
	Kind     string            `json:"kind"`
	Name     string            `json:"name"`
	Tags     map[string]string `json:"tags"`
	Local    struct {
		ServiceName string `json:"serviceName"`
	} `json:"localEndpoint"`
	raw string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var raw []json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&raw); err != nil {
			t.Errorf("collector got no JSON: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range raw {
			s := span{raw: string(m)}
			if err := json.Unmarshal(m, &s); err != nil {
				t.Errorf("collector got %s: %v", m, err)
			}
			c.spans = append(c.spans, s)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) find(kind, service string) (found []span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Kind == kind && s.Local.ServiceName == service {
			found = append(found, s)
		}
	}
	return found
}

// awayRegistry is a registry whose store answers nothing until it is let.
type awayRegistry struct {
	*registry.Memory
	back chan struct{}
}

func (r *awayRegistry) Publish(ctx context.Context, n registry.Node) error {
	select {
	case <-r.back:
		return r.Memory.Publish(ctx, n)
	case <-ctx.Done():
		return ctx.Err()
	}
}
