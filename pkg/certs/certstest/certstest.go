// Package certstest has an authority that signs certificates for tests.
//
//	a := certstest.New(t)
//	certFile, keyFile := a.Host().Write(t, t.TempDir(), "tls")
//	client := &tls.Config{RootCAs: a.Pool()}
//
// It refuses to know what the certificates are for: that is said in a template, or they will do for servers and clients on loopback.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates. Its methods end the test when they fail; they may run together.
type Authority struct {
	// Cert is its own certificate, PEM the same in PEM.
	Cert *x509.Certificate
	PEM  []byte

	t   testing.TB
	key *ecdsa.PrivateKey
}

// New returns a new authority. It is of use for as long as the test runs.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	p := a.Sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	pair := p.TLS(t)
	a.Cert, a.PEM, a.key = pair.Leaf, p.Cert, pair.PrivateKey.(*ecdsa.PrivateKey) //nolint:forcetypeassert // as Sign makes them
	return a
}

// Pool returns a new pool with the authority in it.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Cert)
	return p
}

// Host signs a certificate for names, of which those that are addresses are so in it; for 127.0.0.1 and localhost when there are none.
func (a *Authority) Host(names ...string) Pair {
	a.t.Helper()
	if len(names) == 0 {
		names = []string{"127.0.0.1", "localhost"}
	}
	c := &x509.Certificate{}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, name)
		}
	}
	return a.Sign(c)
}

// Sign signs what the template says, with a new key. What it leaves out is filled in, also in the template: a random serial number, a day of
// validity that began an hour ago, the use by servers and clients.
func (a *Authority) Sign(template *x509.Certificate) Pair {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if template.SerialNumber == nil {
		if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
			a.t.Fatal(err)
		}
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	parent, signer := a.Cert, a.key
	if parent == nil { // its own
		parent, signer = template, key
	} else if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
	}
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key []byte }

// TLS returns p as crypto/tls has it, with its Leaf.
func (p Pair) TLS(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// Write writes p into dir, as name.crt and name.key, and returns these files. Each appears whole, the key first.
func (p Pair) Write(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	replace(t, keyFile, p.Key)
	replace(t, certFile, p.Cert)
	return certFile, keyFile
}

func replace(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
