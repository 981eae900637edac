package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/pkg/project"
)

// writeCertificate writes a certificate for this host and returns its files and who trusts it.
func writeCertificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	a := certstest.New(t)
	certFile, keyFile = a.Host().Write(t, t.TempDir(), "tls")
	return certFile, keyFile, a.Pool()
}

func TestServeTLS(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	certFile, keyFile, pool := writeCertificate(t)
	cfg := write(t, "c.yml", "etcd: {embedded: {addr: '127.0.0.1:0', dir: '"+filepath.Join(t.TempDir(), "etcd")+"'}}\n"+
		"gateway:\n  drainDelay: 0s\n  tls:\n    port: 0\n    redirectPort: 0\n    certificates: [{certFile: "+certFile+", keyFile: "+keyFile+"}]\n")
	ctx, cancel := context.WithCancel(context.Background())
	var out output
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-config", cfg, "-http_port=0", "-rpc_port=0", "-admin_port=0"}, &out, &out)
	}()
	port := awaitLine(t, &out, done, `Https Listen on port: (\d+)`)
	plain := awaitLine(t, &out, done, `Redirect Listen on port: (\d+)`)
	awaitLine(t, &out, done, `registry read`)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Protocols: protocols}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Get("https://127.0.0.1:" + port + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Errorf("GET /livez = %d over %s, want 200 over HTTP/2", res.StatusCode, res.Proto)
	}
	res, err = (&http.Client{Timeout: patience, CheckRedirect: c.CheckRedirect, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://127.0.0.1:" + plain + "/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if want := "https://127.0.0.1:" + port + "/a?b=c"; res.StatusCode != 308 || res.Header.Get("Location") != want {
		t.Errorf("redirect = %d %q, want 308 %q", res.StatusCode, res.Header.Get("Location"), want)
	}
	tr.CloseIdleConnections()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run() = %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the gateway does not stop")
	}
}

func TestBadTLSConfiguration(t *testing.T) {
	t.Setenv("GOMS_CALL_SERVICE_KEY", key)
	certFile, keyFile, _ := writeCertificate(t)
	_, other, _ := writeCertificate(t)
	f := func(text, want string) {
		t.Helper()
		_, err := runFor(t, "check", "-config", write(t, "c.yml", text))
		if project.ExitCode(err) != project.ExitConfig || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if out, err := runFor(t, "check", "-config", write(t, "c.yml", "gateway: {tls: {certificates: [{certFile: "+certFile+", keyFile: "+keyFile+"}]}}\n")); err != nil || out != "OK\n" {
		t.Errorf("a good pair: %q %v", out, err)
	}
	f("gateway: {tls: {certificates: [{certFile: "+certFile+", keyFile: "+other+"}]}}\n", "c.yml:1: gateway.tls.certificates: ")
	f("gateway: {tls: {certificates: [{certFile: nowhere.crt, keyFile: "+keyFile+"}]}}\n", "nowhere.crt")
	f("gateway: {tls: {redirectPort: 8080}}\n", "gateway.tls.certificates: there is none")
	f("gateway: {tls: {port: 70000}}\n", "gateway.tls.port: 70000 is no port")
}
