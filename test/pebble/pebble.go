// Package pebble runs Pebble, a certificate authority for tests that speaks ACME, on loopback.
//
//	ca := pebble.Start(t, tlsPort, httpPort, time.Hour)
//	options := certs.ACME{Directory: ca.Directory, CAFile: ca.CAFile, …}
//
// The program is .ci/tools/bin/pebble, or one in the PATH. Without it a test is skipped, in CI it fails.
package pebble

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/test/ports"
)

// Server is a running authority. It verifies hosts as a real one does, and takes every name for 127.0.0.1.
type Server struct {
	Directory string         // the URL to order at
	CAFile    string         // who signed the authority's own certificate, PEM
	Roots     *x509.CertPool // who signs the certificates it issues
	out       output
}

// Issued returns how many certificates were issued so far.
func (s *Server) Issued() int { return strings.Count(s.out.String(), "Issued certificate serial") }

// Start runs an authority until the test ends. It verifies hosts at the ports given, by TLS and by HTTP, and
// issues certificates that are good for life.
func Start(t *testing.T, tlsPort, httpPort int, life time.Duration) *Server {
	t.Helper()
	program, dir := find(t), t.TempDir()
	own := writeOwn(t, dir)
	p := &Server{Directory: "", CAFile: own.cert, Roots: x509.NewCertPool()}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: own.pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	get := func(url string) ([]byte, error) {
		res, err := client.Get(url)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		return io.ReadAll(res.Body)
	}
	listen, manage := ports.Addr(t), ports.Addr(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": own.cert, "privateKey": own.key,
		"tlsPort": tlsPort, "httpPort": httpPort, "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "test", "validityPeriod": int(life / time.Second)}},
	}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	cmd := exec.Command(program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", serveDNS(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0") // 5% of nonces are refused
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	must(t, cmd.Start())
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-gone
		if t.Failed() {
			t.Logf("pebble:\n%s", p.out.String())
		}
	})
	p.Directory = "https://" + listen + "/dir"
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		root, err := get("https://" + manage + "/roots/0")
		if err == nil && p.Roots.AppendCertsFromPEM(root) {
			if _, err = get(p.Directory); err == nil {
				return p
			}
		}
		select {
		case <-tick.C:
		case <-gone:
			t.Fatalf("pebble ended:\n%s", p.out.String())
		case <-deadline:
			t.Fatalf("pebble does not answer: %v", err)
		}
	}
}

// find returns the program. It is built from .ci/tools/pebble.
func find(t *testing.T) string {
	t.Helper()
	for dir := "."; ; dir = filepath.Join(dir, "..") {
		built := filepath.Join(dir, ".ci", "tools", "bin", "pebble")
		if _, err := os.Stat(built); err == nil {
			path, err := filepath.Abs(built)
			must(t, err)
			return path
		}
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || strings.Count(dir, "..") > 8 {
			break
		}
	}
	if path, err := exec.LookPath("pebble"); err == nil {
		return path
	}
	const how = "pebble is not here: `make tools` builds it into .ci/tools/bin"
	if os.Getenv("CI") == "true" {
		t.Fatal(how)
	}
	t.Skip(how)
	return ""
}

// own is the certificate by which clients know the authority, signed by itself.
type own struct {
	cert, key string // files
	pool      *x509.CertPool
}

func writeOwn(t *testing.T, dir string) own {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	o := own{cert: filepath.Join(dir, "pebble.crt"), key: filepath.Join(dir, "pebble.key"), pool: x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	must(t, os.WriteFile(o.cert, certPEM, 0o600))
	must(t, os.WriteFile(o.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	o.pool.AppendCertsFromPEM(certPEM)
	return o
}

// output is what the authority printed.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serveDNS answers, by TCP as Pebble asks, that every host is at 127.0.0.1, and returns its address.
func serveDNS(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				size := make([]byte, 2)
				for {
					if _, err := io.ReadFull(c, size); err != nil {
						return
					}
					query := make([]byte, binary.BigEndian.Uint16(size))
					if _, err := io.ReadFull(c, query); err != nil {
						return
					}
					reply := answerDNS(query)
					if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

func answerDNS(query []byte) []byte {
	end := 12 // of the question
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	if isA := query[end-4] == 0 && query[end-3] == 1; isA {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return reply
}
