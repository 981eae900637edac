//go:build linux

package conformance_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/goms-io/goms/pkg/certs/certstest"
	"github.com/goms-io/goms/test/ports"
	"github.com/goms-io/goms/test/process"
)

// gateway is a gateway process on its embedded etcd, with a plain and a TLS listener.
type gateway struct {
	*process.Process
	t            testing.TB
	plain, https string // addresses
	admin        string
	roots        *x509.CertPool
	etcd         *clientv3.Client
}

// startGateway starts a gateway with routes (services.yml) and settings, the lines of YAML below "gateway:".
func startGateway(t testing.TB, services string, settings ...string) *gateway {
	t.Helper()
	dir := t.TempDir()
	authority := certstest.New(t)
	certFile, keyFile := authority.Host().Write(t, dir, "tls")
	etcd := ports.Addr(t)
	httpPort, rpcPort, tlsPort, adminPort := ports.Free(t), ports.Free(t), ports.Free(t), ports.Free(t)
	g := &gateway{t: t, plain: fmt.Sprintf("127.0.0.1:%d", httpPort), https: fmt.Sprintf("127.0.0.1:%d", tlsPort), admin: fmt.Sprintf("127.0.0.1:%d", adminPort), roots: authority.Pool()}
	config := fmt.Sprintf("projectName: goms\ncallServiceKey: %q\netcd: {embedded: {addr: %q, dir: %q}}\ngateway:\n", process.CallKey, etcd, filepath.Join(dir, "data"))
	config += fmt.Sprintf("  listenHost: 127.0.0.1\n  adminPort: %d\n  tls: {port: %d, certificates: [{certFile: %q, keyFile: %q}]}\n", adminPort, tlsPort, certFile, keyFile)
	for _, line := range settings {
		config += "  " + line + "\n"
	}
	process.WriteFile(t, filepath.Join(dir, "configs/config.yml"), config)
	process.WriteFile(t, filepath.Join(dir, "configs/services.yml"), services)
	g.Process = process.Start(t, process.Launch{
		Path: process.Build(t, "cmd/gateway"), Dir: dir, Args: []string{"-http_port", fmt.Sprint(httpPort), "-rpc_port", fmt.Sprint(rpcPort)},
	})
	process.Eventually(t, patience, "the gateway is ready", func() error {
		alive(t, g.Process)
		_, err := g.get("/readyz")
		return err
	})
	g.etcd = process.EtcdClient(t, etcd)
	return g
}

// join puts a node into the registry and waits until the gateway knows it.
func (g *gateway) join(service, addr string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	if _, err := g.etcd.Put(ctx, fmt.Sprintf("goms_%s_127.0.0.1:1_%s", service, addr), "0"); err != nil {
		g.t.Fatalf("put node %s: %v", addr, err)
	}
	process.Eventually(g.t, patience, "the gateway knows "+addr, func() error {
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
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	return fetch(c, "http://"+g.plain+path)
}

// alive fails the test when the process has ended.
func alive(t testing.TB, p *process.Process) {
	t.Helper()
	if !p.Alive() {
		t.Fatalf("%s has ended\n%s", p.Name, process.Tail(p.Output(), 20))
	}
}

// client returns a client that trusts roots and speaks HTTP/2 or HTTP/1.1 on kept connections.
func client(t testing.TB, roots *x509.CertPool, http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}
