// Package certs holds the certificates of a TLS listener, by host name: those of files, which it follows,
// and those it obtains from a certificate authority by ACME.
//
//	store, err := certs.Open(certs.Options{Pairs: []certs.Pair{{CertFile: "a.pem", KeyFile: "a.key"}}})
//	go store.Run(ctx)                      // looks for changes
//	config := store.ServerConfig()         // for tls.NewListener
//
// A change takes effect for the next handshake; connections that stand are not touched. A pair of files
// that cannot be used keeps the one before, and says so loudly. The package knows no listeners and no
// requests, and it never puts a key into an error or a log.
package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Pair is the files of one certificate, PEM, the chain from leaf to root.
type Pair struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// Options say what a Store holds. Pairs or ACME is required.
type Options struct {
	// Pairs are the certificates in files. The first one serves clients that name no host, or an unknown
	// one. Names in them are compared without case; a name that is not ASCII is written as clients send it,
	// "xn--…". A client that names no host, as one that connects to an address does not, gets the
	// certificate for that address if there is one.
	Pairs []Pair
	// ClientCAFile holds the authorities, PEM, one of which must have signed a client's certificate; ""
	// asks for none.
	ClientCAFile string
	// Protocols are what clients may choose from (ALPN); nil is "h2" and "http/1.1".
	Protocols []string
	// ACME obtains certificates for its hosts; nil is none. For one of these hosts the certificate of Pairs
	// serves only until the first is there.
	ACME *ACME
	// Interval is how often files are looked at; 0 is 5 s. A change is taken when two looks in a row saw
	// the same, because a file may be seen half written.
	Interval time.Duration
	// Log gets reloads and what went wrong with them, and certificates that are about to expire; nil
	// discards.
	Log *slog.Logger
}

// Store is a set of certificates. All methods are safe for concurrent use; Run is called once.
type Store struct {
	options Options
	acme    *issuer // nil without ACME
	state   atomic.Pointer[state]
	failing trouble // the files cannot be used

	// Run's own.
	served, seen digest // of all files' content: what is in use, and what the last look saw
}

type digest [sha256.Size]byte

// Open reads all files. An error names the file and what is wrong with it. It asks no authority for
// anything: Run does.
func Open(o Options) (*Store, error) {
	if len(o.Pairs) == 0 && o.ACME == nil {
		return nil, errors.New("open certificates: none is named")
	}
	if o.Protocols == nil {
		o.Protocols = []string{"h2", "http/1.1"}
	}
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{options: o}
	if o.ACME != nil {
		var err error
		if s.acme, err = newIssuer(*o.ACME, o.Interval, o.Log); err != nil {
			return nil, err
		}
	}
	files, err := s.read()
	if err != nil {
		return nil, err
	}
	next, err := s.parse(files)
	if err != nil {
		return nil, err
	}
	s.use(next, sum(files))
	return s, nil
}

// Run looks for changed files and keeps the certificates of ACME until ctx is done. An order that is under
// way then fails with its next step, which is a matter of seconds.
func (s *Store) Run(ctx context.Context) error {
	if s.acme != nil {
		defer s.acme.start(ctx)() // waits
	}
	look := time.NewTicker(s.options.Interval)
	defer look.Stop()
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			s.reload()
		case <-daily.C:
			s.warn(s.state.Load())
			if s.acme != nil {
				s.acme.warn()
			}
		}
	}
}

// ServerConfig returns what a listener needs: TLS 1.2 and 1.3, the protocols of the options, and the certificates
// of the moment of each handshake. Sessions are resumed across reloads, unless the client's certificate
// would not be accepted any more. A name that has no certificate is refused when there is none to fall
// back to.
//
// With ACME it also answers the authority's TLS-ALPN-01 challenge, except when clients need certificates,
// which the authority has not: then use HTTPHandler. The caller closes a connection whose negotiated
// protocol is "acme-tls/1" after the handshake.
func (s *Store) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			now := s.state.Load()
			if s.acme != nil && isChallenge(hello) && now.config.ClientCAs == nil {
				return s.acme.challenge, nil
			}
			return now.config, nil
		},
	}
}

