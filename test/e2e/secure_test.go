package e2e_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/test/process"
)

// nodeCertificate writes a certificate for nodes on this host, and that of its authority, and returns the files.
func nodeCertificate(t testing.TB) (certFile, keyFile, caFile string) {
	t.Helper()
	a, dir := certstest.New(t), t.TempDir()
	certFile, keyFile = a.Host().Write(t, dir, "node")
	caFile = filepath.Join(dir, "ca.crt")
	process.WriteFile(t, caFile, string(a.PEM))
	return certFile, keyFile, caFile
}

// TestNodesWithTLS runs a whole system whose nodes want TLS and certificates of their callers: gateway to node, node
// to node, and the nodes' health checks. A gateway without the authority's file reaches nobody, and says why.
func TestNodesWithTLS(t *testing.T) {
	certFile, keyFile, caFile := nodeCertificate(t)
	secure := fmt.Sprintf("{certFile: %s, keyFile: %s, ", certFile, keyFile)
	s := newSystem(t, setup{
		services: "services:\n  user:\n    login: /login\n  order:\n    submit: /order/submit\n",
		config:   "  tls: " + secure + "clientCAFile: " + caFile + "}\nnodeTLS: " + secure + "caFile: " + caFile + "}\n",
	})
	gw := s.gateway()
	user := s.userNode()
	s.orderNode()
	gw.sees("user", 1)
	gw.sees("order", 1)
	process.Eventually(t, patience, "order reaches user over TLS", func() error {
		a, err := fetch("POST", gw.url("/api/order/submit?a=1"), `{"item":7}`, http.Header{"Content-Type": {"application/json"}})
		if err == nil && a.status != 200 {
			err = errors.New(a.body)
		}
		return err
	})
	if body, err := get(gw.url("/cluster?verbose=1")); err != nil || strings.Count(body, `"TLS": true`) != 2 {
		t.Errorf("/cluster?verbose=1 = %s, %v; want two nodes with TLS", body, err)
	}
	if _, err := get("http://" + user.addr() + "/livez"); err == nil {
		t.Error("the node speaks plain too")
	}
	stranger := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // it is the node that must refuse
	if c, err := tls.Dial("tcp", user.addr(), stranger); err == nil {
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Errorf("a caller without a certificate: %v", err)
		}
		c.Close()
	}
	_, stderr, code := process.Run(t, patience, process.Launch{
		Name: "healthcheck", Path: process.Build(t, "cmd/service"), Dir: s.dir, Args: []string{"healthcheck", "-http_port", fmt.Sprint(user.http)},
	})
	if code != 0 {
		t.Errorf("healthcheck exits %d: %s", code, stderr)
	}

	_, _, other := nodeCertificate(t)
	config := filepath.Join(s.dir, "other.yml")
	process.WriteFile(t, config, fmt.Sprintf("callServiceKey: %q\nservices: {user: {login: /login}}\nnodeTLS: {caFile: %s}\n", process.CallKey, other))
	lost := s.gateway("-config", config)
	lost.sees("user", 1)
	for range 5 {
		if a, err := fetch("POST", lost.url("/api/user/login"), "{}", nil); err != nil || a.status != 502 || !strings.Contains(a.body, `"connect_failed"`) {
			t.Errorf("with another authority %d %s, %v; want 502 connect_failed", a.status, a.body, err)
		}
	}
	lost.Line(patience, `cannot be reached over TLS.* err=.*127\.0\.0\.1.*certificate signed by unknown authority`)
}
