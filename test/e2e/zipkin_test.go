package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// zipkin is a real Zipkin server on loopback, with its traces in memory.
type zipkin struct {
	addr string
}

// span is what Zipkin's query API says of a span; only what the tests look at.
type span struct {
	TraceID       string `json:"traceId"`
	ID            string `json:"id"`
	ParentID      string `json:"parentId"`
	Kind          string `json:"kind"`
	Name          string `json:"name"`
	Shared        bool   `json:"shared"`
	Timestamp     int64  `json:"timestamp"`
	Duration      int64  `json:"duration"`
	LocalEndpoint struct {
		ServiceName string `json:"serviceName"`
	} `json:"localEndpoint"`
	Tags map[string]string `json:"tags"`
}

func startZipkin(t testing.TB) *zipkin {
	t.Helper()
	jars, _ := filepath.Glob(filepath.Join(process.RepoRoot(), ".ci/cache/zipkin-server-*-exec.jar"))
	java := process.Need(t, "java", "java")
	jar := process.Need(t, "the Zipkin server (ZIPKIN_JAR)", append([]string{os.Getenv("ZIPKIN_JAR")}, jars...)...)
	port := ports.Free(t)
	process.Start(t, process.Launch{
		Name: "zipkin", Path: java, Env: []string{"STORAGE_TYPE=mem"},
		Args: []string{
			"-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", jar, "--armeria.ports[0].ip=127.0.0.1",
			fmt.Sprintf("--armeria.ports[0].port=%d", port), "--armeria.ports[0].protocols[0]=http",
		},
	})
	z := &zipkin{addr: fmt.Sprintf("127.0.0.1:%d", port)}
	process.Eventually(t, 90*time.Second, "zipkin is up", func() error {
		_, err := get("http://" + z.addr + "/health")
		return err
	})
	return z
}

// collector is the address spans are posted to, as zipkinAddr wants it.
func (z *zipkin) collector() string { return "http://" + z.addr + "/api/v2/spans" }

// trace waits for the one trace of a service that has at least n spans.
func (z *zipkin) trace(t testing.TB, service string, n int) []span {
	t.Helper()
	var traces [][]span
	process.Eventually(t, patience, "zipkin has the trace", func() error {
		body, err := get("http://" + z.addr + "/api/v2/traces?limit=10&serviceName=" + service)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(body), &traces); err != nil {
			return fmt.Errorf("read traces: %w", err)
		}
		if len(traces) != 1 {
			return fmt.Errorf("%d traces, want 1", len(traces))
		}
		if len(traces[0]) < n {
			return fmt.Errorf("%d spans, want %d", len(traces[0]), n)
		}
		return nil
	})
	return traces[0]
}

// TestZipkin asks Zipkin for the traces of a request to one node and of a request that a node passes on.
func TestZipkin(t *testing.T) {
	z := startZipkin(t)
	s := newSystem(t, setup{config: fmt.Sprintf("zipkinAddr: %q\nzipkin:\n  sampleRate: 1\n", z.collector())})
	gw := s.gateway()
	s.userNode()
	gw.sees("user", 1)
	if a := do(t, "POST", gw.url("/api/user/login?a=1&b=3"), `{"username":"test"}`, nil); a.status != 200 {
		t.Fatalf("POST login: %d %s", a.status, a.body)
	}

	spans := z.trace(t, "user", 3)
	if len(spans) != 3 {
		t.Fatalf("the trace has %d spans, want 3: %+v", len(spans), spans)
	}
	pick := func(service, kind string) span {
		t.Helper()
		i := slices.IndexFunc(spans, func(s span) bool { return s.LocalEndpoint.ServiceName == service && s.Kind == kind })
		if i < 0 {
			t.Fatalf("no %s span of %s in %+v", kind, service, spans)
		}
		return spans[i]
	}
	server, client, node := pick("gateway", "SERVER"), pick("gateway", "CLIENT"), pick("user", "SERVER")
	if server.ParentID != "" {
		t.Errorf("the gateway's server span has parent %q, want none", server.ParentID)
	}
	if client.ParentID != server.ID {
		t.Errorf("the client span's parent is %q, want the server span %q", client.ParentID, server.ID)
	}
	if node.ParentID != client.ID || node.ID == client.ID {
		t.Errorf("the node's span is %q below %q, want an id of its own below the client span %q", node.ID, node.ParentID, client.ID)
	}
	for _, s := range spans {
		if len(s.TraceID) != 32 || s.TraceID != server.TraceID {
			t.Errorf("span %s has trace id %q, want %q of 128 bits", s.ID, s.TraceID, server.TraceID)
		}
		if s.Tags["http.method"] != "POST" {
			t.Errorf("span %s %s has tag http.method %q, want POST", s.LocalEndpoint.ServiceName, s.Kind, s.Tags["http.method"])
		}
		if s.Timestamp == 0 || s.Duration < 1 {
			t.Errorf("span %s %s has timestamp %d and duration %d", s.LocalEndpoint.ServiceName, s.Kind, s.Timestamp, s.Duration)
		}
	}
	if !slices.ContainsFunc(spans, func(s span) bool { return s.Tags["http.status_code"] == "200" }) {
		t.Errorf("no span has the status: %+v", spans)
	}
	body, err := get("http://" + z.addr + "/api/v2/traces?limit=10")
	if err != nil {
		t.Fatal(err)
	}
	process.CheckCanary(t, "the spans at Zipkin", body)
	var all [][]span
	if err := json.Unmarshal([]byte(body), &all); err != nil || len(all) != 1 {
		t.Errorf("Zipkin has %d traces (%v), want one: questions to the gateway itself, as /cluster, are no traffic", len(all), err)
	}
	services, err := get("http://" + z.addr + "/api/v2/services")
	if err != nil || services != `["gateway","user"]` {
		t.Errorf("services at Zipkin = %s, %v, want gateway and user", services, err)
	}

	s.orderNode()
	gw.sees("order", 1)
	if a := do(t, "POST", gw.url("/api/order/submit"), `{"item":7}`, nil); a.status != 200 {
		t.Fatalf("POST submit: %d %s", a.status, a.body)
	}
	chain := z.trace(t, "order", 5)
	parents := map[string]string{}
	for _, s := range chain {
		parents[s.ID] = s.ParentID
	}
	depth := 0
	for at := chain[slices.IndexFunc(chain, func(s span) bool { return s.LocalEndpoint.ServiceName == "user" })].ID; at != ""; at = parents[at] {
		depth++
	}
	if len(chain) != 5 || depth != 5 {
		t.Errorf("the trace through two services has %d spans, %d of them in one line, want 5: %+v", len(chain), depth, chain)
	}
}

// get fetches a page; anything but 200 is an error.
func get(url string) (string, error) {
	a, err := fetch("GET", url, "", nil)
	if err != nil {
		return "", err
	}
	if a.status != 200 {
		return a.body, errors.New(fmt.Sprint("status ", a.status, ": ", a.body))
	}
	return a.body, nil
}
