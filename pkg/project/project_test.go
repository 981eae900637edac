package project_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/project"
)

func TestExitCode(t *testing.T) {
	f := func(err error, want int) {
		t.Helper()
		if got := project.ExitCode(err); got != want {
			t.Errorf("ExitCode(%v) = %d, want %d", err, got, want)
		}
	}
	f(nil, 0)
	f(errors.New("x"), project.ExitFailure)
	f(fmt.Errorf("y: %w", &config.UsageError{Err: errors.New("x")}), project.ExitUsage)
	f(&config.Errors{{Msg: "x"}}, project.ExitConfig)
	f(fmt.Errorf("y: %w", &project.CodeError{Code: 7, Err: &config.UsageError{Err: errors.New("x")}}), 7)
	f(fmt.Errorf("y: %w", &project.ConfigError{Key: "k", Msg: "x"}), project.ExitConfig)
}

func TestValidate(t *testing.T) {
	f := func(change func(*project.Config), want string) {
		t.Helper()
		c := project.Default()
		c.CallServiceKey = strings.Repeat("k", 32)
		change(&c)
		err := c.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("Validate() = %v, want %q", err, want)
		}
	}
	f(func(*project.Config) {}, "")
	f(func(c *project.Config) { c.CallServiceKey = "" }, "callServiceKey: no call-service key")
	f(func(c *project.Config) { c.CallServiceKeyFile = "x" }, "callServiceKey: ")
	f(func(c *project.Config) { c.CallServiceKeyOld = c.CallServiceKey + "\n" }, "callServiceKey: ")
	f(func(c *project.Config) { c.ProjectName = "a_b" }, "projectName: ")
	f(func(c *project.Config) { c.EtcdAddr = []string{"host"} }, "etcdAddr: ")
	f(func(c *project.Config) { c.EtcdAddr = []string{"https://host:2379"} }, "")
	f(func(c *project.Config) { c.EtcdAddr = []string{"http://a:b/x"} }, "etcdAddr: ")
	f(func(c *project.Config) { c.EtcdAddr = []string{"ftp://host:2379"} }, "etcdAddr: ")
	f(func(c *project.Config) { c.Etcd.Username = "goms" }, "etcd.username: ")
	f(func(c *project.Config) { c.Etcd.Password = "x" }, "etcd.username: ")
	f(func(c *project.Config) { c.Etcd.Username, c.Etcd.PasswordFile = "goms", "x" }, "")
	f(func(c *project.Config) { c.Etcd.TTL = -time.Second }, "etcd.ttl: -1s is not between 1s and 1h0m0s")
	f(func(c *project.Config) { c.Etcd.TTL = 1000 * time.Hour }, "etcd.ttl: ")
	f(func(c *project.Config) { c.AdvertiseHost = "a b" }, "advertiseHost: ")
	f(func(c *project.Config) { c.AdvertiseHost = "0.0.0.0" }, `advertiseHost: "0.0.0.0": nobody can dial it`)
	f(func(c *project.Config) { c.AdvertiseHost = "2001:db8::1" }, "")
	f(func(c *project.Config) { c.Etcd.Embedded.Addr = "x" }, "etcd.embedded.addr: ")
	f(func(c *project.Config) { c.Etcd.Embedded.Dir = "" }, "etcd.embedded.dir: ")
	f(func(c *project.Config) { c.ZipkinAddr = "zipkin:9411" }, "zipkinAddr: ")
	f(func(c *project.Config) { c.Zipkin.SampleRate = 1.1 }, "zipkin.sampleRate: ")
	f(func(c *project.Config) { c.LogFormat = "xml" }, "logFormat: ")
	f(func(c *project.Config) { c.LogLevel = "loud" }, "logLevel: ")
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			t.Errorf("asked for %s, want /livez", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	_, text, _ := net.SplitHostPort(s.Listener.Addr().String())
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := project.Healthcheck(context.Background(), port, nil); err != nil {
		t.Errorf("Healthcheck() = %v", err)
	}
	status = http.StatusServiceUnavailable
	if err := project.Healthcheck(context.Background(), port, nil); err == nil {
		t.Error("Healthcheck() of a 503 = nil")
	}
	s.Close()
	if err := project.Healthcheck(context.Background(), port, nil); err == nil {
		t.Error("Healthcheck() of nobody = nil")
	}
}

// TestBrokenClientCertificateIsTold: of those of nodeTLS and of etcd.tls.
func TestBrokenClientCertificateIsTold(t *testing.T) {
	certFile, keyFile := certstest.New(t).Host().Write(t, t.TempDir(), "client")
	synctest.Test(t, func(t *testing.T) {
		c := project.Default()
		c.NodeTLS.CertFile, c.NodeTLS.KeyFile = certFile, keyFile
		c.Etcd.TLS = c.NodeTLS
		var out strings.Builder
		log := slog.New(slog.NewTextHandler(&out, nil))
		nodes, err := c.NodeClientTLS(log)
		if err != nil {
			t.Fatal(err)
		}
		registry, err := c.EtcdConfig([]string{"127.0.0.1:1"}, log)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(certFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // of the test's own clock: the files are looked at once a second
		for name, secure := range map[string]*tls.Config{"nodeTLS": nodes, "etcd.tls": registry.TLS} {
			out.Reset()
			pair, err := secure.GetClientCertificate(&tls.CertificateRequestInfo{SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, Version: tls.VersionTLS13})
			if err != nil || len(pair.Certificate) == 0 {
				t.Errorf("%s: the certificate before is not shown: %v", name, err)
			}
			if got := out.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, certFile) {
				t.Errorf("%s: told %q, want the file", name, got)
			}
		}
	})
}
