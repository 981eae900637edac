//go:build linux

package conformance_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const callKey = "conformance-2f81-call-key"

// certificate makes a self-signed certificate for 127.0.0.1, in PEM.
func certificate(t testing.TB) (cert, key []byte, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), pool
}

// gateway is a gateway process on its embedded etcd, with a plain and a TLS listener.
type gateway struct {
	*process
	t            testing.TB
	plain, https string // addresses
	admin        string
	roots        *x509.CertPool
	etcd         *clientv3.Client
}

// startGateway starts a gateway with routes (services.yml) and settings, the lines of YAML below "gateway:".
func startGateway(t testing.TB, services string, settings ...string) *gateway {
	t.Helper()
	binary, err := gatewayBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, roots := certificate(t)
	etcd := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	httpPort, rpcPort, tlsPort, adminPort := freePort(t), freePort(t), freePort(t), freePort(t)
	g := &gateway{t: t, plain: fmt.Sprintf("127.0.0.1:%d", httpPort), https: fmt.Sprintf("127.0.0.1:%d", tlsPort), admin: fmt.Sprintf("127.0.0.1:%d", adminPort), roots: roots}
	config := fmt.Sprintf("projectName: goms\ncallServiceKey: %q\netcd: {embedded: {addr: %q, dir: %q}}\ngateway:\n", callKey, etcd, filepath.Join(dir, "data"))
	config += fmt.Sprintf("  listenHost: 127.0.0.1\n  adminPort: %d\n  tls: {port: %d, certificates: [{certFile: %q, keyFile: %q}]}\n", adminPort, tlsPort, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	for _, line := range settings {
		config += "  " + line + "\n"
	}
	writeFile(t, filepath.Join(dir, "configs/config.yml"), config)
	writeFile(t, filepath.Join(dir, "configs/services.yml"), services)
	writeFile(t, filepath.Join(dir, "tls.crt"), string(cert))
	writeFile(t, filepath.Join(dir, "tls.key"), string(key))
	g.process = start(t, dir, nil, binary, "-http_port", fmt.Sprint(httpPort), "-rpc_port", fmt.Sprint(rpcPort))
	eventually(t, 20*time.Second, "the gateway is ready", func() error {
		g.alive(t)
		_, err := g.get("/readyz")
		return err
	})
	g.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{etcd}, DialTimeout: 2 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.etcd.Close() })
	return g
}

// join puts a node into the registry and waits until the gateway knows it.
func (g *gateway) join(service, addr string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	if _, err := g.etcd.Put(ctx, fmt.Sprintf("goms_%s_127.0.0.1:1_%s", service, addr), "0"); err != nil {
		g.t.Fatalf("put node %s: %v", addr, err)
	}
	eventually(g.t, 10*time.Second, "the gateway knows "+addr, func() error {
		body, err := g.get("/cluster")
		if err != nil {
			return err
		}
		var c struct {
			Services map[string]struct{ Nodes []string }
		}
		if err := json.Unmarshal([]byte(body), &c); err != nil {
			return err
		}
		if !strings.Contains(strings.Join(c.Services[service].Nodes, " "), addr) {
			return fmt.Errorf("it knows %v", c.Services[service].Nodes)
		}
		return nil
	})
}

// get asks on the plain listener, on a connection of its own.
func (g *gateway) get(path string) (string, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return fetch(c, "http://"+g.plain+path)
}

// memory returns the resident set now and at its peak since resetPeak, in bytes.
func (p *process) memory(t testing.TB) (now, peak int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("read memory of %s: %v", p.name, err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, _ := strconv.ParseInt(kib, 10, 64)
		switch name {
		case "VmRSS":
			now = n << 10
		case "VmHWM":
			peak = n << 10
		}
	}
	return now, peak
}

// resetPeak makes the kernel count the peak of the resident set anew.
func (p *process) resetPeak(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatalf("reset peak memory of %s: %v", p.name, err)
	}
}

// files returns how many file descriptors the process has.
func (p *process) files(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("count files of %s: %v", p.name, err)
	}
	return len(list)
}

// client returns a client that trusts roots and speaks HTTP/2 or HTTP/1.1 on kept connections.
func client(t testing.TB, roots *x509.CertPool, http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Second}
}
