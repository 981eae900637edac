//go:build linux

package conformance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/auth"
	"github.com/goms-io/goms/pkg/certs/certstest"
	gw "github.com/goms-io/goms/pkg/gateway"
	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/route"
	"github.com/goms-io/goms/test/process"
)

// What h2spec must find: HAProxy passes 145 of its 146 cases, net/http 141.
const (
	h2specCases  = 146
	h2specPassed = 141
)

// TestH2spec runs h2spec against the gateway's TLS listener, and against one that takes HTTP/2 without TLS.
func TestH2spec(t *testing.T) {
	tool := process.Need(t, "h2spec (make tools)", os.Getenv("H2SPEC"), filepath.Join(process.RepoRoot(), ".ci/tools/bin/h2spec"))
	secure, plain := serveHTTP2(t)
	t.Run("TLS", func(t *testing.T) { h2spec(t, tool, secure, "-t", "-k") })
	t.Run("h2c", func(t *testing.T) { h2spec(t, tool, plain) })
}

// h2spec runs the tool and judges what it found.
func h2spec(t *testing.T, tool, addr string, args ...string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	report := filepath.Join(t.TempDir(), "report.xml")
	cmd := exec.CommandContext(ctx, tool, append(args, "-S", "-h", "127.0.0.1", "-p", port, "-P", "/api/api/any", "-o", "3", "-j", report)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && (ctx.Err() != nil || !errors.As(err, new(*exec.ExitError))) { // it exits with 1 when a case fails
		t.Fatalf("run h2spec: %v\n%s", err, process.Tail(out.String(), 30))
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, process.Tail(out.String(), 30))
	}
	var result struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Name    string  `xml:"classname,attr"`
				Skipped *string `xml:"skipped"`
				Failure *string `xml:"failure"`
				Error   *string `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	cases, passed, skipped := 0, 0, 0
	for _, s := range result.Suites {
		for _, c := range s.Cases {
			cases++
			switch {
			case c.Failure != nil:
				t.Logf("failed: %s %s: %q", s.Package, c.Name, *c.Failure)
			case c.Error != nil:
				t.Logf("failed: %s %s: %q", s.Package, c.Name, *c.Error)
			case c.Skipped != nil:
				skipped++
				t.Logf("skipped: %s %s", s.Package, c.Name)
			default:
				passed++
			}
		}
	}
	t.Logf("h2spec: %d of %d passed, %d skipped", passed, cases, skipped)
	if cases != h2specCases || passed < h2specPassed {
		t.Errorf("h2spec: %d of %d cases passed, want at least %d of %d\n%s", passed, cases, h2specPassed, h2specCases, process.Tail(out.String(), 60))
	}
}

// serveHTTP2 serves a gateway in this process over TLS and without, with one node, and returns its addresses.
func serveHTTP2(t *testing.T) (secure, plain string) {
	t.Helper()
	routes, err := route.New(route.DefaultPrefix, route.Services{"api": {"any": {Path: "/any"}}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewCallKeys(process.CallKey)
	if err != nil {
		t.Fatal(err)
	}
	settings := gw.DefaultSettings()
	settings.DrainDelay, settings.DrainTimeout = 0, time.Second
	g, err := gw.New(gw.Config{Routes: routes, Keys: keys, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	nodeAddr := simpleNode(t, []byte("hello, h2spec\n"))
	g.Apply(registry.NewSnapshot(1, []registry.Node{registry.NewNode("api", "127.0.0.1:1", nodeAddr)}))
	cert := certstest.New(t).Host().TLS(t)
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- g.Run(ctx) }()
	go func() {
		done <- g.Serve(gw.Listener{Listener: listeners[0], TLS: &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}})
	}()
	go func() { done <- g.Serve(gw.Listener{Listener: listeners[1], H2C: true}) }()
	t.Cleanup(func() {
		stop, end := context.WithTimeout(context.Background(), 5*time.Second)
		defer end()
		g.Shutdown(stop)
		cancel()
		for range cap(done) {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the gateway ended: %v", err)
			}
		}
	})
	return listeners[0].Addr().String(), listeners[1].Addr().String()
}

// simpleNode answers everything with the same text, having read what it was sent.
func simpleNode(t testing.TB, text []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			w.Write(text)
		}
	}), ConnState: func(c net.Conn, state http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && state == http.StateNew {
			tcp.SetWriteBuffer(64 << 10) // thousands of answers that nobody reads would take the memory that the machine has for TCP
		}
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ln)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return ln.Addr().String()
}
