package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/registry/etcd/embedded"
	"github.com/goms-io/goms/test/pebble"
	"github.com/goms-io/goms/test/ports"
)

const acmeHost = "shop.goms.test"

// acmeConfig is the gateway's section for an authority's certificates.
func acmeConfig(ca *pebble.Server, tlsPort, redirectPort int, more string) string {
	return fmt.Sprintf("gateway:\n  drainDelay: 0s\n  snapshotFile: ''\n  tls:\n    port: %d\n    redirectPort: %d\n    acme: {hosts: [%s], email: a@goms.test, directory: '%s', caFile: '%s'%s}\n",
		tlsPort, redirectPort, acmeHost, ca.Directory, ca.CAFile, more)
}

// awaitCertificate returns the certificate that a gateway shows, once the authority has issued it.
func awaitCertificate(t *testing.T, p *gatewayProcess, ca *pebble.Server, port int) *x509.Certificate {
	t.Helper()
	p.await(`certificate obtained host=` + acmeHost)
	tr := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.Roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		},
	}
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://" + acmeHost + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("/livez = %d, want 200", res.StatusCode)
	}
	return res.TLS.PeerCertificates[0]
}

func adminText(t *testing.T, p *gatewayProcess) string {
	t.Helper()
	res, err := client.Get("http://" + p.await(`Admin Listen on: (\S+)`) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestACMEInEtcd has one gateway order by TLS-ALPN-01, and another find the certificate in etcd.
func TestACMEInEtcd(t *testing.T) {
	t.Parallel()
	tlsPort := ports.Free(t)
	ca := pebble.Start(t, tlsPort, ports.Free(t), time.Hour)
	server, err := embedded.Start(t.Context(), embedded.Config{Addr: "127.0.0.1:0", Dir: filepath.Join(t.TempDir(), "etcd"), UnsafeNoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	shared := "etcdAddr: " + server.Addr() + "\nadvertiseHost: 127.0.0.1\n"
	one := startGateway(t, shared+acmeConfig(ca, tlsPort, -1, ""))
	got := awaitCertificate(t, one, ca, tlsPort)
	if text, want := adminText(t, one), fmt.Sprintf("goms_certificate_failing{certificate=%q} 0", acmeHost); !strings.Contains(text, want) || !strings.Contains(text, fmt.Sprintf("goms_certificate_expiry_timestamp_seconds{certificate=%q} ", acmeHost)) {
		t.Errorf("/metrics lacks %s or the end of the certificate", want)
	}

	other := startGateway(t, shared+acmeConfig(ca, ports.Free(t), -1, ""))
	otherPort, err := strconv.Atoi(other.await(`Https Listen on port: (\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	if c := awaitCertificate(t, other, ca, otherPort); !c.Equal(got) {
		t.Error("the second gateway has another certificate")
	}
	if n := ca.Issued(); n != 1 {
		t.Errorf("%d certificates were issued, want 1", n)
	}

	reg, err := etcd.Open(etcd.Config{Project: "goms", Addrs: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	entries, err := reg.KV(acmeArea).List(t.Context(), "")
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if want := []string{"acme_account+key", acmeHost}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("etcd holds %q %v, want %q", keys, err, want)
	}
	// The gateways see each other and nothing that they do not understand.
	one.await(`\[gateway\] node \[\S+\] join`)
	if text := adminText(t, one); !strings.Contains(text, "\ngoms_registry_ignored_total{cause=\"malformed\"} 0\n") {
		t.Error("the registry stumbles over what is stored for certificates")
	}
}

// TestACMEInADirectory has the redirect listener answer HTTP-01, and a restart need no second order.
func TestACMEInADirectory(t *testing.T) {
	t.Parallel()
	tlsPort, plainPort := ports.Free(t), ports.Free(t)
	ca := pebble.Start(t, ports.Free(t), plainPort, time.Hour) // does not reach the port of TLS
	dir := filepath.Join(t.TempDir(), "certificates")
	config := acmeConfig(ca, tlsPort, plainPort, ", cacheDir: '"+dir+"'")
	if out, err := runFor(t, "check", "-config", write(t, "c.yml", "callServiceKey: "+key+"\n"+config)); err != nil || out != "OK\n" {
		t.Errorf("check = %q %v", out, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("check has made the directory: %v", err)
	}
	p := startGateway(t, embeddedEtcd(t)+config)
	got := awaitCertificate(t, p, ca, tlsPort)
	res, err := (&http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get(fmt.Sprintf("http://127.0.0.1:%d/a", plainPort))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if want := fmt.Sprintf("https://127.0.0.1:%d/a", tlsPort); res.StatusCode != 308 || res.Header.Get("Location") != want {
		t.Errorf("the redirect = %d %q, want %q", res.StatusCode, res.Header.Get("Location"), want)
	}
	p.stop()

	again := startGateway(t, embeddedEtcd(t)+config)
	if c := awaitCertificate(t, again, ca, tlsPort); !c.Equal(got) {
		t.Error("after a restart there is another certificate")
	}
	if n := ca.Issued(); n != 1 {
		t.Errorf("%d certificates were issued, want 1", n)
	}
}

// TestACMEAway is loud and serves on when there is no authority, or nobody to verify hosts.
func TestACMEAway(t *testing.T) {
	t.Parallel()
	certFile, keyFile, pool := writeCertificate(t)
	away := &pebble.Server{Directory: fmt.Sprintf("https://127.0.0.1:%d/dir", ports.Free(t)), CAFile: certFile}
	config := acmeConfig(away, 0, -1, "") + "    certificates: [{certFile: '" + certFile + "', keyFile: '" + keyFile + "'}]\n"
	p := startGateway(t, embeddedEtcd(t)+config)
	addr := "127.0.0.1:" + p.await(`Https Listen on port: (\d+)`)
	p.await(`(?i)error.*certificate cannot be obtained, will try again host=` + acmeHost)
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatalf("the certificate of the file does not serve: %v", err)
	}
	c.Close()
	text := adminText(t, p)
	for _, want := range []string{
		fmt.Sprintf("goms_certificate_failing{certificate=%q} 1\n", acmeHost), fmt.Sprintf("goms_certificate_expiry_timestamp_seconds{certificate=%q} 0\n", acmeHost),
		fmt.Sprintf("goms_certificate_failing{certificate=%q} 0\n", certFile),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}