// reload takes in changed files, all of them or none.
func (s *Store) reload() {
	files, err := s.read()
	now := sum(files)
	if err == nil {
		settled := now == s.seen
		s.seen = now
		switch {
		case now == s.served:
			if s.failing.end() {
				s.options.Log.Info("certificates can be used again")
			}
			return
		case !settled:
			return
		}
	}
	var next *state
	if err == nil {
		next, err = s.parse(files)
	}
	if err != nil {
		if s.failing.begin() {
			s.options.Log.Error("changed certificates cannot be used, the ones before stay", "err", err)
		}
		return
	}
	s.failing.end()
	s.options.Log.Info("certificates reloaded")
	s.use(next, now)
}

// use makes next the state of the next handshake.
func (s *Store) use(next *state, files digest) {
	s.state.Store(next)
	s.served, s.seen = files, files
	s.warn(next)
}

// read returns the content of all files, in a fixed order.
func (s *Store) read() ([][]byte, error) {
	var names []string
	for _, p := range s.options.Pairs {
		names = append(names, p.CertFile, p.KeyFile)
	}
	if s.options.ClientCAFile != "" {
		names = append(names, s.options.ClientCAFile)
	}
	files := make([][]byte, len(names))
	for i, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		files[i] = b
	}
	return files, nil
}

// sum is the digest of files, nil for none. It stands for them so that no keys are kept around.
func sum(files [][]byte) digest {
	h := sha256.New()
	for _, f := range files {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f))))
		h.Write(f)
	}
	return digest(h.Sum(nil))
}

func (s *Store) parse(files [][]byte) (*state, error) {
	next := &state{byName: map[string]*tls.Certificate{}, acme: s.acme}
	for i, p := range s.options.Pairs {
		cert, err := tls.X509KeyPair(files[2*i], files[2*i+1])
		if err != nil {
			return nil, fmt.Errorf("read certificate %q with key %q: %w", p.CertFile, p.KeyFile, err)
		}
		next.add(&cert)
	}
	next.config = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: s.options.Protocols,
		GetCertificate: next.certificate,
	}
	if name := s.options.ClientCAFile; name != "" {
		pool, err := authorities(name, files[len(files)-1])
		if err != nil {
			return nil, fmt.Errorf("read client authorities %w", err)
		}
		next.config.ClientAuth, next.config.ClientCAs = tls.RequireAndVerifyClientCert, pool
	}
	return next, nil
}

// authorities returns the certificates of a file, and an error when one of them cannot be read.
func authorities(name string, content []byte) (*x509.CertPool, error) {
	pool, n, rest := x509.NewCertPool(), 0, content
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		pool.AddCert(cert)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("%q: no certificate in it", name)
	}
	if all := bytes.Count(content, []byte("-----BEGIN CERTIFICATE-----")); n < all {
		return nil, fmt.Errorf("%q: only %d of %d certificates can be read", name, n, all)
	}
	return pool, nil
}

// warn logs the certificates of files that are about to expire, or have.
func (s *Store) warn(now *state) {
	for i, cert := range now.all {
		warnExpiry(s.options.Log.With("file", s.options.Pairs[i].CertFile), cert.Leaf)
	}
}

// warnExpiry logs a certificate that has less than a sixth of its life left, a week at most.
func warnExpiry(log *slog.Logger, leaf *x509.Certificate) {
	log = log.With("expire", leaf.NotAfter.UTC().Format(time.RFC3339))
	left := time.Until(leaf.NotAfter)
	switch {
	case left <= 0:
		log.Error("certificate has expired")
	case left < min(leaf.NotAfter.Sub(leaf.NotBefore)/6, 7*24*time.Hour):
		log.Warn("certificate expires soon")
	}
}
