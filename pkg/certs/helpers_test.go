package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/goms-io/goms/pkg/certs"
	"github.com/goms-io/goms/pkg/certs/certstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// look is the Interval of stores in tests.
const look = 5 * time.Millisecond

// authority signs certificates.
type authority struct {
	*certstest.Authority

	t *testing.T
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return &authority{certstest.New(t), t}
}

// pair writes a certificate for names and returns its files.
func (a *authority) pair(dir, file string, names ...string) certs.Pair {
	a.t.Helper()
	return a.write(dir, file, a.Host(names...))
}

// write writes a certificate and its key as a careless operator does: the files are short for a moment, and one is there before the other.
func (a *authority) write(dir, file string, signed certstest.Pair) certs.Pair {
	a.t.Helper()
	p := certs.Pair{CertFile: filepath.Join(dir, file+".pem"), KeyFile: filepath.Join(dir, file+".key")}
	write(a.t, p.CertFile, signed.Cert)
	write(a.t, p.KeyFile, signed.Key)
	return p
}

// client returns the certificate of a client.
func (a *authority) client() tls.Certificate {
	a.t.Helper()
	return a.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "client"}}).TLS(a.t)
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(file, content, 0o600))
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not after 30s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// logs is what was logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) count(s string) int { return strings.Count(l.String(), s) }

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// open opens a store and runs it until the test ends.
func open(t *testing.T, o certs.Options) *certs.Store {
	t.Helper()
	o.Interval = look
	s, err := certs.Open(o)
	must(t, err)
	run(t, s)
	return s
}

func run(t *testing.T, s *certs.Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run() did not return within 20s")
		}
	})
	t.Cleanup(stop)
	return stop
}

// serve echoes on TLS connections until the test ends, and returns its address.
func serve(t *testing.T, config *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	serveOn(t, ln, config)
	return ln.Addr().String()
}

func serveOn(t *testing.T, ln net.Listener, config *tls.Config) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				s := tls.Server(c, config)
				if s.Handshake() == nil && s.ConnectionState().NegotiatedProtocol != "acme-tls/1" {
					_, _ = io.Copy(s, s)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
}

// dial makes a connection that has carried a byte to and fro: then both sides are content with each other.
func dial(addr string, config *tls.Config) (*tls.Conn, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, config)
	if err != nil {
		return nil, err
	}
	if err := echo(c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func echo(c *tls.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte{'x'}); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// leaf returns the certificate that a client gets for a name.
func leaf(addr, name string) (*x509.Certificate, error) {
	c, err := dial(addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// inFile is the leaf that a file holds.
func inFile(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	b, _ := pem.Decode(read(t, file))
	c, err := x509.ParseCertificate(b.Bytes)
	must(t, err)
	return c
}

// wantServed waits until clients that ask for name get the certificate of the file.
func wantServed(t *testing.T, addr, name, file string) {
	t.Helper()
	want := inFile(t, file)
	eventually(t, "served: "+file, func() bool {
		got, err := leaf(addr, name)
		must(t, err)
		return got.Equal(want)
	})
}

func port(t *testing.T, addr string) (n int) {
	t.Helper()
	_, s, err := net.SplitHostPort(addr)
	must(t, err)
	n, err = strconv.Atoi(s)
	must(t, err)
	return n
}
