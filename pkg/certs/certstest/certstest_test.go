package certstest_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/goms-io/goms/pkg/certs/certstest"
)

// TestHandshake has both sides show what an authority has signed, and trust it.
func TestHandshake(t *testing.T) {
	a := certstest.New(t)
	certFile, keyFile := a.Host("127.0.0.1", "user.test").Write(t, t.TempDir(), "tls")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: a.Pool(), ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	other := certstest.New(t)
	for _, c := range []struct {
		name  string
		trust *x509.CertPool
		good  bool
	}{{"127.0.0.1", a.Pool(), true}, {"user.test", a.Pool(), true}, {"localhost", a.Pool(), false}, {"user.test", other.Pool(), false}} {
		served := make(chan error, 1)
		go func() {
			conn, err := ln.Accept()
			if err == nil {
				_, err = conn.Write([]byte("x"))
				conn.Close()
			}
			served <- err
		}()
		var conn *tls.Conn
		conn, err = tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: c.trust, ServerName: c.name, Certificates: []tls.Certificate{a.Host().TLS(t)}})
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if c.good != (err == nil) {
			t.Errorf("the client of %s says %v", c.name, err)
		}
		if err := <-served; c.good != (err == nil) {
			t.Errorf("the server of %s says %v", c.name, err)
		}
	}
}

func TestSign(t *testing.T) {
	a := certstest.New(t)
	until := time.Now().Add(time.Minute).Truncate(time.Second)
	leaf := a.Sign(&x509.Certificate{NotAfter: until, DNSNames: []string{"x.test"}}).TLS(t).Leaf
	if !leaf.NotAfter.Equal(until) || leaf.DNSNames[0] != "x.test" || leaf.CheckSignatureFrom(a.Cert) != nil {
		t.Errorf("signed %v until %v", leaf.DNSNames, leaf.NotAfter)
	}
}
